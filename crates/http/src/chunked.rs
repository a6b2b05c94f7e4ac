//! The chunked transfer coding.
//!
//! Owns chunk sizes, extensions and the trailer section (RFC 9112 §7.1), after `ngx_http_parse_chunked` as it is
//! since nginx 1.29: every line ends with CRLF, a lone LF is refused. Where nginx is laxer (numbers behind the size,
//! control bytes in extensions, trailers that are no fields, any number of digits) this is not, because some server
//! sees another end there. It must never copy body bytes: it returns which part of the input they are.

use crate::field::{FieldRules, FieldScanner, FieldStep};
use crate::headers::Headers;
use crate::known::Known;
use std::ops::Range;

/// A size of 64 bits has 16; more are zeros, and there is no end to them.
const MAX_DIGITS: u8 = 32;

/// Limits on what surrounds the data of a chunked body; nginx has none, so that a peer can keep it busy without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Bytes of chunk extensions in one message, on top of as many as there are data bytes.
    pub max_extension_bytes: u64,
    /// Bytes of the trailer section.
    pub max_trailer_bytes: usize,
    /// Whether trailer fields are kept; else they are skipped unread, as nginx does by default.
    pub keep_trailers: bool,
}

impl Default for ChunkLimits {
    fn default() -> ChunkLimits {
        ChunkLimits { max_extension_bytes: 16 * 1024, max_trailer_bytes: 8 * 1024, keep_trailers: false }
    }
}

/// A chunked body that is refused. nginx logs "client sent invalid chunked body" and answers 400, or "upstream sent
/// invalid chunked response" and breaks the response off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// A byte that does not belong there.
    Malformed,
    /// A chunk of 2^63 bytes or more.
    TooLarge,
    /// More extensions than data.
    TooManyExtensions,
    /// A trailer section beyond the limit.
    TrailersTooLarge,
}

/// One step of decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkStep {
    /// Bytes of the input that are done with. What lies behind them was not looked at, unless this is all.
    pub consumed: usize,
    /// The part of the input that is body; may be empty.
    pub data: Range<usize>,
    /// The body and its trailers are whole; what follows is the next message.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Size,
    Padding,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLf,
    Trailer,
    TrailerEnd,
    Done,
}

/// Decodes one chunked body, step by step; resumable at every byte.
///
/// ```
/// use pointsman_http::{ChunkLimits, ChunkedDecoder};
///
/// let input = b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
/// let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
/// let (mut at, mut body) = (0, Vec::new());
/// while !decoder.is_done() {
///     let step = decoder.decode(&input[at..])?;
///     body.extend_from_slice(&input[at..][step.data]);
///     at += step.consumed;
/// }
/// assert_eq!((&body[..], &input[at..]), (&b"hello"[..], &b"GET / HTTP/1.1\r\n"[..]));
/// # Ok::<(), pointsman_http::ChunkError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    limits: ChunkLimits,
    /// The bytes left of the chunk; while its size is read, the size so far.
    left: u64,
    /// How many digits of the size have come.
    digits: u8,
    extension_bytes: u64,
    data_bytes: u64,
    trailer_bytes: usize,
    /// The trailer line under way: how many bytes it has, and whether the last was a CR.
    line_len: usize,
    after_cr: bool,
    /// The trailer section as it came, if it is kept.
    section: Vec<u8>,
    trailers: Headers,
}

impl ChunkedDecoder {
    /// Returns a decoder at the beginning of a body.
    pub fn new(limits: ChunkLimits) -> ChunkedDecoder {
        ChunkedDecoder { limits, ..ChunkedDecoder::default() }
    }

    /// Starts over at the beginning of a body; keeps memory.
    pub fn reset(&mut self, limits: ChunkLimits) {
        let (mut section, mut trailers) =
            (std::mem::take(&mut self.section), std::mem::take(&mut self.trailers));
        section.clear();
        trailers.clear();
        *self = ChunkedDecoder { limits, section, trailers, ..ChunkedDecoder::default() };
    }

    /// Returns the trailer fields, whole when the body is done. Those that would change framing, routing or the meaning
    /// of the body are left out (RFC 9110 §6.5.1).
    pub fn trailers(&self) -> &Headers {
        &self.trailers
    }

    /// Returns how many data bytes the chunk under way still has, 0 between chunks: so many may bypass the decoder if
    /// they are reported with [`ChunkedDecoder::skip`].
    pub fn chunk_left(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Reports data bytes that were moved past the decoder. At most [`ChunkedDecoder::chunk_left`].
    pub fn skip(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.chunk_left());
        self.take_data(bytes);
    }

