//! How long one connection waits for something: a timer that is armed as seldom as possible.
//!
//! Nearly every wait ends long before its time is up, and the next one has a later deadline. So the timer wheel is
//! not told of each: the deadline is a number that moves, and the one timer of the connection, when it fires early,
//! is armed again for what is left. A connection whose stream is cut waits for nothing more.

use crate::clock;
use crate::registry::Seat;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// The time was up before the thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// A connection's one timer.
#[derive(Debug)]
pub(crate) struct Patience {
    sleep: Pin<Box<Sleep>>,
    armed: Instant,
    deadline: Instant,
    seat: Rc<Seat>,
}

impl Patience {
    pub(crate) fn new(seat: Rc<Seat>) -> Patience {
        let far = Instant::now() + Duration::from_secs(86_400);
        Patience { sleep: Box::pin(sleep_until(far)), armed: far, deadline: far, seat }
    }

    /// From now on the wait may take so many milliseconds.
    pub(crate) fn start(&mut self, timeout_ms: u64) {
        self.deadline = Instant::now() + Duration::from_millis(timeout_ms);
        if self.deadline < self.armed || self.sleep.is_elapsed() {
            self.arm();
        }
    }

    fn arm(&mut self) {
        self.armed = self.deadline;
        self.sleep.as_mut().reset(self.deadline);
    }

    /// Is the time up, or the stream cut? Registers for waking if not.
    pub(crate) fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<TimedOut> {
        if self.seat.is_cut() {
            return Poll::Ready(TimedOut);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(TimedOut);
            }
            self.arm();
        }
        // Whoever is polled next may have waited long, though the loop never came to rest in between.
        clock::turn();
        Poll::Pending
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_goes_on_for_whoever_waits_though_the_loop_is_never_idle() {
        let clock = clock::Clock::new(std::time::Instant::now());
        let mut patience = Patience::new(Rc::default());
        patience.start(1000);
        let before = clock.now();
        let later = std::time::Instant::now() + Duration::from_millis(2);
        while std::time::Instant::now() < later {
            assert_eq!(clock.now(), before);
        }
        std::future::poll_fn(|cx| {
            assert!(patience.poll_up(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(clock.now().monotonic_us >= before.monotonic_us + 2000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_deadline_needs_no_new_timer_and_an_earlier_one_is_kept() {
        let mut patience = Patience::new(Rc::default());
        let begin = Instant::now();
        assert_eq!(patience.wait(50, std::future::pending::<()>()).await, Err(TimedOut));
        assert_eq!(begin.elapsed().as_millis(), 50);
        assert_eq!(patience.wait(1000, async { 7 }).await, Ok(7));
        assert_eq!(patience.wait(200, std::future::pending::<()>()).await, Err(TimedOut));
        assert_eq!(begin.elapsed().as_millis(), 250);
        assert_eq!(patience.wait(10, std::future::pending::<()>()).await, Err(TimedOut));
        assert_eq!(begin.elapsed().as_millis(), 260);
    }
}
