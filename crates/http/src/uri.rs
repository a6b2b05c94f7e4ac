//! Request targets: from the raw bytes to the path that locations are matched against.
//!
//! Owns percent-decoding, dot segments and repeated slashes, after `ngx_http_parse_complex_uri`, and the check of
//! URIs that come from inside (`ngx_http_parse_unsafe_uri`). The decoded path must never climb above its root.

use std::ops::Range;

/// A path that is refused: a broken or forbidden escape, or `..` above the root. Answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUri;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Usual,
    Slash,
    Dot,
    DotDot,
}

/// Decodes and normalises a raw target, path and query, into `path` (cleared first). Returns where in `raw` the
/// query is, behind the first `?` and before any `#`; empty if there is none.
///
/// `%2F` and `%2E` count as `/` and `.`, while an escaped `?`, `#` or `%` loses its special meaning; `%00` is
/// refused. A target that begins with `?` (`http://host?query`) has the path `/`.
///
/// ```
/// use pointsman_http::uri::normalise;
///
/// let (raw, mut path) = (b"/shop/../a//%62?q=1", Vec::new());
/// let query = normalise(raw, true, &mut path)?;
/// assert_eq!((&path[..], &raw[query]), (&b"/a/b"[..], &b"q=1"[..]));
/// assert!(normalise(b"/../etc", true, &mut path).is_err());
/// # Ok::<(), pointsman_http::uri::InvalidUri>(())
/// ```
pub fn normalise(raw: &[u8], merge_slashes: bool, path: &mut Vec<u8>) -> Result<Range<usize>, InvalidUri> {
    path.clear();
    if raw.first() != Some(&b'/') {
        path.push(b'/');
    }
    let mut state = State::Usual;
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        let byte = match byte {
            b'%' => {
                let decoded = unhex(raw.get(at..at + 2).ok_or(InvalidUri)?)?;
                at += 2;
                match decoded {
                    0 => return Err(InvalidUri),
                    b'%' | b'#' | b'?' => {
                        path.push(decoded);
                        state = State::Usual;
                        continue;
                    }
                    _ => decoded,
                }
            }
            b'?' => {
                end_segment(state, path)?;
                let query = &raw[at..];
                let len = memchr::memchr(b'#', query).unwrap_or(query.len());
                return Ok(at..at + len);
            }
            b'#' => {
                at = raw.len();
                break;
            }
            _ => byte,
        };
        state = match (state, byte) {
            (State::Usual, b'/') => {
                path.push(b'/');
                State::Slash
            }
            (State::Slash, b'/') => {
                if !merge_slashes {
                    path.push(b'/');
                }
                State::Slash
            }
            (State::Dot | State::DotDot, b'/') => {
                end_segment(state, path)?;
                State::Slash
            }
            (State::Slash, b'.') => {
                path.push(b'.');
                State::Dot
            }
            (State::Dot, b'.') => {
                path.push(b'.');
                State::DotDot
            }
            _ => {
                path.push(byte);
                State::Usual
            }
        };
    }
    end_segment(state, path)?;
    Ok(at..at)
}

/// Takes back a last segment that is `.` or `..`; the path then ends with the slash before it.
fn end_segment(state: State, path: &mut Vec<u8>) -> Result<(), InvalidUri> {
    match state {
        State::Usual | State::Slash => {}
        State::Dot => {
            path.pop();
        }
        State::DotDot => {
            // "/../" is removed, and the segment before it: search from the byte before the slash of "/..".
            let before = path.len().checked_sub(3).ok_or(InvalidUri)?;
            let slash = memchr::memrchr(b'/', &path[..before]).ok_or(InvalidUri)?;
            path.truncate(slash + 1);
        }
    }
    Ok(())
}

fn unhex(pair: &[u8]) -> Result<u8, InvalidUri> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8).ok_or(InvalidUri);
    match pair {
        [high, low] => Ok(digit(*high)? << 4 | digit(*low)?),
        _ => Err(InvalidUri),
    }
}

/// Splits at the first `?`: the path, and the query without it.
pub fn split_query(uri: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'?', uri) {
        Some(at) => (&uri[..at], &uri[at + 1..]),
        None => (uri, b""),
    }
}

/// Decodes a URI that a script or an upstream named (`X-Accel-Redirect`, `ngx.exec`) into `path` (cleared first)
/// and returns its query. Refused: an empty path, a NUL, and `..` as a segment, escaped or not.
pub fn decode_internal<'a>(uri: &'a [u8], path: &mut Vec<u8>) -> Result<&'a [u8], InvalidUri> {
    path.clear();
    let (raw, query) = split_query(uri);
    if raw.is_empty() || climbs(raw) {
        return Err(InvalidUri);
    }
    if memchr::memchr(b'%', raw).is_some() {
        crate::escape::unescape(crate::escape::Unescape::Plain, raw, path);
    } else {
        path.extend_from_slice(raw);
    }
    // A truncated escape makes the path invalid.
    if path.is_empty() || memchr::memchr(0, path).is_some() || climbs(path) {
        path.clear();
        return Err(InvalidUri);
    }
    Ok(query)
}

