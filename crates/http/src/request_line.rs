//! The request line: the scanner.
//!
//! Owns where method, target, authority and version are, after `ngx_http_parse_request_line`. Like the scanner of
//! header lines it can stop at any byte and go on, and refuses a line at the first wrong byte without waiting for
//! its end: a TLS client on a plain port is answered at once.

use crate::error::HeadError;
use crate::method::Method;

const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const DOT: u8 = 2;
const PERCENT: u8 = 3;
const QUESTION: u8 = 4;
const HASH: u8 = 5;
const END: u8 = 6;
const REFUSED: u8 = 7;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut class = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'/' => SLASH,
            b'.' => DOT,
            b'%' => PERCENT,
            b'?' => QUESTION,
            b'#' => HASH,
            b' ' | b'\r' | b'\n' => END,
            0..=0x1f | 0x7f => REFUSED,
            _ => PLAIN,
        };
        byte += 1;
    }
    class
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Method,
    BeforeTarget,
    Scheme,
    SchemeSlash,
    SchemeSlashSlash,
    BeforeHost,
    HostStart,
    Host,
    HostLiteral,
    HostEnd,
    PortStart,
    Port,
    AfterSlash,
    Path,
    Query,
    AfterTarget,
    /// This many bytes of `HTTP/` have come.
    Protocol(u8),
    MajorStart,
    Major,
    MinorStart,
    Minor,
    AfterVersion,
    Ending,
}

/// Where the parts of a request line are. Positions count from the line's first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) method_end: u32,
    /// The target without scheme and authority: path and query.
    pub(crate) path: (u32, u32),
    /// Behind the first `?`; 0 without one.
    pub(crate) query: u32,
    pub(crate) scheme: (u32, u32),
    pub(crate) host: (u32, u32),
    pub(crate) protocol: u32,
    pub(crate) line_end: u32,
    /// The path is as it will be after normalising.
    pub(crate) plain: bool,
    /// The target ends at the authority: its path is `/`, which the line does not hold.
    pub(crate) bare_authority: bool,
}

/// The scanner's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The end of the input.
    More,
    /// The line is whole.
    Whole,
}

/// Scans one request line; resumable at every byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineScanner {
    state: State,
    pos: usize,
    /// The first byte of the line, behind empty lines.
    pub(crate) start: usize,
    pub(crate) parts: Parts,
    pub(crate) method: Method,
    pub(crate) major: u16,
    /// 9 with major 0 means HTTP/0.9.
    pub(crate) minor: u16,
    bare_lf: bool,
    /// The line ended with a lone LF.
    pub(crate) lone_lf: bool,
}

impl Default for LineScanner {
    fn default() -> LineScanner {
        LineScanner {
            state: State::Start,
            pos: 0,
            start: 0,
            parts: Parts { plain: true, ..Parts::default() },
            method: Method::Get,
            major: 0,
            minor: 0,
            bare_lf: true,
            lone_lf: false,
        }
    }
}

/// The end of a line that was put together.
const COMPOSED_END: &[u8] = b" HTTP/2.0";

type Scan = Result<Line, HeadError>;

impl LineScanner {
    /// Returns the next byte to look at.
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// Reads up to the end of the line or of the input.
    pub(crate) fn scan(&mut self, input: &[u8], bare_lf: bool) -> Scan {
        self.bare_lf = bare_lf;
        while self.pos < input.len() {
            let line = match self.state {
                State::Start | State::Method => self.method(input)?,
                State::BeforeTarget | State::Scheme | State::SchemeSlash | State::SchemeSlashSlash => {
                    self.scheme(input[self.pos])?
                }
                State::BeforeHost | State::HostStart | State::Host | State::HostLiteral | State::HostEnd => {
                    self.host(input[self.pos])?
                }
                State::PortStart | State::Port => self.port(input[self.pos])?,
                State::AfterSlash | State::Path | State::Query => self.path(input)?,
                State::AfterTarget => self.after_target(input)?,
                State::Protocol(_) | State::MajorStart | State::Major => self.protocol(input[self.pos])?,
                State::MinorStart | State::Minor | State::AfterVersion | State::Ending => {
                    self.version_end(input[self.pos])?
                }
            };
            if line == Line::Whole {
                return Ok(Line::Whole);
            }
        }
        Ok(Line::More)
    }

