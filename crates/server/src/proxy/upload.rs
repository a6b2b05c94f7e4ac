//! A request on its way to a peer: its head, and its body from memory, a file or the client.

use super::client_body::{UploadError, next_piece};
use super::upstream_conn::UpstreamConn;
use crate::request::client::Client;
use engine::exchange::{Body, BodyFile};
use http::cgi::fastcgi;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

/// Where the rest of the body comes from.
#[derive(Debug)]
enum Source {
    /// There is none, or it is sent with the head.
    None,
    /// A file.
    File(BodyFile),
    /// Memory, in records.
    Records,
    /// The client, as it comes.
    Client { piece: Option<Range<usize>>, last: bool, head_sent: bool },
}

/// What a body is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As it is.
    Plain,
    /// In chunks, while its length is not known.
    Chunks,
    /// In records of FastCGI.
    Records,
}

/// Which body a request is sent with.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodySource {
    /// None.
    Nothing,
    /// The one that was read whole, if there is one.
    Kept,
    /// The client's, as it comes, if it was not read whole; if it comes in chunks, of at most `max_body` bytes (0 is any).
    Client { chunked: bool, max_body: u64 },
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    head: &'a [u8],
    body: &'a [u8],
    source: Source,
    /// Bytes sent of the present part.
    done: usize,
    offset: u64,
    stage: Stage,
    coding: Coding,
    /// The header of the record under way, and how much of its content is left.
    record: ([u8; fastcgi::HEADER_BYTES], usize),
    /// The most bytes that a chunked body may have; 0 is any.
    max_body: u64,
    /// Bytes of the client's body so far.
    taken: u64,
    /// Bytes sent in all.
    pub(crate) sent: u64,
    /// Whether the peer has taken all there is, so that the client must send more.
    pub(crate) waits_for_client: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    Done,
}

