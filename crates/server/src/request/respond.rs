//! Sending what the engine decided to serve, other than the response of an upstream.

use crate::context::timeout::TimedOut;
use crate::request::client::Client;
use crate::request::cx::RequestCx;
use crate::request::send::SendError;
use engine::host::Level;
use engine::output::{self, BodyStep, FilterFailed, HeadRefused};
use engine::phase::FilePart;
use std::fs::File;
use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::task::Poll;
use transport::buffers::BufferSize;
use transport::held_file::HeldFile;

/// Why a response was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// Nothing was sent: this status is to be answered instead.
    Status(u16),
    /// Nothing was sent: a filter has this status answered instead, without any field of the response.
    Replaced(u16),
    /// The request was redirected internally: its phases go on.
    Walk,
    /// Part of it was sent, or the client is gone: the connection must be closed.
    Broken,
    /// Its source or a filter broke it off, and all that may be sent of it is sent: the connection must be closed so that it
    /// arrives.
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

/// Bodies up to this size are copied into one write with their heads, instead of sent by sendfile after them.
const COPY_UP_TO: u64 = 16 << 10;

/// Bytes that may go through filters before others are served.
const YIELD_AFTER: u64 = 64 << 10;
/// The same of a body that is at hand.
const FILTERED_AT_ONCE: usize = YIELD_AFTER as usize;

