//! Line ends in values that are put together from what others have sent.
//!
//! Owns what replaces them: a decoded URI may hold any byte, and a line end in a field's value would begin a field, or
//! a response, that a client has made up. Must never let one through; nginx does.

use crate::escape::{Escape, escape};
use crate::scan;

fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// Replaces with a space each CR, LF and NUL of a field's value (RFC 9110 §5.5).
pub fn blank(value: &mut [u8]) {
    let mut rest = value;
    while let Some(at) = scan::control(rest) {
        if ends_line(rest[at]) {
            rest[at] = b' ';
        }
        rest = &mut rest[at + 1..];
    }
}

/// Escapes each CR, LF and NUL from `from` on with a percent sign, as a URI allows.
pub fn escape_from(uri: &mut Vec<u8>, from: usize) {
    escape_those(uri, from, ends_line);
}

/// Does the same as [`escape_from`] for the target of a request line, which a space ends too: the version follows it, and
/// decides
/// how the message is read (RFC 9112 §3).
pub fn escape_target_from(line: &mut Vec<u8>, from: usize) {
    escape_those(line, from, |byte| byte <= b' ' || byte == 0x7f);
}

/// Does the same as [`escape_target_from`] for a path of HTTP/2, which peers take apart: what no path or query may hold is
/// escaped, and a
/// fragment is left out (RFC 9113 §8.3.1, RFC 3986 §3.3).
pub fn escape_path_from(path: &mut Vec<u8>, from: usize) {
    if let Some(at) = path[from..].iter().position(|byte| *byte == b'#') {
        path.truncate(from + at);
    }
    escape_those(path, from, |byte| {
        !byte.is_ascii_graphic()
            || matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    });
}

fn escape_those(uri: &mut Vec<u8>, from: usize, is_one: impl Fn(u8) -> bool) {
    if !uri[from..].iter().any(|byte| is_one(*byte)) {
        return;
    }
    for byte in uri.split_off(from) {
        match is_one(byte) {
            true => escape(Escape::Uri, &[byte], uri),
            false => uri.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_end_is_left() {
        let mut value = b"a\r\nb\tc\0\x01\xff".to_vec();
        blank(&mut value);
        assert_eq!(value, b"a  b\tc \x01\xff");
        let mut uri = b"\r/x\r\ny z\0\t".to_vec();
        escape_from(&mut uri, 1);
        assert_eq!(uri, b"\r/x%0D%0Ay z%00\t");
        let mut path = b"x /a%20b|\"\xc3\xbc\x7f?q={1}&r=~!$'()*+,;:@#f".to_vec();
        escape_path_from(&mut path, 2);
        assert_eq!(path, b"x /a%20b%7C%22%C3%BC%7F?q=%7B1%7D&r=~!$'()*+,;:@");
        escape_from(&mut uri, 1);
        assert_eq!(uri, b"\r/x%0D%0Ay z%00\t");
        escape_target_from(&mut uri, 1);
        assert_eq!(uri, b"\r/x%0D%0Ay%20z%00%09");
    }
}
