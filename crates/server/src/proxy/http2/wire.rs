//! The frames of a connection to a peer, in both directions.
//!
//! It must never wait, nor know a client: what comes is read by the caller, who also says when to write.

use http::h2::{ErrorCode, H2Connection, H2Limits, HeadSlot, ReadContext, Received};
use http::{Headers, ResponseHead};
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, Waker, ready};
use transport::buffers::Buffers;
use transport::read_buffer::ReadBuffer;
use transport::stream::Stream;

/// How many bytes of a response may come that its client has not taken.
const WINDOW_BYTES: u32 = 256 << 10;

/// How many bytes of a request wait for the peer's socket at most.
pub(super) const MAX_UNSENT: usize = 64 << 10;

/// The least that the fields of a response may take; more if `proxy_buffer_size` lets a larger block come.
const MIN_LIST_BYTES: usize = 64 << 10;

/// By how much a header block may grow when it is decoded.
const MAX_EXPANSION: usize = 16;

/// Why a request over HTTP/2 is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum H2Fault {
    /// The peer breaks the rules of HTTP/2; the words are behind `upstream `.
    BadFrames(&'static str),
    /// The peer has reset the stream; the error code.
    Rejected(u32),
    /// The peer ends the connection for an error, before it has looked at the request; the error code.
    GoneAway(u32),
    /// The peer says that it has not looked at the request, and that nothing is wrong.
    Unprocessed,
}

/// The news of a connection about its request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum H2Read {
    /// More must come first.
    Partial,
    /// The response's head came, an interim one perhaps; the size of its block.
    Head { block_bytes: usize },
    /// A part of the body came; whether it is the last.
    Data { range: Range<usize>, ends: bool },
    /// The trailers came, or the end alone.
    End,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct H2Upstream {
    codec: H2Connection,
    /// Frames on their way to the peer, and how much of them has gone.
    out: Vec<u8>,
    sent: usize,
    /// The stream of the request under way; 0 without one.
    stream: u32,
    /// The response is whole.
    has_ended: bool,
    /// The request is framed to its end.
    is_sent: bool,
    /// The peer takes no more requests, or nothing from it is to be trusted any more.
    is_last: bool,
    /// Bytes of the body that were read and may be kept from the peer's window still.
    held: u32,
    /// The fields behind the body.
    pub(crate) trailers: Headers,
}

impl H2Upstream {
    /// Creates the state of a new connection. `head_bytes` is how large a response's header block may be.
    pub(crate) fn new(head_bytes: usize) -> H2Upstream {
        let max_list_bytes = head_bytes.saturating_mul(MAX_EXPANSION).max(MIN_LIST_BYTES);
        let limits = H2Limits { initial_window: WINDOW_BYTES, max_list_bytes, ..H2Limits::default() };
        H2Upstream {
            codec: H2Connection::client(limits),
            out: Vec::new(),
            sent: 0,
            stream: 0,
            has_ended: false,
            is_sent: false,
            is_last: false,
            held: 0,
            trailers: Headers::new(),
        }
    }

    /// Begins a request with this header block. Returns false if the connection takes none any more.
    pub(super) fn begin(&mut self, block: &[u8], ends: bool, is_bodiless: bool) -> bool {
        // First what came before: the preface, or acknowledgements.
        self.out.append(self.codec.control());
        self.trailers.clear();
        (self.has_ended, self.is_sent, self.held) = (false, ends, 0);
        match self.codec.request(block, ends, is_bodiless, &mut self.out) {
            Some(stream) => self.stream = stream,
            None => self.is_last = true,
        }
        !self.is_last
    }

    /// Returns true if the response is whole.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns what came next. The head goes to `head`; a range of the body is for [`ReadBuffer::slice`], until the next read.
    pub(crate) fn next(
        &mut self,
        read_buffer: &mut ReadBuffer,
        head: &mut ResponseHead,
        now_ms: u64,
    ) -> Result<H2Read, H2Fault> {
        let mut scratch = Vec::new();
        loop {
            let heads = HeadSlot::Response { head, trailers: &mut self.trailers };
            let mut cx = ReadContext { heads, scratch: &mut scratch, now_ms };
            let step = match self.codec.receive(read_buffer.unread(), &mut cx) {
                Ok(step) => step,
                Err(fault) => {
                    self.codec.fail(fault.code);
                    self.is_last = true;
                    return Err(H2Fault::BadFrames(fault.words));
                }
            };
            let consumed = read_buffer.consume(step.consumed);
            match step.received {
                Received::Partial if step.consumed == 0 => return Ok(H2Read::Partial),
                Received::Response { ends, block_bytes, .. } => {
                    self.has_ended = ends;
                    return Ok(H2Read::Head { block_bytes });
                }
                Received::Data { range, ends, .. } => {
                    self.held += range.len() as u32;
                    self.has_ended = ends;
                    let range = consumed.start + range.start..consumed.start + range.end;
                    return Ok(H2Read::Data { range, ends });
                }
                Received::Trailers { .. } => {
                    self.has_ended = true;
                    return Ok(H2Read::End);
                }
                Received::Gone { stream, code, words } if stream == self.stream => {
                    self.lose_stream(code, words)?;
                }
                Received::GoAway { last_stream, code } => {
                    self.is_last = true;
                    if last_stream < self.stream {
                        return Err(refused(code));
                    }
                }
                _ => {}
            }
        }
    }

