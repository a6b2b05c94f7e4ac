//! The records of a connection to a FastCGI server: the head and the body in them, and what the program complains of.
//!
//! It must never wait: what comes is read by the caller.

use http::cgi::fastcgi::{Received, RecordReader};
use http::{BodyFraming, CgiForm, Progress, ResponseHead};
use transport::body_reader::Piece;
use transport::read_buffer::ReadBuffer;

/// What came of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeadRead {
    /// More must come first.
    Partial,
    /// It is whole.
    Whole,
    /// The program complains.
    Stderr(Vec<u8>),
}

/// What came of a body.
#[derive(Debug)]
pub(super) enum BodyRead {
    /// More must come first.
    Partial,
    /// A piece.
    Piece(Piece),
    /// The last piece, and more behind it than the head has promised.
    Excess(Piece),
    /// The program complains.
    Stderr(Vec<u8>),
}

/// What is wrong with the records or the head in them: the line of the error log, without its stage.
type Fault = Vec<u8>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct FastcgiUpstream {
    records: RecordReader,
    /// Output until the head in it is whole.
    text: Vec<u8>,
    /// How much of the body is to come, if the head says it.
    rest: Option<u64>,
    /// The server was asked to keep the connection.
    keeps: bool,
    /// The output has ended.
    is_closed: bool,
    /// The request has ended.
    is_over: bool,
}

impl FastcgiUpstream {
    /// Begins to read another response; `keeps` says whether the server was asked to keep the connection.
    pub(super) fn restart(&mut self, keeps: bool) {
        *self = FastcgiUpstream { keeps, ..FastcgiUpstream::default() };
    }

    /// Returns true if nothing of the request is left on the connection.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Says how much of a body is to come.
    pub(super) fn begin_body(&mut self, framing: BodyFraming) {
        self.rest = match framing {
            BodyFraming::Length(length) => Some(length),
            BodyFraming::None => Some(0),
            BodyFraming::Chunked | BodyFraming::UntilClose => None,
        };
    }

    /// Returns true if the body is whole when the server closes now. nginx takes what ends in the middle of a record for whole, too.
    pub(super) fn may_end(&self) -> bool {
        let says_no_end = !self.keeps && self.records.is_between();
        self.rest.unwrap_or(0) == 0 && (self.is_closed || says_no_end)
    }

    /// Reads the head, of at most `max_bytes`, as far as it has come.
    pub(super) fn read_head(
        &mut self,
        buffer: &mut ReadBuffer,
        head: &mut ResponseHead,
        max_bytes: usize,
    ) -> Result<HeadRead, Fault> {
        loop {
            let input = buffer.unread();
            let step = self.records.next(input).map_err(|fault| fault.words().into_bytes())?;
            let over = match step.received {
                Received::Partial => {
                    buffer.consume(step.consumed);
                    return Ok(HeadRead::Partial);
                }
                Received::StdoutEnd => return Err(b"upstream prematurely closed FastCGI stdout".to_vec()),
                Received::EndRequest => return Err(b"upstream sent unexpected FastCGI record: 3".to_vec()),
                Received::Stderr(range) => {
                    let text = input[range].to_vec();
                    buffer.consume(step.consumed);
                    return Ok(HeadRead::Stderr(text));
                }
                Received::Stdout(range) => {
                    self.text.extend_from_slice(&input[range]);
                    match head.decode_cgi(&self.text, max_bytes, CgiForm::Fields) {
                        Ok(Progress::Partial) => None,
                        Ok(Progress::Complete { consumed }) => Some(self.text.len() - consumed),
                        Err(error) => {
                            let mut line = Vec::new();
                            head.explain(error, &self.text, &mut line);
                            return Err(line);
                        }
                    }
                }
            };
            buffer.consume(step.consumed - over.unwrap_or(0));
            if let Some(over) = over {
                self.records.give_back(over);
                self.text = Vec::new();
                return Ok(HeadRead::Whole);
            }
        }
    }

    /// Returns what came next of the body. A range is for [`ReadBuffer::slice`], until the next read.
    pub(super) fn next(&mut self, buffer: &mut ReadBuffer) -> Result<BodyRead, Fault> {
        let last = |range| Piece { range, done: true };
        loop {
            let step = self.records.next(buffer.unread()).map_err(|fault| fault.words().into_bytes())?;
            let begin = buffer.consume(step.consumed).start;
            match step.received {
                Received::Partial => return Ok(BodyRead::Partial),
                Received::Stderr(range) => {
                    let text = buffer.slice(begin + range.start..begin + range.end).to_vec();
                    return Ok(BodyRead::Stderr(text));
                }
                Received::StdoutEnd if self.rest.unwrap_or(0) > 0 => {
                    return Err(b"upstream prematurely closed FastCGI stdout".to_vec());
                }
                // Its end of the request follows: a server that still writes it would find the connection closed.
                Received::StdoutEnd => self.is_closed = true,
                Received::EndRequest if self.rest.unwrap_or(0) > 0 => {
                    return Err(b"upstream prematurely closed FastCGI request".to_vec());
                }
                Received::EndRequest => {
                    self.is_over = true;
                    return Ok(BodyRead::Piece(last(0..0)));
                }
                Received::Stdout(range) => {
                    let range = begin + range.start..begin + range.end;
                    let len = range.len() as u64;
                    match &mut self.rest {
                        Some(rest) if len > *rest => {
                            let end = range.start + *rest as usize;
                            return Ok(BodyRead::Excess(last(range.start..end)));
                        }
                        Some(rest) => *rest -= len,
                        None => {}
                    }
                    let done = self.rest.unwrap_or(0) == 0 && self.take_end(buffer);
                    return Ok(BodyRead::Piece(Piece { range, done }));
                }
            }
        }
    }

