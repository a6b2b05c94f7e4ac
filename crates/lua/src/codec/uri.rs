//! Percent-encoding as `ngx.escape_uri` and `ngx.unescape_uri` do it.
//!
//! The seven kinds are nginx's own (`ngx_escape_uri`), by number; ngx_lua differs from nginx in the component kind,
//! which leaves the unreserved characters of RFC 2396 section 2.3 alone, as JavaScript's encodeURIComponent does.

/// The characters to escape; the numbers are the second argument of `ngx.escape_uri`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Escape {
    /// 0: a whole path.
    Uri,
    /// 1: a query string.
    Args,
    /// 2, the default: everything but letters, digits and `-._~!'()*`.
    Component,
    /// 3: for an HTML attribute.
    Html,
    /// 4: for a `Refresh` header.
    Refresh,
    /// 5: a memcached key; 6, mail authentication, escapes the same.
    Memcached,
    /// A query that a script sets: controls, spaces and DEL; scripts cannot ask for it.
    Query,
    /// The name of a header that a script sets; scripts cannot ask for it.
    HeaderName,
    /// The value of a header that a script sets; scripts cannot ask for it.
    HeaderValue,
}

impl Escape {
    /// Returns the kind with this number in Lua.
    pub(crate) fn from_number(number: u32) -> Option<Escape> {
        Some(match number {
            0 => Escape::Uri,
            1 => Escape::Args,
            2 => Escape::Component,
            3 => Escape::Html,
            4 => Escape::Refresh,
            5 | 6 => Escape::Memcached,
            _ => return None,
        })
    }

    const fn escapes(self, byte: u8) -> bool {
        let is_binary = byte >= 0x7f;
        match self {
            Escape::Query => byte <= b' ' || byte == 0x7f,
            Escape::Uri => byte <= b' ' || is_binary || matches!(byte, b'#' | b'%' | b'?'),
            Escape::Args => byte <= b' ' || is_binary || matches!(byte, b'#' | b'%' | b'+' | b'?'),
            Escape::Component => {
                !(byte.is_ascii_alphanumeric()
                    || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'\'' | b'(' | b')' | b'*'))
            }
            Escape::Html => byte <= b' ' || is_binary || matches!(byte, b'#' | b'"' | b'%' | b'\''),
            Escape::Refresh => byte <= b' ' || is_binary || matches!(byte, b'"' | b'%' | b'\''),
            Escape::Memcached => byte <= b' ' || byte == b'%',
            Escape::HeaderName => {
                byte <= b' '
                    || is_binary
                    || matches!(byte, b'"' | b'(' | b')' | b',' | b'/' | b':'..=b'@' | b'['..=b']' | b'{' | b'}')
            }
            Escape::HeaderValue => (byte < b' ' && byte != b'\t') || byte == 0x7f,
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

const fn table(kind: Escape) -> [bool; 256] {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        escaped[byte] = kind.escapes(byte as u8);
        byte += 1;
    }
    escaped
}

static TABLES: [[bool; 256]; 9] = [
    table(Escape::Uri),
    table(Escape::Args),
    table(Escape::Component),
    table(Escape::Html),
    table(Escape::Refresh),
    table(Escape::Memcached),
    table(Escape::Query),
    table(Escape::HeaderName),
    table(Escape::HeaderValue),
];

/// Appends `source` escaped; appends nothing and returns false if there is nothing to escape.
pub(crate) fn escape_if_needed(kind: Escape, source: &[u8], out: &mut Vec<u8>) -> bool {
    let table = &TABLES[kind as usize];
    if !source.iter().any(|&byte| table[usize::from(byte)]) {
        return false;
    }
    escape(kind, source, out);
    true
}

/// Appends `source` escaped.
pub(crate) fn escape(kind: Escape, source: &[u8], out: &mut Vec<u8>) {
    let table = &TABLES[kind as usize];
    out.reserve(source.len());
    for &byte in source {
        if table[usize::from(byte)] {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(byte);
        }
    }
}

/// Appends `source` unescaped: `%XX` becomes a byte, `+` a space, and a `%` without two hex digits stays.
pub(crate) fn unescape(source: &[u8], out: &mut Vec<u8>) {
    out.reserve(source.len());
    let mut rest = source;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = &after[2..];
                }
                _ => out.push(b'%'),
            },
            _ => out.push(byte),
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(number: u32, source: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        escape(Escape::from_number(number).unwrap(), source, &mut out);
        out
    }

    #[test]
    fn each_kind_escapes_its_own_characters() {
        let all: Vec<u8> = (0x20..0x80).collect();
        let left = |number| {
            let mut kept: Vec<u8> = Vec::new();
            for &byte in &all {
                if escaped(number, &[byte]) == [byte] {
                    kept.push(byte);
                }
            }
            let gone = all.iter().copied().filter(|byte| !kept.contains(byte)).collect();
            String::from_utf8(gone).unwrap()
        };
        assert_eq!(left(0), " #%?\u{7f}");
        assert_eq!(left(1), " #%+?\u{7f}");
        assert_eq!(left(2), " \"#$%&+,/:;<=>?@[\\]^`{|}\u{7f}");
        assert_eq!(left(3), " \"#%'\u{7f}");
        assert_eq!(left(4), " \"%'\u{7f}");
        assert_eq!(left(5), " %");
        assert_eq!(left(6), " %");
        assert_eq!(Escape::from_number(7), None);
        let mut out = Vec::new();
        escape(Escape::HeaderName, b"X-A b:\r\n(\xe4)", &mut out);
        assert_eq!(out, b"X-A%20b%3A%0D%0A%28%E4%29");
        out.clear();
        escape(Escape::HeaderValue, b"a b\tc\r\nX: \xe4", &mut out);
        assert_eq!(out, b"a b\tc%0D%0AX: \xe4");
    }

    #[test]
    fn escapes_are_upper_case_and_high_bytes_are_escaped() {
        assert_eq!(escaped(2, "a 你/".as_bytes()), b"a%20%E4%BD%A0%2F");
        assert!(!escape_if_needed(Escape::Component, b"plain-1", &mut Vec::new()));
    }

    #[test]
    fn unescape_is_lenient() {
        for (source, expected) in [
            ("hello%20world", "hello world"),
            ("a+b", "a b"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz%41", "%zzA"),
            ("%%41", "%A"),
            ("100%25?", "100%?"),
        ] {
            let mut out = Vec::new();
            unescape(source.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{source}");
        }
    }
}
