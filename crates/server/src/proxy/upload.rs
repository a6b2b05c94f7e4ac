//! A request on its way to a peer: its head, and its body from wherever that is.

use super::pool::Link;
use crate::body::Piece;
use crate::client::{Client, write_all};
use engine::exchange::{Body, BodyFile};
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

/// Where the body comes from.
#[derive(Debug)]
enum Source {
    /// There is none, or it stands behind the head already.
    None,
    /// A file.
    File(BodyFile),
    /// The client, while it comes; in chunks if its length is not known.
    Client { chunked: bool, piece: Option<Range<usize>>, last: bool, head_sent: bool },
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    head: &'a [u8],
    body: &'a [u8],
    source: Source,
    /// Bytes of the present part that went.
    done: usize,
    offset: u64,
    stage: Stage,
    /// The most that the client's body may be, if it comes in chunks; 0 is any.
    max_body: u64,
    /// Bytes of the client's body so far.
    taken: u64,
    /// Bytes sent in all.
    pub(crate) sent: u64,
    /// The peer has taken all there is: it is the client's turn.
    pub(crate) waits_for_client: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    Done,
}

/// Why it stopped.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The peer's side failed.
    Peer(io::Error),
    /// The client went away before its body was whole.
    ClientGone,
    /// The client's body is malformed.
    BadBody,
    /// The chunks are larger than a body may be: so many bytes before the present one, and its own.
    TooLarge(u64, u64),
}

impl<'a> Upload<'a> {
    /// A request with this head. `streamed` passes the client's body on while it comes; `chunked` that it comes in
    /// chunks, of at most so many bytes in all (0: any).
    pub(crate) fn new(
        head: &'a [u8],
        body: &'a Body,
        pass_body: bool,
        streamed: bool,
        chunked: Option<u64>,
    ) -> Upload<'a> {
        let (bytes, source): (&[u8], _) = match body {
            _ if !pass_body => (b"", Source::None),
            Body::Memory(bytes) => (bytes, Source::None),
            Body::File(file) => (b"", Source::File(file.clone())),
            Body::Unread | Body::Streaming if streamed => (
                b"",
                Source::Client { chunked: chunked.is_some(), piece: None, last: false, head_sent: false },
            ),
            _ => (b"", Source::None),
        };
        Upload {
            head,
            body: bytes,
            source,
            done: 0,
            offset: 0,
            stage: Stage::Head,
            max_body: chunked.unwrap_or(0),
            taken: 0,
            sent: 0,
            waits_for_client: false,
        }
    }

    /// Has all of it been sent?
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Has any of the client's own body been passed on? Then there can be no second try.
    pub(crate) fn took_from_client(&self) -> bool {
        matches!(self.source, Source::Client { head_sent: true, .. } | Source::Client { piece: Some(_), .. })
    }

    /// Sends on as far as both sides allow. `Ready(Ok)` when all is sent.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        link: &mut Link,
    ) -> Poll<Result<(), UploadError>> {
        self.waits_for_client = false;
        if self.stage == Stage::Head && matches!(self.source, Source::Client { .. }) {
            // The head goes in one write with what is there of the body.
            self.stage = Stage::Body;
        }
        if self.stage == Stage::Head {
            let before = self.done;
            let written = write_all(&mut link.stream, cx, &[self.head, self.body], &mut self.done);
            self.sent += (self.done - before) as u64;
            ready!(written).map_err(UploadError::Peer)?;
            self.done = 0;
            self.stage = if matches!(self.source, Source::None) { Stage::Done } else { Stage::Body };
        }
        if self.stage == Stage::Body {
            ready!(match self.source {
                Source::None => Poll::Ready(Ok(())),
                Source::File(_) => self.poll_file(cx, link),
                Source::Client { .. } => self.poll_client(cx, client, link),
            })?;
            self.stage = Stage::Done;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_file(&mut self, cx: &mut Context<'_>, link: &mut Link) -> Poll<Result<(), UploadError>> {
        let Source::File(file) = &self.source else { return Poll::Ready(Ok(())) };
        while self.offset < file.len {
            let want = usize::try_from(file.len - self.offset).unwrap_or(usize::MAX).min(1 << 20);
            let sent = ready!(link.stream.poll_send_file(cx, &file.file, &mut self.offset, want));
            match sent.map_err(UploadError::Peer)? {
                0 => return Poll::Ready(Err(UploadError::Peer(io::ErrorKind::UnexpectedEof.into()))),
                sent => self.sent += sent as u64,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        link: &mut Link,
    ) -> Poll<Result<(), UploadError>> {
        let Source::Client { chunked, piece, last, head_sent } = &mut self.source else {
            return Poll::Ready(Ok(()));
        };
        loop {
            if piece.is_none()
                && !*head_sent
                && let Some(next) = next_piece(client, &mut self.taken, self.max_body)?
            {
                *last = next.done;
                *piece = Some(next.range);
            }
            if piece.is_some() || !*head_sent {
                let head = if *head_sent { b"" } else { self.head };
                let data = piece.clone().map_or(&b""[..], |range| client.input.slice(range));
                let end: &[u8] = if *chunked && *last { b"0\r\n\r\n" } else { b"" };
                let mut line = [0; 18];
                let parts: [&[u8]; 5] = match *chunked && !data.is_empty() {
                    false => [head, data, end, b"", b""],
                    true => [head, http::chunk_size_line(data.len() as u64, &mut line), data, b"\r\n", end],
                };
                let before = self.done;
                let written = write_all(&mut link.stream, cx, &parts, &mut self.done);
                self.sent += (self.done - before) as u64;
                ready!(written).map_err(UploadError::Peer)?;
                self.done = 0;
                *piece = None;
                *head_sent = true;
                if *last {
                    client.body.finish();
                    client.input.release(&client.worker.buffers);
                    return Poll::Ready(Ok(()));
                }
            }
            match next_piece(client, &mut self.taken, self.max_body)? {
                Some(next) => {
                    *last = next.done;
                    *piece = Some(next.range);
                }
                None => match client.poll_fill(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(Err(UploadError::ClientGone)),
                    Poll::Pending => {
                        self.waits_for_client = true;
                        return Poll::Pending;
                    }
                },
            }
        }
    }
}

/// The next run of the client's body, held against the limit (`client_max_body_size`).
fn next_piece(client: &mut Client, taken: &mut u64, max_body: u64) -> Result<Option<Piece>, UploadError> {
    let piece = client.body.next(&mut client.input).map_err(|_| UploadError::BadBody)?;
    if let Some(piece) = &piece {
        let chunk = piece.range.len() as u64 + client.body.chunk_left();
        if max_body > 0 && *taken + chunk > max_body {
            return Err(UploadError::TooLarge(*taken, chunk));
        }
        *taken += piece.range.len() as u64;
    }
    Ok(piece)
}
