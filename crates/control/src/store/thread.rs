//! The thread of a store.
//!
//! Owns: waiting for the disk, so that no other thread does. Requests are carried out one at a time, in their order.

use super::StoreBackend;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;
use switch::{StoreFault, StoreFaultKind};
use tokio::sync::oneshot;

/// The idle time before maintenance.
const IDLE: Duration = Duration::from_millis(500);
/// The time between maintenance and the next, while nothing else happens.
const QUIET: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce(&mut dyn StoreBackend) + Send>;

/// A store on its own thread. Dropping it lets the thread finish what was asked, and end.
pub(crate) struct StoreThread {
    work: Option<Way>,
    thread: Option<JoinHandle<()>>,
}

/// The channel to the thread.
enum Way {
    Thread(mpsc::Sender<Work>),
    /// A task of a simulation, where nothing has a thread of its own.
    #[cfg(test)]
    Task(tokio::sync::mpsc::UnboundedSender<Work>),
}

impl StoreThread {
    /// Starts the thread, opens the store there, and waits until it is open.
    pub(crate) fn start<F>(name: &str, open: F) -> Result<StoreThread, StoreFault>
    where
        F: FnOnce() -> Result<Box<dyn StoreBackend>, StoreFault> + Send + 'static,
    {
        let (work, inbox) = mpsc::channel::<Work>();
        let (ready, opened) = mpsc::channel();
        // Linux shows fifteen bytes of a thread's name.
        let thread = std::thread::Builder::new()
            .name(format!("store {name}"))
            .spawn(move || match open() {
                Ok(mut store) => {
                    let _ = ready.send(Ok(()));
                    serve(&mut *store, &inbox);
                }
                Err(fault) => drop(ready.send(Err(fault))),
            })
            .map_err(|error| no_thread(&error))?;
        match opened.recv() {
            Ok(Ok(())) => Ok(StoreThread { work: Some(Way::Thread(work)), thread: Some(thread) }),
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(no_thread(&io::Error::other("it ended at start"))),
        }
    }

    /// Runs a function with the store, and returns its result.
    pub(crate) async fn with<T, F>(&self, work: F) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn StoreBackend) -> Result<T, StoreFault> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.tell(move |store| {
            let _ = answer.send(work(store));
        });
        answered.await.unwrap_or_else(|_| Err(no_thread(&io::Error::other("it has ended"))))
    }

    /// Returns the same, blocking the calling thread.
    pub(crate) fn with_blocking<T, F>(&self, work: F) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn StoreBackend) -> Result<T, StoreFault> + Send + 'static,
    {
        let (answer, answered) = mpsc::channel();
        self.tell(move |store| {
            let _ = answer.send(work(store));
        });
        answered.recv().unwrap_or_else(|_| Err(no_thread(&io::Error::other("it has ended"))))
    }

    /// Queues a function with the store.
    pub(crate) fn tell(&self, work: impl FnOnce(&mut dyn StoreBackend) + Send + 'static) {
        // If the thread has ended, the work is dropped, and the receiver of its answer notices.
        match &self.work {
            Some(Way::Thread(sender)) => drop(sender.send(Box::new(work))),
            #[cfg(test)]
            Some(Way::Task(sender)) => drop(sender.send(Box::new(work))),
            None => {}
        }
    }

    /// Returns a store whose work is done by a task of this thread; `pause` runs before each piece of it.
    #[cfg(test)]
    pub(crate) fn simulated<P: Future<Output = ()>>(
        mut store: Box<dyn StoreBackend>,
        mut pause: impl FnMut() -> P + 'static,
    ) -> StoreThread {
        let (work, mut inbox) = tokio::sync::mpsc::unbounded_channel::<Work>();
        tokio::task::spawn_local(async move {
            while let Some(work) = inbox.recv().await {
                pause().await;
                work(&mut *store);
            }
        });
        StoreThread { work: Some(Way::Task(work)), thread: None }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

fn serve(store: &mut dyn StoreBackend, inbox: &mpsc::Receiver<Work>) {
    let mut pause = IDLE;
    loop {
        match inbox.recv_timeout(pause) {
            Ok(work) => {
                work(store);
                pause = IDLE;
            }
            Err(RecvTimeoutError::Timeout) => {
                store.idle();
                pause = QUIET;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn no_thread(error: &io::Error) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Failed,
        text: format!("the store thread failed: {error}"),
        remedy: "restart; if it happens again, report it".to_owned(),
    }
}
