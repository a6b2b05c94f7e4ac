//! How far a response that is fetched in pieces has come.

use std::ops::Range;

/// See the module.
#[derive(Debug)]
pub(crate) struct SliceRecord {
    /// The size of a piece.
    pub(super) size: u64,
    /// The piece that is being fetched: its bounds, as `$slice_range` has them.
    pub(super) asked: Range<u64>,
    /// Where the piece that is to come next begins.
    pub(super) start: u64,
    /// What the client gets of the response.
    pub(super) wanted: Range<u64>,
    /// The tag of the pieces so far.
    pub(super) etag: Option<Vec<u8>>,
    /// The head of the piece that is being fetched has come.
    pub(super) is_active: bool,
}

impl SliceRecord {
    /// Begins with the piece in which this byte is.
    pub(super) fn new(size: u64, from: u64) -> SliceRecord {
        let start = from / size * size;
        let asked = start..start.saturating_add(size);
        SliceRecord { size, asked, start, wanted: 0..u64::MAX, etag: None, is_active: false }
    }

    /// Appends the range of the piece that is being fetched.
    pub(super) fn append_range(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("bytes={}-{}", self.asked.start, self.asked.end - 1).as_bytes());
    }

    /// Takes the range that the client gets of the response. What is before it need not be fetched.
    pub(crate) fn choose(&mut self, wanted: Range<u64>) {
        if self.start.saturating_add(self.size) <= wanted.start {
            self.start = wanted.start / self.size * self.size;
        }
        self.wanted = wanted;
    }

    /// Goes on to the next piece. Returns false if there is none.
    pub(super) fn next(&mut self) -> bool {
        if self.start >= self.wanted.end {
            return false;
        }
        self.asked = self.start..self.start.saturating_add(self.size);
        self.is_active = false;
        true
    }
}

/// The filter of one piece's body.
#[derive(Debug)]
pub(crate) struct SliceBody {
    /// Where the next byte is in the whole.
    pub(super) position: u64,
    /// A further piece did not come.
    pub(super) failed: bool,
}

impl SliceBody {
    /// Creates one for a piece that begins there.
    pub(super) fn new(position: u64) -> SliceBody {
        SliceBody { position, failed: false }
    }
}

/// Returns the first byte that a `Range` of one part asks for; 0 of one that does not say.
pub(super) fn first_wanted(range: &[u8]) -> u64 {
    let Some((unit, rest)) = range.split_at_checked(6) else { return 0 };
    if !unit.eq_ignore_ascii_case(b"bytes=") || rest.contains(&b',') {
        return 0;
    }
    let digits: &[u8] = rest.trim_ascii_start();
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // One with more digits than a number has is as one without.
    std::str::from_utf8(&digits[..len])
        .ok()
        .and_then(|digits| digits.parse::<i64>().ok())
        .map_or(0, i64::unsigned_abs)
}

/// Reads `bytes FIRST-LAST/WHOLE`: the range, and the length of the whole unless that is `*`.
pub(super) fn parse_content_range(value: &[u8]) -> Option<(Range<u64>, Option<u64>)> {
    fn number(text: &mut &[u8]) -> Option<u64> {
        let trimmed = text.trim_ascii_start();
        let len = trimmed.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = trimmed.split_at(len);
        *text = rest.trim_ascii_start();
        std::str::from_utf8(digits).ok()?.parse::<i64>().ok().map(i64::unsigned_abs)
    }
    fn mark(text: &mut &[u8], mark: u8) -> Option<()> {
        *text = text.strip_prefix(&[mark])?;
        Some(())
    }
    let mut text = value.strip_prefix(b"bytes ")?;
    let first = number(&mut text)?;
    mark(&mut text, b'-')?;
    let end = number(&mut text)?.checked_add(1)?;
    mark(&mut text, b'/')?;
    let whole = match text.trim_ascii() {
        b"*" => None,
        _ => Some(number(&mut text)?).filter(|_| text.is_empty()).map(Some)?,
    };
    (first < end).then_some((first..end, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        for (text, expected) in [
            ("bytes 0-9/100", Some((0..10, Some(100)))),
            ("bytes 10-19/*", Some((10..20, None))),
            ("bytes  10 - 19 / 100 ", Some((10..20, Some(100)))),
            ("bytes */100", None),
            ("bytes 10-9/100", None),
            ("bytes 0-9/", None),
            ("bytes 0-9/100x", None),
            ("bytes 0-9223372036854775808/1", None),
            ("items 0-9/100", None),
        ] {
            assert_eq!(parse_content_range(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_first_piece_is_that_of_the_first_byte_that_is_wanted() {
        for (text, expected) in [
            ("bytes=0-", 0),
            ("bytes=250-300", 250),
            ("BYTES= 250-", 250),
            ("bytes=-5", 0),
            ("bytes=1-2,5-6", 0),
            ("bytes", 0),
            ("bytes=99999999999999999999-", 0),
        ] {
            assert_eq!(first_wanted(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn pieces_follow_each_other_up_to_what_is_wanted() {
        let mut record = SliceRecord::new(100, 250);
        let mut text = Vec::new();
        record.append_range(&mut text);
        assert_eq!(text, b"bytes=200-299");
        record.start = 300;
        record.choose(250..360);
        assert!(record.next());
        assert_eq!(record.asked, 300..400);
        record.start = 400;
        assert!(!record.next());
        // The first piece was fetched in vain: only its head said where the range is.
        let mut record = SliceRecord::new(100, 0);
        record.start = 100;
        record.choose(950..1000);
        assert!(record.next());
        assert_eq!(record.asked, 900..1000);
    }
}
