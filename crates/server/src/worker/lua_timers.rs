//! `ngx.timer`: running the callbacks of a generation's scripts when they are due.
//!
//! One task for each generation on each thread. It holds the generation while callbacks run, and after the generation's
//! end as long as any are left: those that a request's last scripts have set, and those that wait.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::request::host::ThreadHost;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// A generation that is kept for its timers.
struct Kept {
    generation: Rc<Generation>,
}

thread_local! {
    /// How many generations of this thread are kept.
    static KEPT: Cell<usize> = const { Cell::new(0) };
    /// Wakes [`ended`] when one is not kept any more.
    static RELEASED: Rc<Notify> = Rc::default();
}

impl Kept {
    fn new(generation: Rc<Generation>) -> Kept {
        KEPT.set(KEPT.get() + 1);
        Kept { generation }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.set(KEPT.get() - 1);
        // A thread that ends may have dropped it already.
        let _ = RELEASED.try_with(|released| released.notify_one());
    }
}

/// Wakes the task, the last time when the generation is dropped: the task ends.
struct Alarm(Rc<Notify>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Runs the timers of a generation from now on, as long as it exists.
pub(crate) fn start(thread: &Rc<ThreadContext>, generation: &Rc<Generation>) {
    let Some(scripts) = &generation.scripts else { return };
    let earlier = Rc::new(Notify::new());
    let kept = Rc::new(RefCell::new(None));
    scripts.on_timer(Box::new({
        let (alarm, kept) = (Alarm(Rc::clone(&earlier)), Rc::downgrade(&kept));
        let generation = Rc::downgrade(generation);
        // The request whose script sets a timer may be the last that holds the generation.
        move || {
            if let (Some(kept), Some(generation)) = (kept.upgrade(), generation.upgrade())
                && kept.borrow().is_none()
            {
                kept.replace(Some(Kept::new(generation)));
            }
            alarm.0.notify_one();
        }
    }));
    spawn_local(run(Rc::clone(thread), Rc::downgrade(generation), kept, earlier));
}

/// Runs the timers of a generation that ends once more, at once and with their first argument true, as nginx's workers do
/// when they end.
pub(crate) fn end(thread: &Rc<ThreadContext>, generation: &Generation) {
    if let Some(scripts) = &generation.scripts {
        scripts.exit(&mut ThreadHost { thread, generation, inner: None }, &generation.config);
    }
}

/// Waits until no generation that has ended has functions of timers left.
pub(crate) async fn ended() {
    let released = RELEASED.with(Rc::clone);
    while KEPT.get() > 0 {
        released.notified().await;
    }
}

async fn run(
    thread: Rc<ThreadContext>,
    generation: Weak<Generation>,
    kept: Rc<RefCell<Option<Kept>>>,
    earlier: Rc<Notify>,
) {
    loop {
        let next_ms = {
            let Some(generation) = generation.upgrade() else { return };
            let Some(scripts) = &generation.scripts else { return };
            let mut host = ThreadHost { thread: &thread, generation: &generation, inner: None };
            let next_ms = scripts.poll_timers(&mut host, &generation.config);
            if !scripts.has_work_after_exit() {
                let kept = kept.take();
                debug_assert!(kept.is_none_or(|kept| Rc::ptr_eq(&kept.generation, &generation)));
            }
            next_ms
        };
        match next_ms {
            Some(0) => tokio::task::yield_now().await,
            Some(ms) => {
                // Whichever comes first: the next timer, or an earlier one that a script has just set.
                let _ = tokio::time::timeout(Duration::from_millis(ms), earlier.notified()).await;
            }
            None => earlier.notified().await,
        }
    }
}
