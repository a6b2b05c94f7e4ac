//! The effects that the server performs for a request: waiting for its body, for time, for a hold, for the control plane.
//!
//! Owns the wait for each [`Effect`]. Must never decide what follows it: the engine does, when it gets the [`Wake`].

use crate::context::timeout::TimedOut;
use crate::request::cx::RequestCx;
use crate::request::respond::Unfinished;
use crate::request::send::SendError;
use crate::script_sockets::poll_tap;
use crate::switching::{api, holds};
use engine::Exchange;
use engine::exchange::AbortNotice;
use engine::host::Level;
use engine::network::Waiting;
use engine::output;
use engine::phase::{Effect, Wake};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use transport::clock;

impl RequestCx<'_> {
    /// Carries an effect out.
    pub(crate) async fn perform(&mut self, effect: Effect) -> Result<Wake, Unfinished> {
        // What a script waits for may be there at once, each time.
        tokio::task::coop::consume_budget().await;
        let Exchange { script, output, .. } = &*self.exchange;
        let is_raw = script.tap.as_ref().is_some_and(|tap| tap.is_raw());
        // A client may read nothing before it has sent its body.
        let reads = matches!(effect, Effect::ReadBody | Effect::ReadBodyOr(_) | Effect::DiscardBody);
        if script.waiting && output.head_written() && !is_raw && (output.flush_wanted || !reads) {
            match self.send_before_wait(matches!(effect, Effect::Flush)).await? {
                Wake::Done => {}
                failed => return Ok(failed),
            }
        }
        Ok(match effect {
            Effect::ReadBody => self.read_body().await,
            Effect::ReadBodyOr(waiting) => self.read_body_or(waiting).await,
            Effect::DiscardBody => self.discard_body().await,
            // The script may have sent something to its client before.
            Effect::Sleep(ms) if is_raw => {
                self.wait_for(Waiting::new(tokio::time::sleep(Duration::from_millis(ms)))).await
            }
            Effect::Sleep(ms) if self.watches_client() => self.delay(ms).await,
            Effect::Sleep(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Wake::Done
            }
            Effect::Hold(ms) => self.delay(ms).await,
            // That was done before.
            Effect::Flush => Wake::Done,
            Effect::AwaitRelease => holds::await_release(self).await,
            Effect::Switch(order) => api::order(self, order).await,
            Effect::Subrequests(wanted) => Box::pin(self.subrequests(wanted)).await,
            Effect::Background(wanted) => self.background(wanted),
            Effect::Await(waiting) => self.wait_for(waiting).await,
        })
    }

    /// Waits, and watches the client meanwhile (ngx_http_test_reading): a client that has given up must not be served.
    async fn delay(&mut self, ms: u64) -> Wake {
        let client = &mut *self.client;
        client.timeout.start(ms);
        let mut watch = true;
        let gone = poll_fn(|cx| {
            if watch {
                match client.stream.poll_closed(cx) {
                    Poll::Ready(true) => return Poll::Ready(true),
                    Poll::Ready(false) => watch = false,
                    Poll::Pending => {}
                }
            }
            client.timeout.poll_elapsed(cx).map(|TimedOut| false)
        })
        .await;
        if !gone {
            return Wake::Done;
        }
        self.log(Level::Info, "client prematurely closed connection");
        Wake::Failed(499)
    }

    /// Reads the body whole, or waits for an event of a script's, whichever is over first.
    async fn read_body_or(&mut self, mut waiting: Waiting) -> Wake {
        let mut reading = pin!(self.read_body());
        poll_fn(|cx| match reading.as_mut().poll(cx) {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => Pin::new(&mut waiting).poll(cx).map(|()| Wake::Done),
        })
        .await
    }

    /// Waits for an event of a script's, unless the stream is cut; and with `lua_check_client_abort` unless the client
    /// leaves.
    async fn wait_for(&mut self, mut waiting: Waiting) -> Wake {
        let mut watch = self.watches_client();
        let tap = self.exchange.script.tap.clone();
        let is_body_wanted = tap.as_ref().is_some_and(|tap| tap.is_wanted() && !tap.is_raw());
        if is_body_wanted && self.send_continue().await.is_err() {
            return Wake::Failed(499);
        }
        let (client, exchange) = (&mut *self.client, &mut *self.exchange);
        let is_over = poll_fn(|cx| {
            loop {
                if Pin::new(&mut waiting).poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                if !poll_tap(client, exchange, cx) {
                    break;
                }
            }
            if client.conn_state.is_cut() {
                return Poll::Ready(false);
            }
            client.conn_state.register(cx);
            // Where the body is read, its end is seen.
            if watch && tap.as_ref().is_none_or(|tap| tap.is_raw() && !tap.is_wanted()) {
                match client.stream.poll_closed(cx) {
                    Poll::Ready(true) => return Poll::Ready(false),
                    Poll::Ready(false) => watch = false,
                    Poll::Pending => {}
                }
            }
            clock::turn();
            Poll::Pending
        })
        .await;
        if is_over {
            return Wake::Done;
        }
        self.log(Level::Info, "client prematurely closed connection");
        Wake::Failed(499)
    }

    /// Returns true if a script's wait ends when its client leaves.
    pub(super) fn watches_client(&self) -> bool {
        *self.settings().lua.check_client_abort && self.exchange.script.abort != AbortNotice::Given
    }

    /// Returns a script whose client is gone runs to its end, unless `lua_check_client_abort` says otherwise; it can write
    /// nothing more. A stream that its switch has cut ends.
    fn go_on_without_client(&mut self, sent: Result<(), SendError>) -> Wake {
        if sent.is_ok() {
            return Wake::Done;
        }
        if self.watches_client() || self.client.conn_state.is_cut() {
            return Wake::Failed(499);
        }
        self.exchange.output.break_off();
        Wake::Done
    }

    /// Before a script waits, sends what it has flushed, or else what has gathered if it is as much as `postpone_output` says.
    async fn send_before_wait(&mut self, flushes: bool) -> Result<Wake, Unfinished> {
        if std::mem::take(&mut self.exchange.output.flush_wanted) || flushes {
            self.engine(output::flush);
            if self.exchange.output.has_chain() && !self.exchange.output.failed() {
                return match self.send_filtered().await {
                    Ok(()) => Ok(Wake::Done),
                    Err(Unfinished::Short) => Err(Unfinished::Short),
                    Err(_) => Ok(self.go_on_without_client(Err(SendError::Gone))),
                };
            }
        } else if (self.exchange.output.wire.len() as u64)
            < (*self.settings().core.send.postpone_output).max(1)
        {
            return Ok(Wake::Done);
        }
        let sent = self.send_wire().await;
        Ok(self.go_on_without_client(sent))
    }
}
