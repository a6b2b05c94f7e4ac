//! Writing heads.
//!
//! Owns the reason phrases and the bytes of status lines and request lines. It writes what it is
//! given: a caller that takes a name or a value from outside must know that it holds no line end.

pub use crate::field::encode_field;
use crate::headers::Headers;
use crate::known::Known;

/// Returns the phrase that nginx sends with a status, and nothing where nginx sends none (`ngx_http_status_lines`).
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Time-out",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

/// Appends `HTTP/1.1 200 OK` and the line end. nginx answers as HTTP/1.1 whatever the version of the request; a
/// status without a phrase still has a space behind its number.
pub fn encode_status_line(out: &mut Vec<u8>, status: u16) {
    if status == 200 {
        // The status of nearly all responses, in one piece.
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    push_status(out, status);
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends `HTTP/1.1 `, number and phrase as an upstream sent them (see `ResponseHead::status_line`), and the line
/// end.
fn encode_status_line_as(out: &mut Vec<u8>, status_line: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status_line);
    out.extend_from_slice(b"\r\n");
}

/// Appends a status with at least three digits.
fn push_status(out: &mut Vec<u8>, status: u16) {
    if status < 1000 {
        let digit = |number: u16| b'0' + (number % 10) as u8;
        out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status)]);
    } else {
        out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    }
}

/// Appends `METHOD target HTTP/1.1` and the line end; `version` is `HTTP/1.0` or `HTTP/1.1`.
fn encode_request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8], version: crate::Version) {
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.push(b' ');
    out.extend_from_slice(version.name().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a head into a buffer, field by field.
#[derive(Debug)]
pub struct HeadEncoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> HeadEncoder<'a> {
    /// Begins a response with nginx's phrase.
    pub fn response(out: &'a mut Vec<u8>, status: u16) -> HeadEncoder<'a> {
        encode_status_line(out, status);
        HeadEncoder { out }
    }

    /// Begins a response with the number and phrase that an upstream sent.
    pub fn response_as(out: &'a mut Vec<u8>, status_line: &[u8]) -> HeadEncoder<'a> {
        encode_status_line_as(out, status_line);
        HeadEncoder { out }
    }

    /// Begins a request.
    pub fn request(
        out: &'a mut Vec<u8>,
        method: &[u8],
        target: &[u8],
        version: crate::Version,
    ) -> HeadEncoder<'a> {
        encode_request_line(out, method, target, version);
        HeadEncoder { out }
    }

    /// Adds a field.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        encode_field(self.out, name, value);
        self
    }

    /// Adds a field in its canonical spelling.
    pub fn known(&mut self, known: Known, value: &[u8]) -> &mut Self {
        self.field(known.name().as_bytes(), value)
    }

    /// Adds a field with a number for its value.
    pub fn number(&mut self, known: Known, value: u64) -> &mut Self {
        self.known(known, itoa::Buffer::new().format(value).as_bytes())
    }

    /// Adds every field of a list.
    pub fn fields(&mut self, headers: &Headers) -> &mut Self {
        headers.append_to(self.out, |_, _, _| true);
        self
    }

    /// Ends the head with its empty line.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;

    #[test]
    fn a_status_line_has_the_phrase_of_nginx() {
        let cases: &[(u16, &str)] = &[
            (200, "HTTP/1.1 200 OK\r\n"),
            (302, "HTTP/1.1 302 Moved Temporarily\r\n"),
            (405, "HTTP/1.1 405 Not Allowed\r\n"),
            (418, "HTTP/1.1 418 \r\n"),
            (203, "HTTP/1.1 203 \r\n"),
            (451, "HTTP/1.1 451 \r\n"),
            (503, "HTTP/1.1 503 Service Temporarily Unavailable\r\n"),
            (7, "HTTP/1.1 007 \r\n"),
            (1234, "HTTP/1.1 1234 \r\n"),
        ];
        for (status, line) in cases {
            let mut out = Vec::new();
            encode_status_line(&mut out, *status);
            assert_eq!(String::from_utf8_lossy(&out), *line);
        }
    }

    #[test]
    fn a_head_is_written_field_by_field() {
        let mut headers = Headers::new();
        headers.push(b"x-a", b"1");
        headers.push_known(Known::ETag, b"\"e\"");
        let mut out = Vec::new();
        let mut head = HeadEncoder::response(&mut out, 200);
        head.known(Known::Server, b"s").number(Known::ContentLength, 10).fields(&headers);
        head.end();
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 10\r\nx-a: 1\r\nETag: \"e\"\r\n\r\n"
        );
        out.clear();
        let mut head = HeadEncoder::request(&mut out, b"GET", b"/x?y", Version::Http10);
        head.field(b"Host", b"h");
        head.end();
        assert_eq!(out, b"GET /x?y HTTP/1.0\r\nHost: h\r\n\r\n");
        out.clear();
        HeadEncoder::response_as(&mut out, b"299 Fine").end();
        assert_eq!(out, b"HTTP/1.1 299 Fine\r\n\r\n");
    }
}
