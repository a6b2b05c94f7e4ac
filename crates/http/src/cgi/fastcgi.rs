//! FastCGI's records, those of a request written and those of its response read, one request at a time on a connection.
//!
//! Owns the place among the records. It must never wait, nor keep what is in them. Source: FastCGI 1.0,
//! <https://fastcgi-archives.github.io/FastCGI_Specification.html>; ngx_http_fastcgi_process_record for what is refused.

use super::TooLarge;
use std::ops::Range;

/// Length of a record's header.
pub const HEADER_BYTES: usize = 8;

/// The longest content of a record.
pub const MAX_CONTENT: usize = 0xffff;

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

/// The number of the one request of a connection.
const REQUEST_ID: u8 = 1;

/// FCGI_RESPONDER.
const RESPONDER: u8 = 1;

/// FCGI_KEEP_CONN.
const KEEP_CONN: u8 = 1;

/// Lengths from here on take four bytes.
const LONG_LENGTH: usize = 0x80;

fn header(kind: u8, len: u16, padding: u8) -> [u8; HEADER_BYTES] {
    let [high, low] = len.to_be_bytes();
    [VERSION, kind, 0, REQUEST_ID, high, low, padding, 0]
}

/// Returns the header of a record with a part of the request's body, which follows it without padding. Without content it is
/// the body's end.
pub fn stdin_header(len: u16) -> [u8; HEADER_BYTES] {
    header(STDIN, len, 0)
}

/// Appends the beginning of a request, up to where its parameters begin.
pub fn begin(keep_conn: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(&header(BEGIN_REQUEST, 8, 0));
    out.extend_from_slice(&[0, RESPONDER, if keep_conn { KEEP_CONN } else { 0 }, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&header(PARAMS, 0, 0));
}

/// Appends one parameter.
pub fn append_param(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for text in [name, value] {
        match text.len() {
            len @ 0..LONG_LENGTH => out.push(len as u8),
            len => out.extend_from_slice(&(len as u32 | 0x8000_0000).to_be_bytes()),
        }
    }
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

/// Ends the parameters of the request that begins at `start`.
///
/// # Errors
/// They do not fit into a record. nginx sends no second one either, and not every server would read it.
pub fn end_params(start: usize, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    let at = start + 2 * HEADER_BYTES;
    let len = out.len() - at - HEADER_BYTES;
    let said = u16::try_from(len).map_err(|_| TooLarge(len))?;
    let padding = len.wrapping_neg() % 8;
    out[at..at + HEADER_BYTES].copy_from_slice(&header(PARAMS, said, padding as u8));
    out.resize(out.len() + padding, 0);
    out.extend_from_slice(&header(PARAMS, 0, 0));
    Ok(())
}

/// The fault of a record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// Another version.
    Version(u8),
    /// A record that no server sends to a gateway.
    Kind(u8),
    /// Another request's high byte.
    IdHigh(u8),
    /// Another request's low byte.
    IdLow(u8),
}

impl RecordFault {
    /// Returns nginx's message for the error log.
    pub fn words(self) -> String {
        match self {
            RecordFault::Version(byte) => {
                format!("upstream sent unsupported FastCGI protocol version: {byte}")
            }
            RecordFault::Kind(byte) => format!("upstream sent invalid FastCGI record type: {byte}"),
            RecordFault::IdHigh(byte) => {
                format!("upstream sent unexpected FastCGI request id high byte: {byte}")
            }
            RecordFault::IdLow(byte) => {
                format!("upstream sent unexpected FastCGI request id low byte: {byte}")
            }
        }
    }
}

/// A received record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// More must come first.
    Partial,
    /// A part of the response; a range of the input.
    Stdout(Range<usize>),
    /// A part of what the program complains of; a range of the input.
    Stderr(Range<usize>),
    /// The response ends.
    StdoutEnd,
    /// The request has ended, and with its padding the connection is free for another.
    EndRequest,
}

/// A step of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordStep {
    /// How many bytes of the input are used.
    pub consumed: usize,
    /// The record.
    pub received: Received,
}