/// Returns true if one of the segments is `..`.
fn climbs(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|segment| segment == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(raw: &[u8], merge: bool) -> Option<(String, String)> {
        let mut path = b"rest of before".to_vec();
        let query = normalise(raw, merge, &mut path).ok()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((text(&path), text(&raw[query])))
    }

    #[test]
    fn paths_are_normalised() {
        let cases: &[(&str, &str, &str)] = &[
            ("/", "/", ""),
            ("/a/b", "/a/b", ""),
            ("//a///b//", "/a/b/", ""),
            ("/./a/./", "/a/", ""),
            ("/a/.", "/a/", ""),
            ("/a/..", "/", ""),
            ("/a/../", "/", ""),
            ("/a/b/../../c", "/c", ""),
            ("/a/...", "/a/...", ""),
            ("/a/..b/.c", "/a/..b/.c", ""),
            ("/a./b../c", "/a./b../c", ""),
            ("/a/%2e%2E/b", "/b", ""),
            ("/a/%2e/b", "/a/b", ""),
            ("/a%2fb", "/a/b", ""),
            ("/a%2f%2fb", "/a/b", ""),
            ("/a/.%2e%2f", "/", ""),
            ("/%61%20+", "/a +", ""),
            ("/%3f%23%25", "/?#%", ""),
            ("/%252e%252e/", "/%2e%2e/", ""),
            ("/%3f/../x", "/x", ""),
            ("/.%3f", "/.?", ""),
            ("/..%23", "/..#", ""),
            ("/a?b/../c%", "/a", "b/../c%"),
            ("/a/.?x", "/a/", "x"),
            ("/a/..?x?y", "/", "x?y"),
            ("/a?x#frag?y", "/a", "x"),
            ("/a#frag?y", "/a", ""),
            ("/a/..#z", "/", ""),
            ("/a?", "/a", ""),
            ("?x=1", "/", "x=1"),
        ];
        for (raw, path, query) in cases {
            let expected = Some((path.to_string(), query.to_string()));
            assert_eq!(normalised(raw.as_bytes(), true), expected, "{raw}");
        }
    }

    #[test]
    fn slashes_are_merged_only_on_demand() {
        let cases: &[(&str, &str)] =
            &[("//a///b", "//a///b"), ("/a//../b", "/a/b"), ("/a//.//b", "/a///b"), ("//..", "/")];
        for (raw, path) in cases {
            assert_eq!(
                normalised(raw.as_bytes(), false).map(|(path, _)| path).as_deref(),
                Some(*path),
                "{raw}"
            );
        }
    }

    #[test]
    fn bad_paths_are_refused() {
        for raw in ["/..", "/../", "/a/../..", "/a/../../b", "/..?x", "/..#x", "/%2e%2e", "//..", "/.%2e/"] {
            assert_eq!(normalised(raw.as_bytes(), true), None, "{raw}");
        }
        for raw in ["/%", "/%4", "/%4g", "/%g4", "/%00", "/a%0", "/%%41", "/%?41"] {
            assert_eq!(normalised(raw.as_bytes(), true), None, "{raw}");
        }
    }

    #[test]
    fn a_normalised_path_never_climbs() {
        // Everything of up to seven tokens over the dangerous alphabet.
        let tokens: [&[u8]; 6] = [b"/", b".", b"%2e", b"%2f", b"a", b"?"];
        for number in 0..6usize.pow(7) {
            let mut raw = b"/".to_vec();
            let mut rest = number;
            while rest > 0 {
                raw.extend_from_slice(tokens[rest % 6]);
                rest /= 6;
            }
            for merge in [true, false] {
                let mut path = Vec::new();
                if normalise(&raw, merge, &mut path).is_ok() {
                    let name = bstr::BStr::new(&raw);
                    assert_eq!(path.first(), Some(&b'/'), "{name}");
                    assert!(!path.split(|byte| *byte == b'/').any(|segment| segment == b".."), "{name}");
                    assert!(!path.split(|byte| *byte == b'/').any(|segment| segment == b"."), "{name}");
                }
            }
        }
    }

    #[test]
    fn an_unsafe_internal_uri_is_refused() {
        let cases: &[(&str, Option<(&str, &str)>)] = &[
            ("/a/b?x=1", Some(("/a/b", "x=1"))),
            ("/a%20b?x%20", Some(("/a b", "x%20"))),
            ("name", Some(("name", ""))),
            ("/..a/b..", Some(("/..a/b..", ""))),
            ("", None),
            ("?x", None),
            ("%2.?x", None),
            ("%", None),
            ("../a", None),
            ("..", None),
            ("/a/../b", None),
            ("/a/..", None),
            ("/a/%2e%2e/b", None),
            ("/a%2f..", None),
            ("/a%00", None),
            ("/a\u{0}", None),
        ];
        for (uri, expected) in cases {
            let mut path = Vec::new();
            let query = decode_internal(uri.as_bytes(), &mut path).ok();
            let found = query.map(|query| {
                (String::from_utf8_lossy(&path).into_owned(), String::from_utf8_lossy(query).into_owned())
            });
            assert_eq!(found, expected.map(|(path, query)| (path.to_string(), query.to_string())), "{uri:?}");
        }
    }
}
