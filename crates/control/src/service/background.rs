//! Tasks of other crates on the control thread: they need a thread that serves no requests.

use super::handle::{ControlHandle, Message};

impl ControlHandle {
    /// Runs a task on the control thread, beside its own. It ends with the thread.
    pub fn run_beside<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce() -> F + Send + 'static) {
        let job = Message::Job(Box::new(move |_| drop(tokio::task::spawn_local(task()))));
        // Without the thread the process is at its end.
        let _ = self.jobs.send(job);
    }
}
