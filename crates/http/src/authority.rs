//! `host[:port]`, as in `Host` and in absolute-form targets.
//!
//! Owns which bytes make a host, after `ngx_http_validate_host` (RFC 3986 §3.2.2), and the form in which hosts are
//! compared: lower case, no port, no final dot.

use crate::scan;

/// The authority is no host: an unexpected byte, two dots in a row, an open bracket, no name, a bad port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHost;

/// Each byte of a host in lower case; 0 for a byte that no host has. Allowed are unreserved, sub-delims and `%`.
static FOLDED: [u8; 256] = folded();

const fn folded() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        let allowed = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
            || matches!(byte, b'*' | b'+' | b',' | b';' | b'=' | b'%');
        if allowed {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
}

/// Splits and checks an authority. The host goes to `host` (cleared first) in the form for comparing, brackets of
/// an IPv6 literal included; the result is the port, 0 if none is given. After an error
/// `host` is empty.
pub fn parse(authority: &[u8], host: &mut Vec<u8>) -> Result<u16, InvalidHost> {
    host.clear();
    let result = split(authority, host);
    if result.is_err() {
        host.clear();
    }
    result
}

fn split(authority: &[u8], host: &mut Vec<u8>) -> Result<u16, InvalidHost> {
    let literal = authority.first() == Some(&b'[');
    let host_len = if literal {
        let close = authority.iter().position(|byte| *byte == b']').ok_or(InvalidHost)?;
        close + 1
    } else {
        scan::colon(authority).unwrap_or(authority.len())
    };
    let (name, port) = authority.split_at(host_len);
    host.extend_from_slice(name);
    if literal {
        // Names may hold a percent sign but no colon, IPv6 literals the other way round.
        fold(&mut host[1..host_len - 1], |byte| match byte {
            b':' => b':',
            b'%' => 0,
            other => FOLDED[other as usize],
        })?;
    } else if fold(host, |byte| FOLDED[byte as usize])? == b'.' {
        host.pop();
    }
    if host.is_empty() {
        return Err(InvalidHost);
    }
    parse_port(port)
}

/// Converts every byte of a host to the form for comparing, and returns the last one; 0 for a byte that no host has.
#[inline]
fn fold(host: &mut [u8], folded: impl Fn(u8) -> u8) -> Result<u8, InvalidHost> {
    let mut before = 0;
    for byte in host {
        let folded = folded(*byte);
        if folded == 0 || (folded == b'.' && before == b'.') {
            return Err(InvalidHost);
        }
        before = folded;
        *byte = folded;
    }
    Ok(before)
}

/// Parses `:digits`, `:` alone or nothing.
fn parse_port(text: &[u8]) -> Result<u16, InvalidHost> {
    let Some((colon, digits)) = text.split_first() else {
        return Ok(0);
    };
    if *colon != b':' {
        return Err(InvalidHost);
    }
    digits.iter().try_fold(0u16, |port, byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0')).ok_or(InvalidHost)?;
        port.checked_mul(10).and_then(|port| port.checked_add(digit)).ok_or(InvalidHost)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_split_and_lowered() {
        let cases: &[(&str, &str, u16)] = &[
            ("Shop.Example.COM", "shop.example.com", 0),
            ("shop.example.com:8080", "shop.example.com", 8080),
            ("shop.example.com.:80", "shop.example.com", 80),
            ("a_b~c!$&'()*+,;=%41", "a_b~c!$&'()*+,;=%41", 0),
            ("127.0.0.1", "127.0.0.1", 0),
            ("[::1]", "[::1]", 0),
            ("[FE80::1]:443", "[fe80::1]", 443),
            ("h:", "h", 0),
            ("h:65535", "h", 65535),
            ("h:00080", "h", 80),
            (".h", ".h", 0),
        ];
        for (authority, host, port) in cases {
            let mut out = b"old".to_vec();
            assert_eq!(parse(authority.as_bytes(), &mut out), Ok(*port), "{authority}");
            assert_eq!(out, host.as_bytes(), "{authority}");
        }
    }

    #[test]
    fn an_invalid_host_is_refused() {
        let cases = [
            "", ".", ":80", "a..b", "a b", "a/b", "a@b", "a\\b", "a\"b", "a\u{0}", "é", "h:x", "h:65536",
            "h:80:90", "[::1", "[::1]x", "[::1]80", "[a/b]", "[::%41]", "h:-1", "a?b", "a#b", "a]", "a[",
        ];
        for authority in cases {
            let mut host = b"old".to_vec();
            assert_eq!(parse(authority.as_bytes(), &mut host), Err(InvalidHost), "{authority:?}");
            assert!(host.is_empty());
        }
    }
}
