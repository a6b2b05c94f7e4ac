//! Encoding fields, without a dynamic table.

use super::{huffman, integer};
use crate::known::Known;

/// The first byte of a block after the peer has made its table smaller: we use none (RFC 7541 §4.2).
pub const FORGET_TABLE: u8 = 0x20;

/// Appends the `:status` of a response.
pub fn encode_status(out: &mut Vec<u8>, status: u16) {
    let indexed = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            // The name of entry 8, and three digits.
            out.extend_from_slice(&[0x08, 3]);
            let digits = [status / 100 % 10, status / 10 % 10, status % 10];
            out.extend(digits.map(|digit| b'0' + digit as u8));
            return;
        }
    };
    out.push(0x80 | indexed);
}

/// The pseudo-header of a request (RFC 9113 §8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant has the RFC's name")]
pub enum Pseudo {
    Authority,
    Method,
    Path,
    Scheme,
}

/// Appends a pseudo-header of a request.
pub fn encode_pseudo(out: &mut Vec<u8>, pseudo: Pseudo, value: &[u8]) {
    let (name, known): (usize, [&[u8]; 2]) = match pseudo {
        Pseudo::Authority => (1, [b"", b""]),
        Pseudo::Method => (2, [b"GET", b"POST"]),
        Pseudo::Path => (4, [b"/", b"/index.html"]),
        Pseudo::Scheme => (6, [b"http", b"https"]),
    };
    match known.iter().position(|known| *known == value && !value.is_empty()) {
        Some(at) => out.push(0x80 | (name + at) as u8),
        None => {
            integer::write(out, 0, 4, name);
            encode_string(out, value);
        }
    }
}

/// Returns true if every recipient takes a name, in any case: a token (RFC 9110 §5.1), although RFC 9113 §8.2.1 makes no more
/// than some bytes malformed.
fn is_name(name: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token)
}

/// Returns true if every recipient takes a value: control characters make a message malformed for many.
fn is_value(value: &[u8]) -> bool {
    !value.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f)
}

/// Appends a field whose name is known.
pub fn encode_known(out: &mut Vec<u8>, known: Known, value: &[u8]) {
    match static_index(known) {
        0 => encode_literal(out, known.name().as_bytes(), value),
        index => {
            integer::write(out, 0, 4, usize::from(index));
            encode_string(out, value);
        }
    }
}

/// Appends a field; its name is made lower case (RFC 9113 §8.2).
pub fn encode_field(out: &mut Vec<u8>, known: Option<Known>, name: &[u8], value: &[u8]) {
    match known {
        Some(known) => encode_known(out, known, value),
        None => encode_literal(out, name, value),
    }
}

/// Does the same for a field that may come from HTTP/1: one that HTTP/2 has not is left out, because it would make the whole
/// message malformed.
pub fn encode_valid_field(out: &mut Vec<u8>, known: Option<Known>, name: &[u8], value: &[u8]) {
    if is_value(value) && (known.is_some() || is_name(name)) {
        encode_field(out, known, name, value);
    }
}

fn encode_literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    // Names are short, and few are not in the static table: their code would gain little.
    integer::write(out, 0, 7, name.len());
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    encode_string(out, value);
}

