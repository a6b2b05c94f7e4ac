//! The head of a request that comes over HTTP/2: fields as HPACK hands them on, pseudo-headers first.
//!
//! Owns RFC 9113 §8.2 and §8.3 for requests. It makes the same head as HTTP/1 does, so that what serves a request need not
//! know which protocol it came by.

use super::{RequestHead, Stage};
use crate::budget::HeadLimits;
use crate::error::HeadError;
use crate::known::Known;
use crate::method::Method;
use crate::{Version, authority, framing, uri};
use std::ops::Range;

/// What each field adds to its name and value in the size of a list (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// A head that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2HeadFault {
    /// It is malformed (RFC 9113 §8.1.1): its stream is reset. The words of the error log, behind `client `.
    Malformed(&'static str),
    /// It is well-formed, and answered as over HTTP/1.
    Refused(HeadError),
}

impl From<HeadError> for H2HeadFault {
    fn from(error: HeadError) -> Self {
        H2HeadFault::Refused(error)
    }
}

/// A head under way.
#[derive(Debug)]
pub struct H2Head<'a> {
    head: &'a mut RequestHead,
    limits: &'a HeadLimits,
    /// How much the list may still take.
    left: usize,
    fault: Option<H2HeadFault>,
    /// Where the pseudo-headers are in the head's scratch memory.
    pseudo: [Option<Range<usize>>; 3],
    has_authority: bool,
    has_fields: bool,
    /// All cookies, once there are two.
    cookies: Vec<u8>,
}

const METHOD: usize = 0;
const SCHEME: usize = 1;
const PATH: usize = 2;

