//! A timer that is set far more often than it elapses: setting it again costs no more than reading the clock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// See the module.
#[derive(Default)]
pub(super) struct LazyTimer {
    at: Option<Instant>,
    /// Elapses at that time or before.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LazyTimer {
    /// Starts it: it elapses in `ms` from now.
    pub(super) fn start(&mut self, ms: u64) {
        self.at = Instant::now().checked_add(Duration::from_millis(ms));
    }

    /// Becomes ready when the time is up; never, if it was not started.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= at {
                self.at = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn elapses_at_the_time_that_was_set_last() {
        let mut timer = LazyTimer::default();
        let began = Instant::now();
        timer.start(10);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx))).await.is_pending());
        timer.start(100);
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(began.elapsed(), Duration::from_millis(100));
        timer.start(50);
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(began.elapsed(), Duration::from_millis(150));
    }
}
