//! The `Range` header: `http::range`.
//!
//! Compares ranges with the bounds of the body, a second reading of the simple forms, their own text, and the length of a
//! multipart body with the body itself. The first byte chooses the length, the second the allowed number of ranges.

use bstr::BStr;
use http::range::{Boundary, RangeAnswer, parse};
use std::ops::Range;

const LENGTHS: [u64; 10] = [0, 1, 2, 10, 100, 1000, 65_536, 1 << 32, i64::MAX as u64 - 1, i64::MAX as u64];
const ALLOWED: [Option<u32>; 5] = [None, None, Some(0), Some(1), Some(5)];

pub(crate) fn check(data: &[u8]) {
    let [length, allowed, value @ ..] = data else { return };
    let length = LENGTHS[usize::from(*length) % LENGTHS.len()];
    let allowed = ALLOWED[usize::from(*allowed) % ALLOWED.len()];
    let mut ranges: Vec<Range<u64>> = std::iter::once(7..9).collect();
    let answer = parse(value, length, allowed, &mut ranges);
    if answer != RangeAnswer::Parts {
        assert!(ranges.is_empty());
    } else {
        within(&ranges, length, allowed);
        written_anew(&ranges, length, allowed);
        lengths_agree(&ranges, length);
    }
    if let Some(expected) = simple(value, length)
        && allowed != Some(0)
    {
        assert_eq!((answer, &ranges), (expected.0, &expected.1), "{:?} of {length}", BStr::new(value));
    }
}

/// Checks that ranges lie in the body and are not longer than it.
fn within(ranges: &[Range<u64>], length: u64, allowed: Option<u32>) {
    assert!(!ranges.is_empty());
    assert!(allowed.is_none_or(|allowed| ranges.len() <= allowed as usize));
    let mut sum: u128 = 0;
    for range in ranges {
        assert!(range.start < range.end && range.end <= length, "{range:?} of {length}");
        sum += u128::from(range.end - range.start);
    }
    assert!(sum <= u128::from(length), "{sum} bytes of {length}");
}

fn written_anew(ranges: &[Range<u64>], length: u64, allowed: Option<u32>) {
    let specs: Vec<String> =
        ranges.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
    let mut again = Vec::new();
    let answer = parse(format!("bytes={}", specs.join(",")).as_bytes(), length, allowed, &mut again);
    assert_eq!((answer, &*again), (RangeAnswer::Parts, ranges));
}

/// Checks that the announced length of a multipart body is the length that is sent.
fn lengths_agree(ranges: &[Range<u64>], length: u64) {
    let boundary = Boundary::new(length.wrapping_mul(0x9e37_79b9));
    let mut scratch = Vec::new();
    for content_type in [&b""[..], b"text/html; charset=utf-8"] {
        let told = boundary.body_len(content_type, ranges, length, &mut scratch);
        let mut sent: u64 = 0;
        let mut text = Vec::new();
        for range in ranges {
            boundary.part_head(content_type, range, length, &mut text);
            sent += range.end - range.start;
        }
        boundary.end(&mut text);
        assert_eq!(told, sent + text.len() as u64);
    }
}

/// Reads one range in its simplest form.
fn simple(value: &[u8], length: u64) -> Option<(RangeAnswer, Vec<Range<u64>>)> {
    let (first, last) = std::str::from_utf8(value).ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let digits = |text: &str| text.len() < 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let number = |text: &str| text.parse::<u64>().ok();
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) => first..length.min(last + 1),
        (Some(first), None) => first..length,
        (None, Some(count)) => length.saturating_sub(count)..length,
        (None, None) => return Some((RangeAnswer::Unsatisfiable, Vec::new())),
    };
    Some(if range.start < range.end {
        (RangeAnswer::Parts, vec![range])
    } else if range.start == 0 {
        (RangeAnswer::Whole, Vec::new())
    } else {
        (RangeAnswer::Unsatisfiable, Vec::new())
    })
}
