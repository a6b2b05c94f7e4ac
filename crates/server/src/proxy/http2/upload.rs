//! The body of a request on its way to a peer over HTTP/2, as its windows allow.

use super::wire::{H2Upstream, MAX_UNSENT};
use crate::proxy::client_body::{UploadError, next_piece};
use crate::request::client::Client;
use engine::exchange::{Body, BodyFile};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::task::{Context, Poll};
use transport::stream::Stream;

/// Where the body comes from.
#[derive(Debug)]
enum Source {
    /// It was sent with the head.
    Nothing,
    /// `proxy_set_body`, which goes in the place of the client's.
    Made(Vec<u8>),
    /// The body that was read as a whole.
    Kept,
    /// The client, as it comes: the piece under way, and whether it is the last.
    Client { piece: Option<Range<usize>>, last: bool },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct H2Upload {
    /// The client's body; given back when the exchange ends.
    body: Body,
    source: Source,
    /// Bytes of a body that is there.
    offset: u64,
    /// Bytes of the client's body so far, and the most that there may be; 0 is any.
    taken: u64,
    max_body: u64,
    /// Bytes of frames, the head's not.
    pub(crate) sent: u64,
    /// Everything was framed.
    is_framed: bool,
    /// The client must send more.
    pub(super) waits_for_client: bool,
}

/// The most bytes of a file that are read at a time.
const FILE_BYTES: usize = 16 << 10;

impl H2Upload {
    /// Begins to send `made`, if there is one, or `body`, if it is passed on.
    pub(crate) fn new(body: Body, made: Option<Vec<u8>>, passes: bool) -> H2Upload {
        let source = match (made, &body) {
            (Some(made), _) if !made.is_empty() => Source::Made(made),
            (None, Body::Memory(bytes)) if passes && !bytes.is_empty() => Source::Kept,
            (None, Body::File(file)) if passes && file.len > 0 => Source::Kept,
            _ => Source::Nothing,
        };
        let is_framed = matches!(source, Source::Nothing);
        H2Upload {
            body,
            source,
            offset: 0,
            taken: 0,
            max_body: 0,
            sent: 0,
            is_framed,
            waits_for_client: false,
        }
    }

    /// Begins to send the client's body as it comes, of at most `max_body` bytes; 0 is any.
    pub(crate) fn streaming(body: Body, max_body: u64) -> H2Upload {
        let source = Source::Client { piece: None, last: false };
        H2Upload { source, max_body, is_framed: false, ..H2Upload::new(body, None, false) }
    }

    /// Returns true if there is nothing behind the head.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.source, Source::Nothing)
    }

    /// Returns true if nothing is left to frame.
    pub(crate) fn is_framed(&self) -> bool {
        self.is_framed
    }

    /// Returns true if bytes of the client's own body were passed on: then there can be no second try.
    pub(crate) fn took_from_client(&self) -> bool {
        self.taken > 0 || matches!(self.source, Source::Client { last: true, .. })
    }

    /// Returns the body as the next try finds it.
    pub(crate) fn into_body(self) -> Body {
        match self.body {
            Body::Unread if self.took_from_client() => Body::Streaming,
            body => body,
        }
    }

    /// Frames as much as is there and as the peer's windows allow. `Ready` when all of it is framed.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        h2: &mut H2Upstream,
    ) -> Poll<Result<(), UploadError>> {
        while !self.is_framed {
            let room = h2.room();
            match &mut self.source {
                Source::Nothing => self.is_framed = true,
                Source::Made(bytes) => {
                    if room == 0 {
                        return Poll::Pending;
                    }
                    self.is_framed = h2.frame_part(bytes, &mut self.offset, room, &mut self.sent);
                }
                Source::Kept => {
                    if room == 0 {
                        return Poll::Pending;
                    }
                    self.is_framed = match &self.body {
                        Body::Memory(bytes) => h2.frame_part(bytes, &mut self.offset, room, &mut self.sent),
                        Body::File(file) => {
                            let file = file.clone();
                            self.frame_file(&file, h2, room).map_err(UploadError::Peer)?
                        }
                        _ => h2.frame_part(b"", &mut 0, room, &mut self.sent),
                    };
                }
                Source::Client { piece, last } => {
                    if piece.is_none()
                        && !*last
                        && let Some(next) = next_piece(client, &mut self.taken, self.max_body)?
                    {
                        // The end goes with the last of the body, if it has come.
                        (*piece, *last) = (Some(next.range), next.done || client.is_body_read());
                    }
                    let Some(range) = piece else {
                        match client.poll_fill(cx) {
                            Poll::Ready(Ok(1..)) => continue,
                            Poll::Ready(_) => return Poll::Ready(Err(UploadError::ClientGone)),
                            Poll::Pending => {
                                self.waits_for_client = true;
                                return Poll::Pending;
                            }
                        }
                    };
                    if room == 0 && range.start < range.end {
                        return Poll::Pending;
                    }
                    let count = range.len().min(room);
                    let ends = *last && count == range.len();
                    h2.frame(client.read_buffer.slice(range.start..range.start + count), ends);
                    self.sent += count as u64;
                    range.start += count;
                    if range.start == range.end {
                        *piece = None;
                    }
                    if ends {
                        client.body.finish();
                        client.read_buffer.release(&client.thread.buffers);
                        self.is_framed = true;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Frames the next part of a file. Returns true if it was the last.
    fn frame_file(&mut self, file: &BodyFile, h2: &mut H2Upstream, room: usize) -> io::Result<bool> {
        let left = usize::try_from(file.len - self.offset).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(room).min(FILE_BYTES)];
        file.file.read_exact_at(&mut bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        self.sent += bytes.len() as u64;
        let ends = self.offset == file.len;
        h2.frame(&bytes, ends);
        Ok(ends)
    }

    /// Sends as much of the request as both sides allow. `Ready` when all of it is with the peer.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        h2: &mut H2Upstream,
        stream: &mut Stream,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            self.waits_for_client = false;
            let framed = match h2.is_open() {
                true => self.poll_frame(cx, client, h2),
                false => Poll::Ready(Ok(())),
            };
            let before = h2.unsent();
            let flushed = h2.poll_flush(cx, stream).map_err(UploadError::Peer)?;
            match framed? {
                // What was framed last has gone: there is room for more.
                Poll::Pending if flushed.is_ready() && before >= MAX_UNSENT => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => return flushed.map(Ok),
            }
        }
    }
}