    /// Takes over a line that was put together: the method, a space, a target, and ` HTTP/2.0`. Method and line are not
    /// looked at, but the target is.
    pub(crate) fn compose(&mut self, method_end: usize, line: &[u8]) -> Result<(), HeadError> {
        let target_end = line.len() - COMPOSED_END.len();
        if line.get(method_end + 1) != Some(&b'/') {
            return Err(HeadError::InvalidRequest);
        }
        self.method = Method::from_bytes(&line[..method_end]);
        self.parts.method_end = method_end as u32;
        self.parts.path.0 = method_end as u32 + 1;
        self.pos = method_end + 2;
        self.state = State::AfterSlash;
        self.path(line)?;
        if self.state != State::AfterTarget || self.parts.path.1 as usize != target_end {
            return Err(HeadError::InvalidRequest);
        }
        self.end_composed(line.len());
        Ok(())
    }

    /// Does the same for a CONNECT, whose target is an authority that was parsed already.
    pub(crate) fn compose_authority(&mut self, method_end: usize, line_len: usize) {
        self.method = Method::Connect;
        self.parts.method_end = method_end as u32;
        self.parts.host = (method_end as u32 + 1, (line_len - COMPOSED_END.len()) as u32);
        self.parts.bare_authority = true;
        self.end_composed(line_len);
    }

    fn end_composed(&mut self, line_len: usize) {
        self.parts.protocol = (line_len - COMPOSED_END.len() + 1) as u32;
        self.parts.line_end = line_len as u32;
        // What belongs to the input is counted elsewhere.
        (self.start, self.pos) = (0, 0);
    }

    /// Returns the present position as the parts count it.
    fn here(&self) -> u32 {
        (self.pos - self.start) as u32
    }

    fn go(&mut self, state: State) -> Scan {
        self.state = state;
        self.pos += 1;
        Ok(Line::More)
    }

