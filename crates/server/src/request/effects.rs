//! The effects that the server performs for a request: waiting for its body, for time, for a hold, for the control plane.
//!
//! Owns the wait for each [`Effect`]. Must never decide what follows it: the engine does, when it gets the [`Wake`].

use crate::context::timeout::TimedOut;
use crate::request::cx::RequestCx;
use crate::request::respond::Unfinished;
use crate::switching::{api, holds};
use engine::host::Level;
use engine::phase::{Effect, Wake};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

impl RequestCx<'_> {
    /// Carries an effect out.
    pub(crate) async fn perform(&mut self, effect: Effect) -> Result<Wake, Unfinished> {
        self.client.in_flight.enter_undecided(self.exchange);
        let wake = self.carry_out(effect).await;
        self.client.in_flight.leave_undecided();
        wake
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<Wake, Unfinished> {
        Ok(match effect {
            Effect::ReadBody => self.read_body().await,
            Effect::DiscardBody => self.discard_body().await,
            Effect::Sleep(ms) => {
                self.send_postponed().await?;
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Wake::Done
            }
            Effect::Hold(ms) => self.delay(ms).await,
            Effect::Flush => match self.send_wire().await {
                Ok(()) => Wake::Done,
                Err(_) => Wake::Failed(499),
            },
            Effect::AwaitRelease { hold } => {
                // It will pin the newest tables and go wherever those route it: it is on no side.
                self.client.in_flight.leave_undecided();
                holds::await_release(self, hold).await
            }
            Effect::Switch(order) => api::order(self, order).await,
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

    /// Before a wait, sends what has gathered if it is as much as `postpone_output` says.
    async fn send_postponed(&mut self) -> Result<(), Unfinished> {
        let postpone = *self.settings().core.send.postpone_output;
        if self.exchange.output.wire.len() as u64 >= postpone.max(1) {
            self.send_wire().await?;
        }
        Ok(())
    }
}
