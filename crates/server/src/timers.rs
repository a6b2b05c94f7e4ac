//! `ngx.timer`: running the callbacks of a generation's scripts when they are due.
//!
//! One task for each generation on each thread. It holds the generation only while callbacks run, so that an old one
//! can end.

use crate::generation::Generation;
use crate::host::ThreadHost;
use crate::worker::Worker;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// Runs the timers of a generation from now on, until nobody holds it any more.
pub(crate) fn start(worker: &Rc<Worker>, generation: &Rc<Generation>) {
    let Some(scripts) = &generation.scripts else { return };
    let earlier = Rc::new(Notify::new());
    let notify = Rc::clone(&earlier);
    scripts.on_timer(Box::new(move || notify.notify_one()));
    spawn_local(run(Rc::clone(worker), Rc::downgrade(generation), earlier));
}

/// The generation is to be gone: its timers run once more, at once and with their first argument true, as nginx's
/// workers do when they end.
pub(crate) fn end(worker: &Worker, generation: &Generation) {
    if let Some(scripts) = &generation.scripts {
        scripts.exit(&mut ThreadHost { worker, generation }, &generation.config);
    }
}

async fn run(worker: Rc<Worker>, generation: Weak<Generation>, earlier: Rc<Notify>) {
    loop {
        let next_ms = {
            let Some(generation) = generation.upgrade() else { return };
            let Some(scripts) = &generation.scripts else { return };
            scripts
                .poll_timers(&mut ThreadHost { worker: &worker, generation: &generation }, &generation.config)
        };
        match next_ms {
            Some(ms) => {
                // Whichever comes first: the next timer, or one that a script has set before it.
                let _ = tokio::time::timeout(Duration::from_millis(ms), earlier.notified()).await;
            }
            None => earlier.notified().await,
        }
    }
}
