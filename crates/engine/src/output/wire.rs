//! Bytes on their way to the client: what is to be sent, how the body ends, and how far the answer is.

use super::chain::{Chain, Include};
use super::encoder::{Encoder, Ratio};
use http::framing::may_trail;
use http::h2::hpack;
use http::h2::{PieceHeader, PieceKind};

/// The way in which the end of the body is marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By Content-Length.
    #[default]
    Length,
    /// By chunks.
    Chunked,
    /// By pieces: the connection that carries the answer frames them.
    Pieces,
    /// By closing the connection.
    Close,
    /// There is no body: HEAD, 204, 304.
    None,
}

/// Bytes on their way to the client, and how far the answer is.
#[derive(Debug, Default)]
pub struct Output {
    /// The bytes that the server sends next.
    pub wire: Vec<u8>,
    /// The framing of the body.
    pub framing: Framing,
    /// Bytes of the head (`$bytes_sent` − `$body_bytes_sent`).
    pub head_len: u64,
    /// Bytes handed to the client's connection so far; the server counts them.
    pub sent: u64,
    /// Bytes of body before framing that went into the wire or past it.
    pub body_len: u64,
    /// The connection will be used for another request.
    pub keep_alive: bool,
    /// The filters that the body passes before it is compressed.
    pub(crate) chain: Chain,
    /// The compressor of the body.
    pub encoder: Option<Box<Encoder>>,
    /// Nothing of the body is to be held back: what is written goes out.
    pub at_once: bool,
    /// A script has flushed what it wrote: that goes out before the script waits, however little it is.
    pub flush_wanted: bool,
    /// The lengths of the body before and after compression, once it is whole.
    pub ratio: Option<Ratio>,
    /// The answer depends on `Accept-Encoding`.
    pub(crate) varies: bool,
    pub(super) head_written: bool,
    pub(super) ended: bool,
    /// A body filter has failed, or the client is gone: nothing more may be sent.
    pub(super) failed: bool,
}

/// A header filter does not let the head go out that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRefused {
    /// This status is answered, with the fields that the answer has.
    Refuse(u16),
    /// This status is answered, with no field of the answer that was to go out.
    Replace(u16),
    /// The connection is closed, and nothing is sent.
    Close,
}

/// A body filter failed: what was sent stays, nothing more is sent, and the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterFailed;

impl Output {
    /// Makes ready for the next answer, keeping the buffer.
    pub fn reset(&mut self) {
        let mut wire = std::mem::take(&mut self.wire);
        wire.clear();
        *self = Output { wire, ..Output::default() };
    }

    /// Takes the filters of the body away.
    pub(super) fn forget_filters(&mut self) {
        self.chain = Chain::default();
        self.encoder = None;
    }

    /// Returns whether filters of the body, the compressor apart, may have more to do.
    #[inline]
    pub fn has_chain(&self) -> bool {
        !self.chain.is_empty()
    }

    /// Returns the request that is to be served into the body now ([`super::BodyStep::Include`]).
    pub fn take_include(&mut self) -> Option<Box<Include>> {
        self.chain.take_include()
    }

    /// Says that the client is gone, or takes nothing: what waits is dropped, and nothing more may be written.
    pub fn break_off(&mut self) {
        self.failed = true;
        self.wire = Vec::new();
    }

    /// Says that a script has the client's connection: what is in the wire is for the caller, and nothing else is written.
    pub fn take_over(&mut self) -> Vec<u8> {
        (self.head_written, self.ended, self.keep_alive) = (true, true, false);
        std::mem::take(&mut self.wire)
    }

    /// Returns whether nothing more may be written.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Returns whether the head is in the wire, or sent.
    pub fn head_written(&self) -> bool {
        self.head_written
    }

    /// Returns whether the last byte of the body is in the wire, or sent.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Says that `len` bytes of body will be sent past the wire: writes the chunk's size line if there are chunks.
    /// After the bytes, [`Output::close_chunk`].
    pub fn open_chunk(&mut self, len: u64) {
        self.body_len += len;
        match self.framing {
            Framing::Chunked if len > 0 => {
                let mut line = [0; 18];
                self.wire.extend_from_slice(http::chunk_size_line(len, &mut line));
            }
            Framing::Pieces if len > 0 => {
                self.wire.extend_from_slice(&PieceHeader { kind: PieceKind::Data, len }.bytes());
            }
            _ => {}
        }
    }

    /// Ends what [`Output::open_chunk`] began.
    pub fn close_chunk(&mut self, len: u64) {
        if self.framing == Framing::Chunked && len > 0 {
            self.wire.extend_from_slice(b"\r\n");
        }
    }

    /// Ends the body: the last chunk and the trailers, if there are chunks.
    pub fn end(&mut self, trailers: &http::Headers) {
        if self.ended {
            return;
        }
        self.ended = true;
        if self.framing == Framing::Pieces {
            self.end_pieces(trailers);
        }
        if self.framing == Framing::Chunked {
            self.wire.extend_from_slice(b"0\r\n");
            for (_, name, value) in trailers.iter().filter(|(known, ..)| may_trail(*known)) {
                http::encode::encode_field(&mut self.wire, name, value);
            }
            self.wire.extend_from_slice(b"\r\n");
        }
    }

    #[cold]
    fn end_pieces(&mut self, trailers: &http::Headers) {
        if !trailers.iter().any(|(known, ..)| may_trail(known)) {
            self.wire.extend_from_slice(&PieceHeader { kind: PieceKind::End, len: 0 }.bytes());
            return;
        }
        let at = self.begin_piece();
        for (known, name, value) in trailers.iter().filter(|(known, ..)| may_trail(*known)) {
            hpack::encode_valid_field(&mut self.wire, known, name, value);
        }
        self.finish_piece(at, PieceKind::Trailers);
    }

    /// Makes room for the header of a piece whose length is not known yet; returns where that is.
    pub(super) fn begin_piece(&mut self) -> usize {
        let at = self.wire.len();
        self.wire.extend_from_slice(&PieceHeader { kind: PieceKind::End, len: 0 }.bytes());
        at
    }

    /// Writes the header of a piece that began there.
    pub(super) fn finish_piece(&mut self, at: usize, kind: PieceKind) {
        let data = at + http::h2::PIECE_HEADER_BYTES;
        let len = (self.wire.len() - data) as u64;
        self.wire[at..data].copy_from_slice(&PieceHeader { kind, len }.bytes());
    }
}
