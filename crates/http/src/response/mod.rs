//! The head of a response.
//!
//! Owns the status line and the fields that an upstream sent, decoded from bytes as they come, after
//! `ngx_http_parse_status_line` and `ngx_http_proxy_process_header`: lenient about names, strict about line ends.
//! It must never look at a body, nor say how long it is: that is `framing`'s.

mod cgi;
mod http2;

pub use cgi::CgiForm;
pub(crate) use http2::H2ResponseHead;

use crate::error::ResponseError;
use crate::field::{FieldRules, FieldScanner, FieldStep};
use crate::headers::Headers;
use crate::{Known, Progress, Version, masking, scan};
use std::ops::Range;

const RULES: FieldRules =
    FieldRules { underscores: true, bare_lf: true, repeated_cr: true, skip_status_lines: true };

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// So many bytes of `HTTP/` have come.
    #[default]
    Start,
    MajorStart,
    Major,
    MinorStart,
    Minor,
    /// So many digits of the status have come.
    Status(u8),
    AfterStatus,
    Reason,
    Ending,
    Fields,
    Whole,
}

/// The head of a response, used again and again on one connection.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The version: anything from HTTP/1.1 on counts as that.
    pub version: Version,
    /// The status: three digits, so 0 to 999.
    pub status: u16,
    /// The fields, in order; names as spelt.
    pub headers: Headers,
    /// Status number and phrase, as they came.
    line: Vec<u8>,
    state: State,
    pos: usize,
    major: u16,
    minor: u16,
    /// Where in the input the status number begins and the line ends.
    line_at: (usize, usize),
    fields: FieldScanner,
    /// Up to where the input's lines have been copied.
    copied: usize,
}

impl ResponseHead {
    /// Returns an empty head, before the first byte.
    pub fn new() -> ResponseHead {
        ResponseHead::default()
    }

    /// Starts over before the first byte; keeps memory. Also between an interim response and the next.
    pub fn clear(&mut self) {
        self.version = Version::Http11;
        self.status = 0;
        self.headers.clear();
        self.line.clear();
        self.state = State::Start;
        self.pos = 0;
        self.major = 0;
        self.minor = 0;
        self.line_at = (0, 0);
        self.fields = FieldScanner::default();
        self.copied = 0;
    }

    /// Decodes as much as there is; `max_bytes` is `proxy_buffer_size`. After [`Progress::Partial`], call again with
    /// the same bytes and more behind them: no byte is looked at twice.
    pub fn decode(&mut self, input: &[u8], max_bytes: usize) -> Result<Progress, ResponseError> {
        let within = &input[..input.len().min(max_bytes)];
        if !self.has_line() && !self.take_usual_line(within) {
            self.scan_line(within)?;
        }
        self.decode_rest(within, input.len() >= max_bytes)
    }

    /// Decodes the fields behind the line; `is_full` says that no more of the head has room.
    fn decode_rest(&mut self, within: &[u8], is_full: bool) -> Result<Progress, ResponseError> {
        if self.state == State::Fields {
            let result = self.decode_fields(within);
            // On every return the list has the bytes of the fields that were announced to it.
            let done = self.fields.line_start();
            self.headers.append_block(within.get(self.copied..done).unwrap_or_default());
            self.copied = done;
            result?;
        }
        match self.state {
            State::Whole => Ok(Progress::Complete { consumed: self.fields.pos() }),
            _ if is_full => Err(ResponseError::TooLarge),
            _ => Ok(Progress::Partial),
        }
    }

    /// Returns true if any byte has come.
    pub fn has_begun(&self) -> bool {
        self.pos > 0
    }

    /// Returns true if the status line is complete.
    pub fn has_line(&self) -> bool {
        matches!(self.state, State::Fields | State::Whole)
    }

    /// Returns number and phrase as they came, `200 OK`: nginx passes them on unchanged.
    pub fn status_line(&self) -> &[u8] {
        &self.line
    }