/// The place among the records of a response.
#[derive(Clone, Debug, Default)]
pub struct RecordReader {
    /// The header under way, or the last one.
    header: [u8; HEADER_BYTES],
    /// How much of it has come.
    have: usize,
    /// What is left of the record's content.
    content: usize,
    /// What is left of its padding.
    padding: usize,
}

impl RecordReader {
    /// Begins to read another response.
    pub fn restart(&mut self) {
        *self = RecordReader::default();
    }

    /// Returns true if no record is under way.
    pub fn is_between(&self) -> bool {
        self.have == 0
    }

    /// Returns what comes next in the input.
    ///
    /// # Errors
    /// A header that is not of a record for this request. Nothing behind it has a meaning.
    pub fn next(&mut self, input: &[u8]) -> Result<RecordStep, RecordFault> {
        let mut at = 0;
        loop {
            if self.have < HEADER_BYTES {
                if !self.take_header(input, &mut at)? {
                    return Ok(RecordStep { consumed: at, received: Received::Partial });
                }
                if self.kind() == STDOUT && self.content == 0 {
                    self.end_if_over();
                    return Ok(RecordStep { consumed: at, received: Received::StdoutEnd });
                }
            }
            if self.content > 0 {
                let count = self.content.min(input.len() - at);
                if count == 0 {
                    return Ok(RecordStep { consumed: at, received: Received::Partial });
                }
                let range = at..at + count;
                at += count;
                self.content -= count;
                let received = match self.kind() {
                    STDOUT => Received::Stdout(range),
                    STDERR => Received::Stderr(range),
                    _ => continue,
                };
                return Ok(RecordStep { consumed: at, received });
            }
            let count = self.padding.min(input.len() - at);
            self.padding -= count;
            at += count;
            if self.padding > 0 {
                return Ok(RecordStep { consumed: at, received: Received::Partial });
            }
            self.have = 0;
            if self.kind() == END_REQUEST {
                return Ok(RecordStep { consumed: at, received: Received::EndRequest });
            }
        }
    }

    /// Gives the last `count` bytes of a range of [`Received::Stdout`] back: they come again, and must be in the next input.
    pub fn give_back(&mut self, count: usize) {
        self.content += count;
    }

    fn kind(&self) -> u8 {
        self.header[1]
    }

    /// Leaves a record that has neither content nor padding.
    fn end_if_over(&mut self) {
        if self.content == 0 && self.padding == 0 {
            self.have = 0;
        }
    }

    /// Takes what is there of a header, and judges each byte at once. Returns true if it is whole.
    fn take_header(&mut self, input: &[u8], at: &mut usize) -> Result<bool, RecordFault> {
        while self.have < HEADER_BYTES {
            let Some(&byte) = input.get(*at) else { return Ok(false) };
            match self.have {
                0 if byte != VERSION => return Err(RecordFault::Version(byte)),
                1 if !matches!(byte, STDOUT | STDERR | END_REQUEST) => return Err(RecordFault::Kind(byte)),
                2 if byte != 0 => return Err(RecordFault::IdHigh(byte)),
                3 if byte != REQUEST_ID => return Err(RecordFault::IdLow(byte)),
                _ => {}
            }
            self.header[self.have] = byte;
            self.have += 1;
            *at += 1;
        }
        self.content = usize::from(u16::from_be_bytes([self.header[4], self.header[5]]));
        self.padding = usize::from(self.header[6]);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
        let mut out = header(kind, content.len() as u16, padding).to_vec();
        out.extend_from_slice(content);
        out.resize(out.len() + usize::from(padding), 0xaa);
        out
    }