impl<'a> H2Head<'a> {
    /// Begins a head; what was in `head` is forgotten.
    pub fn new(head: &'a mut RequestHead, limits: &'a HeadLimits, max_list_bytes: usize) -> H2Head<'a> {
        head.clear();
        head.scratch.clear();
        H2Head {
            head,
            limits,
            left: max_list_bytes,
            fault: None,
            pseudo: [const { None }; 3],
            has_authority: false,
            has_fields: false,
            cookies: Vec::new(),
        }
    }

    /// Checks the bytes of a field's name and value (RFC 9113 §8.2.1). A colon may begin the name.
    ///
    /// # Errors
    /// The words of the error log.
    pub fn check_field(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let bare = name.strip_prefix(b":").unwrap_or(name);
        if bare.is_empty() || !bare.iter().all(|byte| CLASS[usize::from(*byte)] != REFUSED) {
            return Err("sent a header field with an invalid name");
        }
        let is_padded = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        let has_control = value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
        if has_control || is_padded(value.first()) || is_padded(value.last()) {
            return Err("sent a header field with an invalid value");
        }
        Ok(())
    }

    /// Takes the next field of the block.
    pub fn take(&mut self, name: &[u8], value: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if let Err(fault) = self.take_field(name, value) {
            self.fault = Some(fault);
        }
    }

    fn take_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), H2HeadFault> {
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        self.left = self.left.checked_sub(size).ok_or(HeadError::HeadTooLarge)?;
        H2Head::check_field(name, value).map_err(H2HeadFault::Malformed)?;
        if size - FIELD_OVERHEAD > self.limits.large_client_header_buffers.1 {
            return Err(
                if name == b":path" { HeadError::UriTooLong } else { HeadError::HeaderLineTooLong }.into()
            );
        }
        if let Some(pseudo) = name.strip_prefix(b":") {
            return self.take_pseudo(pseudo, value);
        }
        self.has_fields = true;
        let known = Known::from_bytes(name);
        match known {
            // RFC 9113 §8.2.2.
            Some(
                Known::Connection
                | Known::ProxyConnection
                | Known::KeepAlive
                | Known::TransferEncoding
                | Known::Upgrade,
            ) => return Err(H2HeadFault::Malformed("sent a header field that is for HTTP/1 connections")),
            Some(Known::Te) if !value.eq_ignore_ascii_case(b"trailers") => {
                return Err(H2HeadFault::Malformed("sent a \"te\" field other than \"trailers\""));
            }
            Some(Known::Cookie) => {
                self.take_cookie(value);
                return Ok(());
            }
            Some(Known::Host) if self.has_authority => return self.compare_host(value),
            Some(Known::Host) if self.head.headers.has(Known::Host) => {
                return Err(HeadError::DuplicateHost.into());
            }
            Some(known) if known.is_unique_in_request() && self.head.headers.has(known) => {
                return Err(HeadError::DuplicateField.into());
            }
            None if self.limits.ignore_invalid_headers && is_odd(name, self.limits) => return Ok(()),
            _ => {}
        }
        if self.head.headers.len() >= self.limits.max_fields {
            return Err(HeadError::TooManyFields.into());
        }
        self.head.headers.push(name, value);
        Ok(())
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), H2HeadFault> {
        if self.has_fields {
            return Err(H2HeadFault::Malformed("sent a pseudo-header behind other fields"));
        }
        let which = match name {
            b"method" => METHOD,
            b"scheme" => SCHEME,
            b"path" => PATH,
            b"authority" => {
                if std::mem::replace(&mut self.has_authority, true) {
                    return Err(DUPLICATE);
                }
                self.head.port =
                    authority::parse(value, &mut self.head.host).map_err(|_| HeadError::InvalidHost)?;
                // What goes on over HTTP/1 needs it (RFC 9113 §8.3.1).
                self.head.headers.push_known(Known::Host, value);
                return Ok(());
            }
            b"protocol" => {
                return Err(H2HeadFault::Malformed(
                    "sent an extended CONNECT (\":protocol\"), which is not supported",
                ));
            }
            _ => return Err(H2HeadFault::Malformed("sent an unknown pseudo-header")),
        };
        if self.pseudo[which].is_some() {
            return Err(DUPLICATE);
        }
        let at = self.head.scratch.len();
        self.head.scratch.extend_from_slice(value);
        self.pseudo[which] = Some(at..self.head.scratch.len());
        Ok(())
    }

    /// Compares `Host` with `:authority`, which it must equal (RFC 9113 §8.3.1).
    fn compare_host(&mut self, value: &[u8]) -> Result<(), H2HeadFault> {
        let mut host = Vec::new();
        let port = authority::parse(value, &mut host).map_err(|_| HeadError::InvalidHost)?;
        if host != self.head.host || port != self.head.port {
            return Err(HeadError::InvalidHost.into());
        }
        Ok(())
    }

    /// Joins cookies, which may come in several fields (RFC 9113 §8.2.3).
    fn take_cookie(&mut self, value: &[u8]) {
        match self.head.headers.get(Known::Cookie) {
            None => return self.head.headers.push(b"cookie", value),
            Some(first) if self.cookies.is_empty() => self.cookies.extend_from_slice(first),
            Some(_) => {}
        }
        self.cookies.extend_from_slice(b"; ");
        self.cookies.extend_from_slice(value);
    }

    /// Ends the head, which took `len` bytes on the wire; `ends` says that there is no body. Returns how long the body will
    /// be, if the head says so.
    ///
    /// # Errors
    /// The head is refused. It has all that could be read of it.
    pub fn finish(mut self, len: usize, ends: bool) -> Result<Option<u64>, H2HeadFault> {
        if !self.cookies.is_empty() {
            self.head.headers.set_known(Known::Cookie, &self.cookies);
        }
        let composed = self.compose();
        let head = &mut *self.head;
        head.version = Version::Http2;
        head.stage = Stage::Whole;
        head.forgotten = len;
        head.has_open_body = !ends;
        self.fault.map_or(Ok(()), Err)?;
        composed?;
        if !self.has_authority {
            let Some(host) = head.headers.get(Known::Host) else {
                return Err(HeadError::MissingAuthority.into());
            };
            head.port = authority::parse(host, &mut head.host).map_err(|_| HeadError::InvalidHost)?;
        }
        match framing::content_length(&head.headers) {
            Ok(Some(1..)) if ends => Err(H2HeadFault::Malformed("sent a Content-Length without a body")),
            Ok(Some(len)) if !ends => Ok(Some(len)),
            // A faulty one is refused with the rest of the framing.
            _ => Ok(None),
        }
    }

    /// Composes the request line, as logs and HTTP/1 have it, from the pseudo-headers.
    fn compose(&mut self) -> Result<(), H2HeadFault> {
        let [method, scheme, path] = &self.pseudo;
        let head = &mut *self.head;
        let part = |range: &Option<Range<usize>>| {
            range.clone().and_then(|range| head.scratch.get(range)).unwrap_or_default()
        };
        let (method_bytes, path_bytes) = (part(method), part(path));
        let method_now = Method::from_bytes(method_bytes);
        let is_connect = method_now == Method::Connect;
        let target = if is_connect { head.headers.get(Known::Host).unwrap_or_default() } else { path_bytes };
        head.line.extend_from_slice(method_bytes);
        head.line.push(b' ');
        head.line.extend_from_slice(target);
        head.line.extend_from_slice(b" HTTP/2.0");
        head.method = method_now;
        if method.is_none() {
            return Err(H2HeadFault::Malformed("sent no \":method\""));
        }
        if is_connect {
            if scheme.is_some() || path.is_some() || !self.has_authority {
                return Err(H2HeadFault::Malformed("sent a malformed CONNECT"));
            }
            head.line_scanner.compose_authority(method_bytes.len(), head.line.len());
            return Ok(());
        }
        if scheme.is_none() || path_bytes.is_empty() {
            return Err(H2HeadFault::Malformed("sent no \":scheme\" or \":path\""));
        }
        let is_method = !method_bytes.is_empty()
            && method_bytes.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'_' | b'-'));
        if !is_method {
            return Err(HeadError::InvalidMethod.into());
        }
        let scheme = part(scheme);
        let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        if !is_scheme {
            return Err(HeadError::InvalidRequest.into());
        }
        head.line_scanner.compose(method_bytes.len(), &head.line)?;
        head.stage = Stage::Whole;
        if !head.line_scanner.parts.plain {
            let mut normal = std::mem::take(&mut head.scratch);
            let checked = uri::normalise(head.target(), self.limits.merge_slashes, &mut normal);
            head.scratch = normal;
            checked.map_err(|_| HeadError::InvalidRequest)?;
        }
        Ok(())
    }
}