    /// Takes the end of the response, if that is all that follows: it then goes to the client with the last of the body.
    fn take_end(&mut self, buffer: &mut ReadBuffer) -> bool {
        let mut ahead = self.records.clone();
        let mut used = 0;
        loop {
            let Ok(step) = ahead.next(&buffer.unread()[used..]) else { return false };
            used += step.consumed;
            match step.received {
                Received::StdoutEnd => {}
                Received::EndRequest => {
                    buffer.consume(used);
                    self.records = ahead;
                    self.is_over = true;
                    return true;
                }
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let len = (content.len() as u16).to_be_bytes();
        [&[1, kind, 0, 1, len[0], len[1], 0, 0], content].concat()
    }

    /// Returns what comes of a response whose head is read already, up to its end.
    fn body(fastcgi: &mut FastcgiUpstream, input: &[u8]) -> Result<Vec<String>, String> {
        let mut buffer = ReadBuffer::holding(input.to_vec());
        let mut seen = Vec::new();
        loop {
            let read =
                fastcgi.next(&mut buffer).map_err(|fault| String::from_utf8_lossy(&fault).into_owned())?;
            let shown =
                |piece: &Piece| String::from_utf8_lossy(buffer.slice(piece.range.clone())).into_owned();
            let (text, done) = match read {
                BodyRead::Partial => return Ok(seen),
                BodyRead::Piece(piece) => (shown(&piece), piece.done),
                BodyRead::Excess(piece) => (format!("{}, and more", shown(&piece)), true),
                BodyRead::Stderr(text) => (format!("! {}", String::from_utf8_lossy(&text)), false),
            };
            seen.push(text);
            if done {
                seen.push(if fastcgi.is_over() { "over".into() } else { "done".into() });
                return Ok(seen);
            }
        }
    }

    fn whole() -> Vec<u8> {
        [record(6, b"one"), record(7, b"oh"), record(6, b"two"), record(6, b""), record(3, &[0; 8])].concat()
    }

    #[test]
    fn body_ends_with_its_records() {
        let mut fastcgi = FastcgiUpstream::default();
        fastcgi.begin_body(BodyFraming::UntilClose);
        assert_eq!(body(&mut fastcgi, &whole()).unwrap(), ["one", "! oh", "two", "over"]);
        fastcgi.restart(true);
        assert_eq!(body(&mut fastcgi, &whole()).unwrap(), ["one", "! oh", "two", "over"]);
        fastcgi.restart(true);
        assert_eq!(body(&mut fastcgi, &whole()[..32]).unwrap(), ["one", "! oh", "two"]);
        assert!(!fastcgi.may_end(), "a connection that is to be kept does not end a body");
    }

    #[test]
    fn promised_length_is_held_to() {
        let read = |length, input: &[u8]| {
            let mut fastcgi = FastcgiUpstream::default();
            fastcgi.begin_body(BodyFraming::Length(length));
            body(&mut fastcgi, input)
        };
        assert_eq!(read(6, &whole()).unwrap(), ["one", "! oh", "two", "over"]);
        assert_eq!(read(5, &whole()).unwrap(), ["one", "! oh", "tw, and more", "done"]);
        assert_eq!(read(7, &whole()).unwrap_err(), "upstream prematurely closed FastCGI stdout");
        let without_end = [record(6, b"one"), record(3, &[0; 8])].concat();
        assert_eq!(read(4, &without_end).unwrap_err(), "upstream prematurely closed FastCGI request");
        assert_eq!(read(4, b"\x02").unwrap_err(), "upstream sent unsupported FastCGI protocol version: 2");
    }

    #[test]
    fn close_ends_a_body_between_two_records_alone() {
        let input = record(6, b"one");
        for len in 0..=input.len() {
            let mut fastcgi = FastcgiUpstream::default();
            body(&mut fastcgi, &input[..len]).unwrap();
            assert_eq!(fastcgi.may_end(), len == 0 || len == input.len(), "{len}");
        }
        let mut fastcgi = FastcgiUpstream::default();
        fastcgi.restart(true);
        body(&mut fastcgi, &[record(6, b""), vec![1, 3]].concat()).unwrap();
        assert!(fastcgi.may_end(), "the output has ended before");
    }
}
