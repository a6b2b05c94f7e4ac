//! The head of a request.
//!
//! Owns the request line and the fields of one request, decoded from bytes as they come. It decides what
//! `ngx_http_process_request_headers` decides: which lines are dropped, which fields may come once, what the host
//! is. It must never look at a body, nor say how long it is: that is `framing`'s.

use crate::budget::{Budget, Exceeded, HeadLimits};
use crate::error::HeadError;
use crate::field::{FieldRules, FieldScanner, FieldStep};
use crate::headers::Headers;
use crate::known::Known;
use crate::method::Method;
use crate::request_line::{Line, LineScanner};
use crate::uri::{self, InvalidUri};
use crate::{Progress, Version, authority, masking};
use std::ops::Range;

/// nginx quotes no more than this of a header line: NGX_MAX_ERROR_STR less 300.
const MAX_QUOTED: usize = 1748;

mod http2;

pub use http2::{H2Head, H2HeadFault};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Line,
    Fields,
    Whole,
}

/// The head of a request, used again and again on one connection.
///
/// ```
/// use pointsman_http::{HeadLimits, Known, Method, Progress, RequestHead};
///
/// let mut head = RequestHead::new();
/// let limits = HeadLimits::default();
/// // The bytes may come in any pieces; the decoder continues where it stopped.
/// let input = b"GET /a?b HTTP/1.1\r\nHost: shop.example.com\r\nAccept: */*\r\n\r\nrest";
/// assert_eq!(head.decode(&input[..20], &limits), Ok(Progress::Partial));
/// let Ok(Progress::Complete { consumed }) = head.decode(input, &limits) else { panic!() };
/// assert_eq!(&input[consumed..], b"rest");
/// assert_eq!((head.method, head.target(), head.host()), (Method::Get, &b"/a?b"[..], &b"shop.example.com"[..]));
/// assert_eq!(head.headers.get(Known::Accept), Some(&b"*/*"[..]));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method; its bytes are in [`RequestHead::method_bytes`].
    pub method: Method,
    /// The version.
    pub version: Version,
    /// The fields, in order; names as spelt.
    pub headers: Headers,
    /// The request line without its line end.
    line: Vec<u8>,
    /// Where a target that is not plain is decoded when it is checked.
    scratch: Vec<u8>,
    /// The host in the form for comparing.
    host: Vec<u8>,
    port: u16,
    stage: Stage,
    line_scanner: LineScanner,
    fields: FieldScanner,
    budget: Budget,
    /// Up to where the input's lines have been copied.
    copied: usize,
    /// Where the dropped lines are in the input.
    dropped: Vec<Range<usize>>,
    /// How much of the input was forgotten; over HTTP/2, the length of the header block.
    forgotten: usize,
    /// Over HTTP/2: the stream goes on behind the head.
    has_open_body: bool,
}

impl RequestHead {
    /// Returns an empty head, before the first byte.
    pub fn new() -> RequestHead {
        RequestHead::default()
    }

    /// Starts over before the first byte; keeps memory.
    pub fn clear(&mut self) {
        self.method = Method::Get;
        self.version = Version::Http11;
        self.headers.clear();
        self.line.clear();
        self.host.clear();
        self.port = 0;
        self.stage = Stage::Line;
        self.line_scanner = LineScanner::default();
        self.fields = FieldScanner::default();
        self.budget = Budget::default();
        self.copied = 0;
        self.dropped.clear();
        self.forgotten = 0;
        self.has_open_body = false;
    }