    /// Returns the phrase alone.
    pub fn reason(&self) -> &[u8] {
        self.line.get(4..).unwrap_or_default()
    }

    /// Returns true if another response follows before the final one (1xx, except for 101, RFC 9110 §15.2).
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// Appends nginx's whole log message for an error: its words and the bytes it quotes, secrets masked. The input is
    /// the one of the call that failed.
    pub fn explain(&self, error: ResponseError, input: &[u8], out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        out.extend_from_slice(error.words().as_bytes());
        if error == ResponseError::InvalidHeader {
            let fault = self.fields.fault;
            let byte = input.get(fault).copied().unwrap_or_default();
            out.extend_from_slice(b": \"");
            masking::append_lines(input.get(self.fields.line_start()..fault).unwrap_or_default(), out);
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            out.extend_from_slice(b"...\"");
        }
        if error == ResponseError::InvalidStatus {
            let value = self.headers.get(Known::Status).unwrap_or_default();
            out.extend_from_slice(&[b" \"", value, b"\""].concat());
        }
    }

    /// Takes the line at once if it is the first that comes, whole, and written as nearly every peer writes it.
    fn take_usual_line(&mut self, input: &[u8]) -> bool {
        if self.pos > 0 {
            return false;
        }
        let Some((b"HTTP/1.1 ", rest)) = input.split_first_chunk::<9>() else { return false };
        let Some((&[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' '], phrase)) =
            rest.split_first_chunk()
        else {
            return false;
        };
        let Some(len) = scan::control(phrase).filter(|len| phrase[*len..].starts_with(b"\r\n")) else {
            return false;
        };
        let digit = |byte: u8| u16::from(byte - b'0');
        self.status = digit(a) * 100 + digit(b) * 10 + digit(c);
        (self.major, self.minor) = (1, 1);
        self.line_at = (9, 13 + len);
        self.pos = self.line_at.1 + 2;
        self.take_line(input);
        true
    }

    /// Takes the complete status line; the fields begin.
    fn take_line(&mut self, input: &[u8]) {
        self.state = State::Fields;
        self.line.extend_from_slice(&input[self.line_at.0..self.line_at.1]);
        self.version = if (self.major, self.minor) < (1, 1) { Version::Http10 } else { Version::Http11 };
        self.fields = FieldScanner::starting_at(self.pos);
        self.copied = self.pos;
    }