impl<'a> Upload<'a> {
    /// Starts to send a request with this head, and a body from `source`, which may be in records; chunks are for what comes in
    /// chunks.
    pub(super) fn new(head: &'a [u8], body: &'a Body, source: BodySource, in_records: bool) -> Upload<'a> {
        let mut bytes: &[u8] = b"";
        let mut limit = 0;
        let none = if in_records { Source::Records } else { Source::None };
        let coding = match source {
            _ if in_records => Coding::Records,
            BodySource::Client { chunked: true, .. } => Coding::Chunks,
            _ => Coding::Plain,
        };
        let source = match (source, body) {
            (BodySource::Nothing, _) => none,
            (_, Body::Memory(memory)) => {
                bytes = memory;
                none
            }
            (_, Body::File(file)) => Source::File(file.clone()),
            (BodySource::Client { chunked, max_body }, Body::Unread | Body::Streaming) => {
                limit = if chunked { max_body } else { 0 };
                Source::Client { piece: None, last: false, head_sent: false }
            }
            _ => none,
        };
        Upload {
            head,
            body: bytes,
            source,
            done: 0,
            offset: 0,
            stage: Stage::Head,
            coding,
            record: ([0; fastcgi::HEADER_BYTES], 0),
            max_body: limit,
            taken: 0,
            sent: 0,
            waits_for_client: false,
        }
    }

    /// Returns true if all of it was sent.
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Returns true if bytes of the client's own body were passed on: then there can be no second try.
    pub(crate) fn took_from_client(&self) -> bool {
        matches!(self.source, Source::Client { head_sent: true, .. } | Source::Client { piece: Some(_), .. })
    }

    /// Sends as much as both sides allow. `Ready(Ok)` when all is sent.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        conn: &mut UpstreamConn,
    ) -> Poll<Result<(), UploadError>> {
        self.waits_for_client = false;
        if self.stage == Stage::Head && matches!(self.source, Source::Client { .. } | Source::Records) {
            // The head goes in one write with what is there of the body.
            self.stage = Stage::Body;
        }
        if self.stage == Stage::Head {
            let before = self.done;
            let written = conn.stream.poll_write_all(cx, &[self.head, self.body], &mut self.done);
            self.sent += (self.done - before) as u64;
            ready!(written).map_err(UploadError::Peer)?;
            self.done = 0;
            self.stage = if matches!(self.source, Source::None) { Stage::Done } else { Stage::Body };
        }
        if self.stage == Stage::Body {
            ready!(match self.source {
                Source::None => Poll::Ready(Ok(())),
                Source::Records => self.poll_memory_records(cx, conn),
                Source::File(_) if self.coding == Coding::Records => self.poll_file_records(cx, conn),
                Source::File(_) => self.poll_file(cx, conn),
                Source::Client { .. } => self.poll_client(cx, client, conn),
            })?;
            self.stage = Stage::Done;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_file(&mut self, cx: &mut Context<'_>, conn: &mut UpstreamConn) -> Poll<Result<(), UploadError>> {
        let Source::File(file) = &self.source else { return Poll::Ready(Ok(())) };
        while self.offset < file.len {
            let want = usize::try_from(file.len - self.offset).unwrap_or(usize::MAX).min(1 << 20);
            let sent = ready!(conn.stream.poll_send_file(cx, &file.file, &mut self.offset, want));
            match sent.map_err(UploadError::Peer)? {
                0 => return Poll::Ready(Err(UploadError::Peer(io::ErrorKind::UnexpectedEof.into()))),
                sent => self.sent += sent as u64,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends head and body in records, and the record that ends them.
    fn poll_memory_records(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut UpstreamConn,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            let offset = self.offset as usize;
            let head = if offset == 0 { self.head } else { b"" };
            let rest = &self.body[offset..];
            let data = &rest[..rest.len().min(fastcgi::MAX_CONTENT)];
            let is_last = data.len() == rest.len();
            let (header, end) = (fastcgi::stdin_header(data.len() as u16), fastcgi::stdin_header(0));
            let header: &[u8] = if data.is_empty() { b"" } else { &header };
            let end: &[u8] = if is_last { &end } else { b"" };
            let before = self.done;
            let written = conn.stream.poll_write_all(cx, &[head, header, data, end], &mut self.done);
            self.sent += (self.done - before) as u64;
            ready!(written).map_err(UploadError::Peer)?;
            self.done = 0;
            self.offset += data.len() as u64;
            if is_last {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Sends a file in records, and the record that ends it.
    fn poll_file_records(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut UpstreamConn,
    ) -> Poll<Result<(), UploadError>> {
        let Source::File(file) = &self.source else { return Poll::Ready(Ok(())) };
        loop {
            let (header, left) = &mut self.record;
            if *left == 0 {
                let rest = file.len - self.offset;
                let count = usize::try_from(rest).unwrap_or(usize::MAX).min(fastcgi::MAX_CONTENT);
                *header = fastcgi::stdin_header(count as u16);
                let before = self.done;
                let written = conn.stream.poll_write_all(cx, &[header.as_slice()], &mut self.done);
                self.sent += (self.done - before) as u64;
                ready!(written).map_err(UploadError::Peer)?;
                (self.done, *left) = (0, count);
                if count == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            let sent = ready!(conn.stream.poll_send_file(cx, &file.file, &mut self.offset, *left));
            match sent.map_err(UploadError::Peer)? {
                0 => return Poll::Ready(Err(UploadError::Peer(io::ErrorKind::UnexpectedEof.into()))),
                sent => {
                    self.sent += sent as u64;
                    *left -= sent;
                }
            }
        }
    }

    fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        conn: &mut UpstreamConn,
    ) -> Poll<Result<(), UploadError>> {
        let Source::Client { piece, last, head_sent } = &mut self.source else {
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
                let whole = piece.clone().unwrap_or_default();
                let most = if self.coding == Coding::Records { fastcgi::MAX_CONTENT } else { usize::MAX };
                let rest = whole.start + whole.len().min(most)..whole.end;
                let data = client.read_buffer.slice(whole.start..rest.start);
                let is_last = *last && rest.is_empty();
                let mut line = [0; 18];
                let record = fastcgi::stdin_header(data.len() as u16);
                let end_record = fastcgi::stdin_header(0);
                let (before, after, end): (&[u8], &[u8], &[u8]) = match self.coding {
                    Coding::Plain => (b"", b"", b""),
                    Coding::Chunks => {
                        (http::chunk_size_line(data.len() as u64, &mut line), b"\r\n", b"0\r\n\r\n")
                    }
                    Coding::Records => (&record, b"", &end_record),
                };
                let (before, after) = if data.is_empty() { (&b""[..], &b""[..]) } else { (before, after) };
                let parts = [head, before, data, after, if is_last { end } else { b"" }];
                let sent_before = self.done;
                let written = conn.stream.poll_write_all(cx, &parts, &mut self.done);
                self.sent += (self.done - sent_before) as u64;
                ready!(written).map_err(UploadError::Peer)?;
                self.done = 0;
                *head_sent = true;
                *piece = (!rest.is_empty()).then_some(rest);
                if is_last {
                    client.body.finish();
                    client.read_buffer.release(&client.thread.buffers);
                    return Poll::Ready(Ok(()));
                }
                if piece.is_some() {
                    continue;
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