fn encode_string(out: &mut Vec<u8>, text: &[u8]) {
    let len = huffman::encoded_len(text);
    if len < text.len() {
        integer::write(out, 0x80, 7, len);
        huffman::encode(text, out);
    } else {
        integer::write(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

/// Returns the index of the static table's entry with this name; 0 if it has none.
const fn static_index(known: Known) -> u8 {
    match known {
        Known::AcceptCharset => 15,
        Known::AcceptEncoding => 16,
        Known::AcceptLanguage => 17,
        Known::AcceptRanges => 18,
        Known::Accept => 19,
        Known::AccessControlAllowOrigin => 20,
        Known::Age => 21,
        Known::Allow => 22,
        Known::Authorization => 23,
        Known::CacheControl => 24,
        Known::ContentDisposition => 25,
        Known::ContentEncoding => 26,
        Known::ContentLanguage => 27,
        Known::ContentLength => 28,
        Known::ContentLocation => 29,
        Known::ContentRange => 30,
        Known::ContentType => 31,
        Known::Cookie => 32,
        Known::Date => 33,
        Known::ETag => 34,
        Known::Expect => 35,
        Known::Expires => 36,
        Known::From => 37,
        Known::Host => 38,
        Known::IfMatch => 39,
        Known::IfModifiedSince => 40,
        Known::IfNoneMatch => 41,
        Known::IfRange => 42,
        Known::IfUnmodifiedSince => 43,
        Known::LastModified => 44,
        Known::Link => 45,
        Known::Location => 46,
        Known::MaxForwards => 47,
        Known::ProxyAuthenticate => 48,
        Known::ProxyAuthorization => 49,
        Known::Range => 50,
        Known::Referer => 51,
        Known::Refresh => 52,
        Known::RetryAfter => 53,
        Known::Server => 54,
        Known::SetCookie => 55,
        Known::StrictTransportSecurity => 56,
        Known::TransferEncoding => 57,
        Known::UserAgent => 58,
        Known::Vary => 59,
        Known::Via => 60,
        Known::WwwAuthenticate => 61,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::decoder::HpackDecoder;
    use super::super::static_table::ENTRIES;
    use super::*;

    fn decoded(block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = Vec::new();
        HpackDecoder::default()
            .decode(block, &mut Vec::new(), |name, value| fields.push((name.to_vec(), value.to_vec())))
            .unwrap();
        fields
    }

    #[test]
    fn names_of_the_static_table_are_found() {
        let mut seen = 0;
        for (index, (name, _)) in ENTRIES.iter().enumerate().skip(14) {
            let known = Known::from_bytes(name).unwrap_or_else(|| panic!("{} is known", name.escape_ascii()));
            assert_eq!(usize::from(static_index(known)), index + 1, "{}", name.escape_ascii());
            seen += 1;
        }
        assert_eq!(seen, 47);
    }

    #[test]
    fn fields_that_http2_forbids_are_left_out() {
        for (name, value) in [
            (&b"X-A"[..], &b"a\x01b"[..]),
            (b"X-A", b"\x7f"),
            (b"X-A", b"a\r\nb: c"),
            (b"X-A", b"\0"),
            (b"Vary", b"\x1b[2J"),
            (b"", b"a"),
            (b"X A", b"a"),
            (b"X-A:", b"a"),
            (b":path", b"/"),
            (b"X-\xc3\xbc", b"a"),
            (b"X-\x01", b"a"),
            (b"X@A", b"a"),
        ] {
            let mut out = Vec::new();
            encode_valid_field(&mut out, Known::from_bytes(name), name, value);
            assert!(out.is_empty(), "{}: {}", name.escape_ascii(), value.escape_ascii());
        }
        let mut out = Vec::new();
        encode_valid_field(&mut out, None, b"X!#$%&'*+-.^_`|~", b"a\tb \xff\"");
        assert_eq!(decoded(&out), [(b"x!#$%&'*+-.^_`|~".to_vec(), b"a\tb \xff\"".to_vec())]);
    }

    #[test]
    fn statuses_and_fields_are_decoded_again() {
        for status in 100..600 {
            let mut out = Vec::new();
            encode_status(&mut out, status);
            assert_eq!(decoded(&out), [(b":status".to_vec(), status.to_string().into_bytes())]);
        }
        let long = vec![b'\\'; 5000];
        for (name, value) in [
            (&b"Server"[..], &b"nginx"[..]),
            (b"X-Long", &long),
            (b"Vary", b""),
            (b"X-UPPER_Case", b"\xff\x80 ~"),
        ] {
            let mut out = Vec::new();
            encode_field(&mut out, Known::from_bytes(name), name, value);
            assert_eq!(decoded(&out), [(name.to_ascii_lowercase(), value.to_vec())]);
        }
    }
}