const DUPLICATE: H2HeadFault = H2HeadFault::Malformed("sent a pseudo-header twice");

const TOKEN: u8 = 0;
/// No letter, digit or hyphen: nginx drops such fields.
const ODD: u8 = 1;
const UNDERSCORE: u8 = 2;
const REFUSED: u8 = 3;

/// The bytes of names. HTTP/2 has them in lower case (RFC 9113 §8.2).
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut class = [REFUSED; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'-' => TOKEN,
            b'_' => UNDERSCORE,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'.' | b'^' | b'`' | b'|' | b'~' => ODD,
            _ => REFUSED,
        };
        byte += 1;
    }
    class
}

fn is_odd(name: &[u8], limits: &HeadLimits) -> bool {
    name.iter().any(|byte| match CLASS[usize::from(*byte)] {
        UNDERSCORE => !limits.underscores_in_headers,
        class => class == ODD,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BodyFraming;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn read(fields: Fields<'_>, ends: bool) -> (RequestHead, Result<Option<u64>, H2HeadFault>) {
        let mut head = RequestHead::new();
        let limits = HeadLimits::default();
        let mut reader = H2Head::new(&mut head, &limits, 32 << 10);
        fields.iter().for_each(|(name, value)| reader.take(name.as_bytes(), value.as_bytes()));
        let result = reader.finish(100, ends);
        (head, result)
    }

    const GET: Fields<'static> = &[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "Shop.Example.com:8443"),
        (":path", "/a?b=c"),
    ];

    fn with(more: Fields<'_>, ends: bool) -> Result<Option<u64>, H2HeadFault> {
        read(&[GET, more].concat(), ends).1
    }

    #[test]
    fn head_is_that_of_http_1() {
        let more: Fields<'_> =
            &[("accept", "*/*"), ("cookie", "a=1"), ("x-odd", ""), ("cookie", "b=2"), ("te", "trailers")];
        let (head, result) = read(&[GET, more].concat(), true);
        assert_eq!(result, Ok(None));
        assert_eq!(head.request_line(), b"GET /a?b=c HTTP/2.0");
        assert_eq!(
            (head.method, head.version, head.protocol()),
            (Method::Get, Version::Http2, &b"HTTP/2.0"[..])
        );
        assert_eq!((head.method_bytes(), head.target()), (&b"GET"[..], &b"/a?b=c"[..]));
        assert_eq!((head.host(), head.port(), head.len()), (&b"shop.example.com"[..], 8443, 100));
        assert_eq!(head.headers.get(Known::Host), Some(&b"Shop.Example.com:8443"[..]));
        assert_eq!(head.headers.get_all(Known::Cookie).collect::<Vec<_>>(), [b"a=1; b=2"]);
        let mut path = Vec::new();
        assert_eq!(head.split_target(true, &mut path), Ok(&b"b=c"[..]));
        assert_eq!(path, b"/a");
        assert_eq!(framing::request_body(&head), Ok(BodyFraming::None));
        assert!(framing::keep_alive(head.version, &head.headers));
    }

    #[test]
    fn body_is_framed_by_the_stream() {
        let framing = |more: Fields<'_>, ends| {
            let (head, result) = read(&[GET, more].concat(), ends);
            (result, framing::request_body(&head))
        };
        assert_eq!(framing(&[], false), (Ok(None), Ok(BodyFraming::Chunked)));
        assert_eq!(framing(&[("content-length", "5")], false), (Ok(Some(5)), Ok(BodyFraming::Length(5))));
        assert_eq!(framing(&[("content-length", "0")], true), (Ok(None), Ok(BodyFraming::None)));
        assert_eq!(framing(&[("content-length", "0")], false), (Ok(Some(0)), Ok(BodyFraming::None)));
        assert!(matches!(framing(&[("content-length", "5")], true).0, Err(H2HeadFault::Malformed(_))));
        let twice: Fields<'_> = &[("content-length", "5"), ("content-length", "5")];
        assert_eq!(framing(twice, false).0, Err(HeadError::DuplicateField.into()));
        assert!(framing(&[("content-length", "5x")], false).1.is_err());
    }

    #[test]
    fn path_that_is_not_plain_is_normalised() {
        let paths: [(&str, Result<&[u8], ()>); 8] = [
            ("/a/../b%20c", Ok(b"/b c")),
            ("/", Ok(b"/")),
            ("/a//b", Ok(b"/a/b")),
            ("/%", Err(())),
            ("/../x", Err(())),
            ("a", Err(())),
            ("*", Err(())),
            ("http://h/", Err(())),
        ];
        for (path, normal) in paths {
            let (head, result) =
                read(&[(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", path)], true);
            match normal {
                Ok(normal) => {
                    let mut out = Vec::new();
                    head.split_target(true, &mut out).unwrap();
                    assert_eq!((result, &out[..]), (Ok(None), normal), "{path}");
                }
                Err(()) => assert_eq!(result, Err(HeadError::InvalidRequest.into()), "{path}"),
            }
        }
        for path in ["/a b", "/a\x7f", "/a HTTP/1.1", "/a\tb"] {
            let (_, result) =
                read(&[(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", path)], true);
            assert_eq!(result, Err(HeadError::InvalidRequest.into()), "{path}");
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        let malformed = |fields: Fields<'_>| match read(fields, true).1 {
            Err(H2HeadFault::Malformed(_)) => {}
            other => panic!("{fields:?}: {other:?}"),
        };
        for more in [
            [("Accept", "a")],
            [("x y", "a")],
            [("", "a")],
            [(":", "a")],
            [("x:y", "a")],
            [("x\u{e9}", "a")],
            [("x", "a\nb")],
            [("x", "a\0")],
            [("x", " a")],
            [("x", "a\t")],
            [("connection", "close")],
            [("proxy-connection", "close")],
            [("keep-alive", "1")],
            [("transfer-encoding", "chunked")],
            [("upgrade", "h2c")],
            [("te", "trailers, deflate")],
            [(":method", "GET")],
            [(":authority", "shop.example.com")],
            [(":status", "200")],
            [(":protocol", "websocket")],
        ] {
            malformed(&[GET, &more].concat());
        }
        for missing in [0, 1, 3] {
            let fields: Vec<_> =
                GET.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, f)| *f).collect();
            malformed(&fields);
        }
        malformed(&[(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "")]);
        malformed(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "h"),
            ("x", "y"),
            (":path", "/"),
        ]);
        malformed(&[(":method", "CONNECT"), (":scheme", "http"), (":authority", "h"), (":path", "/")]);
        malformed(&[(":method", "CONNECT")]);
    }

    #[test]
    fn other_faults_are_answered() {
        let refused =
            |fields: Fields<'_>, error: HeadError| assert_eq!(read(fields, true).1, Err(error.into()));
        let start: Fields<'_> = &[(":scheme", "http"), (":path", "/")];
        refused(&[start, &[(":method", "GET")]].concat(), HeadError::MissingAuthority);
        refused(&[start, &[(":method", "get"), (":authority", "h")]].concat(), HeadError::InvalidMethod);
        refused(&[start, &[(":method", "GET"), (":authority", "a b")]].concat(), HeadError::InvalidHost);
        refused(&[start, &[(":method", "GET"), (":authority", "u@h")]].concat(), HeadError::InvalidHost);
        refused(&[start, &[(":method", "GET"), (":authority", "")]].concat(), HeadError::InvalidHost);
        refused(
            &[start, &[(":method", "GET"), ("host", "a"), ("host", "a")]].concat(),
            HeadError::DuplicateHost,
        );
        assert_eq!(
            with(&[("authorization", "a"), ("authorization", "b")], true),
            Err(HeadError::DuplicateField.into())
        );
        let (head, result) = read(&[(":method", "CONNECT"), (":authority", "h:443")], true);
        assert_eq!((result, head.method, head.target()), (Ok(None), Method::Connect, &b"/"[..]));
        assert_eq!(framing::check_method(&head, BodyFraming::None, false), Err(HeadError::ConnectRefused));
        let host_only: Fields<'_> = &[(":method", "GET"), ("host", "H:1")];
        let (head, result) = read(&[start, host_only].concat(), true);
        assert_eq!((result, head.host(), head.port()), (Ok(None), &b"h"[..], 1));
        for other in ["other.example.com", "shop.example.com"] {
            assert_eq!(with(&[("host", other)], true), Err(HeadError::InvalidHost.into()), "{other}");
        }
        assert_eq!(with(&[("host", "SHOP.example.com.:8443")], true), Ok(None), "the same in another form");
    }

    #[test]
    fn lists_are_bounded() {
        let long = "x".repeat(8100);
        let field = [("x", &long[..])];
        assert_eq!(with(&[field, field, field].concat(), true), Ok(None));
        let four = with(&[field, field, field, field, field].concat(), true);
        assert_eq!(four, Err(HeadError::HeadTooLarge.into()));
        let longer = "x".repeat(8200);
        assert_eq!(with(&[("x", &longer)], true), Err(HeadError::HeaderLineTooLong.into()));
        let many = vec![("x", "y"); 1000];
        assert_eq!(with(&many, true), Err(HeadError::HeadTooLarge.into()), "each costs 32 bytes more");
        let odd: Fields<'_> = &[("x_y", "1"), ("x.y", "2"), ("x-y", "3")];
        let (head, _) = read(&[GET, odd].concat(), true);
        assert_eq!(
            (head.headers.len(), head.headers.find(b"x-y")),
            (2, Some(&b"3"[..])),
            "as nginx drops them"
        );
    }
}