    fn scan_line(&mut self, input: &[u8]) -> Result<(), ResponseError> {
        while let Some(&byte) = input.get(self.pos) {
            if self.state == State::Reason {
                let rest = &input[self.pos..];
                let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
                    self.pos = input.len();
                    return Ok(());
                };
                self.pos += end;
                self.state = self.line_end(rest[end]);
            } else {
                self.state = self.line_byte(byte).ok_or(ResponseError::NoStatusLine)?;
            }
            self.pos += 1;
            if self.state == State::Fields {
                self.take_line(input);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns the state after one byte of the status line, if it belongs there.
    fn line_byte(&mut self, byte: u8) -> Option<State> {
        let digit = u16::from(byte.wrapping_sub(b'0'));
        let is_digit = digit < 10;
        Some(match self.state {
            State::Start if Some(&byte) == b"HTTP/".get(self.pos) => {
                if self.pos == 4 {
                    State::MajorStart
                } else {
                    State::Start
                }
            }
            State::MajorStart if is_digit && digit > 0 => {
                self.major = digit;
                State::Major
            }
            State::Major if byte == b'.' => State::MinorStart,
            State::Major if is_digit && self.major <= 99 => {
                self.major = self.major * 10 + digit;
                State::Major
            }
            State::MinorStart if is_digit => {
                self.minor = digit;
                State::Minor
            }
            State::Minor if byte == b' ' => State::Status(0),
            State::Minor if is_digit && self.minor <= 99 => {
                self.minor = self.minor * 10 + digit;
                State::Minor
            }
            // nginx accepts spaces here, even between the digits; there we do not.
            State::Status(0) if byte == b' ' => State::Status(0),
            // There is no status below 100 (RFC 9110 §15), and clients cannot read a status line that has one.
            State::Status(0) if byte == b'0' => return None,
            State::Status(done) if is_digit => {
                if done == 0 {
                    self.line_at.0 = self.pos;
                }
                self.status = self.status * 10 + digit;
                if done == 2 { State::AfterStatus } else { State::Status(done + 1) }
            }
            // IIS may send 403.1 and the like.
            State::AfterStatus if matches!(byte, b' ' | b'.') => State::Reason,
            State::AfterStatus if matches!(byte, b'\r' | b'\n') => self.line_end(byte),
            State::Ending if byte == b'\n' => State::Fields,
            _ => return None,
        })
    }

    /// Handles the CR or LF that ends the line.
    fn line_end(&mut self, byte: u8) -> State {
        self.line_at.1 = self.pos;
        if byte == b'\r' { State::Ending } else { State::Fields }
    }

    fn decode_fields(&mut self, input: &[u8]) -> Result<(), ResponseError> {
        loop {
            match self.fields.scan(input, RULES) {
                FieldStep::Field => {
                    let base = self.headers.arena_len();
                    let shift = |range: Range<usize>| {
                        range.start - self.copied + base..range.end - self.copied + base
                    };
                    let known = self.fields.known(input);
                    let (name, value) = (shift(self.fields.name()), shift(self.fields.value()));
                    self.headers.add_span(known, self.fields.is_usual, name, value);
                }
                FieldStep::End => {
                    self.state = State::Whole;
                    return Ok(());
                }
                FieldStep::More => return Ok(()),
                FieldStep::Fault => return Err(ResponseError::InvalidHeader),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status line, version, fields and length of a head that comes in pieces.
    fn decoded(input: &[u8], piece: usize, max: usize) -> Result<String, ResponseError> {
        let mut head = ResponseHead::new();
        let mut end = 0;
        loop {
            end = (end + piece).min(input.len());
            if let Progress::Complete { consumed } = head.decode(&input[..end], max)? {
                let fields = head.headers.iter().map(|(_, name, value)| {
                    format!("{}={};", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
                });
                let line = String::from_utf8_lossy(head.status_line()).into_owned();
                let fields: String = fields.collect();
                return Ok(format!("{} {line}|{fields}|{consumed}", head.version.name()));
            }
            if end == input.len() {
                return Ok("partial".into());
            }
        }
    }

    #[test]
    fn good_heads_decode() {
        let cases: &[(&[u8], &str)] = &[
            (b"HTTP/1.1 200 OK\r\nA: 1\r\nb:2\r\n\r\nbody", "HTTP/1.1 200 OK|A=1;b=2;|30"),
            (b"HTTP/1.0 404 Not Found\n\n", "HTTP/1.0 404 Not Found||24"),
            (b"HTTP/1.1 200\r\n\r\n", "HTTP/1.1 200||16"),
            (b"HTTP/1.1 200 \r\n\r\n", "HTTP/1.1 200 ||17"),
            (b"HTTP/1.1  200\n\r\n", "HTTP/1.1 200||16"),
            (b"HTTP/1.1 403.1 Bad\r\n\r\n", "HTTP/1.1 403.1 Bad||22"),
            (b"HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK||19"),
            (b"HTTP/1.1 999 \xff\r\n\r\n", "HTTP/1.1 999 \u{fffd}||18"),
            (
                b"HTTP/1.1 200 OK\r\na_b: 1\r\nc.d: 2\r\nHTTP/1.1 200 OK\r\n\r\n",
                "HTTP/1.1 200 OK|a_b=1;c.d=2;|52",
            ),
        ];
        for (input, expected) in cases {
            for piece in 1..=input.len() {
                let found = decoded(input, piece, 4096);
                assert_eq!(found.as_deref(), Ok(*expected), "{:?} by {piece}", bstr::BStr::new(input));
            }
        }
    }

    #[test]
    fn bad_heads_are_refused() {
        use ResponseError::*;
        let cases: &[(&[u8], ResponseError)] = &[
            (b"hello", NoStatusLine),
            (b"\r\nHTTP/1.1 200 OK\r\n\r\n", NoStatusLine),
            (b"HTTP/0.9 200 OK\r\n\r\n", NoStatusLine),
            (b"HTTP/1.x", NoStatusLine),
            (b"HTTP/1.1 20x", NoStatusLine),
            (b"HTTP/1.1 2 0", NoStatusLine),
            (b"HTTP/1.1 2000", NoStatusLine),
            (b"HTTP/1.1 000 OK\r\n\r\n", NoStatusLine),
            (b"HTTP/1.0  099\r\n\r\n", NoStatusLine),
            (b"HTTP/1.1\r\n", NoStatusLine),
            (b"HTTP/1.1 200 OK\rx", NoStatusLine),
            (b"HTTP/1000.1", NoStatusLine),
            (b"HTTP/1.1 200 OK\r\n a: 1\r\n", InvalidHeader),
            (b"HTTP/1.1 200 OK\r\na : 1\r\n", InvalidHeader),
            (b"HTTP/1.1 200 OK\r\na: 1\rx", InvalidHeader),
            (b"HTTP/1.1 200 OK\r\na: \0", InvalidHeader),
        ];
        for (input, expected) in cases {
            for piece in 1..=input.len() {
                assert_eq!(
                    decoded(input, piece, 4096),
                    Err(*expected),
                    "{:?} by {piece}",
                    bstr::BStr::new(input)
                );
            }
        }
    }

    #[test]
    fn a_head_may_fill_the_buffer() {
        let input = b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\nbody";
        for piece in 1..=input.len() {
            assert!(decoded(input, piece, 25).is_ok());
            assert_eq!(decoded(input, piece, 24), Err(ResponseError::TooLarge));
            assert_eq!(decoded(input, piece, 5), Err(ResponseError::TooLarge));
        }
    }

    #[test]
    fn a_cleared_head_starts_over() {
        let mut head = ResponseHead::new();
        let interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        assert_eq!(head.decode(interim, 4096), Ok(Progress::Complete { consumed: interim.len() }));
        assert!(head.is_interim() && head.has_line());
        assert_eq!(
            head.decode(interim, 4096),
            Ok(Progress::Complete { consumed: interim.len() }),
            "asked again"
        );
        head.clear();
        assert!(!head.has_begun() && !head.has_line());
        let last = b"HTTP/1.0 200 Fine\r\nB: 2\r\n\r\n";
        assert_eq!(head.decode(last, 4096), Ok(Progress::Complete { consumed: last.len() }));
        assert_eq!((head.status, head.reason(), head.headers.len()), (200, &b"Fine"[..], 1));
        assert!(!head.is_interim());
    }

    #[test]
    fn an_error_is_explained_in_nginx_words() {
        let mut head = ResponseHead::new();
        let input = b"HTTP/1.1 200 OK\r\nA: 1\r\nbad name: 1\r\n";
        let error = head.decode(input, 4096).unwrap_err();
        let mut text = Vec::new();
        head.explain(error, input, &mut text);
        assert_eq!(String::from_utf8_lossy(&text), "upstream sent invalid header: \"bad\\x20...\"");
        assert_eq!(head.headers.len(), 1, "what came before the fault is kept");
        assert_eq!(head.headers.find(b"a"), Some(&b"1"[..]));
    }

    #[test]
    fn cookies_are_masked() {
        let mut head = ResponseHead::new();
        let input = b"HTTP/1.1 200 OK\r\nset-cookie: a=s3cret\0\r\n\r\n";
        let error = head.decode(input, 4096).unwrap_err();
        let mut text = Vec::new();
        head.explain(error, input, &mut text);
        assert_eq!(
            String::from_utf8_lossy(&text),
            "upstream sent invalid header: \"set-cookie: ***\\x00...\""
        );
    }
}
