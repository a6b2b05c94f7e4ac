//! The client's connection while a request is served: reading its body, sending its answer.

use crate::body::BodyReader;
use crate::host::with_env;
use crate::input::Input;
use crate::patience::{Patience, TimedOut};
use crate::registry::Seat;
use crate::stream::Stream;
use crate::switching::Places;
use crate::worker::Worker;
use engine::Exchange;
use engine::host::Level;
use engine::modules::core;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::generation::Generation;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The stream.
    pub(crate) stream: Stream,
    /// Its timer.
    pub(crate) patience: Patience,
    /// Bytes not used yet.
    pub(crate) input: Input,
    /// What is still to come of the request's body.
    pub(crate) body: BodyReader,
    /// `100 Continue` is still owed, should the body be wanted.
    pub(crate) owes_continue: bool,
    /// Where switches have led its request.
    pub(crate) places: Places,
    /// Where it is known.
    pub(crate) seat: Rc<Seat>,
    /// Its thread.
    pub(crate) worker: Rc<Worker>,
}

/// The client can be sent nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// It is gone.
    Gone,
    /// It did not take anything for too long.
    TimedOut,
}

/// What the error log says of a stream that is cut.
pub(crate) const CUT: &str = "stream closed: its switch leads elsewhere now";

/// The most slices one write takes.
const MAX_SLICES: usize = 8;

impl Client {
    /// Reads more into the input; `Ok(0)` is the client's end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.poll_fill(cx, &mut self.stream, &self.worker.buffers)
    }

    /// Sends what stands in the wire, with `data` between its first `before` bytes and the rest; empties the wire.
    pub(crate) async fn send(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        before: usize,
        data: &[u8],
    ) -> Result<(), SendError> {
        let wire = std::mem::take(&mut exchange.output.wire);
        let parts = [&wire[..before], data, &wire[before..]];
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let result = if total == 0 {
            Ok(())
        } else if core::limit_rate(exchange, &generation.config) > 0 {
            self.send_slowly(exchange, generation, &parts).await
        } else {
            self.send_parts(exchange, generation, &parts).await
        };
        exchange.output.wire = wire;
        exchange.output.wire.clear();
        result
    }

    /// Sends what stands in the wire.
    pub(crate) async fn send_wire(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
    ) -> Result<(), SendError> {
        let before = exchange.output.wire.len();
        self.send(exchange, generation, before, b"").await
    }

    async fn send_parts(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        parts: &[&[u8]],
    ) -> Result<(), SendError> {
        let timeout_ms = send_timeout_ms(exchange, generation);
        let mut done = 0;
        let mut waiting_since = usize::MAX;
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = write_all(&mut self.stream, cx, parts, &mut done) {
                return Poll::Ready(result.map_err(|_| SendError::Gone));
            }
            // The time begins anew with each byte that goes.
            if waiting_since != done {
                waiting_since = done;
                self.patience.start(timeout_ms);
            }
            self.patience.poll_up(cx).map(|TimedOut| Err(SendError::TimedOut))
        })
        .await;
        exchange.output.sent += done as u64;
        self.told(exchange, generation, result)
    }

    /// The way of `limit_rate`: so many bytes a second, after the first `limit_rate_after` (ngx_http_write_filter).
    async fn send_slowly(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        parts: &[&[u8]],
    ) -> Result<(), SendError> {
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let room = self.allowance(exchange, generation).await?.unwrap_or(u64::MAX);
                let count = rest.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                self.send_parts(exchange, generation, &[&rest[..count]]).await?;
                rest = &rest[count..];
            }
        }
        Ok(())
    }

    /// How many bytes `limit_rate` lets go now; waits until there are any. `None` is without limit.
    ///
    /// # Errors
    /// The stream was cut meanwhile.
    pub(crate) async fn allowance(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
    ) -> Result<Option<u64>, SendError> {
        let after = core::limit_rate_after(exchange, &generation.config);
        loop {
            let rate = core::limit_rate(exchange, &generation.config);
            if rate == 0 {
                return Ok(None);
            }
            let elapsed_us =
                self.worker.clock.fresh().monotonic_us.saturating_sub(exchange.timing.start.monotonic_us);
            let allowed = rate.saturating_mul(elapsed_us / 1_000_000 + 1).saturating_add(after);
            match allowed.checked_sub(exchange.output.sent) {
                Some(room @ 1..) => return Ok(Some(room)),
                _ => {
                    // The allowance grows with each full second.
                    let whole_s = ((exchange.output.sent - allowed) / rate).min(3600);
                    let wait_us = whole_s * 1_000_000 + (1_000_000 - elapsed_us % 1_000_000);
                    if !self.patience.rest(std::time::Duration::from_micros(wait_us)).await {
                        self.told(exchange, generation, Err(SendError::TimedOut))?;
                    }
                }
            }
        }
    }

    /// Logs a send that failed, and passes it on.
    pub(crate) fn told(
        &self,
        exchange: &mut Exchange,
        generation: &Generation,
        result: Result<(), SendError>,
    ) -> Result<(), SendError> {
        match result {
            Ok(()) => {}
            Err(SendError::TimedOut) if self.seat.is_cut() => {
                crate::request_body::say(self, exchange, generation, Level::Info, CUT);
            }
            Err(SendError::TimedOut) => with_env(&self.worker, generation, |env| {
                engine::log_line::error(
                    exchange,
                    env,
                    Level::Info,
                    b"client timed out (110: Connection timed out) while sending response to client",
                );
            }),
            Err(SendError::Gone) => {}
        }
        result
    }

    /// Tells the client to go on with its body, if it waits for that.
    pub(crate) async fn say_continue(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
    ) -> Result<(), SendError> {
        if !std::mem::take(&mut self.owes_continue) {
            return Ok(());
        }
        self.send_parts_uncounted(exchange, generation, b"HTTP/1.1 100 Continue\r\n\r\n").await
    }

    /// Sends bytes that are not part of the answer and are not counted with it.
    pub(crate) async fn send_parts_uncounted(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        bytes: &[u8],
    ) -> Result<(), SendError> {
        let before = exchange.output.sent;
        let result = self.send_parts(exchange, generation, &[bytes]).await;
        exchange.output.sent = before;
        result
    }
}

/// How long the client may take nothing, in ms.
pub(crate) fn send_timeout_ms(exchange: &Exchange, generation: &Generation) -> u64 {
    *generation.config.location(exchange.route.location).settings.core.send.timeout_ms
}

/// Writes all of `parts` to a stream, as far as `done` says it has not; several slices in one call.
pub(crate) fn write_all(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    parts: &[&[u8]],
    done: &mut usize,
) -> Poll<io::Result<()>> {
    loop {
        let mut slices = [IoSlice::new(b""); MAX_SLICES];
        let mut count = 0;
        let mut skip = *done;
        for part in parts {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            if count < MAX_SLICES {
                slices[count] = IoSlice::new(&part[skip..]);
                count += 1;
            }
            skip = 0;
        }
        if count == 0 {
            return Poll::Ready(Ok(()));
        }
        match ready!(stream.poll_write(cx, &slices[..count]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            sent => *done += sent,
        }
    }
}