    fn method(&mut self, input: &[u8]) -> Scan {
        if self.state == State::Start {
            let blank = input[self.pos..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.pos += blank;
            self.start = self.pos;
            if self.pos == input.len() {
                return Ok(Line::More);
            }
            if has_lone_cr(&input[..self.start]) {
                return Err(HeadError::InvalidRequest);
            }
            self.state = State::Method;
            if input[self.pos..].starts_with(b"GET /") {
                // The usual request line, at once.
                self.parts.method_end = 3;
                self.parts.path.0 = 4;
                self.method = Method::Get;
                self.pos += 5;
                self.state = State::AfterSlash;
                return Ok(Line::More);
            }
        }
        let rest = &input[self.pos..];
        let token = rest.iter().take_while(|byte| matches!(byte, b'A'..=b'Z' | b'_' | b'-')).count();
        self.pos += token;
        match input.get(self.pos) {
            None => Ok(Line::More),
            Some(b' ') if self.pos > self.start => {
                self.parts.method_end = self.here();
                self.method = Method::from_bytes(&input[self.start..self.pos]);
                self.go(if self.method == Method::Connect { State::BeforeHost } else { State::BeforeTarget })
            }
            Some(_) => Err(HeadError::InvalidMethod),
        }
    }

    fn scheme(&mut self, byte: u8) -> Scan {
        match (self.state, byte) {
            (State::BeforeTarget, b' ') => self.go(State::BeforeTarget),
            (State::BeforeTarget, b'/') => self.start_path(State::AfterSlash),
            (State::BeforeTarget, b'a'..=b'z' | b'A'..=b'Z') => {
                self.parts.scheme.0 = self.here();
                self.go(State::Scheme)
            }
            (State::Scheme, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.') => {
                self.go(State::Scheme)
            }
            (State::Scheme, b':') => {
                self.parts.scheme.1 = self.here();
                self.go(State::SchemeSlash)
            }
            (State::SchemeSlash, b'/') => self.go(State::SchemeSlashSlash),
            (State::SchemeSlashSlash, b'/') => self.go(State::HostStart),
            _ => Err(HeadError::InvalidRequest),
        }
    }

    fn host(&mut self, byte: u8) -> Scan {
        if self.state == State::BeforeHost {
            if byte == b' ' {
                return self.go(State::BeforeHost);
            }
            self.state = State::HostStart;
        }
        if self.state == State::HostStart {
            self.parts.host.0 = self.here();
            if byte == b'[' {
                return self.go(State::HostLiteral);
            }
            self.state = State::Host;
        }
        match (self.state, byte) {
            (State::Host, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-') => self.go(State::Host),
            (State::HostLiteral, b']') => self.go(State::HostEnd),
            (
                State::HostLiteral,
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'-' | b'.' | b'_' | b'~',
            ) => self.go(State::HostLiteral),
            (
                State::HostLiteral,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=',
            ) => self.go(State::HostLiteral),
            (State::HostLiteral, _) => Err(HeadError::InvalidRequest),
            (_, b':') => self.go(State::PortStart),
            // The target of CONNECT has a port.
            _ if self.method == Method::Connect => Err(HeadError::InvalidRequest),
            _ => self.end_authority(byte),
        }
    }

    fn port(&mut self, byte: u8) -> Scan {
        if byte.is_ascii_digit() {
            return self.go(State::Port);
        }
        if self.method != Method::Connect {
            return self.end_authority(byte);
        }
        if self.state == State::Port && byte == b' ' {
            self.parts.host.1 = self.here();
            self.parts.bare_authority = true;
            return self.go(State::AfterTarget);
        }
        Err(HeadError::InvalidRequest)
    }

    /// Handles the byte behind the authority of an absolute-form target.
    fn end_authority(&mut self, byte: u8) -> Scan {
        self.parts.host.1 = self.here();
        match byte {
            b'/' => self.start_path(State::AfterSlash),
            b'?' => {
                self.parts.path.0 = self.here();
                self.parts.query = self.here() + 1;
                self.parts.plain = false;
                self.go(State::Query)
            }
            b' ' => {
                self.parts.bare_authority = true;
                self.go(State::AfterTarget)
            }
            _ => Err(HeadError::InvalidRequest),
        }
    }

    fn start_path(&mut self, state: State) -> Scan {
        self.parts.path.0 = self.here();
        self.go(state)
    }

    fn path(&mut self, input: &[u8]) -> Scan {
        while let Some(&byte) = input.get(self.pos) {
            let class = CLASS[byte as usize];
            if class == PLAIN {
                let rest = &input[self.pos + 1..];
                let more = rest.iter().take_while(|byte| CLASS[**byte as usize] == PLAIN).count();
                self.pos += 1 + more;
                if self.state == State::AfterSlash {
                    self.state = State::Path;
                }
                continue;
            }
            match (self.state, class) {
                (State::Query, HASH) => self.parts.plain = false,
                (_, END) => return self.end_target(byte),
                (_, REFUSED) => return Err(HeadError::InvalidRequest),
                (State::Query, _) => {}
                (State::AfterSlash, SLASH | DOT) | (_, HASH | PERCENT) => {
                    // From here on the path must be normalised anyway; but a `?` still begins the query.
                    self.parts.plain = false;
                    self.state = State::Path;
                }
                (_, QUESTION) => {
                    self.parts.query = self.here() + 1;
                    self.state = State::Query;
                }
                (_, SLASH) => self.state = State::AfterSlash,
                _ => self.state = State::Path,
            }
            self.pos += 1;
        }
        Ok(Line::More)
    }

    fn end_target(&mut self, byte: u8) -> Scan {
        self.parts.path.1 = self.here();
        match byte {
            b' ' => self.go(State::AfterTarget),
            _ => self.http_09(byte),
        }
    }

    /// Handles a line end with no version before it.
    fn http_09(&mut self, byte: u8) -> Scan {
        self.minor = 9;
        if byte == b'\r' {
            self.parts.line_end = self.here();
            return self.go(State::Ending);
        }
        self.bare_line_end()
    }

    fn after_target(&mut self, input: &[u8]) -> Scan {
        match input[self.pos] {
            b' ' => self.go(State::AfterTarget),
            byte @ (b'\r' | b'\n') => self.http_09(byte),
            b'H' => {
                self.parts.protocol = self.here();
                // The usual version, at once.
                if input[self.pos..].starts_with(b"HTTP/1.1\r\n") {
                    (self.major, self.minor) = (1, 1);
                    self.parts.line_end = self.here() + 8;
                    self.pos += 10;
                    return Ok(Line::Whole);
                }
                self.go(State::Protocol(1))
            }
            _ => Err(HeadError::InvalidRequest),
        }
    }

    fn protocol(&mut self, byte: u8) -> Scan {
        match self.state {
            State::Protocol(done) => {
                if b"HTTP/".get(done as usize) != Some(&byte) {
                    return Err(HeadError::InvalidRequest);
                }
                self.go(if done == 4 { State::MajorStart } else { State::Protocol(done + 1) })
            }
            State::MajorStart if !matches!(byte, b'1'..=b'9') => Err(HeadError::InvalidRequest),
            State::Major if byte == b'.' => self.go(State::MinorStart),
            _ if !byte.is_ascii_digit() => Err(HeadError::InvalidRequest),
            _ => {
                self.major = self.major * 10 + u16::from(byte - b'0');
                if self.major > 1 {
                    return Err(HeadError::InvalidVersion);
                }
                self.go(State::Major)
            }
        }
    }

    fn version_end(&mut self, byte: u8) -> Scan {
        match (self.state, byte) {
            (State::MinorStart, b'0'..=b'9') => {
                self.minor = u16::from(byte - b'0');
                self.go(State::Minor)
            }
            (State::Minor, b'0'..=b'9') if self.minor <= 99 => {
                self.minor = self.minor * 10 + u16::from(byte - b'0');
                self.go(State::Minor)
            }
            (State::Minor | State::AfterVersion, b' ') => self.go(State::AfterVersion),
            (State::Minor | State::AfterVersion, b'\r') => {
                self.parts.line_end = self.here();
                self.go(State::Ending)
            }
            (State::Minor | State::AfterVersion, b'\n') => self.bare_line_end(),
            (State::Ending, b'\n') => self.whole(),
            _ => Err(HeadError::InvalidRequest),
        }
    }

    fn bare_line_end(&mut self) -> Scan {
        if !self.bare_lf {
            return Err(HeadError::InvalidRequest);
        }
        self.parts.line_end = self.here();
        self.lone_lf = true;
        self.whole()
    }

    /// Handles the LF that ends the line.
    fn whole(&mut self) -> Scan {
        if self.major == 0 && self.method != Method::Get {
            return Err(HeadError::InvalidHttp09Method);
        }
        self.pos += 1;
        Ok(Line::Whole)
    }
}

/// Returns true if any CR in these CRs and LFs is without its LF (RFC 9112 §2.2).
fn has_lone_cr(blank: &[u8]) -> bool {
    blank.iter().enumerate().any(|(at, byte)| *byte == b'\r' && blank.get(at + 1) != Some(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &[u8], (from, to): (u32, u32)) -> String {
        String::from_utf8_lossy(&line[from as usize..to as usize]).into_owned()
    }

    /// Returns method, path, query start, scheme, host, version and flags as text, or the error.
    fn scanned(input: &[u8], piece: usize) -> Result<String, HeadError> {
        let mut scanner = LineScanner::default();
        let mut end = 0;
        loop {
            end = (end + piece).min(input.len());
            if scanner.scan(&input[..end], true)? == Line::Whole {
                break;
            }
            if end == input.len() {
                return Ok("more".into());
            }
        }
        let line = &input[scanner.start..];
        let parts = scanner.parts;
        Ok(format!(
            "{} {} q{} [{}] [{}] {}.{} end{}{}{}",
            text(line, (0, parts.method_end)),
            text(line, parts.path),
            parts.query,
            text(line, parts.scheme),
            text(line, parts.host),
            scanner.major,
            scanner.minor,
            parts.line_end,
            if parts.plain { "" } else { " complex" },
            if parts.bare_authority { " bare" } else { "" },
        ))
    }

    #[test]
    fn good_lines_have_their_parts() {
        let cases: &[(&[u8], &str)] = &[
            (b"GET / HTTP/1.1\r\n", "GET / q0 [] [] 1.1 end14"),
            (b"\r\n\n\r\nGET / HTTP/1.0\n", "GET / q0 [] [] 1.0 end14"),
            (b"GET   /a/b.c?x=/../  HTTP/1.1  \r\n", "GET /a/b.c?x=/../ q13 [] [] 1.1 end31"),
            (b"GET /a/./b HTTP/1.1\r\n", "GET /a/./b q0 [] [] 1.1 end19 complex"),
            (b"GET //b HTTP/1.1\r\n", "GET //b q0 [] [] 1.1 end16 complex"),
            (b"GET /a%20b?c HTTP/1.1\r\n", "GET /a%20b?c q11 [] [] 1.1 end21 complex"),
            (b"GET /?a#b HTTP/1.1\r\n", "GET /?a#b q6 [] [] 1.1 end18 complex"),
            (b"GET /\xc3\xa9\"<> HTTP/1.1\r\n", "GET /\u{e9}\"<> q0 [] [] 1.1 end19"),
            (b"X-Y_Z / HTTP/1.1\r\n", "X-Y_Z / q0 [] [] 1.1 end16"),
            (b"_ / HTTP/1.1\r\n", "_ / q0 [] [] 1.1 end12"),
            (b"GET / HTTP/1.999\r\n", "GET / q0 [] [] 1.999 end16"),
            (b"GET /\r\n", "GET / q0 [] [] 0.9 end5"),
            (b"GET /x \n", "GET /x q0 [] [] 0.9 end7"),
            (b"GET http://h:80/p?q HTTP/1.1\r\n", "GET /p?q q18 [http] [h:80] 1.1 end28"),
            (b"GET http://h?q HTTP/1.1\r\n", "GET ?q q13 [http] [h] 1.1 end23 complex"),
            (b"GET http://h HTTP/1.1\r\n", "GET  q0 [http] [h] 1.1 end21 bare"),
            (b"GET http://h: HTTP/1.1\r\n", "GET  q0 [http] [h:] 1.1 end22 bare"),
            (b"GET h2+x.y://[::1]:8/ HTTP/1.1\r\n", "GET / q0 [h2+x.y] [[::1]:8] 1.1 end30"),
            (b"CONNECT h:443 HTTP/1.1\r\n", "CONNECT  q0 [] [h:443] 1.1 end22 bare"),
        ];
        for (input, expected) in cases {
            let name = bstr::BStr::new(input);
            for piece in 1..=input.len() {
                assert_eq!(scanned(input, piece).as_deref(), Ok(*expected), "{name:?} by {piece}");
            }
            for end in 0..input.len() {
                assert_eq!(scanned(&input[..end], 1).as_deref(), Ok("more"), "{name:?} up to {end}");
            }
        }
    }

    #[test]
    fn bad_lines_are_refused_at_the_wrong_byte() {
        use HeadError::*;
        let cases: &[(&[u8], HeadError)] = &[
            (b"g", InvalidMethod),
            (b" ", InvalidMethod),
            (b"\x16", InvalidMethod),
            (b"GET\t", InvalidMethod),
            (b"GET\r", InvalidMethod),
            (b"GET \r", InvalidRequest),
            (b"OPTIONS *", InvalidRequest),
            (b"GET a?", InvalidRequest),
            (b"GET http:/x", InvalidRequest),
            (b"GET http://user@", InvalidRequest),
            (b"GET http://[::1]x", InvalidRequest),
            (b"GET http://[:/", InvalidRequest),
            (b"GET http://h:8x", InvalidRequest),
            (b"GET /\x00", InvalidRequest),
            (b"GET /a\x7f", InvalidRequest),
            (b"GET /a\t", InvalidRequest),
            (b"GET /a b", InvalidRequest),
            (b"GET /a HTTX", InvalidRequest),
            (b"GET /a HTTP/0", InvalidRequest),
            (b"GET /a HTTP/2", InvalidVersion),
            (b"GET /a HTTP/11", InvalidVersion),
            (b"GET /a HTTP/1x", InvalidRequest),
            (b"GET /a HTTP/1.x", InvalidRequest),
            (b"GET /a HTTP/1.1x", InvalidRequest),
            (b"GET /a HTTP/1.1 x", InvalidRequest),
            (b"GET /a HTTP/1.1\rx", InvalidRequest),
            (b"GET /a HTTP/1.1111", InvalidRequest),
            (b"GET /\rx", InvalidRequest),
            (b"POST /\r\n", InvalidHttp09Method),
            (b"CONNECT h ", InvalidRequest),
            (b"CONNECT h: ", InvalidRequest),
            (b"CONNECT h:1/", InvalidRequest),
        ];
        for (input, expected) in cases {
            let name = bstr::BStr::new(input);
            for piece in 1..=input.len() {
                assert_eq!(scanned(input, piece), Err(*expected), "{name:?} by {piece}");
            }
            let before = &input[..input.len() - 1];
            assert_eq!(scanned(before, 1).as_deref(), Ok("more"), "{name:?} without its last byte");
        }
    }

    #[test]
    fn a_lone_line_feed_is_refused_on_demand() {
        for input in [&b"GET / HTTP/1.1\n"[..], b"GET / HTTP/1.1 \n", b"GET /\n"] {
            assert_eq!(LineScanner::default().scan(input, false), Err(HeadError::InvalidRequest));
        }
        assert_eq!(LineScanner::default().scan(b"GET / HTTP/1.1\r\n", false), Ok(Line::Whole));
    }
}
