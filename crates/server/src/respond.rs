//! Sending what the engine decided to serve, other than what an upstream says.

use crate::buffers::Room;
use crate::client::{Client, SendError, send_timeout_ms};
use crate::generation::Generation;
use crate::host::with_env;
use crate::patience::TimedOut;
use engine::Exchange;
use engine::host::Level;
use engine::output::{self, FilterFailed, HeadRefused};
use engine::phase::FilePart;
use std::fs::File;
use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::task::Poll;

/// Why an answer was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// Nothing was sent: this status is to be answered instead.
    Status(u16),
    /// Nothing was sent: a filter has this status answered instead, with no field of the answer that was to go out.
    Replaced(u16),
    /// The request was redirected internally: walk on.
    Walk,
    /// Part of it was sent, or the client is gone: the connection must be closed.
    Broken,
    /// Its source or a filter broke it off, and all that may be sent of it is sent: the connection must be closed so
    /// that it arrives.
    Short,
}

impl From<SendError> for Unfinished {
    fn from(_: SendError) -> Self {
        Unfinished::Broken
    }
}

impl From<FilterFailed> for Unfinished {
    fn from(_: FilterFailed) -> Self {
        Unfinished::Short
    }
}

impl From<HeadRefused> for Unfinished {
    fn from(refused: HeadRefused) -> Self {
        match refused {
            HeadRefused::Refuse(status) => Unfinished::Status(status),
            HeadRefused::Replace(status) => Unfinished::Replaced(status),
            HeadRefused::Close => Unfinished::Short,
        }
    }
}

/// Bodies up to this size go out in one write with their heads, instead of by sendfile after them.
const COPY_UP_TO: u64 = 16 << 10;

impl Client {
    /// Sends a body that is in memory.
    pub(crate) async fn serve_bytes(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        body: &[u8],
    ) -> Result<(), Unfinished> {
        with_env(&self.worker, generation, |env| {
            output::write_head(exchange, env)?;
            output::write_body(exchange, env, body, true).map_err(Unfinished::from)
        })?;
        Ok(self.send_wire(exchange, generation).await?)
    }

    /// Sends parts of a file.
    pub(crate) async fn serve_file(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        file: &File,
        parts: &[FilePart],
    ) -> Result<(), Unfinished> {
        let filtered = with_env(&self.worker, generation, |env| {
            output::write_head(exchange, env)?;
            Ok::<_, Unfinished>(output::has_body_filter(exchange, env))
        })?;
        // A filter may have chosen ranges of what was to be sent whole.
        let chosen = std::mem::take(&mut exchange.response.parts);
        let parts = if chosen.is_empty() { parts } else { chosen.as_slice() };
        let bodiless = exchange.output.framing == output::Framing::None;
        for part in parts {
            match part {
                _ if bodiless => {}
                FilePart::Text(text) => {
                    with_env(&self.worker, generation, |env| output::write_body(exchange, env, text, false))?;
                }
                FilePart::Range { offset, len } if filtered || *len <= COPY_UP_TO => {
                    self.copy_range(exchange, generation, file, *offset, *len).await?;
                }
                FilePart::Range { offset, len } => {
                    self.send_range(exchange, generation, file, *offset, *len).await?;
                }
            }
        }
        with_env(&self.worker, generation, |env| output::write_body(exchange, env, b"", true))?;
        Ok(self.send_wire(exchange, generation).await?)
    }

    /// Reads a range into buffers: what is small, and what a filter must see.
    async fn copy_range(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        file: &File,
        mut offset: u64,
        mut len: u64,
    ) -> Result<(), Unfinished> {
        let mut buffer = self.worker.buffers.lease(Room::Request);
        while len > 0 {
            let want = buffer.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            let count = match file.read_at(&mut buffer[..want], offset) {
                Ok(count @ 1..) => count,
                _ => {
                    self.worker.buffers.give_back(buffer);
                    return Err(self.shrunk(exchange, generation));
                }
            };
            with_env(&self.worker, generation, |env| {
                output::write_body(exchange, env, &buffer[..count], false)
            })?;
            offset += count as u64;
            len -= count as u64;
            if len > 0 {
                self.send_wire(exchange, generation).await?;
            }
        }
        self.worker.buffers.give_back(buffer);
        Ok(())
    }

    /// Sends a range by sendfile(2).
    async fn send_range(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        file: &File,
        mut offset: u64,
        len: u64,
    ) -> Result<(), Unfinished> {
        exchange.output.open_chunk(len);
        self.send_wire(exchange, generation).await?;
        let timeout_ms = send_timeout_ms(exchange, generation);
        let core = &generation.config.location(exchange.route.location).settings.core;
        let end = offset + len;
        while offset < end {
            let room = self.allowance(exchange, generation).await?.unwrap_or(u64::MAX);
            let chunk = match *core.send.sendfile_max_chunk {
                0 => 1 << 30,
                chunk => chunk,
            };
            let want = (end - offset).min(room).min(chunk) as usize;
            let before = offset;
            let Client { stream, patience, .. } = self;
            let mut waiting = false;
            let sent = poll_fn(|cx| {
                if let Poll::Ready(sent) = stream.poll_send_file(cx, file, &mut offset, want) {
                    return Poll::Ready(sent.map_err(|_| SendError::Gone));
                }
                if !std::mem::replace(&mut waiting, true) {
                    patience.start(timeout_ms);
                }
                patience.poll_up(cx).map(|TimedOut| Err(SendError::TimedOut))
            })
            .await;
            exchange.output.sent += offset - before;
            match sent {
                Ok(0) => return Err(self.shrunk(exchange, generation)),
                Ok(_) => {}
                Err(error) => {
                    self.told(exchange, generation, Err(error))?;
                }
            }
            if offset < end && offset - before == want as u64 {
                // A client that takes everything at once must not keep the thread from the others.
                tokio::task::yield_now().await;
            }
        }
        exchange.output.close_chunk(len);
        Ok(())
    }

    /// The file is shorter than it was when the head was made: the answer cannot be finished.
    fn shrunk(&self, exchange: &mut Exchange, generation: &Generation) -> Unfinished {
        let text = "the file was truncated while it was sent";
        crate::request_body::say(self, exchange, generation, Level::Alert, text);
        Unfinished::Broken
    }
}