impl RequestCx<'_> {
    /// Sends a body that is in memory.
    pub(crate) async fn serve_bytes(&mut self, body: &[u8]) -> Result<(), Unfinished> {
        let in_pieces = self.engine(|exchange, env| {
            output::write_head(exchange, env)?;
            Ok::<_, Unfinished>(body.len() > FILTERED_AT_ONCE && output::takes_pieces(exchange, env))
        })?;
        if !in_pieces {
            return self.write_filtered(body, true).await;
        }
        for piece in body.chunks(FILTERED_AT_ONCE) {
            self.write_filtered(piece, false).await?;
            // Filters take long: others are served in between.
            tokio::task::yield_now().await;
        }
        self.write_filtered(b"", true).await
    }

    /// Passes bytes of the body through its filters, and sends what comes out.
    pub(crate) async fn write_filtered(&mut self, data: &[u8], last: bool) -> Result<(), Unfinished> {
        self.engine(|exchange, env| output::write_body(exchange, env, data, last))?;
        self.send_filtered().await
    }

    /// Sends what filters have let through, until there is nothing more for them to do; requests inside this one that they
    /// ask for are served in their places.
    pub(crate) async fn send_filtered(&mut self) -> Result<(), Unfinished> {
        while self.exchange.output.has_chain() {
            let pending = self.engine(output::pump)?;
            if pending == BodyStep::Nothing {
                break;
            }
            self.send_wire().await?;
            match pending {
                BodyStep::Include => Box::pin(self.include()).await?,
                BodyStep::More | BodyStep::Nothing => tokio::task::yield_now().await,
            }
        }
        Ok(self.send_wire().await?)
    }

    /// Sends parts of a file.
    pub(crate) async fn serve_file(&mut self, file: Rc<File>, parts: &[FilePart]) -> Result<(), Unfinished> {
        self.serve_parts(file, 0, parts).await
    }

    /// Sends a body of this length that begins at this place of a file, or the parts of it that filters choose.
    pub(crate) async fn serve_file_from(
        &mut self,
        file: Rc<File>,
        start: u64,
        len: u64,
    ) -> Result<(), Unfinished> {
        self.serve_parts(file, start, &[FilePart::Range { offset: 0, len }]).await
    }

    async fn serve_parts(
        &mut self,
        file: Rc<File>,
        start: u64,
        parts: &[FilePart],
    ) -> Result<(), Unfinished> {
        let mut file = HeldFile::new(file, self.client.stream.file_ticket());
        let filtered = self.engine(|exchange, env| {
            output::write_head(exchange, env)?;
            Ok::<_, Unfinished>(output::has_body_filter(exchange, env))
        })?;
        // A filter may have chosen ranges of what was to be sent whole.
        let chosen = std::mem::take(&mut self.exchange.response.parts);
        let parts = if chosen.is_empty() { parts } else { chosen.as_slice() };
        let bodiless = self.exchange.output.framing == output::Framing::None;
        for part in parts {
            match part {
                _ if bodiless => {}
                FilePart::Text(text) => {
                    self.engine(|exchange, env| output::write_body(exchange, env, text, false))?;
                }
                FilePart::Range { offset, len } if filtered || *len <= COPY_UP_TO => {
                    self.copy_range(&mut file, start + *offset, *len).await?;
                }
                FilePart::Range { offset, len } => {
                    self.send_range(&mut file, start + *offset, *len).await?;
                }
            }
        }
        drop(file);
        self.write_filtered(b"", true).await
    }

    /// Reads a range into buffers: a small one, or one that a filter must see.
    async fn copy_range(
        &mut self,
        file: &mut HeldFile,
        mut offset: u64,
        mut len: u64,
    ) -> Result<(), Unfinished> {
        let mut buffer = self.client.thread.buffers.lease(BufferSize::Request);
        while len > 0 {
            let want = buffer.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            let count = match file.get().and_then(|file| file.read_at(&mut buffer[..want], offset)) {
                Ok(count @ 1..) => count,
                _ => {
                    self.client.thread.buffers.give_back(buffer);
                    return Err(self.changed());
                }
            };
            self.engine(|exchange, env| output::write_body(exchange, env, &buffer[..count], false))?;
            offset += count as u64;
            len -= count as u64;
            if len > 0 || self.exchange.output.has_chain() {
                self.spare(file);
                if let Err(unfinished) = self.send_filtered().await {
                    self.client.thread.buffers.give_back(buffer);
                    return Err(unfinished);
                }
                if offset / YIELD_AFTER != (offset - count as u64) / YIELD_AFTER {
                    // Filters take long: others are served in between.
                    tokio::task::yield_now().await;
                }
            }
        }
        self.client.thread.buffers.give_back(buffer);
        Ok(())
    }

    /// Sends a range by sendfile(2).
    async fn send_range(&mut self, file: &mut HeldFile, mut offset: u64, len: u64) -> Result<(), Unfinished> {
        let end = offset + output::room(self.exchange, len);
        self.exchange.output.open_chunk(len);
        self.spare(file);
        self.send_wire().await?;
        let settings = &self.settings().core.send;
        let timeout_ms = *settings.timeout_ms;
        while offset < end {
            let room = self.allowance().await?.unwrap_or(u64::MAX);
            let chunk = match *settings.sendfile_max_chunk {
                0 => 1 << 30,
                chunk => chunk,
            };
            let want = (end - offset).min(room).min(chunk) as usize;
            let before = offset;
            let Client { stream, timeout, .. } = &mut *self.client;
            let mut waiting = false;
            let sent = poll_fn(|cx| {
                match stream.poll_room(cx) {
                    Poll::Ready(Ok(())) => {
                        let Ok(file) = file.get() else { return Poll::Ready(Ok(0)) };
                        if let Poll::Ready(sent) = stream.poll_send_file(cx, file, &mut offset, want) {
                            return Poll::Ready(sent.map_err(|_| SendError::Gone));
                        }
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(SendError::Gone)),
                    Poll::Pending => file.wait(),
                }
                if !std::mem::replace(&mut waiting, true) {
                    timeout.start(timeout_ms);
                }
                timeout.poll_elapsed(cx).map(|TimedOut| Err(SendError::TimedOut))
            })
            .await;
            self.exchange.output.sent += offset - before;
            match sent {
                Ok(0) => return Err(self.changed()),
                Ok(_) => {}
                Err(error) => {
                    self.log_send(Err(error))?;
                }
            }
            if offset < end && offset - before == want as u64 {
                // Yield, so that a client that takes everything at once does not monopolise the thread.
                tokio::task::yield_now().await;
            }
        }
        self.exchange.output.close_chunk(len);
        Ok(())
    }

    /// Closes a file while what is in the wire waits for the client, if its connection has enough of them open.
    fn spare(&self, file: &mut HeldFile) {
        if !self.client.stream.has_room(self.exchange.output.wire.len()) {
            file.wait();
        }
    }

    /// Returns the file is shorter than when the head was made, or another one: the response cannot be finished.
    fn changed(&mut self) -> Unfinished {
        self.log(Level::Alert, "the file was changed or truncated while it was sent");
        Unfinished::Broken
    }
}
