//! Byte ranges of a response: the `Range` header and multipart answers.
//!
//! Owns the reading of `bytes=…` after `ngx_http_range_parse` and the text between the parts of a
//! `multipart/byteranges` body. Whether ranges apply at all (`If-Range`, status) is for the caller to know.

use std::ops::Range;

/// The meaning of a `Range` header for a body of a given length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// It asks for nothing that is heeded: another unit, more ranges than allowed, or as many bytes as the whole has.
    /// The answer is 200.
    Whole,
    /// The ranges found are to be sent. The answer is 206.
    Parts,
    /// It is malformed or lies outside of the body. The answer is 416 with `Content-Range: bytes */LENGTH`.
    Unsatisfiable,
}

/// Parses a `Range` header for a body of `length` bytes. The ranges go to `ranges` (cleared first), in the order
/// asked for.
///
/// `max_ranges` is nginx's directive; `None` is its default, under which ranges are also refused when the parts'
/// heads would make the answer larger than the whole.
///
/// ```
/// use pointsman_http::range::{RangeAnswer, parse};
///
/// let mut ranges = Vec::new();
/// assert_eq!(parse(b"bytes=0-9,-5", 100, None, &mut ranges), RangeAnswer::Parts);
/// assert_eq!(ranges, [0..10, 95..100]);
/// assert_eq!(parse(b"bytes=100-", 100, None, &mut ranges), RangeAnswer::Unsatisfiable);
/// ```
pub fn parse(
    value: &[u8],
    length: u64,
    max_ranges: Option<u32>,
    ranges: &mut Vec<Range<u64>>,
) -> RangeAnswer {
    ranges.clear();
    let unit = value.get(..6).is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes="));
    if !unit || value.len() < 7 || max_ranges == Some(0) {
        return RangeAnswer::Whole;
    }
    let answer = parse_set(&value[6..], length, max_ranges, ranges);
    if answer != RangeAnswer::Parts {
        ranges.clear();
    }
    answer
}

fn parse_set(set: &[u8], length: u64, max_ranges: Option<u32>, ranges: &mut Vec<Range<u64>>) -> RangeAnswer {
    let mut size: u64 = 0;
    for spec in set.split(|byte| *byte == b',') {
        let Some(range) = parse_spec(spec, length) else {
            return RangeAnswer::Unsatisfiable;
        };
        if range.start < range.end {
            size = match size.checked_add(range.end - range.start) {
                Some(size) if size <= i64::MAX as u64 => size,
                _ => return RangeAnswer::Unsatisfiable,
            };
            ranges.push(range);
            if max_ranges.is_some_and(|max| ranges.len() > max as usize) {
                return RangeAnswer::Whole;
            }
        } else if range.start == 0 {
            return RangeAnswer::Whole;
        }
    }
    match ranges.len() {
        0 => RangeAnswer::Unsatisfiable,
        1 => RangeAnswer::Parts,
        _ if size > length => RangeAnswer::Whole,
        parts if max_ranges.is_none() && size + parts as u64 * 256 > length + 4096 => RangeAnswer::Whole,
        _ => RangeAnswer::Parts,
    }
}

/// Parses one `first-last`, `first-` or `-count`; the range may be empty or lie outside of the body.
fn parse_spec(spec: &[u8], length: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_at(memchr::memchr(b'-', spec)?);
    let (first, last) = (trim(first), &last[1..]);
    if first.is_empty() {
        // nginx accepts no space behind the dash of a suffix.
        let count = if last.first() == Some(&b' ') { None } else { offset(trim(last)) }?;
        return Some(length.saturating_sub(count)..length);
    }
    let start = offset(first)?;
    let last = trim(last);
    if last.is_empty() {
        return Some(start..length);
    }
    let end = offset(last)?;
    Some(start..length.min(end.saturating_add(1)))
}

/// Trims spaces: nginx allows them around numbers, and nothing else.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// Parses decimal digits within an `off_t`.
fn offset(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (number <= i64::MAX as u64).then_some(number)
}

/// Appends the value of `Content-Range` for one range: `bytes 0-499/1234`.
pub fn content_range(range: &Range<u64>, length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"bytes ");
    numbers(range, length, out);
}

/// Appends the value of `Content-Range` for 416: `bytes */1234`.
pub fn unsatisfied_content_range(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"bytes */");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
}

fn numbers(range: &Range<u64>, length: u64, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(range.start).as_bytes());
    out.push(b'-');
    out.extend_from_slice(digits.format(range.end.saturating_sub(1)).as_bytes());
    out.push(b'/');
    out.extend_from_slice(digits.format(length).as_bytes());
}

/// The separator of the parts of a multipart answer: twenty digits, as nginx makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary([u8; 20]);

impl Boundary {
    /// Makes a boundary from a number that should differ from answer to answer.
    pub fn new(number: u64) -> Boundary {
        let mut digits = [b'0'; 20];
        let mut text = itoa::Buffer::new();
        let text = text.format(number).as_bytes();
        digits[20 - text.len()..].copy_from_slice(text);
        Boundary(digits)
    }

