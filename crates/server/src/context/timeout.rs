//! How long one connection waits for something. A connection whose stream is cut waits no longer.

use crate::context::conn_state::ConnState;
use crate::context::thread_context::ThreadContext;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use transport::clock;

/// The time was up before the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// A connection's one timer.
#[derive(Debug)]
pub(crate) struct Timeout {
    thread: Rc<ThreadContext>,
    conn_state: Rc<ConnState>,
}

impl Timeout {
    pub(crate) fn new(thread: &Rc<ThreadContext>, conn_state: &Rc<ConnState>) -> Timeout {
        Timeout { thread: Rc::clone(thread), conn_state: Rc::clone(conn_state) }
    }

    /// Starts the timer: it elapses in `timeout_ms` from now.
    pub(crate) fn start(&mut self, timeout_ms: u64) {
        let clock = &self.thread.clock;
        let at_ms = clock.now().monotonic_ms().saturating_add(timeout_ms);
        self.thread.deadlines.set(clock, &self.conn_state, at_ms);
    }

    /// Becomes ready if the time is up or the stream is cut; otherwise registers the task for waking.
    pub(crate) fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<TimedOut> {
        let now_ms = self.thread.clock.now().monotonic_ms();
        if self.conn_state.is_cut() || self.conn_state.deadline.is_over(now_ms) {
            return Poll::Ready(TimedOut);
        }
        self.conn_state.register(cx);
        // The next task to be polled may have waited long, though the loop never came to rest in between.
        clock::turn();
        Poll::Pending
    }

    /// Sleeps for `time`. Returns false, at once, if the stream is cut meanwhile.
    pub(crate) async fn sleep(&mut self, time: Duration) -> bool {
        let mut sleep = pin!(tokio::time::sleep(time));
        std::future::poll_fn(|cx| {
            if self.conn_state.is_cut() {
                return Poll::Ready(false);
            }
            self.conn_state.register(cx);
            sleep.as_mut().poll(cx).map(|()| true)
        })
        .await
    }

    /// Waits for `event`, at most for `timeout_ms`.
    pub(crate) async fn wait<T>(
        &mut self,
        timeout_ms: u64,
        event: impl Future<Output = T>,
    ) -> Result<T, TimedOut> {
        let mut event = pin!(event);
        let mut started = false;
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(value) = event.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            if !started {
                started = true;
                self.start(timeout_ms);
            }
            self.poll_elapsed(cx).map(Err)
        })
        .await
    }
}
