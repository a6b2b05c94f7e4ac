//! Reading a request's body whole (into memory, or into a file if it does not fit), or throwing it away.

use crate::body::BodyReader;
use crate::client::Client;
use crate::files;
use crate::generation::Generation;
use crate::host::with_env;
use crate::patience::TimedOut;
use engine::Exchange;
use engine::exchange::{Body, BodyFile};
use engine::host::Level;
use engine::modules::core::{BodySettings, InFileOnly};
use engine::phase::Wake;
use std::future::poll_fn;
use std::io::Write;

/// What of a body is kept.
enum Keep {
    Memory(Vec<u8>),
    File(BodyFile),
    Nothing,
}

impl Client {
    /// Reads the body whole.
    pub(crate) async fn read_body(&mut self, exchange: &mut Exchange, generation: &Generation) -> Wake {
        if exchange.request.body_settled() {
            return Wake::Done;
        }
        let settings = &generation.config.location(exchange.route.location).settings.core.body;
        let expected = match exchange.request.framing {
            http::BodyFraming::Length(len) => len.min(*settings.buffer_size) as usize,
            _ => 0,
        };
        let keep = match *settings.in_file_only {
            InFileOnly::Off => Keep::Memory(Vec::with_capacity(expected)),
            only => match body_file(only, generation, &self.worker) {
                Ok(file) => Keep::File(file),
                Err(error) => {
                    let text = format!("a request body could not be kept: {error}");
                    say(self, exchange, generation, Level::Crit, &text);
                    return Wake::Failed(500);
                }
            },
        };
        match self.take_body(exchange, generation, settings, keep).await {
            Ok(Keep::Memory(bytes)) => exchange.request.body = Body::Memory(bytes),
            Ok(Keep::File(file)) => {
                if *settings.in_file_only == InFileOnly::On {
                    files::keep(&file);
                }
                exchange.request.body = Body::File(file);
            }
            Ok(Keep::Nothing) => exchange.request.body = Body::Discarded,
            Err(status) => return Wake::Failed(status),
        }
        Wake::Done
    }

    /// A body that is to be passed on while it comes, but is all here already, is taken into memory: then it can be
    /// sent again to another peer.
    pub(crate) fn settle_small_body(&mut self, exchange: &mut Exchange) {
        let BodyReader::Length(len) = self.body else { return };
        let here = self.input.unread().len() as u64;
        if !matches!(exchange.request.body, Body::Unread) || here < len {
            return;
        }
        if let Ok(Some(piece)) = self.body.next(&mut self.input) {
            exchange.request.body = Body::Memory(self.input.slice(piece.range).to_vec());
            exchange.request.length += len;
        }
    }

    /// Throws away what is still to come of the body.
    pub(crate) async fn discard_body(&mut self, exchange: &mut Exchange, generation: &Generation) -> Wake {
        let settings = &generation.config.location(exchange.route.location).settings.core.body;
        match self.take_body(exchange, generation, settings, Keep::Nothing).await {
            Ok(_) => {
                exchange.request.body = Body::Discarded;
                Wake::Done
            }
            Err(status) => Wake::Failed(status),
        }
    }