    /// Returns what was read: `o` and `e` with their bytes, joined, `.` for the end of the output, `!` for that of the
    /// request, and the bytes that were used.
    fn read(input: &[u8], piece: usize) -> Result<(String, usize), RecordFault> {
        let mut reader = RecordReader::default();
        let (mut text, mut last, mut used) = (String::new(), ' ', 0);
        let mut end = 0;
        while end < input.len() {
            end = (end + piece).min(input.len());
            loop {
                let step = reader.next(&input[used..end])?;
                let bytes = |range: &Range<usize>| {
                    String::from_utf8_lossy(&input[used + range.start..used + range.end]).into_owned()
                };
                let (mark, what) = match &step.received {
                    Received::Partial => (last, String::new()),
                    Received::Stdout(range) => ('o', bytes(range)),
                    Received::Stderr(range) => ('e', bytes(range)),
                    Received::StdoutEnd => ('.', String::new()),
                    Received::EndRequest => ('!', String::new()),
                };
                if mark != last || mark == '.' && step.received != Received::Partial {
                    text.push(mark);
                    last = mark;
                }
                text.push_str(&what);
                used += step.consumed;
                if step.received == Received::Partial {
                    break;
                }
            }
        }
        Ok((text, used))
    }

    #[test]
    fn records_are_read_however_they_are_cut() {
        let mut input = Vec::new();
        for (kind, content, padding) in [
            (STDERR, &b"warn"[..], 4),
            (STDOUT, b"Status: 200\r\n", 3),
            (STDERR, b"", 0),
            (STDOUT, b"\r\nbody", 0),
            (STDOUT, b"", 7),
            (END_REQUEST, &[0; 8], 255),
        ] {
            input.extend(record(kind, content, padding));
        }
        for piece in [1, 2, 3, 7, 8, 9, 64, input.len()] {
            let found = read(&input, piece).unwrap();
            assert_eq!(found, ("ewarnoStatus: 200\r\n\r\nbody.!".to_owned(), input.len()), "by {piece}");
        }
    }

    #[test]
    fn header_of_another_request_is_refused_at_its_byte() {
        let good = record(STDOUT, b"x", 0);
        for (at, byte, fault) in [
            (0, 2, RecordFault::Version(2)),
            (1, STDIN, RecordFault::Kind(STDIN)),
            (1, 11, RecordFault::Kind(11)),
            (2, 1, RecordFault::IdHigh(1)),
            (3, 0, RecordFault::IdLow(0)),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            for piece in [1, bad.len()] {
                assert_eq!(read(&bad[..=at], piece), Err(fault), "before the rest has come");
            }
            assert!(fault.words().ends_with(&format!(": {byte}")));
        }
    }

    #[test]
    fn bytes_that_are_given_back_come_again() {
        let input = [record(STDOUT, b"head|body", 1), record(END_REQUEST, &[0; 8], 0)].concat();
        let mut reader = RecordReader::default();
        let step = reader.next(&input).unwrap();
        assert_eq!(step, RecordStep { consumed: 17, received: Received::Stdout(8..17) });
        reader.give_back(4);
        let step = reader.next(&input[13..]).unwrap();
        assert_eq!(step, RecordStep { consumed: 4, received: Received::Stdout(0..4) });
        assert!(!reader.is_between(), "its padding is to come");
        let step = reader.next(&input[17..]).unwrap();
        assert_eq!(step, RecordStep { consumed: 17, received: Received::EndRequest });
        assert!(reader.is_between());
    }

    #[test]
    fn request_is_framed_with_its_lengths() {
        let mut out = b"-".to_vec();
        begin(true, &mut out);
        append_param(b"A", &[b'x'; 200], &mut out);
        end_params(1, &mut out).unwrap();
        assert_eq!(out[1..17], *b"\x01\x01\0\x01\0\x08\0\0\0\x01\x01\0\0\0\0\0");
        assert_eq!(out[17..31], *b"\x01\x04\0\x01\0\xce\x02\0\x01\x80\0\0\xc8A");
        assert_eq!(out[25 + 206 + 2..], *b"\x01\x04\0\x01\0\0\0\0");
        assert_eq!(stdin_header(0x1234), *b"\x01\x05\0\x01\x12\x34\0\0");
        let mut large = Vec::new();
        begin(false, &mut large);
        append_param(b"A", &[b'x'; 70_000], &mut large);
        assert_eq!(end_params(0, &mut large), Err(TooLarge(70_006)));
    }
}
