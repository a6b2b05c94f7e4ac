//! Where a message ends: the one decision every body depends on.
//!
//! Owns RFC 9112 §6.3 and the meaning of `Connection`. A message whose end two readers could see in different
//! places is refused, never repaired: that is what request smuggling lives on.

use crate::Version;
use crate::error::HeadError;
use crate::headers::Headers;
use crate::known::Known;
use crate::method::Method;
use crate::request::RequestHead;
use crate::response::ResponseHead;

/// How the body of a message is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    #[default]
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// The chunked coding; over HTTP/2, to the end of the stream.
    Chunked,
    /// All bytes until the peer closes; responses only.
    UntilClose,
}

/// Framing that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// `Content-Length` is no decimal number below 2^63.
    InvalidLength,
    /// More than one `Content-Length`, even if they agree.
    DuplicateLength,
    /// More than one `Transfer-Encoding`.
    DuplicateTransferEncoding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    LengthAndTransferEncoding,
    /// `Transfer-Encoding` in a request before HTTP/1.1.
    TransferEncodingInHttp10,
    /// A transfer coding other than `chunked` alone.
    UnknownTransferEncoding,
}

impl FramingError {
    /// Returns the status a request with this fault is answered with; for a response it is 502 always.
    pub const fn status(self) -> u16 {
        match self {
            FramingError::UnknownTransferEncoding => 501,
            _ => 400,
        }
    }

    /// Returns nginx's words for the error log behind `client sent ` (level info) or `upstream sent ` (level error).
    /// The unknown transfer encoding is quoted behind them: `: "VALUE"`.
    pub const fn words(self) -> &'static str {
        match self {
            FramingError::InvalidLength => "invalid \"Content-Length\" header",
            FramingError::DuplicateLength => "duplicate header line: \"Content-Length\"",
            FramingError::DuplicateTransferEncoding => "duplicate header line: \"Transfer-Encoding\"",
            FramingError::LengthAndTransferEncoding => {
                "\"Content-Length\" and \"Transfer-Encoding\" headers at the same time"
            }
            FramingError::TransferEncodingInHttp10 => "HTTP/1.0 request with \"Transfer-Encoding\" header",
            FramingError::UnknownTransferEncoding => "unknown \"Transfer-Encoding\"",
        }
    }
}

/// Returns how the body of a request is delimited: RFC 9112 §6.3, as nginx has it since 1.21.1.
pub fn request_body(head: &RequestHead) -> Result<BodyFraming, FramingError> {
    let length = content_length(&head.headers)?;
    let coding = transfer_encoding(&head.headers)?;
    if coding != Coding::Identity && head.version < Version::Http11 {
        return Err(FramingError::TransferEncodingInHttp10);
    }
    match (coding, length) {
        (Coding::Identity, None) if head.has_open_body() => Ok(BodyFraming::Chunked),
        (Coding::Other, _) => Err(FramingError::UnknownTransferEncoding),
        (Coding::Chunked, Some(_)) => Err(FramingError::LengthAndTransferEncoding),
        (Coding::Chunked, None) => Ok(BodyFraming::Chunked),
        (Coding::Identity, None | Some(0)) => Ok(BodyFraming::None),
        (Coding::Identity, Some(length)) => Ok(BodyFraming::Length(length)),
    }
}

/// Returns how the body of a response is delimited, given the method of the request it answers. Faulty fields are
/// refused even where the status allows no body, as nginx does.
pub fn response_body(head: &ResponseHead, method: Method) -> Result<BodyFraming, FramingError> {
    let length = content_length(&head.headers)?;
    let coding = transfer_encoding(&head.headers)?;
    if coding != Coding::Identity && length.is_some() {
        return Err(FramingError::LengthAndTransferEncoding);
    }
    if coding == Coding::Other {
        return Err(FramingError::UnknownTransferEncoding);
    }
    if method == Method::Head || matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(BodyFraming::None);
    }
    Ok(match (coding, length) {
        (Coding::Chunked, _) => BodyFraming::Chunked,
        (_, Some(0)) => BodyFraming::None,
        (_, Some(length)) => BodyFraming::Length(length),
        (_, None) => BodyFraming::UntilClose,
    })
}

