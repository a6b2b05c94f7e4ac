//! A message body on its way in: where it ends, however it is framed, and which bytes of the buffer it is.

use crate::read_buffer::ReadBuffer;
use http::{BodyFraming, ChunkError, ChunkLimits, ChunkedDecoder, Headers};
use std::ops::Range;

/// Reads a body, piece by piece.
#[derive(Debug, Default)]
pub enum BodyReader {
    /// It was read to its end, or there is none.
    #[default]
    Done,
    /// This many bytes are still to come.
    Length(u64),
    /// It comes in chunks.
    Chunked(Box<ChunkedDecoder>),
    /// It is everything until the peer closes.
    UntilClose,
    /// It is everything until the end of the input, which says that it is whole; whether that has come.
    UntilEnd(bool),
}

/// A run of body bytes in the buffer.
#[derive(Debug)]
pub struct Piece {
    /// Its range: for [`ReadBuffer::slice`], until the next read.
    pub range: Range<usize>,
    /// Whether the body ends with it.
    pub done: bool,
}

impl BodyReader {
    /// Creates the reader of a body with this framing.
    pub fn new(framing: BodyFraming) -> BodyReader {
        match framing {
            BodyFraming::None => BodyReader::Done,
            BodyFraming::Length(len) => BodyReader::Length(len),
            BodyFraming::Chunked => {
                let limits = ChunkLimits { keep_trailers: true, ..ChunkLimits::default() };
                BodyReader::Chunked(Box::new(ChunkedDecoder::new(limits)))
            }
            BodyFraming::UntilClose => BodyReader::UntilClose,
        }
    }

    /// Returns true if the body was read to its end.
    #[inline]
    pub fn is_done(&self) -> bool {
        matches!(self, BodyReader::Done)
    }

    /// Returns how much the chunk under way still has, in bytes.
    #[inline]
    pub fn chunk_left(&self) -> u64 {
        match self {
            BodyReader::Chunked(decoder) => decoder.chunk_left(),
            _ => 0,
        }
    }

    /// Returns the fields after a chunked body, once it is done; to be asked before the last piece is taken as the end.
    #[inline]
    pub fn trailers(&self) -> Option<&Headers> {
        match self {
            BodyReader::Chunked(decoder) => Some(decoder.trailers()),
            _ => None,
        }
    }

    /// Takes the next run of body bytes out of the input; `None` if more input is needed first.
    pub fn next(&mut self, read_buffer: &mut ReadBuffer) -> Result<Option<Piece>, ChunkError> {
        match self {
            BodyReader::Done => Ok(Some(Piece { range: 0..0, done: true })),
            BodyReader::Length(left) => {
                let count = read_buffer.unread().len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                if count == 0 {
                    return Ok(None);
                }
                *left -= count as u64;
                let done = *left == 0;
                if done {
                    *self = BodyReader::Done;
                }
                Ok(Some(Piece { range: read_buffer.consume(count), done }))
            }
            BodyReader::Chunked(decoder) => {
                if read_buffer.is_empty() && !decoder.is_done() {
                    return Ok(None);
                }
                let begin = read_buffer.position();
                let step = decoder.decode(read_buffer.unread())?;
                read_buffer.consume(step.consumed);
                if step.data.is_empty() && !step.done {
                    return Ok(None);
                }
                Ok(Some(Piece { range: begin + step.data.start..begin + step.data.end, done: step.done }))
            }
            BodyReader::UntilEnd(true) if read_buffer.is_empty() => {
                Ok(Some(Piece { range: 0..0, done: true }))
            }
            BodyReader::UntilEnd(_) | BodyReader::UntilClose => match read_buffer.unread().len() {
                0 => Ok(None),
                count => Ok(Some(Piece { range: read_buffer.consume(count), done: false })),
            },
        }
    }

    /// Notes the end of the input. Returns true if the body is whole with it.
    pub fn end_with_input(&mut self) -> bool {
        match self {
            BodyReader::UntilEnd(ended) => !std::mem::replace(ended, true),
            _ => false,
        }
    }

    /// Ends the body. Must be called when its last piece was used.
    #[inline]
    pub fn finish(&mut self) {
        *self = BodyReader::Done;
    }
}
