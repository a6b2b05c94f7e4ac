//! `ngx.timer`: running the callbacks of a generation's scripts when they are due.
//!
//! One task for each generation on each thread. It holds the generation only while callbacks run, so that an old one
//! can end.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::request::host::ThreadHost;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// Runs the timers of a generation from now on, as long as it exists.
pub(crate) fn start(thread: &Rc<ThreadContext>, generation: &Rc<Generation>) {
    let Some(scripts) = &generation.scripts else { return };
    let earlier = Rc::new(Notify::new());
    let notify = Rc::clone(&earlier);
    scripts.on_timer(Box::new(move || notify.notify_one()));
    spawn_local(run(Rc::clone(thread), Rc::downgrade(generation), earlier));
}

/// Runs the timers of a generation that ends once more, at once and with their first argument true, as nginx's workers do
/// when they end.
pub(crate) fn end(thread: &ThreadContext, generation: &Generation) {
    if let Some(scripts) = &generation.scripts {
        scripts.exit(&mut ThreadHost { thread, generation }, &generation.config);
    }
}

async fn run(thread: Rc<ThreadContext>, generation: Weak<Generation>, earlier: Rc<Notify>) {
    loop {
        let next_ms = {
            let Some(generation) = generation.upgrade() else { return };
            let Some(scripts) = &generation.scripts else { return };
            scripts
                .poll_timers(&mut ThreadHost { thread: &thread, generation: &generation }, &generation.config)
        };
        match next_ms {
            Some(ms) => {
                // Whichever comes first: the next timer, or an earlier one that a script has just set.
                let _ = tokio::time::timeout(Duration::from_millis(ms), earlier.notified()).await;
            }
            None => earlier.notified().await,
        }
    }
}