/// Refuses CONNECT and TRACE as nginx does. `allow_connect` lets HTTP/1.1 CONNECT without a body pass.
pub fn check_method(head: &RequestHead, body: BodyFraming, allow_connect: bool) -> Result<(), HeadError> {
    match head.method {
        Method::Connect if !allow_connect || head.version != Version::Http11 => {
            Err(HeadError::ConnectRefused)
        }
        Method::Connect if body != BodyFraming::None => Err(HeadError::ConnectWithBody),
        Method::Trace => Err(HeadError::TraceRefused),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Chunked,
    Other,
}

fn transfer_encoding(headers: &Headers) -> Result<Coding, FramingError> {
    let mut values = headers.get_all(Known::TransferEncoding);
    let coding = match values.next() {
        None => return Ok(Coding::Identity),
        Some(value) if value.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
        Some(_) => Coding::Other,
    };
    match values.next() {
        None => Ok(coding),
        Some(_) => Err(FramingError::DuplicateTransferEncoding),
    }
}

/// Returns the value of `Content-Length`, if there is one field and it is a number.
pub fn content_length(headers: &Headers) -> Result<Option<u64>, FramingError> {
    let mut values = headers.get_all(Known::ContentLength);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(FramingError::DuplicateLength);
    }
    parse_length(value).map(Some).ok_or(FramingError::InvalidLength)
}

/// Parses decimal digits and nothing else, below 2^63.
pub fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (number <= i64::MAX as u64).then_some(number)
}

/// The options in `Connection` that are acted upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `upgrade`.
    pub upgrade: bool,
}

/// Reads every `Connection` field (RFC 9110 §7.6.1).
pub fn connection(headers: &Headers) -> ConnectionOptions {
    let mut found = ConnectionOptions::default();
    if !headers.has(Known::Connection) {
        return found;
    }
    for option in connection_options(headers) {
        found.close |= option.eq_ignore_ascii_case(b"close");
        found.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        found.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
    }
    found
}

/// Returns the options that `Connection` lists. Each may name a field that is for this connection only.
pub fn connection_options(headers: &Headers) -> impl Iterator<Item = &[u8]> {
    list(headers.get_all(Known::Connection))
}

