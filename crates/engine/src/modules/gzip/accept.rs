//! `Accept-Encoding` (RFC 9110, section 12.5.3).

/// Returns true if the value accepts a coding: it is named, and its weight is not 0. As in nginx `*` names none.
pub(super) fn accepts(value: &[u8], coding: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|entry| {
        let mut parts = entry.split(|byte| *byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(coding) && parts.all(|part| !is_zero(part))
    })
}

/// Returns true if a parameter is a weight of 0.
fn is_zero(parameter: &[u8]) -> bool {
    let parameter = parameter.trim_ascii();
    let weight = match parameter.split_at_checked(1) {
        Some((b"q" | b"Q", rest)) => rest.trim_ascii_start().strip_prefix(b"="),
        _ => None,
    };
    match weight.map(<[u8]>::trim_ascii) {
        Some([b'0']) => true,
        Some([b'0', b'.', digits @ ..]) => digits.iter().all(|digit| *digit == b'0'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_accepted_if_it_is_named_and_its_weight_is_not_0() {
        for (value, expected) in [
            ("gzip", true),
            ("GZip", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("gzip ; q=0.001", true),
            ("gzip;q=0", false),
            ("gzip; q = 0.000", false),
            ("gzip;q=0.", false),
            ("deflate", false),
            ("*", false),
            ("", false),
            ("agzip, gzipb", false),
            ("identity, gzip", true),
        ] {
            assert_eq!(accepts(value.as_bytes(), b"gzip"), expected, "{value}");
        }
    }
}