    /// Decodes as much as there is. After [`Progress::Partial`], call again with the same bytes and more behind
    /// them: no byte is looked at twice. After an error the head holds what was read before the fault.
    ///
    /// Empty lines before the request line are skipped (RFC 9112 §2.2) and belong to what is consumed. A request
    /// in HTTP/0.9 is whole with its first line.
    pub fn decode(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Progress, HeadError> {
        if self.stage == Stage::Line && !self.decode_line(input, limits)? {
            return Ok(Progress::Partial);
        }
        if self.stage == Stage::Fields {
            let result = self.decode_fields(input, limits);
            // On every return the list has the bytes of the fields that were announced to it.
            let done = self.fields.line_start();
            self.headers.append_block(input.get(self.copied..done).unwrap_or_default());
            self.copied = done;
            if !result? {
                return Ok(Progress::Partial);
            }
            self.finish()?;
        }
        Ok(Progress::Complete { consumed: self.consumed() })
    }

    /// Forgets the lines of which it has a copy, after [`Progress::Partial`]. Returns how many bytes that is: the next call
    /// of [`RequestHead::decode`] gets the input without them, and so do [`RequestHead::explain`] and
    /// [`RequestHead::dropped_lines`].
    pub fn forget_lines(&mut self) -> usize {
        if self.stage != Stage::Fields {
            return 0;
        }
        let count = std::mem::take(&mut self.copied);
        self.fields.forget(count);
        self.dropped.clear();
        self.forgotten += count;
        count
    }

    /// Returns true if any byte of a request has come, empty lines apart.
    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Line || self.line_scanner.pos() > self.line_scanner.start
    }

    /// Returns true if the request line is complete.
    pub fn has_line(&self) -> bool {
        self.stage != Stage::Line
    }

    /// Returns the length of the head from the first byte of the request line on: what nginx counts in
    /// `$request_length`.
    pub fn len(&self) -> usize {
        self.forgotten + self.consumed() - self.line_scanner.start
    }

    /// Returns true if there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the request line as it came, without its line end: `$request`. Of a refused line, what there was of it.
    pub fn request_line(&self) -> &[u8] {
        &self.line
    }

    /// Returns the method as it came: `$request_method`.
    pub fn method_bytes(&self) -> &[u8] {
        self.part((0, self.line_scanner.parts.method_end))
    }

    /// Returns the version as it came, empty for HTTP/0.9: `$server_protocol`.
    pub fn protocol(&self) -> &[u8] {
        let parts = &self.line_scanner.parts;
        if parts.protocol == 0 { b"" } else { self.part((parts.protocol, parts.line_end)) }
    }

    /// Returns the target as it came, from its path on: `$request_uri`. Of an absolute-form target without a path, and
    /// of the authority-form of CONNECT, that is `/`.
    pub fn target(&self) -> &[u8] {
        let parts = &self.line_scanner.parts;
        if parts.bare_authority && self.has_line() { b"/" } else { self.part(parts.path) }
    }

    /// Returns true if the path of the target is already in its normal form. Then nothing in it is escaped.
    pub fn is_plain(&self) -> bool {
        self.line_scanner.parts.plain
    }

    /// Returns true if [`RequestHead::target`] can be sent on unchanged: not if it begins with the query, as in
    /// `http://host?query`.
    pub fn is_target_whole(&self) -> bool {
        self.target().first() == Some(&b'/')
    }

    /// Returns the scheme of an absolute-form target, as it came.
    pub fn scheme(&self) -> Option<&[u8]> {
        let (start, end) = self.line_scanner.parts.scheme;
        (end > start).then(|| self.part((start, end)))
    }

    /// Returns the authority of an absolute-form or authority-form target, as it came.
    pub fn authority(&self) -> Option<&[u8]> {
        let (start, end) = self.line_scanner.parts.host;
        (end > start).then(|| self.part((start, end)))
    }

    /// Returns the host asked for: that of the target, else that of `Host`. Lower case, no port, no final dot; empty if
    /// there is none. What server names are compared with, and `$host`.
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// Returns the port beside the host, 0 if none was given.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns true if the request came over HTTP/2 and has a body, however long it is.
    pub fn has_open_body(&self) -> bool {
        self.has_open_body
    }

    /// Writes the decoded and normalised path into `path` (cleared first) and answers the query, raw. A path that is
    /// bad under this `merge_slashes`, and was not under that of the limits, is answered with 400, "client sent
    /// invalid request".
    pub fn split_target(&self, merge_slashes: bool, path: &mut Vec<u8>) -> Result<&[u8], InvalidUri> {
        let target = self.target();
        let parts = &self.line_scanner.parts;
        path.clear();
        if !self.has_line() {
            return Ok(b"");
        }
        if parts.plain {
            let query = if parts.query == 0 { target.len() } else { (parts.query - parts.path.0) as usize };
            let path_len = if parts.query == 0 { query } else { query - 1 };
            path.extend_from_slice(&target[..path_len]);
            return Ok(&target[query..]);
        }
        uri::normalise(target, merge_slashes, path).map(|query| &target[query])
    }