    async fn take_body(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        settings: &BodySettings,
        mut keep: Keep,
    ) -> Result<Keep, u16> {
        let mut len = 0u64;
        let limit = *settings.max_size;
        loop {
            while let Some(piece) =
                self.body.next(&mut self.input).map_err(|_| self.bad_chunks(exchange, generation))?
            {
                let data = self.input.slice(piece.range);
                let before = len;
                len += data.len() as u64;
                if !matches!(keep, Keep::Nothing) {
                    // nginx counts what it keeps, not what it throws away.
                    exchange.request.length += data.len() as u64;
                }
                // A chunk counts as soon as its size is known, as in nginx.
                let chunk = len - before + self.body.chunk_left();
                if limit > 0 && before + chunk > limit {
                    let text =
                        format!("client intended to send too large chunked body: {before}+{chunk} bytes");
                    say(self, exchange, generation, Level::Error, &text);
                    return Err(413);
                }
                if !data.is_empty() {
                    let begun =
                        store(&self.worker, generation, settings, &mut keep, data).map_err(|error| {
                            let text = format!("a request body could not be kept: {error}");
                            say(self, exchange, generation, Level::Crit, &text);
                            500u16
                        })?;
                    if let (true, Keep::File(file)) = (begun, &keep) {
                        let path = file.path.display();
                        let text = format!("a client request body is buffered to a temporary file {path}");
                        say(self, exchange, generation, Level::Warn, &text);
                    }
                }
                if piece.done {
                    self.body.finish();
                    self.input.release(&self.worker.buffers);
                    return Ok(keep);
                }
            }
            if self.owes_continue && self.say_continue(exchange, generation).await.is_err() {
                return Err(499);
            }
            self.more_body(exchange, generation, *settings.timeout_ms).await?;
        }
    }

    /// Waits for more of the body.
    ///
    /// # Errors
    /// 408 if the client is silent for too long, 400 if it ends too early: nginx's statuses.
    pub(crate) async fn more_body(
        &mut self,
        exchange: &mut Exchange,
        generation: &Generation,
        timeout_ms: u64,
    ) -> Result<(), u16> {
        let Client { stream, input, patience, worker, .. } = self;
        let filled =
            patience.wait(timeout_ms, poll_fn(|cx| input.poll_fill(cx, stream, &worker.buffers))).await;
        match filled {
            Ok(Ok(0)) => {
                say(self, exchange, generation, Level::Info, "client prematurely closed connection");
                Err(400)
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(400),
            Err(TimedOut) => {
                say(self, exchange, generation, Level::Info, "client timed out (110: Connection timed out)");
                Err(408)
            }
        }
    }

    /// Chunks that are no chunks: logged, and answered with 400.
    pub(crate) fn bad_chunks(&self, exchange: &mut Exchange, generation: &Generation) -> u16 {
        say(self, exchange, generation, Level::Error, "client sent invalid chunked body");
        400
    }
}

/// Puts body bytes where they are kept. Answers whether a file was begun.
fn store(
    worker: &crate::worker::Worker,
    generation: &Generation,
    settings: &BodySettings,
    keep: &mut Keep,
    data: &[u8],
) -> std::io::Result<bool> {
    match keep {
        Keep::Nothing => {}
        Keep::Memory(bytes) if (bytes.len() + data.len()) as u64 <= *settings.buffer_size => {
            bytes.extend_from_slice(data);
        }
        Keep::Memory(bytes) => {
            let mut file = files::temporary(&generation.body_folder(), &mut || worker.random())?;
            append(&mut file, bytes)?;
            append(&mut file, data)?;
            *keep = Keep::File(file);
            return Ok(true);
        }
        Keep::File(file) => append(file, data)?,
    }
    Ok(false)
}

fn append(file: &mut BodyFile, data: &[u8]) -> std::io::Result<()> {
    (&*file.file).write_all(data)?;
    file.len += data.len() as u64;
    Ok(())
}

/// A file for a body that goes to one whatever its size.
fn body_file(
    only: InFileOnly,
    generation: &Generation,
    worker: &crate::worker::Worker,
) -> std::io::Result<BodyFile> {
    let (folder, mut random) = (generation.body_folder(), || worker.random());
    match only {
        InFileOnly::On => files::lasting(&folder, &mut random),
        _ => files::temporary(&folder, &mut random),
    }
}

/// Writes to the error log about this request.
pub(crate) fn say(
    client: &Client,
    exchange: &mut Exchange,
    generation: &Generation,
    level: Level,
    text: &str,
) {
    with_env(&client.worker, generation, |env| {
        engine::log_line::error(exchange, env, level, text.as_bytes())
    });
}
