//! Sending to the client: whole buffers, in time, and no faster than `limit_rate` allows.

use crate::context::timeout::TimedOut;
use crate::request::cx::RequestCx;
use engine::host::Level;
use engine::modules::core;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// Why nothing more can be sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// It is gone.
    Gone,
    /// It took nothing for too long, or its stream was cut.
    TimedOut,
}

/// The line of the error log about a stream that is cut.
pub(crate) const CUT: &str = "stream closed: its switch now routes elsewhere";

impl RequestCx<'_> {
    /// Sends the wire buffer, with `data` behind its first `before` bytes; empties the buffer.
    pub(crate) async fn send(&mut self, before: usize, data: &[u8]) -> Result<(), SendError> {
        let wire = std::mem::take(&mut self.exchange.output.wire);
        self.exchange.output.flush_wanted = false;
        let parts = [&wire[..before], data, &wire[before..]];
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let result = if total == 0 {
            Ok(())
        } else if core::limit_rate(self.exchange, &self.generation.config) > 0 {
            self.send_slowly(&parts).await
        } else {
            self.send_parts(&parts).await
        };
        self.exchange.output.wire = wire;
        self.exchange.output.wire.clear();
        result
    }

    /// Sends the wire buffer.
    pub(crate) async fn send_wire(&mut self) -> Result<(), SendError> {
        let before = self.exchange.output.wire.len();
        self.send(before, b"").await
    }

    async fn send_parts(&mut self, parts: &[&[u8]]) -> Result<(), SendError> {
        let timeout_ms = *self.settings().core.send.timeout_ms;
        let client = &mut *self.client;
        let mut done = 0;
        let mut waiting_since = usize::MAX;
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = client.stream.poll_write_all(cx, parts, &mut done) {
                return Poll::Ready(result.map_err(|_| SendError::Gone));
            }
            // The time starts anew with each byte that goes.
            if waiting_since != done {
                waiting_since = done;
                client.timeout.start(timeout_ms);
            }
            client.timeout.poll_elapsed(cx).map(|TimedOut| Err(SendError::TimedOut))
        })
        .await;
        self.exchange.output.sent += done as u64;
        self.log_send(result)
    }

    /// Sends at `limit_rate`: so many bytes a second, after the first `limit_rate_after` (ngx_http_write_filter).
    async fn send_slowly(&mut self, parts: &[&[u8]]) -> Result<(), SendError> {
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let room = self.allowance().await?.unwrap_or(u64::MAX);
                let count = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                self.send_parts(&[&rest[..count]]).await?;
                rest = &rest[count..];
            }
        }
        Ok(())
    }

    /// Returns how many bytes `limit_rate` allows now, and waits until there are any; `None` is without limit.
    ///
    /// # Errors
    /// Fails if the stream was cut meanwhile.
    pub(crate) async fn allowance(&mut self) -> Result<Option<u64>, SendError> {
        let after = core::limit_rate_after(self.exchange, &self.generation.config);
        loop {
            let rate = core::limit_rate(self.exchange, &self.generation.config);
            if rate == 0 {
                return Ok(None);
            }
            let now_us = self.client.thread.clock.fresh().monotonic_us;
            let elapsed_us = now_us.saturating_sub(self.exchange.timing.start.monotonic_us);
            let allowed = rate.saturating_mul(elapsed_us / 1_000_000 + 1).saturating_add(after);
            match allowed.checked_sub(self.exchange.output.sent) {
                Some(room @ 1..) => return Ok(Some(room)),
                _ => {
                    // The allowance grows with each full second.
                    let whole_s = ((self.exchange.output.sent - allowed) / rate).min(3600);
                    let wait_us = whole_s * 1_000_000 + (1_000_000 - elapsed_us % 1_000_000);
                    if !self.client.timeout.sleep(Duration::from_micros(wait_us)).await {
                        self.log_send(Err(SendError::TimedOut))?;
                    }
                }
            }
        }
    }

    /// Logs a send that failed, and passes it on.
    pub(crate) fn log_send(&mut self, result: Result<(), SendError>) -> Result<(), SendError> {
        if let Err(SendError::TimedOut) = result {
            let text = match self.client.conn_state.is_cut() {
                true => CUT,
                false => "client timed out (110: Connection timed out) while sending response to client",
            };
            self.log(Level::Info, text);
        }
        result
    }

    /// Sends `100 Continue` if the client waits for it.
    pub(crate) async fn send_continue(&mut self) -> Result<(), SendError> {
        if !std::mem::take(&mut self.client.owes_continue) {
            return Ok(());
        }
        self.send_interim(b"HTTP/1.1 100 Continue\r\n\r\n").await
    }

    /// Sends a response before the response: it is no part of that, and is not counted with it.
    pub(crate) async fn send_interim(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        let sent = self.exchange.output.sent;
        let result = self.send_parts(&[bytes]).await;
        self.exchange.output.sent = sent;
        result
    }
}
