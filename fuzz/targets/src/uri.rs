//! Paths and escapes: `http::uri` and `http::escape`.
//!
//! Compares normalisation with a second implementation and with its repetition, and escapes with their inverse.

use bstr::BStr;
use http::escape::{self, Escape, Unescape};
use http::uri;

/// Checks a normalised path.
pub(crate) fn is_normal(path: &[u8], merge_slashes: bool) {
    assert_eq!(path.first(), Some(&b'/'), "{:?}", BStr::new(path));
    assert!(!path.contains(&0), "{:?}", BStr::new(path));
    assert!(!merge_slashes || !path.windows(2).any(|pair| pair == b"//"), "{:?}", BStr::new(path));
    let climbs = path.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..");
    assert!(!climbs, "{:?}", BStr::new(path));
}

pub(crate) fn check(data: &[u8]) {
    let mut path = Vec::new();
    escapes(data);
    let (before, query) = uri::split_query(data);
    assert!(data.starts_with(before) && data.ends_with(query) && !before.contains(&b'?'));
    if let Ok(query) = uri::decode_internal(data, &mut path) {
        assert!(!path.is_empty() && !path.contains(&0));
        assert!(!path.split(|byte| *byte == b'/').any(|segment| segment == b".."));
        assert!(data.ends_with(query));
    }
    // An accepted target begins with one of these, and has no control byte.
    if !matches!(data.first(), Some(b'/' | b'?')) || data.iter().any(u8::is_ascii_control) {
        return;
    }
    for merge_slashes in [true, false] {
        let told = uri::normalise(data, merge_slashes, &mut path).map(|query| data[query].to_vec());
        let expected = reread(data, merge_slashes);
        match &told {
            Ok(query) => {
                is_normal(&path, merge_slashes);
                assert_eq!(
                    Some((BStr::new(&path), BStr::new(query))),
                    expected.as_ref().map(|(p, q)| (BStr::new(p), BStr::new(q)))
                );
                let mut escaped = Vec::new();
                escape::escape(Escape::Uri, &path, &mut escaped);
                let mut again = Vec::new();
                assert_eq!(
                    uri::normalise(&escaped, merge_slashes, &mut again),
                    Ok(escaped.len()..escaped.len())
                );
                assert_eq!(BStr::new(&again), BStr::new(&path));
            }
            Err(_) => assert_eq!(expected, None),
        }
    }
}

/// Returns the path and the query, or `None` if the target is bad: decoded as a whole first, then split into segments.
fn reread(raw: &[u8], merge_slashes: bool) -> Option<(Vec<u8>, Vec<u8>)> {
    // Each byte, and whether it is literal.
    let mut decoded: Vec<(u8, bool)> =
        if raw.first() == Some(&b'/') { Vec::new() } else { vec![(b'/', false)] };
    let mut at = 0;
    let mut query: &[u8] = &[];
    while at < raw.len() {
        match raw[at] {
            b'?' => {
                query = raw[at + 1..].split(|byte| *byte == b'#').next().unwrap_or_default();
                break;
            }
            b'#' => break,
            b'%' => {
                let digits = std::str::from_utf8(raw.get(at + 1..at + 3)?).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                let byte = u8::from_str_radix(digits, 16).ok().filter(|byte| *byte != 0)?;
                decoded.push((byte, b"%?#".contains(&byte)));
                at += 3;
            }
            byte => {
                decoded.push((byte, false));
                at += 1;
            }
        }
    }
    let mut segments: Vec<Vec<u8>> = Vec::new();
    let mut parts = decoded[1..].split(|(byte, _)| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let bytes: Vec<u8> = part.iter().map(|(byte, _)| *byte).collect();
        match &*bytes {
            b"." | b".." => {
                if bytes == b".." {
                    segments.pop()?;
                }
                if last {
                    segments.push(Vec::new());
                }
            }
            b"" if merge_slashes && !last => {}
            _ => segments.push(bytes),
        }
    }
    let mut path = Vec::new();
    for segment in &segments {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    Some((path, query.to_vec()))
}

fn escapes(data: &[u8]) {
    use Escape::{Args, Html, MailAuth, Memcached, Refresh, Uri, UriComponent};
    let (mut escaped, mut back) = (Vec::new(), Vec::new());
    for kind in [Uri, Args, UriComponent, Html, Refresh, Memcached, MailAuth] {
        escaped.clear();
        escape::escape(kind, data, &mut escaped);
        assert_eq!(escaped.len(), data.len() + 2 * escape::count(kind, data));
        assert!(
            !escaped.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b' ')),
            "{:?}",
            BStr::new(&escaped)
        );
        if kind != Refresh {
            back.clear();
            assert_eq!(escape::unescape(Unescape::Plain, &escaped, &mut back), escaped.len());
            assert_eq!(BStr::new(&back), BStr::new(data), "{kind:?}");
        }
    }
    for kind in [Unescape::Plain, Unescape::Uri, Unescape::Redirect] {
        back.clear();
        let read = escape::unescape(kind, data, &mut back);
        assert!(read <= data.len() && back.len() <= data.len().max(read));
    }
    back.clear();
    escape::escape_html(data, &mut back);
    assert!(!back.iter().any(|byte| b"<>\"".contains(byte)));
    if let Ok(text) = std::str::from_utf8(data) {
        let mut json = b"\"".to_vec();
        escape::escape_json(data, &mut json);
        json.push(b'"');
        assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
    }
}
