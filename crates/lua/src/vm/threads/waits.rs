//! Several waits at a time, of which the first that ends lets its script go on.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use engine::host::RunningRequests;
use engine::network::Waiting;

/// The waits of threads, by their numbers.
#[derive(Default)]
pub(crate) struct Waits {
    slots: RefCell<Vec<(u32, Waiting)>>,
    done: RefCell<Vec<u32>>,
    /// Those that were removed while the others were polled.
    removed: RefCell<Vec<u32>>,
}

impl Waits {
    /// Adds the wait of a thread.
    pub(in crate::vm) fn add(&self, thread: u32, waiting: Waiting) {
        self.slots.borrow_mut().push((thread, waiting));
    }

    /// Removes the wait of a thread; dropping it ends what it waits for.
    pub(in crate::vm) fn remove(&self, thread: u32) -> Vec<(u32, Waiting)> {
        self.done.borrow_mut().retain(|done| *done != thread);
        self.removed.borrow_mut().push(thread);
        self.slots.borrow_mut().extract_if(.., |(id, _)| *id == thread).collect()
    }

    /// Removes them all.
    pub(in crate::vm) fn clear(&self) {
        let slots = self.slots.take();
        self.done.borrow_mut().clear();
        drop(slots);
    }

    /// Returns the wait for the first of them; `None` if there is none.
    pub(in crate::vm) fn first(self: &Rc<Self>) -> Option<Waiting> {
        if self.slots.borrow().is_empty() && self.done.borrow().is_empty() {
            return None;
        }
        let waits = Rc::clone(self);
        Some(Waiting::new(poll_fn(move |cx| waits.poll(cx))))
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What is polled may serve requests inside this one, and so run Lua.
        let mut slots = self.slots.take();
        self.removed.borrow_mut().clear();
        slots.retain_mut(|(thread, waiting)| match Pin::new(waiting).poll(cx) {
            Poll::Ready(()) => {
                self.done.borrow_mut().push(*thread);
                false
            }
            Poll::Pending => true,
        });
        let removed = self.removed.take();
        slots.retain(|(thread, _)| !removed.contains(thread));
        self.done.borrow_mut().retain(|thread| !removed.contains(thread));
        slots.append(&mut self.slots.borrow_mut());
        *self.slots.borrow_mut() = slots;
        if self.done.borrow().is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Takes the threads whose waits are over.
    pub(in crate::vm) fn take_done(&self) -> Vec<u32> {
        self.done.take()
    }
}

/// The outcome of an order to a switch.
pub(crate) struct Reply {
    pub(crate) switch: usize,
    pub(crate) outcome: Cell<Option<Result<u64, String>>>,
    waker: Cell<Option<Waker>>,
    is_there: Cell<bool>,
}

/// The end of it that gets the outcome. Dropped without one, the order was not carried out.
pub(crate) struct ReplyEnd(Rc<Reply>);

impl Reply {
    /// Makes one, and the end that gets the outcome.
    pub(crate) fn new(switch: usize) -> (Rc<Reply>, ReplyEnd) {
        let (outcome, waker, is_there) = Default::default();
        let reply = Rc::new(Reply { switch, outcome, waker, is_there });
        (Rc::clone(&reply), ReplyEnd(reply))
    }

    /// Waits until the outcome is there.
    pub(crate) fn wait(self: &Rc<Self>) -> Waiting {
        let reply = Rc::clone(self);
        Waiting::new(poll_fn(move |cx| {
            if reply.is_there.get() {
                return Poll::Ready(());
            }
            reply.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        }))
    }
}

impl ReplyEnd {
    /// Takes the outcome.
    pub(crate) fn give(self, outcome: Result<u64, String>) {
        self.0.outcome.set(Some(outcome));
    }
}

impl Drop for ReplyEnd {
    fn drop(&mut self) {
        self.0.is_there.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

/// Waits for the end of requests inside this one.
pub(crate) fn for_requests(running: &Rc<RefCell<Option<Box<dyn RunningRequests>>>>) -> Waiting {
    let running = Rc::clone(running);
    Waiting::new(poll_fn(move |cx| {
        // Polled elsewhere it cannot be: the wait is the only one that polls it.
        let mut taken = running.take();
        let polled = taken.as_mut().map_or(Poll::Ready(()), |requests| requests.poll(cx));
        *running.borrow_mut() = taken;
        polled
    }))
}
