//! Values of directives: sizes, times, flags and numbers.
//!
//! Owns nginx's spelling of them (nginx.org, "Configuration file measurement units"). A function returns `None` where
//! nginx refuses the text; the message belongs to the directive.

/// Parses a size in bytes: digits, then nothing, `k`, `m` or `g` in either case. nginx's "offset".
pub fn parse_size(text: &[u8]) -> Option<u64> {
    scaled(text, true)
}

/// Parses a size in bytes for the directives that have no gigabytes: digits, then nothing, `k` or `m`. nginx's "size",
/// used for buffers and shared memory zones.
pub fn parse_buffer_size(text: &[u8]) -> Option<u64> {
    scaled(text, false)
}

fn scaled(text: &[u8], giga: bool) -> Option<u64> {
    let (digits, scale) = match text.split_last()? {
        (b'k' | b'K', digits) => (digits, 1 << 10),
        (b'm' | b'M', digits) => (digits, 1 << 20),
        (b'g' | b'G', digits) if giga => (digits, 1 << 30),
        _ => (text, 1),
    };
    let size = parse_number(digits)?.checked_mul(scale)?;
    i64::try_from(size).is_ok().then_some(size)
}

/// Parses a number without a sign, as nginx does: digits only, at most what a signed 64-bit number holds.
pub fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let number = text.iter().try_fold(0i64, |sum, byte| {
        let digit = byte.is_ascii_digit().then_some(i64::from(*byte) - i64::from(b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })?;
    u64::try_from(number).ok()
}

/// Parses `on` or `off`, in either case.
pub fn parse_flag(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"on") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"off") {
        Some(false)
    } else {
        None
    }
}

/// Parses a time in milliseconds, nginx's "time" of timeouts: numbers with the units w d h m s ms, each
/// at most once and in that order, spaces between allowed; a bare number at the end is seconds.
///
/// ```
/// use pointsman_conf::value::parse_time_ms;
///
/// assert_eq!(parse_time_ms(b"1m 30s"), Some(90_000));
/// assert_eq!(parse_time_ms(b"30s 1m"), None);
/// ```
pub fn parse_time_ms(text: &[u8]) -> Option<u64> {
    time(text, false)
}

/// Parses a time in seconds, nginx's "time" of cache times and `expires`: as [`parse_time_ms`], with y and M
/// (365 and 30 days) and without ms.
pub fn parse_time_s(text: &[u8]) -> Option<u64> {
    time(text, true)
}

/// The units in their order, largest first: letter, seconds.
const UNITS: [(u8, u64); 7] = [
    (b'y', 365 * 86_400),
    (b'M', 30 * 86_400),
    (b'w', 7 * 86_400),
    (b'd', 86_400),
    (b'h', 3_600),
    (b'm', 60),
    (b's', 1),
];

fn time(text: &[u8], seconds: bool) -> Option<u64> {
    const MAX: u64 = i64::MAX as u64;
    // The first unit that may still come; a blank after a number counts as "s", and ends what may come.
    const MS: usize = UNITS.len();
    const END: usize = UNITS.len() + 1;
    let thousand = if seconds { 1 } else { 1000 };
    let mut next = if seconds { 0 } else { 2 };
    let (mut total, mut value, mut any) = (0u64, 0u64, false);
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if byte.is_ascii_digit() {
            value =
                value.checked_mul(10)?.checked_add(u64::from(byte - b'0')).filter(|value| *value <= MAX)?;
            any = true;
            continue;
        }
        let scale = if *byte == b'm' && rest.first() == Some(&b's') {
            if seconds || next > MS {
                return None;
            }
            rest = &rest[1..];
            next = END;
            1
        } else if *byte == b' ' {
            if next >= MS {
                return None;
            }
            next = END;
            thousand
        } else {
            let at = UNITS.iter().position(|(letter, _)| letter == byte)?;
            if at < next {
                return None;
            }
            next = at + 1;
            UNITS[at].1 * thousand
        };
        total = value.checked_mul(scale)?.checked_add(total).filter(|total| *total <= MAX)?;
        value = 0;
        while let Some((b' ', after)) = rest.split_first() {
            rest = after;
        }
    }
    if !any {
        return None;
    }
    value.checked_mul(thousand)?.checked_add(total).filter(|total| *total <= MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes_and_bounds() {
        for (text, size) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("8k", Some(8192)),
            ("8K", Some(8192)),
            ("5M", Some(5 << 20)),
            ("2g", Some(2 << 30)),
            ("", None),
            ("k", None),
            ("1kk", None),
            ("-1", None),
            ("1.5m", None),
            (" 1", None),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("9007199254740992k", None),
        ] {
            assert_eq!(parse_size(text.as_bytes()), size, "{text}");
        }
        assert_eq!(parse_buffer_size(b"1g"), None);
        assert_eq!(parse_buffer_size(b"1m"), Some(1 << 20));
    }

    #[test]
    fn times_have_units_in_falling_order() {
        for (text, ms) in [
            ("60", Some(60_000)),
            ("60s", Some(60_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("1s500ms", Some(1500)),
            ("1m1", Some(61_000)),
            ("1 ", Some(1000)),
            ("1 2", Some(3000)),
            ("1d", Some(86_400_000)),
            ("2w", Some(1_209_600_000)),
            ("1y", None),
            ("1M", None),
            ("1m1h", None),
            ("1ms1s", None),
            ("1ms1ms", None),
            ("", None),
            ("s", None),
            ("1x", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("9223372036854775807", None),
        ] {
            assert_eq!(parse_time_ms(text.as_bytes()), ms, "{text}");
        }
        for (text, s) in [
            ("1y", Some(31_536_000)),
            ("1M", Some(2_592_000)),
            ("1y1M", Some(34_128_000)),
            ("30d", Some(2_592_000)),
            ("90", Some(90)),
            ("1ms", None),
            ("1M1y", None),
            ("9223372036854775807", Some(i64::MAX as u64)),
        ] {
            assert_eq!(parse_time_s(text.as_bytes()), s, "{text}");
        }
    }

    #[test]
    fn a_flag_is_on_or_off_in_any_case() {
        assert_eq!(parse_flag(b"on"), Some(true));
        assert_eq!(parse_flag(b"OFF"), Some(false));
        assert_eq!(parse_flag(b"yes"), None);
    }
}