    /// Returns true if the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Returns the number of data bytes so far.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Reads up to the end of the next run of data, of the body or of the input. Call again with the rest of the
    /// input while `consumed` is short of it and the body is not done.
    pub fn decode(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let run = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                self.take_data(run as u64);
                return Ok(ChunkStep { consumed: at + run, data: at..at + run, done: false });
            }
            at += match self.state {
                State::Trailer => self.trailer_bytes(&input[at..])?,
                State::Extension => self.extension(&input[at..])?,
                _ => self.byte(input[at])?,
            };
        }
        Ok(ChunkStep { consumed: at, data: at..at, done: self.state == State::Done })
    }

    fn take_data(&mut self, bytes: u64) {
        self.left -= bytes;
        self.data_bytes += bytes;
        if self.left == 0 {
            self.state = State::DataEnd;
        }
    }

    fn byte(&mut self, byte: u8) -> Result<usize, ChunkError> {
        self.state = match (self.state, byte) {
            (State::Start | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.digits = if self.state == State::Start { 1 } else { self.digits + 1 };
                if self.left > i64::MAX as u64 / 16 || self.digits > MAX_DIGITS {
                    return Err(ChunkError::TooLarge);
                }
                let digit = (byte as char).to_digit(16).ok_or(ChunkError::Malformed)?;
                self.left = self.left * 16 + u64::from(digit);
                State::Size
            }
            (State::Size, b'\r') => State::SizeEnd,
            (State::Size | State::Padding, b';') => State::Extension,
            // Old servers pad the size with spaces.
            (State::Size | State::Padding, b' ' | b'\t') => {
                self.count_extension(1)?;
                State::Padding
            }
            (State::Padding, b'\r') => State::SizeEnd,
            (State::SizeEnd, b'\n') if self.left == 0 => State::Trailer,
            (State::SizeEnd, b'\n') => State::Data,
            (State::DataEnd, b'\r') => State::DataEndLf,
            (State::DataEndLf, b'\n') => State::Start,
            (State::TrailerEnd, b'\n') => {
                self.finish()?;
                State::Done
            }
            _ => return Err(ChunkError::Malformed),
        };
        Ok(1)
    }

    /// Skips an extension up to and including its CR.
    fn extension(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        let end = memchr::memchr2(b'\r', b'\n', input);
        let len = end.unwrap_or(input.len());
        let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
        let odd = input[..len].iter().position(is_control);
        // A length limit is checked first, so that the error does not depend on the pieces.
        self.count_extension(odd.unwrap_or(len) as u64)?;
        match end {
            _ if odd.is_some() => Err(ChunkError::Malformed),
            None => Ok(len),
            Some(_) if input[len] == b'\n' => Err(ChunkError::Malformed),
            Some(_) => {
                self.state = State::SizeEnd;
                Ok(len + 1)
            }
        }
    }

    fn count_extension(&mut self, bytes: u64) -> Result<(), ChunkError> {
        self.extension_bytes += bytes;
        if self.extension_bytes > self.limits.max_extension_bytes + self.data_bytes {
            return Err(ChunkError::TooManyExtensions);
        }
        Ok(())
    }

    /// Reads trailer lines, up to the CR of the empty line that ends them.
    fn trailer_bytes(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        for (at, byte) in input.iter().enumerate() {
            match (byte, self.after_cr) {
                (b'\r', false) if self.line_len == 0 => {
                    self.keep(&input[..at])?;
                    self.state = State::TrailerEnd;
                    return Ok(at + 1);
                }
                (b'\r', false) => self.after_cr = true,
                (b'\n', true) => {
                    self.after_cr = false;
                    self.line_len = 0;
                    continue;
                }
                (b'\n', false) | (_, true) => {
                    // A length limit is checked first, so that the error does not depend on the pieces.
                    self.keep(&input[..at])?;
                    return Err(ChunkError::Malformed);
                }
                _ => {}
            }
            self.line_len += 1;
        }
        self.keep(input)?;
        Ok(input.len())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), ChunkError> {
        self.trailer_bytes += bytes.len();
        if self.trailer_bytes > self.limits.max_trailer_bytes {
            return Err(ChunkError::TrailersTooLarge);
        }
        if self.limits.keep_trailers {
            self.section.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Takes the fields out of the kept trailer section. A line that is no field is refused: a request line here, for
    /// one, is the next request to a reader that does not know trailers.
    fn finish(&mut self) -> Result<(), ChunkError> {
        let rules =
            FieldRules { underscores: true, bare_lf: false, repeated_cr: false, skip_status_lines: false };
        let mut scanner = FieldScanner::default();
        loop {
            match scanner.scan(&self.section, rules) {
                FieldStep::Field => {}
                FieldStep::More => return Ok(()),
                FieldStep::End | FieldStep::Fault => return Err(ChunkError::Malformed),
            }
            if self.section.get(scanner.name().end) != Some(&b':') {
                return Err(ChunkError::Malformed);
            }
            let name = &self.section[scanner.name()];
            let forbidden = Known::from_bytes(name).is_some_and(is_forbidden_in_trailers);
            if !forbidden && !scanner.odd {
                self.trailers.push(name, &self.section[scanner.value()]);
            }
        }
    }
}

/// Fields that must be known before the body, or that speak about this connection.
fn is_forbidden_in_trailers(known: Known) -> bool {
    known.is_hop_by_hop()
        || matches!(
            known,
            Known::ContentLength
                | Known::Host
                | Known::CacheControl
                | Known::Expect
                | Known::MaxForwards
                | Known::Pragma
                | Known::Range
                | Known::Authorization
                | Known::ProxyAuthorization
                | Known::Cookie
                | Known::SetCookie
                | Known::ContentEncoding
                | Known::ContentType
                | Known::ContentRange
                | Known::XForwardedFor
                | Known::XRealIp
        )
}

/// Returns the line before a chunk's data, `1f` CRLF, written into the given array.
pub fn chunk_size_line(len: u64, line: &mut [u8; 18]) -> &[u8] {
    line[16..].copy_from_slice(b"\r\n");
    let mut at = 16;
    let mut left = len;
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[(left & 15) as usize];
        left >>= 4;
        if left == 0 {
            return &line[at..];
        }
    }
}

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: ChunkLimits =
        ChunkLimits { max_extension_bytes: 64, max_trailer_bytes: 64, keep_trailers: true };

    /// Returns the data, the trailers and how many bytes were consumed, for an input in pieces; nothing if it is not
    /// done.
    fn decoded(
        input: &[u8],
        pieces: impl Iterator<Item = usize>,
        limits: ChunkLimits,
    ) -> Result<Option<(String, String, usize)>, ChunkError> {
        let mut decoder = ChunkedDecoder::new(limits);
        let (mut data, mut consumed, mut end) = (Vec::new(), 0, 0);
        for piece in pieces {
            end = (end + piece).min(input.len());
            while consumed < end && !decoder.is_done() {
                let step = decoder.decode(&input[consumed..end])?;
                data.extend_from_slice(&input[consumed..end][step.data]);
                consumed += step.consumed;
                assert_eq!(step.done, decoder.is_done());
            }
            if end == input.len() {
                break;
            }
        }
        assert_eq!(decoder.data_bytes(), data.len() as u64);
        let trailers = decoder.trailers().iter().map(|(_, name, value)| {
            format!("{}={};", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        });
        let data = String::from_utf8_lossy(&data).into_owned();
        Ok(decoder.is_done().then(|| (data, trailers.collect(), consumed)))
    }

    fn at_every_size(
        input: &[u8],
        limits: ChunkLimits,
    ) -> Result<Option<(String, String, usize)>, ChunkError> {
        let whole = decoded(input, std::iter::repeat(input.len().max(1)), limits);
        for piece in 1..=input.len() {
            let pieces = decoded(input, std::iter::repeat(piece), limits);
            assert_eq!(pieces, whole, "{:?} by {piece}", bstr::BStr::new(input));
        }
        whole
    }

    #[test]
    fn good_bodies_decode() {
        let cases: &[(&[u8], &str, &str, usize)] = &[
            (b"0\r\n\r\n", "", "", 5),
            (b"5\r\nhello\r\n0\r\n\r\nGET", "hello", "", 15),
            (b"5;a=b\r\nhello\r\n00001 ; x=\"y\"\r\n!\r\n000\r\n\r\n", "hello!", "", 39),
            (b"5  \t\r\nhello\r\n0 \r\n\r\n", "hello", "", 19),
            (b"a\r\n0123456789\r\nA\t\r\nabcdefghij\r\n0\r\n\r\n", "0123456789abcdefghij", "", 36),
            (b"1\r\nx\r\n0;last\r\n\r\n", "x", "", 16),
            (b"0\r\nX-Sum: 1\r\nHost: evil\r\nx-b:2 \r\n\r\n", "", "X-Sum=1;x-b=2;", 35),
            (b"0\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n", "", "", 46),
            (b"0\r\na.b: 1\r\nc: 2\r\n\r\n", "", "c=2;", 19),
        ];
        for (input, data, trailers, consumed) in cases {
            let expected = Ok(Some((data.to_string(), trailers.to_string(), *consumed)));
            assert_eq!(at_every_size(input, KEEP), expected, "{:?}", bstr::BStr::new(input));
        }
        let skipping = ChunkLimits { keep_trailers: false, ..KEEP };
        assert_eq!(
            at_every_size(b"0\r\n\x01junk\r\n\r\n", skipping),
            Ok(Some((String::new(), String::new(), 12)))
        );
    }

    #[test]
    fn bad_bodies_are_refused() {
        let cases: &[&[u8]] = &[
            b"\r\n",
            b"x",
            b"-1",
            b"0x5",
            b";",
            b" 5\r\n",
            b"5\n",
            b"5\rx",
            b"5\r\nhello\n",
            b"5\r\nhellox",
            b"5\r\nhello\rx",
            b"5;a\n",
            b"5;a\rx",
            b"5;a\0",
            b"5;\x7f",
            b"5 x",
            b"5\t5\r\n",
            b"0\n",
            b"0\r\na: 1\r\nbad name: 2\r\nc: 3\r\n\r\n",
            b"0\r\nGET / HTTP/1.1\r\n\r\n",
            b"0\r\nnothing\r\n\r\n",
            b"0\r\na: 1\r\n b\r\n\r\n",
            b"0\r\n: 1\r\n\r\n",
            b"0\r\na: \0\r\n\r\n",
            b"0\r\n\n",
            b"0\r\n\rx",
            b"0\r\na: 1\n",
            b"0\r\na: 1\rx",
            b"1\r\nx\r\n\r\n",
            b"1\r\nx\r\n-0",
        ];
        for input in cases {
            assert_eq!(
                at_every_size(input, KEEP),
                Err(ChunkError::Malformed),
                "{:?}",
                bstr::BStr::new(input)
            );
        }
    }

    #[test]
    fn sizes_and_trailers_are_limited() {
        assert_eq!(at_every_size(b"7fffffffffffffff\r\n", KEEP), Ok(None));
        assert_eq!(at_every_size(b"8000000000000000", KEEP), Err(ChunkError::TooLarge));
        assert_eq!(at_every_size(b"ffffffffffffffffff", KEEP), Err(ChunkError::TooLarge));
        assert_eq!(at_every_size(&[b'0'; 33], KEEP), Err(ChunkError::TooLarge));
        let padded = [b"0".to_vec(), vec![b' '; 65]].concat();
        assert_eq!(at_every_size(&padded, KEEP), Err(ChunkError::TooManyExtensions));
        let long = [b"0;".to_vec(), vec![b'x'; 64], b"\r\n\r\n".to_vec()].concat();
        assert!(matches!(at_every_size(&long, KEEP), Ok(Some(_))));
        let longer = [b"0;".to_vec(), vec![b'x'; 65]].concat();
        assert_eq!(at_every_size(&longer, KEEP), Err(ChunkError::TooManyExtensions));
        let earned = [b"1;xx\r\ny\r\n".repeat(40), b"0\r\n\r\n".to_vec()].concat();
        assert!(matches!(at_every_size(&earned, KEEP), Ok(Some(_))), "data pays for extensions");
        let many = b"1;xxxx\r\ny\r\n".repeat(40);
        assert_eq!(at_every_size(&many, KEEP), Err(ChunkError::TooManyExtensions));
        let trailer = [b"0\r\na: ".to_vec(), vec![b'x'; 59], b"\r\n\r\n".to_vec()].concat();
        assert!(matches!(at_every_size(&trailer, KEEP), Ok(Some(_))));
        let trailer = [b"0\r\na: ".to_vec(), vec![b'x'; 60], b"\r\n\r\n".to_vec()].concat();
        assert_eq!(at_every_size(&trailer, KEEP), Err(ChunkError::TrailersTooLarge));
    }

    #[test]
    fn data_may_bypass_the_decoder() {
        let mut decoder = ChunkedDecoder::new(KEEP);
        assert_eq!(decoder.decode(b"ff\r\n").map(|step| step.consumed), Ok(4));
        assert_eq!(decoder.chunk_left(), 255);
        decoder.skip(250);
        let step = decoder.decode(b"abcde\r\n").unwrap();
        assert_eq!((step.consumed, step.data), (5, 0..5));
        assert_eq!(decoder.chunk_left(), 0);
        decoder.reset(KEEP);
        assert_eq!(decoder.decode(LAST_CHUNK).map(|step| step.done), Ok(true));
    }

    #[test]
    fn size_lines_are_hexadecimal() {
        let mut line = [0; 18];
        for (len, text) in [(0, "0\r\n"), (15, "f\r\n"), (16, "10\r\n"), (u64::MAX, "ffffffffffffffff\r\n")] {
            assert_eq!(chunk_size_line(len, &mut line), text.as_bytes());
        }
        for shift in 0..63 {
            let mut body = chunk_size_line(1 << shift, &mut line).to_vec();
            body.push(b'x');
            let mut decoder = ChunkedDecoder::new(KEEP);
            assert_eq!(decoder.decode(&body).map(|step| step.data.len()), Ok(1));
            assert_eq!(decoder.chunk_left(), (1 << shift) - 1);
        }
    }
}
