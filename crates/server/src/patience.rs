//! How long one connection waits for something. A connection whose stream is cut waits for nothing more.

use crate::clock;
use crate::registry::Seat;
use crate::worker::Worker;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The time was up before the thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// A connection's one timer.
#[derive(Debug)]
pub(crate) struct Patience {
    worker: Rc<Worker>,
    seat: Rc<Seat>,
}

impl Patience {
    pub(crate) fn new(worker: &Rc<Worker>, seat: &Rc<Seat>) -> Patience {
        Patience { worker: Rc::clone(worker), seat: Rc::clone(seat) }
    }

    /// From now on the wait may take so many milliseconds.
    pub(crate) fn start(&mut self, timeout_ms: u64) {
        let clock = &self.worker.clock;
        self.worker.deadlines.set(clock, &self.seat, clock.now().monotonic_ms().saturating_add(timeout_ms));
    }

    /// Is the time up, or the stream cut? Registers for waking if not.
    pub(crate) fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<TimedOut> {
        if self.seat.is_cut() || self.seat.deadline.is_over(self.worker.clock.now().monotonic_ms()) {
            return Poll::Ready(TimedOut);
        }
        self.seat.note(cx);
        // Whoever is polled next may have waited long, though the loop never came to rest in between.
        clock::turn();
        Poll::Pending
    }

    /// Lets so much time pass. `false` if the stream is cut meanwhile: that is not waited out.
    pub(crate) async fn rest(&mut self, time: Duration) -> bool {
        let mut sleep = pin!(tokio::time::sleep(time));
        std::future::poll_fn(|cx| {
            if self.seat.is_cut() {
                return Poll::Ready(false);
            }
            self.seat.note(cx);
            sleep.as_mut().poll(cx).map(|()| true)
        })
        .await
    }

    /// Waits for `what`, but no longer than so many milliseconds.
    pub(crate) async fn wait<T>(
        &mut self,
        timeout_ms: u64,
        what: impl Future<Output = T>,
    ) -> Result<T, TimedOut> {
        let mut what = pin!(what);
        let mut started = false;
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(value) = what.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            if !started {
                started = true;
                self.start(timeout_ms);
            }
            self.poll_up(cx).map(Err)
        })
        .await
    }
}
