//! When the connections of a thread are to be woken because their time is up.
//!
//! Nearly every wait ends long before its time is up, and the next one has a later deadline. So a connection's deadline
//! is a number that moves, and its one entry in the thread's queue stays where it is: when that is due too early, it
//! is put off for what is left. Must never wake a connection before its time, nor know what it waits for.

use crate::clock::Clock;
use crate::registry::Seat;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue::Key};

/// A connection's deadline.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    /// On the thread's clock, in ms.
    at_ms: Cell<u64>,
    /// Its entry in the queue, and when that is due.
    entry: Cell<Option<(Key, u64)>>,
}

impl Deadline {
    /// Has it passed?
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.at_ms.get()
    }
}

/// How far ahead an entry may be due, in ms: the queue takes no more than two years. What is later is put off on the way.
const FARTHEST_MS: u64 = 365 * 86_400_000;

/// The deadlines of a thread.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    queue: RefCell<DelayQueue<Weak<Seat>>>,
}

impl Deadlines {
    /// From now on the connection's deadline is then.
    pub(crate) fn set(&self, clock: &Clock, seat: &Rc<Seat>, at_ms: u64) {
        seat.deadline.at_ms.set(at_ms);
        match seat.deadline.entry.get() {
            Some((_, due_ms)) if due_ms <= at_ms => {}
            Some((key, _)) => {
                self.queue.borrow_mut().reset_at(&key, moment(clock, at_ms));
                seat.deadline.entry.set(Some((key, at_ms)));
            }
            None => self.enter(clock, Rc::downgrade(seat), &seat.deadline),
        }
    }

    /// The connection waits no more, for good.
    pub(crate) fn remove(&self, seat: &Seat) {
        if let Some((key, _)) = seat.deadline.entry.take() {
            self.queue.borrow_mut().remove(&key);
        }
    }

    fn enter(&self, clock: &Clock, seat: Weak<Seat>, deadline: &Deadline) {
        let due_ms = deadline.at_ms.get().min(clock.now().monotonic_ms() + FARTHEST_MS);
        let key = self.queue.borrow_mut().insert_at(seat, moment(clock, due_ms));
        deadline.entry.set(Some((key, due_ms)));
    }

    /// Wakes the connections whose time is up, for ever.
    pub(crate) async fn keep_waking(&self, clock: &Clock) {
        std::future::poll_fn(|cx| {
            while let Some(seat) = self.poll_due(cx) {
                let Some(owner) = seat.upgrade() else { continue };
                owner.deadline.entry.set(None);
                match owner.deadline.is_over(clock.fresh().monotonic_ms()) {
                    true => owner.wake(),
                    false => self.enter(clock, seat, &owner.deadline),
                }
            }
            Poll::Pending
        })
        .await
    }

    fn poll_due(&self, cx: &mut Context<'_>) -> Option<Weak<Seat>> {
        match self.queue.borrow_mut().poll_expired(cx) {
            Poll::Ready(Some(expired)) => Some(expired.into_inner()),
            // Whoever enters the first one wakes us.
            Poll::Ready(None) | Poll::Pending => None,
        }
    }
}

fn moment(clock: &Clock, at_ms: u64) -> Instant {
    // The clock tells whole milliseconds that have passed: one more, so that nobody is woken just before his time.
    Instant::from_std(clock.moment(at_ms + 1))
}
