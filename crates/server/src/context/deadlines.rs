//! When the connections of a thread are to be woken because their time is up.
//!
//! Nearly every wait ends long before its deadline, and the next one has a later deadline. So a connection's deadline is a
//! number that moves, and its one entry in the thread's queue stays where it is: when that is due too early, it is put off
//! for the rest. Must never wake a connection early, nor know what it waits for.

use crate::context::conn_state::{ConnState, Deadline};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use transport::clock::Clock;

/// How far ahead an entry may be due, in ms: the queue takes at most two years. Later deadlines are put off on the way.
const FARTHEST_MS: u64 = 365 * 86_400_000;

/// The deadlines of a thread.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    queue: RefCell<DelayQueue<Weak<ConnState>>>,
}

impl Deadlines {
    /// Sets a connection's deadline.
    pub(crate) fn set(&self, clock: &Clock, conn_state: &Rc<ConnState>, at_ms: u64) {
        conn_state.deadline.at_ms.set(at_ms);
        match conn_state.deadline.entry.get() {
            Some((_, due_ms)) if due_ms <= at_ms => {}
            Some((key, _)) => {
                self.queue.borrow_mut().reset_at(&key, moment(clock, at_ms));
                conn_state.deadline.entry.set(Some((key, at_ms)));
            }
            None => self.enter(clock, Rc::downgrade(conn_state), &conn_state.deadline),
        }
    }

    /// Removes a connection that is closed or parked.
    pub(crate) fn remove(&self, conn_state: &ConnState) {
        if let Some((key, _)) = conn_state.deadline.entry.take() {
            self.queue.borrow_mut().remove(&key);
        }
    }

    fn enter(&self, clock: &Clock, conn_state: Weak<ConnState>, deadline: &Deadline) {
        let due_ms = deadline.at_ms.get().min(clock.now().monotonic_ms() + FARTHEST_MS);
        let key = self.queue.borrow_mut().insert_at(conn_state, moment(clock, due_ms));
        deadline.entry.set(Some((key, due_ms)));
    }

    /// Wakes the connections whose time is up. Runs until the event loop ends.
    pub(crate) async fn keep_waking(&self, clock: &Clock) {
        std::future::poll_fn(|cx| {
            while let Some(conn_state) = self.poll_due(cx) {
                let Some(owner) = conn_state.upgrade() else { continue };
                owner.deadline.entry.set(None);
                match owner.deadline.is_over(clock.fresh().monotonic_ms()) {
                    true => owner.wake(),
                    false => self.enter(clock, conn_state, &owner.deadline),
                }
            }
            Poll::Pending
        })
        .await
    }

    fn poll_due(&self, cx: &mut Context<'_>) -> Option<Weak<ConnState>> {
        match self.queue.borrow_mut().poll_expired(cx) {
            Poll::Ready(Some(expired)) => Some(expired.into_inner()),
            // An insertion into the empty queue wakes this task.
            Poll::Ready(None) | Poll::Pending => None,
        }
    }
}

fn moment(clock: &Clock, at_ms: u64) -> Instant {
    // The clock counts whole milliseconds that have passed: one more, so that no connection is woken just too early.
    Instant::from_std(clock.moment(at_ms + 1))
}
