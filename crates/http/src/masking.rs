//! Header lines on their way into a log, without the secrets in them.
//!
//! Owns which fields are secret and what is shown in their place. Every message that quotes a field or a line of a head
//! goes through here; the variables of `log_format` do not: what an access log shows is its author's choice.

/// The text that a log shows in place of a secret value.
pub const MASK: &[u8] = b"***";

/// Returns true if the value of a field of this name must not be logged: Authorization, Proxy-Authorization, Cookie,
/// Set-Cookie. Letter case is ignored, and so is every byte that is no letter: a misspelt name (`Set_Cookie`, a blank
/// before the colon) carries the same secret.
pub fn is_secret(name: &[u8]) -> bool {
    const SECRET: [&[u8]; 4] = [b"authorization", b"proxyauthorization", b"cookie", b"setcookie"];
    let letters = || name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase);
    SECRET.iter().any(|secret| letters().eq(secret.iter().copied()))
}

/// Appends `name: value`, the value masked if it is secret.
pub fn append_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(if is_secret(name) { MASK } else { value });
}

/// Appends a request line. Where a field has got into it behind a blank, as of a client that loses count of its own bytes,
/// everything after the colon of a secret one is masked.
pub fn append_request_line(line: &[u8], out: &mut Vec<u8>) {
    let field =
        line.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(colon, _)| colon).find(|colon| {
            let name =
                line[..*colon].iter().rposition(|byte| matches!(byte, b' ' | b'\t')).map(|blank| blank + 1);
            name.is_some_and(|name| line[name].is_ascii_alphabetic() && is_secret(&line[name..*colon]))
        });
    match field {
        Some(colon) => {
            out.extend_from_slice(&line[..=colon]);
            out.push(b' ');
            out.extend_from_slice(MASK);
        }
        None => append_lines(line, out),
    }
}

/// Appends bytes of a head as they came, whole lines or parts of them. Of a secret field everything after the colon is
/// masked, with the lines that continue it (RFC 9112 §5.2).
pub fn append_lines(text: &[u8], out: &mut Vec<u8>) {
    let mut in_secret = false;
    for line in text.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
        let len = line.len() - usize::from(line.ends_with(b"\r") || line.ends_with(b"\n"));
        let (line, end) = line.split_at(len);
        if line.is_empty() {
            out.extend_from_slice(end);
            continue;
        }
        let continued = in_secret && matches!(line.first(), Some(b' ' | b'\t'));
        if continued {
            out.extend_from_slice(MASK);
        } else {
            let colon = line.iter().position(|byte| *byte == b':');
            in_secret = colon.is_some_and(|colon| is_secret(&line[..colon]));
            match colon {
                Some(colon) if in_secret => {
                    out.extend_from_slice(&line[..=colon]);
                    if line.len() > colon + 1 {
                        out.push(b' ');
                        out.extend_from_slice(MASK);
                    }
                }
                _ => out.extend_from_slice(line),
            }
        }
        out.extend_from_slice(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> String {
        let mut out = Vec::new();
        append_lines(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn secret_names_are_known_in_any_spelling() {
        for name in ["Authorization", "PROXY-AUTHORIZATION", "cookie", "Set-Cookie", "set_cookie", "Cookie "]
        {
            assert!(is_secret(name.as_bytes()), "{name}");
        }
        for name in ["", "Host", "Authorization-Info", "X-Cookie", "Cookies", "WWW-Authenticate"] {
            assert!(!is_secret(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_field_in_a_request_line_is_masked() {
        for (line, masked) in [
            ("GET / HTTP/1.1 Cookie: s3cret", "GET / HTTP/1.1 Cookie: ***"),
            ("GET / HTTP/1.1 authorization:Bearer s3cret", "GET / HTTP/1.1 authorization: ***"),
            ("GET /Cookie:a?Cookie: HTTP/1.1", "GET /Cookie:a?Cookie: HTTP/1.1"),
            ("Cookie: s3cret", "Cookie: ***"),
            ("GET http://a:80/ HTTP/1.1", "GET http://a:80/ HTTP/1.1"),
        ] {
            let mut out = Vec::new();
            append_request_line(line.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), masked);
        }
    }

    #[test]
    fn a_secret_value_is_masked_to_its_end() {
        for (text, masked) in [
            ("Host: a", "Host: a"),
            ("Authorization: Bearer s3cret", "Authorization: ***"),
            ("authorization:s3cret", "authorization: ***"),
            ("Cookie:", "Cookie:"),
            ("Cooki", "Cooki"),
            ("X: Cookie: a", "X: Cookie: a"),
            ("Cookie: a=s3cret\r\nHost: b\r\n", "Cookie: ***\r\nHost: b\r\n"),
            ("X: y\nSet-Cookie: s3cret\n s3cret\n\ts3cret\nZ: z", "X: y\nSet-Cookie: ***\n***\n***\nZ: z"),
            ("X: y\r\n folded", "X: y\r\n folded"),
            ("X: y\rCookie: s3cret", "X: y\rCookie: ***"),
            ("Authorization:\r\n s3cret", "Authorization:\r\n***"),
        ] {
            assert_eq!(lines(text), masked, "{text:?}");
        }
    }

    #[test]
    fn a_field_is_masked_by_its_name() {
        let mut out = Vec::new();
        append_field(b"COOKIE", b"a=b", &mut out);
        append_field(b"; Host", b"a", &mut out);
        assert_eq!(out, b"COOKIE: ***; Host: a");
    }
}
