//! Escaping and unescaping of text in URIs, HTML and JSON.
//!
//! Owns which bytes are escaped where, after `ngx_escape_uri`, `ngx_unescape_uri`, `ngx_escape_html` and
//! `ngx_escape_json`. Output goes to the end of the caller's buffer.

/// The place a text is escaped for; the sets are nginx's, quirks included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// A path: keeps `/`, escapes `%`, `#` and `?` (NGX_ESCAPE_URI).
    Uri,
    /// A query: as a path, and `&`, `+`, `;` too (NGX_ESCAPE_ARGS).
    Args,
    /// One part of a URI: only the unreserved bytes stay (NGX_ESCAPE_URI_COMPONENT).
    UriComponent,
    /// A URI in an HTML attribute (NGX_ESCAPE_HTML).
    Html,
    /// A URI in a `Refresh` header (NGX_ESCAPE_REFRESH).
    Refresh,
    /// A memcached key: controls, space and `%` (NGX_ESCAPE_MEMCACHED).
    Memcached,
    /// The same set, for mail authentication (NGX_ESCAPE_MAIL_AUTH).
    MailAuth,
}

/// A set of bytes, one bit each.
type ByteSet = [u64; 4];

const fn has(set: &ByteSet, byte: u8) -> bool {
    set[(byte >> 6) as usize] & (1 << (byte & 63)) != 0
}

/// Returns the control bytes and those of `listed`; with `high` also DEL and everything that is not ASCII.
const fn controls_and(listed: &[u8], high: bool) -> ByteSet {
    let mut set = if high { [0xffff_ffff, 1 << 63, u64::MAX, u64::MAX] } else { [0xffff_ffff, 0, 0, 0] };
    let mut i = 0;
    while i < listed.len() {
        set[(listed[i] >> 6) as usize] |= 1 << (listed[i] & 63);
        i += 1;
    }
    set
}

const fn all_but_unreserved() -> ByteSet {
    let mut set = [u64::MAX; 4];
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            set[(byte >> 6) as usize] &= !(1 << (byte & 63));
        }
        byte += 1;
    }
    set
}

static URI: ByteSet = controls_and(b" \"#%<>?\\^`{|}", true);
static ARGS: ByteSet = controls_and(b" \"#%&+;<>?\\^`{|}", true);
static URI_COMPONENT: ByteSet = all_but_unreserved();
static HTML: ByteSet = controls_and(b" \"#%'<>\\^`{|}", true);
// nginx escapes `~` here and not `}`; so do we, so that both answer with the same bytes.
static REFRESH: ByteSet = controls_and(b" \"'<>\\^`{|~", true);
static MEMCACHED: ByteSet = controls_and(b" %", false);

impl Escape {
    fn set(self) -> &'static ByteSet {
        match self {
            Escape::Uri => &URI,
            Escape::Args => &ARGS,
            Escape::UriComponent => &URI_COMPONENT,
            Escape::Html => &HTML,
            Escape::Refresh => &REFRESH,
            Escape::Memcached | Escape::MailAuth => &MEMCACHED,
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Returns the number of bytes of the text that would be escaped.
pub fn count(kind: Escape, text: &[u8]) -> usize {
    let set = kind.set();
    text.iter().filter(|byte| has(set, **byte)).count()
}

/// Appends the text, with every byte of the kind's set as `%XX`.
pub fn escape(kind: Escape, text: &[u8], out: &mut Vec<u8>) {
    let set = kind.set();
    out.reserve(text.len());
    for &byte in text {
        if has(set, byte) {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(byte);
        }
    }
}

/// How far unescaping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unescape {
    /// The whole text (type 0).
    Plain,
    /// Up to and including the first `?`, escaped or not (NGX_UNESCAPE_URI).
    Uri,
    /// As `Uri`, but only printable bytes above `%` are decoded (NGX_UNESCAPE_REDIRECT).
    Redirect,
}

/// Appends the text with its escapes decoded. Answers how many bytes of the text were read: all of them, unless
/// the kind stops at a `?`.
///
/// Broken escapes lose bytes as they do in nginx: `%zz` becomes `zz`, `%4z` vanishes.
pub fn unescape(kind: Unescape, text: &[u8], out: &mut Vec<u8>) -> usize {
    let stops = kind != Unescape::Plain;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte != b'%' {
            out.push(byte);
            if byte == b'?' && stops {
                return at;
            }
            continue;
        }
        let Some(&first) = text.get(at) else { break };
        at += 1;
        let Some(high) = digit(first) else {
            out.push(first);
            continue;
        };
        let Some(&second) = text.get(at) else { break };
        at += 1;
        let Some(low) = digit(second) else { continue };
        let decoded = high << 4 | low;
        if decoded == b'?' && stops {
            out.push(decoded);
            return at;
        }
        if kind == Unescape::Redirect && !(decoded > b'%' && decoded < 0x7f) {
            out.extend_from_slice(&[b'%', first, second]);
        } else {
            out.push(decoded);
        }
    }
    at
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Appends the text with `<`, `>`, `&` and `"` as entities.
pub fn escape_html(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            _ => out.push(byte),
        }
    }
}