    /// Returns the lines that were dropped for their names, without their line ends; nginx logs each at level info as
    /// `client sent invalid header line: "…"`; a log line passes them through [`masking`]. The input is the one of the
    /// last call.
    pub fn dropped_lines<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.dropped.iter().filter_map(|line| input.get(line.clone()))
    }

    /// Appends nginx's whole log message for an error: its words and the bytes it quotes, secrets masked. The input is
    /// the one of the call that failed.
    pub fn explain(&self, error: HeadError, input: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(error.words().as_bytes());
        let line_start = self.fields.line_start();
        match error {
            HeadError::HeaderLineTooLong => {
                let rest = input.get(line_start..).unwrap_or_default();
                out.extend_from_slice(b": \"");
                masking::append_lines(&rest[..rest.len().min(MAX_QUOTED)], out);
                out.extend_from_slice(b"...\"");
            }
            HeadError::InvalidHeaderLine => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let fault = self.fields.fault;
                let byte = input.get(fault).copied().unwrap_or_default();
                out.extend_from_slice(b": \"");
                masking::append_lines(input.get(line_start..fault).unwrap_or_default(), out);
                out.extend_from_slice(b"\\x");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                out.extend_from_slice(b"...\"");
            }
            HeadError::DuplicateField | HeadError::DuplicateHost => {
                let name = input.get(self.fields.name()).unwrap_or_default();
                out.extend_from_slice(b": \"");
                masking::append_field(name, input.get(self.fields.value()).unwrap_or_default(), out);
                let previous = self.headers.iter().find(|(_, earlier, _)| earlier.eq_ignore_ascii_case(name));
                if let Some((_, earlier, value)) = previous {
                    out.extend_from_slice(b"\", previous value: \"");
                    masking::append_field(earlier, value, out);
                }
                out.push(b'"');
            }
            _ => {}
        }
    }

    fn part(&self, (start, end): (u32, u32)) -> &[u8] {
        // No part of an incomplete or refused line is reliable.
        let line: &[u8] = if self.has_line() { &self.line } else { b"" };
        line.get(start as usize..end as usize).unwrap_or_default()
    }

    fn consumed(&self) -> usize {
        match self.stage {
            Stage::Line => self.line_scanner.pos(),
            Stage::Fields | Stage::Whole => self.fields.pos(),
        }
    }

    /// Returns the request line; is it whole?
    fn decode_line(&mut self, input: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
        let result = self.line_scanner.scan(input, limits.allow_bare_lf);
        let start = self.line_scanner.start;
        let end = self.line_scanner.pos();
        if start > limits.max_head_bytes() {
            // nginx reads empty lines without end; here they would fill memory.
            return Err(HeadError::InvalidRequest);
        }
        // Before a fault is reported: nginx does not see one that lies beyond its buffers.
        let whole = result == Ok(Line::Whole);
        self.budget.book_blank(start, limits);
        let booked = self.budget.book(end - start, whole, limits).map_err(|_| HeadError::UriTooLong);
        match booked.and(result) {
            Ok(Line::More) => Ok(false),
            Ok(Line::Whole) => self.take_line(&input[start..end], end, limits).map(|()| true),
            Err(error) => {
                // For the logs: the line as far as it has come.
                let line = &input[start..];
                let line = &line[..line.len().min(limits.large_client_header_buffers.1)];
                let len = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
                self.line.extend_from_slice(&line[..len]);
                Err(error)
            }
        }
    }

    /// Takes over a whole line; the fields begin at the given position of the input.
    fn take_line(&mut self, line: &[u8], fields_at: usize, limits: &HeadLimits) -> Result<(), HeadError> {
        self.fields = FieldScanner::starting_at(fields_at);
        self.copied = fields_at;
        let scanner = &self.line_scanner;
        self.line.extend_from_slice(&line[..scanner.parts.line_end as usize]);
        self.method = scanner.method;
        self.version = match (scanner.major, scanner.minor) {
            (0, _) => Version::Http09,
            (_, 0) => Version::Http10,
            _ => Version::Http11,
        };
        self.stage = if self.version == Version::Http09 { Stage::Whole } else { Stage::Fields };
        if !scanner.parts.plain {
            let mut scratch = std::mem::take(&mut self.scratch);
            let checked = uri::normalise(self.target(), limits.merge_slashes, &mut scratch);
            self.scratch = scratch;
            checked.map_err(|_| HeadError::InvalidRequest)?;
        }
        let (start, end) = self.line_scanner.parts.host;
        if end > 0 {
            // Also when it is empty, as in "http:///path".
            let authority = &line[start as usize..end as usize];
            self.port =
                authority::parse(authority, &mut self.host).map_err(|_| HeadError::InvalidTargetHost)?;
        }
        Ok(())
    }

    /// Returns the fields; are they whole?
    fn decode_fields(&mut self, input: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
        let rules = FieldRules {
            underscores: limits.underscores_in_headers,
            // In a head that began with CR LF, a server in front may have seen a lone LF inside a value.
            bare_lf: self.line_scanner.lone_lf,
            repeated_cr: false,
            skip_status_lines: false,
        };
        loop {
            match self.fields.scan(input, rules) {
                FieldStep::Field => {
                    self.book_line(self.fields.pos(), true, limits)?;
                    self.take_field(input, limits)?;
                }
                FieldStep::End => {
                    self.book_line(self.fields.pos(), true, limits)?;
                    return Ok(true);
                }
                FieldStep::More => {
                    if !self.fields.is_at_line_start() {
                        self.book_line(self.fields.pos(), false, limits)?;
                    }
                    return Ok(false);
                }
                FieldStep::Fault => {
                    self.book_line(self.fields.fault.max(self.fields.pos()), false, limits)?;
                    return Err(HeadError::InvalidHeaderLine);
                }
            }
        }
    }

    #[inline]
    fn book_line(&mut self, end: usize, whole: bool, limits: &HeadLimits) -> Result<(), HeadError> {
        let len = end - self.fields.line_start();
        let is_first = self.forgotten + self.fields.line_start() == self.line_scanner.pos();
        self.budget.book(len, whole, limits).map_err(|exceeded| match exceeded {
            Exceeded::Buffers if is_first && self.budget.is_full() => HeadError::HeadTooLarge,
            Exceeded::Line | Exceeded::Buffers => HeadError::HeaderLineTooLong,
        })
    }

    #[inline]
    fn take_field(&mut self, input: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
        let (name, value) = (self.fields.name(), self.fields.value());
        if self.fields.odd && limits.ignore_invalid_headers {
            self.dropped.push(name.start..value.end);
            return Ok(());
        }
        if self.headers.len() >= limits.max_fields {
            return Err(HeadError::TooManyFields);
        }
        let known = self.fields.known(input);
        if let Some(known) = known {
            if known.is_unique_in_request() && self.headers.has(known) {
                let is_host = known == Known::Host;
                return Err(if is_host { HeadError::DuplicateHost } else { HeadError::DuplicateField });
            }
            if known == Known::Host {
                self.take_host(&input[value.clone()])?;
            }
        }
        // The block that holds this line will be appended where the arena ends now.
        let shift = |range: Range<usize>| {
            let base = self.headers.arena_len();
            range.start - self.copied + base..range.end - self.copied + base
        };
        let (name, value) = (shift(name), shift(value));
        self.headers.add_span(known, self.fields.is_usual, name, value);
        Ok(())
    }

    fn take_host(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.authority().is_some() {
            // The target's authority counts (RFC 9112 §3.2.2), but the field must be good all the same.
            let mut unused = Vec::new();
            authority::parse(value, &mut unused).map_err(|_| HeadError::InvalidHost)?;
            return Ok(());
        }
        self.port = authority::parse(value, &mut self.host).map_err(|_| HeadError::InvalidHost)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), HeadError> {
        self.stage = Stage::Whole;
        if self.version == Version::Http11 && !self.headers.has(Known::Host) {
            return Err(HeadError::MissingHost);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