/// Returns the members of a comma-separated list spread over fields, without white space and empty members (RFC 9110
/// §5.6.1).
pub fn list<'a>(fields: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    fields
        .flat_map(|field| field.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// How many members of `Connection` are compared with a field's name.
const MAX_OPTIONS: usize = 64;

/// Returns true if `Connection` names this field as one of the connection alone (RFC 9110 §7.6.1). A name that is known is none:
/// no client may take `Authorization` or `X-Forwarded-For` out of a message by that.
pub fn is_of_connection(headers: &Headers, known: Option<Known>, name: &[u8]) -> bool {
    known.is_none()
        && headers.has(Known::Connection)
        && connection_options(headers).take(MAX_OPTIONS).any(|option| option.eq_ignore_ascii_case(name))
}

/// Returns true if a field may come behind a body: none about framing, the connection or the way of a message may (RFC 9110
/// §6.5.1).
pub fn may_trail(known: Option<Known>) -> bool {
    !matches!(
        known,
        Some(
            Known::Connection
                | Known::ContentLength
                | Known::Host
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::Te
                | Known::Trailer
                | Known::TransferEncoding
                | Known::Upgrade
        )
    )
}

/// Returns true if the head allows another message on the connection. HTTP/1.1 keeps it unless asked to
/// close, 1.0 closes unless asked to keep it (RFC 9112 §9.3).
pub fn keep_alive(version: Version, headers: &Headers) -> bool {
    let connection = connection(headers);
    match version {
        Version::Http09 => false,
        Version::Http10 => connection.keep_alive && !connection.close,
        Version::Http11 => !connection.close,
        Version::Http2 => true,
    }
}

/// Returns true if the client waits for `100 Continue` before it sends its body. Heeded over HTTP/1.1 alone; any
/// other expectation is ignored, as in nginx.
pub fn expects_continue(version: Version, headers: &Headers) -> bool {
    version == Version::Http11
        && headers.get(Known::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_connection_are_unknown_ones_that_it_names() {
        let head =
            request("Connection: close, X-Hop,,\r\nConnection: authorization, x-forwarded-for\r\n", "1.1");
        let is =
            |name: &str| is_of_connection(&head.headers, Known::from_bytes(name.as_bytes()), name.as_bytes());
        for name in ["x-hop", "X-HOP"] {
            assert!(is(name), "{name}");
        }
        for name in ["Authorization", "X-Forwarded-For", "X-Other", "x-hop2", "Close"] {
            assert_eq!(is(name), name == "Close", "{name}");
        }
        let many = "Connection: ".to_owned() + &"a,".repeat(MAX_OPTIONS) + "X-Hop\r\n";
        assert!(!is_of_connection(&request(&many, "1.1").headers, None, b"x-hop"));
    }
    use crate::{HeadLimits, Progress};

    fn request(fields: &str, version: &str) -> RequestHead {
        let text = format!("POST / HTTP/{version}\r\nHost: h\r\n{fields}\r\n");
        let mut head = RequestHead::new();
        let progress = head.decode(text.as_bytes(), &HeadLimits::default());
        assert_eq!(progress, Ok(Progress::Complete { consumed: text.len() }), "{text}");
        head
    }

    fn response(status: &str, fields: &str) -> ResponseHead {
        let text = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        let mut head = ResponseHead::new();
        assert_eq!(
            head.decode(text.as_bytes(), 4096),
            Ok(Progress::Complete { consumed: text.len() }),
            "{text}"
        );
        head
    }

    #[test]
    fn a_request_body_is_framed_as_in_rfc_9112() {
        use BodyFraming::*;
        use FramingError::*;
        let cases: &[(&str, &str, Result<BodyFraming, FramingError>)] = &[
            ("", "1.1", Ok(None)),
            ("Content-Length: 0\r\n", "1.1", Ok(None)),
            ("Content-Length: 5\r\n", "1.0", Ok(Length(5))),
            ("content-length:  007  \r\n", "1.1", Ok(Length(7))),
            ("Content-Length: 9223372036854775807\r\n", "1.1", Ok(Length(i64::MAX as u64))),
            ("Content-Length: 9223372036854775808\r\n", "1.1", Err(InvalidLength)),
            ("Content-Length: 99999999999999999999\r\n", "1.1", Err(InvalidLength)),
            ("Content-Length:\r\n", "1.1", Err(InvalidLength)),
            ("Content-Length\r\n", "1.1", Err(InvalidLength)),
            ("Content-Length: +5\r\n", "1.1", Err(InvalidLength)),
            ("Content-Length: -5\r\n", "1.1", Err(InvalidLength)),
            ("Content-Length: 5, 5\r\n", "1.1", Err(InvalidLength)),
            ("Content-Length: 0x5\r\n", "1.1", Err(InvalidLength)),
            ("Content-Length: 5 5\r\n", "1.1", Err(InvalidLength)),
            ("Content-Length: \t5\r\n", "1.1", Err(InvalidLength)),
            ("Transfer-Encoding: chunked\r\n", "1.1", Ok(Chunked)),
            ("Transfer-Encoding: CHUNKED\r\n", "1.9", Ok(Chunked)),
            ("Transfer-Encoding: chunked\r\n", "1.0", Err(TransferEncodingInHttp10)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "1.1", Err(LengthAndTransferEncoding)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "1.1", Err(LengthAndTransferEncoding)),
            ("Transfer-Encoding: gzip, chunked\r\n", "1.1", Err(UnknownTransferEncoding)),
            ("Transfer-Encoding: identity\r\n", "1.1", Err(UnknownTransferEncoding)),
            ("Transfer-Encoding: xchunked\r\n", "1.1", Err(UnknownTransferEncoding)),
            ("Transfer-Encoding: \x0bchunked\r\n", "1.1", Err(UnknownTransferEncoding)),
            ("Transfer-Encoding: chunked\t\r\n", "1.1", Err(UnknownTransferEncoding)),
            ("Transfer-Encoding:\r\n", "1.1", Err(UnknownTransferEncoding)),
            ("Transfer-Encoding: x\r\nContent-Length: 5\r\n", "1.1", Err(UnknownTransferEncoding)),
        ];
        for (fields, version, expected) in cases {
            assert_eq!(request_body(&request(fields, version)), *expected, "{fields:?} {version}");
        }
        let mut twice = request("Content-Length: 5\r\n", "1.1");
        twice.headers.push(b"content-length", b"5");
        assert_eq!(request_body(&twice), Err(DuplicateLength));
        let mut twice = request("Transfer-Encoding: chunked\r\n", "1.1");
        twice.headers.push(b"transfer-encoding", b"chunked");
        assert_eq!(request_body(&twice), Err(DuplicateTransferEncoding));
    }

    #[test]
    fn a_response_body_is_framed_as_in_rfc_9112() {
        use BodyFraming::*;
        use FramingError::*;
        let cases: &[(&str, &str, Method, Result<BodyFraming, FramingError>)] = &[
            ("200 OK", "", Method::Get, Ok(UntilClose)),
            ("200 OK", "Content-Length: 5\r\n", Method::Get, Ok(Length(5))),
            ("200 OK", "Content-Length: 0\r\n", Method::Get, Ok(None)),
            ("200 OK", "Content-Length: 5\r\n", Method::Head, Ok(None)),
            ("200 OK", "Transfer-Encoding: chunked\r\n", Method::Get, Ok(Chunked)),
            ("200 OK", "Transfer-Encoding: chunked\r\n", Method::Head, Ok(None)),
            ("204 No Content", "Content-Length: 5\r\n", Method::Get, Ok(None)),
            ("304 Not Modified", "Content-Length: 5\r\n", Method::Get, Ok(None)),
            ("100 Continue", "", Method::Get, Ok(None)),
            ("101 Switching Protocols", "", Method::Get, Ok(None)),
            ("304 Not Modified", "Content-Length: x\r\n", Method::Get, Err(InvalidLength)),
            ("200 OK", "Content-Length: 5\r\nContent-Length: 5\r\n", Method::Get, Err(DuplicateLength)),
            ("200 OK", "Content-Length: 5\r\nContent-Length: 6\r\n", Method::Get, Err(DuplicateLength)),
            (
                "200 OK",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Method::Get,
                Err(DuplicateTransferEncoding),
            ),
            (
                "200 OK",
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                Method::Get,
                Err(LengthAndTransferEncoding),
            ),
            ("200 OK", "Transfer-Encoding: gzip\r\n", Method::Get, Err(UnknownTransferEncoding)),
        ];
        for (status, fields, method, expected) in cases {
            assert_eq!(response_body(&response(status, fields), *method), *expected, "{status} {fields:?}");
        }
    }

    #[test]
    fn connection_options_decide_about_reuse() {
        let with = |values: &[&str]| {
            let mut headers = Headers::new();
            values.iter().for_each(|value| headers.push(b"Connection", value.as_bytes()));
            headers
        };
        let cases: &[(&[&str], bool, bool)] = &[
            (&[], false, true),
            (&["keep-alive"], true, true),
            (&["Close"], false, false),
            (&["Keep-Alive, Upgrade"], true, true),
            (&["keep-alive", "close"], false, false),
            (&["x-close-x"], false, true),
            (&[" , keep-alive,"], true, true),
        ];
        for (values, http10, http11) in cases {
            let headers = with(values);
            assert_eq!(keep_alive(Version::Http10, &headers), *http10, "{values:?}");
            assert_eq!(keep_alive(Version::Http11, &headers), *http11, "{values:?}");
            assert!(!keep_alive(Version::Http09, &headers));
        }
        assert!(connection(&with(&["x, UPGRADE"])).upgrade);
        let options: Vec<_> = connection_options(&with(&["a, b,,\tc ", "d"])).map(<[u8]>::to_vec).collect();
        assert_eq!(options, [b"a", b"b", b"c", b"d"]);
    }

    #[test]
    fn a_gateway_refuses_connect_and_trace() {
        let head = |line: &str, fields: &str| {
            let text = format!("{line}\r\nHost: h\r\n{fields}\r\n");
            let mut head = RequestHead::new();
            head.decode(text.as_bytes(), &HeadLimits::default()).map(|_| head).unwrap()
        };
        let check = |head: &RequestHead, allow| check_method(head, request_body(head).unwrap(), allow);
        assert_eq!(check(&head("GET / HTTP/1.1", ""), false), Ok(()));
        assert_eq!(check(&head("TRACE / HTTP/1.1", ""), true), Err(HeadError::TraceRefused));
        assert_eq!(check(&head("CONNECT h:1 HTTP/1.1", ""), false), Err(HeadError::ConnectRefused));
        assert_eq!(check(&head("CONNECT h:1 HTTP/1.1", ""), true), Ok(()));
        assert_eq!(check(&head("CONNECT h:1 HTTP/1.0", ""), true), Err(HeadError::ConnectRefused));
        let with_body = head("CONNECT h:1 HTTP/1.1", "Content-Length: 1\r\n");
        assert_eq!(check(&with_body, true), Err(HeadError::ConnectWithBody));
    }

    #[test]
    fn only_100_continue_is_expected() {
        let mut headers = Headers::new();
        assert!(!expects_continue(Version::Http11, &headers));
        headers.push(b"Expect", b"100-Continue");
        assert!(expects_continue(Version::Http11, &headers));
        assert!(!expects_continue(Version::Http10, &headers));
        headers.set(b"Expect", b"200-ok");
        assert!(!expects_continue(Version::Http11, &headers));
    }
}