    /// Appends `multipart/byteranges; boundary=…`.
    pub fn content_type(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"multipart/byteranges; boundary=");
        out.extend_from_slice(&self.0);
    }

    /// Appends the lines before a part. The content type is that of the whole, charset included; without one
    /// the line is left out.
    pub fn part_head(&self, content_type: &[u8], range: &Range<u64>, length: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.0);
        if !content_type.is_empty() {
            out.extend_from_slice(b"\r\nContent-Type: ");
            out.extend_from_slice(content_type);
        }
        out.extend_from_slice(b"\r\nContent-Range: bytes ");
        numbers(range, length, out);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Appends the lines behind the last part.
    pub fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.0);
        out.extend_from_slice(b"--\r\n");
    }

    /// Returns the length of the whole multipart body, bytes. `scratch` is cleared and used.
    pub fn body_len(
        &self,
        content_type: &[u8],
        ranges: &[Range<u64>],
        length: u64,
        scratch: &mut Vec<u8>,
    ) -> u64 {
        let mut total = 0;
        for range in ranges {
            scratch.clear();
            self.part_head(content_type, range, length, scratch);
            total += scratch.len() as u64 + (range.end - range.start);
        }
        scratch.clear();
        self.end(scratch);
        total + scratch.len() as u64
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of one range are what is tested")]
mod tests {
    use super::*;

    fn parsed(value: &str, length: u64, max: Option<u32>) -> (RangeAnswer, Vec<Range<u64>>) {
        let mut ranges = vec![9..10];
        (parse(value.as_bytes(), length, max, &mut ranges), ranges)
    }

    #[test]
    fn satisfiable_ranges_are_sent() {
        let cases: &[(&str, &[Range<u64>])] = &[
            ("bytes=0-0", &[0..1]),
            ("BYTES=0-9", &[0..10]),
            ("bytes=10-", &[10..1000]),
            ("bytes=-10", &[990..1000]),
            ("bytes= -10 ", &[990..1000]),
            ("bytes=-2000", &[0..1000]),
            ("bytes=900-5000", &[900..1000]),
            ("bytes= 1 - 2 , 4-5", &[1..3, 4..6]),
            ("bytes=5-6,0-1", &[5..7, 0..2]),
            ("bytes=0-1,2000-3000", &[0..2]),
            ("bytes=0-9223372036854775807", &[0..1000]),
        ];
        for (value, ranges) in cases {
            assert_eq!(parsed(value, 1000, None), (RangeAnswer::Parts, ranges.to_vec()), "{value}");
        }
    }

    #[test]
    fn unsatisfiable_ranges_are_refused() {
        for value in [
            "bytes=x",
            "bytes=1000-",
            "bytes=2000-3000",
            "bytes=-",
            "bytes=1",
            "bytes=1-2x",
            "bytes=1-2,",
            "bytes=,1-2",
            "bytes=5-4",
            "bytes=9223372036854775808-",
            "bytes=0-9223372036854775808",
            "bytes=1--2",
            "bytes=\t1-2",
            "bytes=- 5",
        ] {
            assert_eq!(parsed(value, 1000, None), (RangeAnswer::Unsatisfiable, vec![]), "{value}");
        }
        assert_eq!(parsed("bytes=-0", 1000, None).0, RangeAnswer::Unsatisfiable);
        assert_eq!(parsed("bytes=1-", 0, None).0, RangeAnswer::Unsatisfiable);
    }

    #[test]
    fn unsupported_ranges_are_ignored() {
        for value in ["lines=0-1", "bytes=", "bytes", "", "bytes=0-999,0-999"] {
            assert_eq!(parsed(value, 1000, None), (RangeAnswer::Whole, vec![]), "{value}");
        }
        assert_eq!(parsed("bytes=0-", 0, None).0, RangeAnswer::Whole);
        assert_eq!(parsed("bytes=0-1", 1000, Some(0)).0, RangeAnswer::Whole);
        assert_eq!(parsed("bytes=0-1", 1000, Some(1)).0, RangeAnswer::Parts);
        assert_eq!(parsed("bytes=0-1,3-4", 1000, Some(1)).0, RangeAnswer::Whole);
        let many = format!("bytes={}0-0", "0-0,".repeat(30));
        assert_eq!(parsed(&many, 1000, None).0, RangeAnswer::Whole, "31 heads outweigh the whole");
        assert_eq!(parsed(&many, 1000, Some(100)).0, RangeAnswer::Parts);
    }

    #[test]
    fn a_multipart_body_has_the_announced_length() {
        let boundary = Boundary::new(12);
        let mut out = Vec::new();
        boundary.content_type(&mut out);
        assert_eq!(out, b"multipart/byteranges; boundary=00000000000000000012");
        out.clear();
        boundary.part_head(b"text/plain", &(3..7), 10, &mut out);
        let head =
            b"\r\n--00000000000000000012\r\nContent-Type: text/plain\r\nContent-Range: bytes 3-6/10\r\n\r\n";
        assert_eq!(out, head);
        out.clear();
        boundary.part_head(b"", &(3..7), 10, &mut out);
        assert_eq!(out, b"\r\n--00000000000000000012\r\nContent-Range: bytes 3-6/10\r\n\r\n");
        out.clear();
        boundary.end(&mut out);
        assert_eq!(out, b"\r\n--00000000000000000012--\r\n");
        let end = out.len();
        assert_eq!(boundary.body_len(b"text/plain", &[3..7], 10, &mut out), (head.len() + 4 + end) as u64);
        out.clear();
        content_range(&(0..5), 10, &mut out);
        out.push(b'|');
        unsatisfied_content_range(10, &mut out);
        assert_eq!(out, b"bytes 0-4/10|bytes */10");
    }
}
