//! Reading a request's body whole (into memory, or into a file if it does not fit), or discarding it.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::context::timeout::TimedOut;
use crate::request::client::{Client, Keep, PartialBody};
use crate::request::cx::RequestCx;
use engine::Exchange;
use engine::exchange::{Body, BodyFile};
use engine::host::Level;
use engine::modules::core::{BodySettings, InFileOnly};
use engine::phase::Wake;
use std::future::poll_fn;
use std::io::{self, Write};
use transport::body_reader::BodyReader;
use transport::files;

impl Client {
    /// Takes a body that is to be passed on as it comes, but has already arrived, into memory: then it can be sent to
    /// another peer again.
    pub(crate) fn settle_small_body(&mut self, exchange: &mut Exchange) {
        let BodyReader::Length(len) = self.body else { return };
        let here = self.read_buffer.unread().len() as u64;
        if !matches!(exchange.request.body, Body::Unread) || here < len {
            return;
        }
        if let Ok(Some(piece)) = self.body.next(&mut self.read_buffer) {
            exchange.request.body = Body::Memory(self.read_buffer.slice(piece.range).to_vec());
            exchange.request.length += len;
        }
    }
}

impl RequestCx<'_> {
    /// Reads the body whole.
    pub(crate) async fn read_body(&mut self) -> Wake {
        if self.exchange.request.body_settled() {
            return Wake::Done;
        }
        let settings = &self.settings().core.body;
        let expected = match self.exchange.request.framing {
            http::BodyFraming::Length(len) => len.min(*settings.buffer_size) as usize,
            _ => 0,
        };
        let keep = match *settings.in_file_only {
            InFileOnly::Off => Keep::Memory(Vec::with_capacity(expected)),
            only => match body_file(only, self.generation, &self.client.thread) {
                Ok(file) => Keep::File(file),
                Err(error) => return Wake::Failed(self.unkept(&error)),
            },
        };
        match self.take_body(settings, keep).await {
            Ok(Keep::Memory(bytes)) => self.exchange.request.body = Body::Memory(bytes),
            Ok(Keep::File(file)) => {
                if *settings.in_file_only == InFileOnly::On {
                    files::keep(&file);
                }
                self.exchange.request.body = Body::File(file);
            }
            Ok(Keep::Nothing) => self.exchange.request.body = Body::Discarded,
            Err(status) => return Wake::Failed(status),
        }
        Wake::Done
    }

    /// Discards the rest of the body.
    pub(crate) async fn discard_body(&mut self) -> Wake {
        let settings = &self.settings().core.body;
        match self.take_body(settings, Keep::Nothing).await {
            Ok(_) => {
                self.exchange.request.body = Body::Discarded;
                Wake::Done
            }
            Err(status) => Wake::Failed(status),
        }
    }

    async fn take_body(&mut self, settings: &BodySettings, mut keep: Keep) -> Result<Keep, u16> {
        let mut len = 0u64;
        if let Some(partial) = self.client.partial_body.take() {
            len = partial.len;
            keep = if matches!(keep, Keep::Nothing) { keep } else { partial.keep };
        }
        let limit = *settings.max_size;
        loop {
            loop {
                let client = &mut *self.client;
                let piece = match client.body.next(&mut client.read_buffer) {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(_) => return Err(self.bad_chunks()),
                };
                let data = client.read_buffer.slice(piece.range);
                let before = len;
                len += data.len() as u64;
                if !matches!(keep, Keep::Nothing) {
                    // nginx counts what it keeps, not what it discards.
                    self.exchange.request.length += data.len() as u64;
                }
                // A chunk counts as soon as its size is known, as in nginx.
                let chunk = len - before + client.body.chunk_left();
                if limit > 0 && before + chunk > limit {
                    let text =
                        format!("client intended to send too large chunked body: {before}+{chunk} bytes");
                    self.log(Level::Error, text);
                    return Err(413);
                }
                if !data.is_empty() {
                    match store(&client.thread, self.generation, settings, &mut keep, data) {
                        Ok(begun) if begun => {
                            if let Keep::File(file) = &keep {
                                let path = file.path.display();
                                let text =
                                    format!("a client request body is buffered to a temporary file {path}");
                                self.log(Level::Warn, text);
                            }
                        }
                        Ok(_) => {}
                        Err(error) => return Err(self.unkept(&error)),
                    }
                }
                if piece.done {
                    self.client.body.finish();
                    self.client.read_buffer.release(&self.client.thread.buffers);
                    return Ok(keep);
                }
            }
            // Dropped while it waits, it goes on from here the next time.
            self.client.partial_body = Some(Box::new(PartialBody { keep, len }));
            if self.client.owes_continue && self.send_continue().await.is_err() {
                return Err(499);
            }
            self.more_body(*settings.timeout_ms).await?;
            let Some(partial) = self.client.partial_body.take() else { return Err(500) };
            keep = partial.keep;
        }
    }

    /// Waits for more of the body.
    ///
    /// # Errors
    /// Fails with 408 if the client is silent for too long, and with 400 if it ends too early: nginx's statuses.
    async fn more_body(&mut self, timeout_ms: u64) -> Result<(), u16> {
        let Client { stream, read_buffer, timeout, thread, body, .. } = &mut *self.client;
        let filled =
            timeout.wait(timeout_ms, poll_fn(|cx| read_buffer.poll_fill(cx, stream, &thread.buffers))).await;
        match filled {
            Ok(Ok(0)) if body.end_with_input() => Ok(()),
            Ok(Ok(0)) => {
                self.log(Level::Info, "client prematurely closed connection");
                Err(400)
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(400),
            Err(TimedOut) => {
                self.log(Level::Info, "client timed out (110: Connection timed out)");
                Err(408)
            }
        }
    }

    /// Logs malformed chunks, and returns the status for them.
    pub(crate) fn bad_chunks(&mut self) -> u16 {
        self.log(Level::Error, "client sent invalid chunked body");
        400
    }

    /// Logs that the body could not be kept, and returns the status for that.
    fn unkept(&mut self, error: &io::Error) -> u16 {
        self.log(Level::Crit, format!("a request body could not be kept: {error}"));
        500
    }
}

/// Keeps body bytes. Returns true if a file was begun.
fn store(
    thread: &ThreadContext,
    generation: &Generation,
    settings: &BodySettings,
    keep: &mut Keep,
    data: &[u8],
) -> io::Result<bool> {
    match keep {
        Keep::Nothing => {}
        Keep::Memory(bytes) if (bytes.len() + data.len()) as u64 <= *settings.buffer_size => {
            bytes.extend_from_slice(data);
        }
        Keep::Memory(bytes) => {
            let mut file = files::temporary(&generation.body_folder(), &mut || thread.random())?;
            append(&mut file, bytes)?;
            append(&mut file, data)?;
            *keep = Keep::File(file);
            return Ok(true);
        }
        Keep::File(file) => append(file, data)?,
    }
    Ok(false)
}

fn append(file: &mut BodyFile, data: &[u8]) -> io::Result<()> {
    (&*file.file).write_all(data)?;
    file.len += data.len() as u64;
    Ok(())
}

/// Creates the file for a body that goes to one whatever its size.
fn body_file(only: InFileOnly, generation: &Generation, thread: &ThreadContext) -> io::Result<BodyFile> {
    let (folder, mut random) = (generation.body_folder(), || thread.random());
    match only {
        InFileOnly::On => files::lasting(&folder, &mut random),
        _ => files::temporary(&folder, &mut random),
    }
}