    /// Ends the stream, because the peer or a fault of it has. A peer that has answered may say that it wants no more of the
    /// request (RFC 9113, section 8.1).
    fn lose_stream(&mut self, code: Option<u32>, words: &'static str) -> Result<(), H2Fault> {
        self.stream = 0;
        match code {
            Some(0) if self.has_ended => Ok(()),
            Some(code) if code == ErrorCode::RefusedStream as u32 => Err(H2Fault::Unprocessed),
            Some(code) => Err(H2Fault::Rejected(code)),
            None => Err(H2Fault::BadFrames(words)),
        }
    }

    /// Looks at what has come already behind a whole response.
    ///
    /// # Errors
    /// The peer takes it back.
    pub(crate) fn check_end(&mut self, read_buffer: &mut ReadBuffer, now_ms: u64) -> Result<(), H2Fault> {
        self.next(read_buffer, &mut ResponseHead::new(), now_ms).map(drop)
    }

    /// Lets as much more of the body come as was taken, but for `waiting` bytes.
    pub(crate) fn make_room(&mut self, waiting: u64) {
        let taken = u64::from(self.held).saturating_sub(waiting) as u32;
        if taken > 0 && self.stream != 0 {
            self.held -= taken;
            self.codec.taken(self.stream, taken);
        }
    }

    /// Writes what is to be said. `Ready` when all of it is.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        self.out.append(self.codec.control());
        if self.sent < self.out.len() {
            ready!(stream.poll_write_all(cx, &[&self.out], &mut self.sent))?;
        }
        if self.sent > 0 {
            (self.out, self.sent) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Returns how many bytes of the request's body may be framed now.
    pub(super) fn room(&mut self) -> usize {
        let unsent = self.unsent();
        self.codec.send_room(self.stream).min(MAX_UNSENT.saturating_sub(unsent))
    }

    /// Returns how many bytes of frames wait for the peer's socket.
    pub(super) fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Returns true if the stream is open: a response may have come to its end before the request has.
    pub(super) fn is_open(&self) -> bool {
        self.stream != 0
    }

    /// Returns true if all of the request is with the peer.
    pub(super) fn is_request_sent(&self) -> bool {
        self.is_sent && self.out.is_empty()
    }

    /// Frames a part of the request's body.
    pub(super) fn frame(&mut self, data: &[u8], ends: bool) {
        if self.stream != 0 {
            self.codec.write_data(self.stream, data, ends, &mut self.out);
        }
        self.is_sent |= ends;
    }

    /// Frames the next part of a body. Returns true if it was the last.
    pub(super) fn frame_part(&mut self, bytes: &[u8], offset: &mut u64, room: usize, sent: &mut u64) -> bool {
        let rest = bytes.get(*offset as usize..).unwrap_or_default();
        let count = rest.len().min(room);
        let ends = count == rest.len();
        self.frame(&rest[..count], ends);
        *offset += count as u64;
        *sent += count as u64;
        ends
    }

    /// Ends the exchange. Returns true if the connection may be used again.
    pub(crate) fn finish(&mut self, stream: &mut Stream) -> bool {
        let has_ended = std::mem::take(&mut self.has_ended);
        match std::mem::take(&mut self.stream) {
            0 => {}
            number if has_ended && self.is_sent => self.codec.finish(number),
            // What is left of the request is of no use (RFC 9113, section 8.1); without a response, neither is that.
            number => self.codec.reset(number, ErrorCode::Cancel),
        }
        self.say_now(stream);
        has_ended && !self.is_last
    }

    /// Says what is to be said as far as the peer takes it at once.
    fn say_now(&mut self, stream: &mut Stream) {
        let _ = self.poll_flush(&mut Context::from_waker(Waker::noop()), stream);
    }

    /// Answers what has come on an idle connection. Returns false if it is of no more use.
    pub(crate) fn stay_idle(
        &mut self,
        stream: &mut Stream,
        read_buffer: &mut ReadBuffer,
        buffers: &Buffers,
        now_ms: u64,
    ) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(filled) = read_buffer.poll_fill(&mut cx, stream, buffers) {
            let is_fine = matches!(filled, Ok(1..))
                && matches!(self.next(read_buffer, &mut ResponseHead::new(), now_ms), Ok(H2Read::Partial));
            if !is_fine || self.is_last {
                return false;
            }
        }
        read_buffer.release(buffers);
        self.say_now(stream);
        true
    }

    /// Ends the connection: the peer learns that the request under way is not wanted any more, and that it may close.
    pub(crate) fn part(&mut self, stream: &mut Stream) {
        self.finish(stream);
        self.codec.fail(ErrorCode::NoError);
        self.say_now(stream);
    }
}

/// Returns the fault of a connection that ends before the request was looked at. With an error code, nginx takes the peer for
/// broken.
fn refused(code: u32) -> H2Fault {
    match code {
        0 => H2Fault::Unprocessed,
        code => H2Fault::GoneAway(code),
    }
}
