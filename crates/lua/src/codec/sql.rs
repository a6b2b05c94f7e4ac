//! `ngx.quote_sql_str`: a MySQL string literal.

/// Appends `source` in single quotes, with backslashes before the characters that MySQL treats specially.
pub(crate) fn quote(source: &[u8], out: &mut Vec<u8>) {
    out.reserve(source.len() + 2);
    out.push(b'\'');
    for &byte in source {
        let letter = match byte {
            0 => b'0',
            0x08 => b'b',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x1a => b'Z',
            b'\\' | b'\'' | b'"' => byte,
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        let mut out = Vec::new();
        quote("a\0\n\r\t\x08\x1a\\'\"é".as_bytes(), &mut out);
        assert_eq!(out, "'a\\0\\n\\r\\t\\b\\Z\\\\\\'\\\"é'".as_bytes());
    }
}
