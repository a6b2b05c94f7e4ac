//! A message body on its way in: where it ends, whichever way it is framed, and which bytes of the input it is.

use crate::input::Input;
use http::{BodyFraming, ChunkError, ChunkLimits, ChunkedDecoder, Headers};
use std::ops::Range;

/// What is still to come of a body.
#[derive(Debug, Default)]
pub(crate) enum BodyReader {
    /// Nothing: it was read to its end, or there is none.
    #[default]
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Box<ChunkedDecoder>),
    /// Everything until the peer closes.
    UntilClose,
}

/// A run of body bytes in the input.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Where: for [`Input::slice`], until the next read.
    pub(crate) range: Range<usize>,
    /// The body ends with it.
    pub(crate) done: bool,
}

impl BodyReader {
    /// At the beginning of a body.
    pub(crate) fn new(framing: BodyFraming) -> BodyReader {
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

    /// Was the body read to its end?
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, BodyReader::Done)
    }

    /// How much the chunk under way still has, in bytes.
    pub(crate) fn chunk_left(&self) -> u64 {
        match self {
            BodyReader::Chunked(decoder) => decoder.chunk_left(),
            _ => 0,
        }
    }

    /// The fields after a chunked body, once it is done; to be asked before the last piece is taken as the end.
    pub(crate) fn trailers(&self) -> Option<&Headers> {
        match self {
            BodyReader::Chunked(decoder) => Some(decoder.trailers()),
            _ => None,
        }
    }

    /// Takes the next run of body bytes out of the input; `None` if more input is needed first.
    pub(crate) fn next(&mut self, input: &mut Input) -> Result<Option<Piece>, ChunkError> {
        match self {
            BodyReader::Done => Ok(Some(Piece { range: 0..0, done: true })),
            BodyReader::Length(left) => {
                let count = input.unread().len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                if count == 0 {
                    return Ok(None);
                }
                *left -= count as u64;
                let done = *left == 0;
                if done {
                    *self = BodyReader::Done;
                }
                Ok(Some(Piece { range: input.consume(count), done }))
            }
            BodyReader::Chunked(decoder) => {
                if input.is_empty() && !decoder.is_done() {
                    return Ok(None);
                }
                let begin = input.position();
                let step = decoder.decode(input.unread())?;
                input.consume(step.consumed);
                if step.data.is_empty() && !step.done {
                    return Ok(None);
                }
                Ok(Some(Piece { range: begin + step.data.start..begin + step.data.end, done: step.done }))
            }
            BodyReader::UntilClose => match input.unread().len() {
                0 => Ok(None),
                count => Ok(Some(Piece { range: input.consume(count), done: false })),
            },
        }
    }

    /// To be called when the piece that is the end was used.
    pub(crate) fn finish(&mut self) {
        *self = BodyReader::Done;
    }
}
