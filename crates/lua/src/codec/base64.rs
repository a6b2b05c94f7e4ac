//! Base64 (RFC 4648 section 4) as nginx decodes it and ngx_lua encodes it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const NO_DIGIT: u8 = 0xff;

static DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 64 {
        digits[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// Appends `source` encoded, with `=` at the end unless `padded` is false.
pub(crate) fn encode(source: &[u8], padded: bool, out: &mut Vec<u8>) {
    out.reserve(source.len().div_ceil(3) * 4);
    let digit = |value: u8| ALPHABET[usize::from(value & 63)];
    for group in source.chunks(3) {
        let (a, b, c) = (group[0], group.get(1).copied(), group.get(2).copied());
        out.push(digit(a >> 2));
        out.push(digit(a << 4 | b.unwrap_or(0) >> 4));
        if let Some(b) = b {
            out.push(digit(b << 2 | c.unwrap_or(0) >> 6));
        }
        if let Some(c) = c {
            out.push(digit(c));
        }
        if padded {
            out.extend_from_slice(&b"=="[..3 - group.len()]);
        }
    }
}

/// Appends `source` decoded; returns false if it is not base64. As in nginx, the first `=` ends the text, padding may
/// be missing, and surplus bits are dropped.
pub(crate) fn decode(source: &[u8], out: &mut Vec<u8>) -> bool {
    let end = source.iter().position(|&byte| byte == b'=').unwrap_or(source.len());
    let text = &source[..end];
    if text.len() % 4 == 1 || text.iter().any(|&byte| DIGITS[usize::from(byte)] == NO_DIGIT) {
        return false;
    }
    out.reserve(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for &byte in group {
            bits = bits << 6 | u32::from(DIGITS[usize::from(byte)]);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_with_and_without_padding() {
        for (source, padded, bare) in [
            ("", "", ""),
            ("f", "Zg==", "Zg"),
            ("fo", "Zm8=", "Zm8"),
            ("foo", "Zm9v", "Zm9v"),
            ("hello", "aGVsbG8=", "aGVsbG8"),
        ] {
            let mut out = Vec::new();
            encode(source.as_bytes(), true, &mut out);
            assert_eq!(out, padded.as_bytes());
            out.clear();
            encode(source.as_bytes(), false, &mut out);
            assert_eq!(out, bare.as_bytes());
            for text in [padded, bare] {
                let mut back = Vec::new();
                assert!(decode(text.as_bytes(), &mut back));
                assert_eq!(back, source.as_bytes());
            }
        }
    }

    #[test]
    fn invalid_base64_is_refused() {
        for text in ["a", "aGVs!G8=", "YQ\n", "aGVsb"] {
            assert!(!decode(text.as_bytes(), &mut Vec::new()), "{text}");
        }
        assert!(decode(b"aGVs====rubbish", &mut Vec::new()));
    }
}
