//! `Accept-Encoding` (RFC 9110, section 12.5.3).

/// The highest weight.
pub(crate) const MOST: u16 = 1000;

/// Returns the weight in thousandths that the value gives to a coding; `None` if that is not named, or has a weight of 0. As in
/// nginx `*` names none, and what is no weight counts as the highest.
pub(crate) fn weight(value: &[u8], coding: &[u8]) -> Option<u16> {
    value.split(|byte| *byte == b',').find_map(|entry| {
        let mut parts = entry.split(|byte| *byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        if !name.eq_ignore_ascii_case(coding) {
            return None;
        }
        let weight = parts.map(|part| weight_of(part).unwrap_or(MOST)).min().unwrap_or(MOST);
        (weight > 0).then_some(weight)
    })
}

/// Returns the value of a parameter that is a weight.
fn weight_of(parameter: &[u8]) -> Option<u16> {
    let parameter = parameter.trim_ascii();
    let Some((b"q" | b"Q", rest)) = parameter.split_at_checked(1) else { return None };
    let number = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
    let (whole, digits) = match number {
        [b'0'] => return Some(0),
        [whole, b'.', digits @ ..] => (*whole, digits),
        _ => return None,
    };
    if whole != b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let three = digits.iter().chain(b"000").take(3);
    let weight = three.fold(0, |weight, digit| weight * 10 + u16::from(digit - b'0'));
    // A weight beyond three digits is small, and yet not none.
    Some(weight.max(u16::from(digits.iter().any(|digit| *digit != b'0'))))
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
            assert_eq!(weight(value.as_bytes(), b"gzip").is_some(), expected, "{value}");
        }
    }

    #[test]
    fn weights_are_thousandths() {
        for (value, expected) in [
            ("br", Some(1000)),
            ("br;q=1", Some(1000)),
            ("br;q=0.5", Some(500)),
            ("gzip, br; q=0.123", Some(123)),
            ("br;q=0.0001", Some(1)),
            ("br;q=0.000", None),
            ("br;q=x", Some(1000)),
            ("gzip", None),
        ] {
            assert_eq!(weight(value.as_bytes(), b"br"), expected, "{value}");
        }
    }
}