/// Appends the text as the inside of a JSON string; bytes that are no UTF-8 stay as they are.
pub fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the ASCII bytes from space to DEL that a kind escapes.
    fn escaped(kind: Escape) -> String {
        (0x20..=0x7f).filter(|byte| count(kind, &[*byte]) == 1).map(char::from).collect()
    }

    #[test]
    fn the_sets_are_those_of_nginx() {
        assert_eq!(escaped(Escape::Uri), " \"#%<>?\\^`{|}\x7f");
        assert_eq!(escaped(Escape::Args), " \"#%&+;<>?\\^`{|}\x7f");
        assert_eq!(escaped(Escape::UriComponent), " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}\x7f");
        assert_eq!(escaped(Escape::Html), " \"#%'<>\\^`{|}\x7f");
        assert_eq!(escaped(Escape::Refresh), " \"'<>\\^`{|~\x7f");
        assert_eq!(escaped(Escape::Memcached), " %");
        assert_eq!(escaped(Escape::MailAuth), " %");
        for kind in [Escape::Uri, Escape::Args, Escape::UriComponent, Escape::Html, Escape::Refresh] {
            assert!((0..0x20).chain(0x80..=0xff).all(|byte| count(kind, &[byte]) == 1), "{kind:?}");
        }
        assert!((0..0x20).all(|byte| count(Escape::Memcached, &[byte]) == 1));
        assert!((0x80..=0xff).all(|byte| count(Escape::Memcached, &[byte]) == 0));
    }

    #[test]
    fn unescaping_reverses_escaping() {
        let every: Vec<u8> = (0..=255).collect();
        for kind in [Escape::Uri, Escape::Args, Escape::UriComponent, Escape::Html, Escape::Memcached] {
            let mut text = Vec::new();
            escape(kind, &every, &mut text);
            assert_eq!(text.len(), every.len() + 2 * count(kind, &every));
            let mut back = Vec::new();
            assert_eq!(unescape(Unescape::Plain, &text, &mut back), text.len());
            assert_eq!(back, every, "{kind:?}");
        }
    }

    #[test]
    fn broken_escapes_lose_bytes_as_in_nginx() {
        let cases: &[(Unescape, &str, &str, usize)] = &[
            (Unescape::Plain, "a%20b%2Fc", "a b/c", 9),
            (Unescape::Plain, "a+b?c%3fd", "a+b?c?d", 9),
            (Unescape::Plain, "%zz%4z%", "zz", 7),
            (Unescape::Plain, "%4", "", 2),
            (Unescape::Uri, "a%20?b%20", "a ?", 5),
            (Unescape::Uri, "a%3fb", "a?", 4),
            (Unescape::Redirect, "%41%20%25%7f%7e?%41", "A%20%25%7f~?", 16),
            (Unescape::Redirect, "%3f%41", "?", 3),
            (Unescape::Redirect, "%e9", "%e9", 3),
        ];
        for (kind, text, expected, read) in cases {
            let mut out = Vec::new();
            assert_eq!(unescape(*kind, text.as_bytes(), &mut out), *read, "{text}");
            assert_eq!(String::from_utf8_lossy(&out), *expected, "{text}");
        }
    }

    #[test]
    fn html_and_json_are_escaped() {
        let mut out = Vec::new();
        escape_html(b"<a href=\"x\">&'", &mut out);
        assert_eq!(out, b"&lt;a href=&quot;x&quot;&gt;&amp;'");
        out.clear();
        escape_json(b"\"\\\n\r\t\x08\x0c\x00\x1fe\xff", &mut out);
        assert_eq!(out, b"\\\"\\\\\\n\\r\\t\\b\\f\\u0000\\u001Fe\xff");
    }
}
