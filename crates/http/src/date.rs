//! Dates as HTTP and nginx's logs write them.
//!
//! Owns the calendar (proleptic Gregorian, no leap seconds) and the formats. It never asks for the time or the
//! time zone: both are arguments. The texts of the last second asked for are cached for each thread: all requests of
//! one second share them.

use std::cell::Cell;

const SECONDS_PER_DAY: u64 = 86_400;
/// The last second of year 9999, the last with four digits; nginx stops there too.
const LATEST_S: u64 = 253_402_300_799;
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTH_DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A moment, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 1970 to 9999.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 59.
    pub second: u64,
    /// Days since Thursday, modulo seven: the epoch was one.
    weekday: usize,
}

impl Civil {
    /// Returns the civil time so many seconds after the epoch, in UTC.
    pub fn from_epoch_s(epoch_s: u64) -> Civil {
        let epoch_s = epoch_s.min(LATEST_S);
        let days = epoch_s / SECONDS_PER_DAY;
        let second = epoch_s % SECONDS_PER_DAY;
        // Years begin in March here, so that the leap day is the last of one; eras have 400 years.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Civil {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            weekday: (days % 7) as usize,
        }
    }

    /// Returns the civil time at a place so many seconds east of UTC; never before the epoch.
    pub fn local(epoch_s: u64, utc_offset_s: i32) -> Civil {
        Civil::from_epoch_s(epoch_s.saturating_add_signed(i64::from(utc_offset_s)))
    }
}

/// Writes digits and words into a fixed array, which holds exactly what the format needs.
struct Pen<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Pen<'_> {
    fn text(&mut self, text: &[u8]) -> &mut Self {
        self.out[self.at..self.at + text.len()].copy_from_slice(text);
        self.at += text.len();
        self
    }

    fn two(&mut self, number: u64) -> &mut Self {
        self.text(&[b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8])
    }

    fn four(&mut self, number: u64) -> &mut Self {
        self.two(number / 100).two(number)
    }

    fn clock(&mut self, time: &Civil) -> &mut Self {
        self.two(time.hour).text(b":").two(time.minute).text(b":").two(time.second)
    }

    fn month(&mut self, time: &Civil) -> &mut Self {
        self.text(MONTHS[time.month as usize - 1])
    }

    fn offset(&mut self, utc_offset_s: i32, between: &[u8]) -> &mut Self {
        // nginx counts minutes and rounds towards zero.
        let minutes = u64::from(utc_offset_s.unsigned_abs()) / 60;
        let sign: &[u8] = if utc_offset_s / 60 < 0 { b"-" } else { b"+" };
        self.text(sign).two(minutes / 60).text(between).two(minutes % 60)
    }
}

/// Formats `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate, RFC 9110 §5.6.7).
pub fn http_date(epoch_s: u64) -> [u8; 29] {
    let time = Civil::from_epoch_s(epoch_s);
    let mut out = [0; 29];
    let mut pen = Pen { out: &mut out, at: 0 };
    pen.text(WEEKDAYS[time.weekday]).text(b", ").two(time.day).text(b" ").month(&time).text(b" ");
    pen.four(time.year).text(b" ").clock(&time).text(b" GMT");
    out
}

thread_local! {
    static LAST_HTTP_DATE: Cell<(u64, [u8; 29])> = const { Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT")) };
    static LAST_LOG_TIME: Cell<(u64, i32, [u8; 26])> = const { Cell::new((0, 0, *b"01/Jan/1970:00:00:00 +0000")) };
}

/// Does the same as [`http_date`] for the current second: formatted once for all requests within it.
pub fn present_http_date(epoch_s: u64) -> [u8; 29] {
    let (known, text) = LAST_HTTP_DATE.get();
    if known == epoch_s {
        return text;
    }
    let text = http_date(epoch_s);
    LAST_HTTP_DATE.set((epoch_s, text));
    text
}

/// Does the same as [`log_time`] for the current second: formatted once for all requests within it.
pub fn present_log_time(epoch_s: u64, utc_offset_s: i32) -> [u8; 26] {
    let (known, offset, text) = LAST_LOG_TIME.get();
    if (known, offset) == (epoch_s, utc_offset_s) {
        return text;
    }
    let text = log_time(epoch_s, utc_offset_s);
    LAST_LOG_TIME.set((epoch_s, utc_offset_s, text));
    text
}

/// Formats `06/Nov/1994:08:49:37 +0000`: `$time_local`.
pub fn log_time(epoch_s: u64, utc_offset_s: i32) -> [u8; 26] {
    let time = Civil::local(epoch_s, utc_offset_s);
    let mut out = [0; 26];
    let mut pen = Pen { out: &mut out, at: 0 };
    pen.two(time.day).text(b"/").month(&time).text(b"/").four(time.year).text(b":").clock(&time);
    pen.text(b" ").offset(utc_offset_s, b"");
    out
}

/// Formats `1994-11-06T08:49:37+00:00`: `$time_iso8601`.
pub fn iso8601(epoch_s: u64, utc_offset_s: i32) -> [u8; 25] {
    let time = Civil::local(epoch_s, utc_offset_s);
    let mut out = [0; 25];
    let mut pen = Pen { out: &mut out, at: 0 };
    pen.four(time.year).text(b"-").two(time.month).text(b"-").two(time.day).text(b"T").clock(&time);
    pen.offset(utc_offset_s, b":");
    out
}

/// Formats `1994/11/06 08:49:37`: the beginning of a line in the error log.
pub fn error_log_time(epoch_s: u64, utc_offset_s: i32) -> [u8; 19] {
    let time = Civil::local(epoch_s, utc_offset_s);
    let mut out = [0; 19];
    let mut pen = Pen { out: &mut out, at: 0 };
    pen.four(time.year).text(b"/").two(time.month).text(b"/").two(time.day).text(b" ").clock(&time);
    out
}

/// Formats `Nov  6 08:49:37`: the beginning of a syslog line (RFC 3164).
pub fn syslog_time(epoch_s: u64, utc_offset_s: i32) -> [u8; 15] {
    let time = Civil::local(epoch_s, utc_offset_s);
    let mut out = [0; 15];
    let mut pen = Pen { out: &mut out, at: 0 };
    pen.month(&time).text(b" ").two(time.day).text(b" ").clock(&time);
    if time.day < 10 {
        out[4] = b' ';
    }
    out
}

/// Parses one of the three forms of RFC 9110 §5.6.7: IMF-fixdate, RFC 850 and asctime. Weekday and zone are ignored,
/// as in nginx; a date before the epoch is refused.
pub fn parse_http_date(text: &[u8]) -> Option<u64> {
    let start = text.iter().position(|byte| matches!(byte, b',' | b' '))?;
    let asctime = text[start] == b' ';
    let rest = &text[start + 1..];
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let mut reader = Reader { rest: &rest[spaces..] };
    let (year, month, day, clock);
    if asctime {
        month = reader.month()?;
        // Any byte, as in nginx.
        reader.next()?;
        day = reader.day_of_asctime()?;
        reader.take(b' ')?;
        clock = reader.clock()?;
        reader.take(b' ')?;
        year = reader.digits(4)?;
    } else {
        day = reader.digits(2)?;
        let separator = reader.next()?;
        month = reader.month()?;
        reader.take(separator)?;
        year = match separator {
            b' ' => reader.digits(4)?,
            b'-' => {
                let short = reader.digits(2)?;
                short + if short < 70 { 2000 } else { 1900 }
            }
            _ => return None,
        };
        reader.take(b' ')?;
        clock = reader.clock()?;
    }
    epoch_s(year, month, day).map(|midnight| midnight + clock)
}

/// Returns midnight of a day in seconds after the epoch, if there is such a day.
fn epoch_s(year: u64, month: usize, day: u64) -> Option<u64> {
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let days = MONTH_DAYS[month] + u64::from(leap && month == 1);
    if day == 0 || day > days || year < 1970 {
        return None;
    }
    let years = year - 1;
    // 719,162 days lie between the first of January of the years 1 and 1970.
    let before_year = 365 * years + years / 4 - years / 100 + years / 400 - 719_162;
    let before_month = MONTH_DAYS[..month].iter().sum::<u64>() + u64::from(leap && month > 1);
    Some((before_year + before_month + day - 1) * SECONDS_PER_DAY)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    fn digits(&mut self, count: usize) -> Option<u64> {
        let (digits, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        digits
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
    }

    /// Returns the number of the month, from 0.
    fn month(&mut self) -> Option<usize> {
        let (name, rest) = self.rest.split_at_checked(3)?;
        self.rest = rest;
        MONTHS.iter().position(|month| *month == name)
    }

    /// Parses two digits, a space and a digit, or a digit alone.
    fn day_of_asctime(&mut self) -> Option<u64> {
        if self.rest.first() == Some(&b' ') {
            self.next();
        }
        let both = self.rest.get(1).is_some_and(u8::is_ascii_digit);
        self.digits(if both { 2 } else { 1 })
    }

    fn clock(&mut self) -> Option<u64> {
        let hour = self.digits(2)?;
        self.take(b':')?;
        let minute = self.digits(2)?;
        self.take(b':')?;
        let second = self.digits(2)?;
        (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_cached_text_equals_a_fresh_one() {
        let moments =
            [0, 0, 1, 1_700_000_000, 1_700_000_000, 1_699_999_999, LATEST_S, LATEST_S + 1, 0, u64::MAX];
        for epoch_s in moments {
            assert_eq!(present_http_date(epoch_s), http_date(epoch_s));
            for offset_s in [0, 0, 3600, 3600, -5400] {
                assert_eq!(present_log_time(epoch_s, offset_s), log_time(epoch_s, offset_s));
            }
        }
    }

    #[test]
    fn each_format_is_that_of_nginx() {
        let at = 784_111_777;
        assert_eq!(text(&http_date(at)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(&http_date(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(&http_date(951_782_400)), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(&http_date(u64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(&log_time(at, 0)), "06/Nov/1994:08:49:37 +0000");
        assert_eq!(text(&log_time(at, 20_700)), "06/Nov/1994:14:34:37 +0545");
        assert_eq!(text(&log_time(at, -12_600)), "06/Nov/1994:05:19:37 -0330");
        assert_eq!(text(&iso8601(at, 7_200)), "1994-11-06T10:49:37+02:00");
        assert_eq!(text(&iso8601(at, -43_200)), "1994-11-05T20:49:37-12:00");
        assert_eq!(text(&error_log_time(at, 0)), "1994/11/06 08:49:37");
        assert_eq!(text(&syslog_time(at, 0)), "Nov  6 08:49:37");
        assert_eq!(text(&syslog_time(at + 864_000, 0)), "Nov 16 08:49:37");
    }

    #[test]
    fn the_three_forms_parse() {
        for form in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun Nov 06 08:49:37 1994",
            "Sun Nov 6 08:49:37 1994",
            "Sun,06 Nov 1994 08:49:37",
        ] {
            assert_eq!(parse_http_date(form.as_bytes()), Some(784_111_777), "{form}");
        }
        assert_eq!(parse_http_date(b"Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(parse_http_date(b"Monday, 01-Jan-69 00:00:00 GMT"), Some(3_124_224_000));
    }

    #[test]
    fn other_texts_do_not_parse() {
        for none in [
            "",
            "x",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Wed, 29 Feb 2023 00:00:00 GMT",
            "Thu, 29 Feb 2100 00:00:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:60 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Xxx 1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994",
            "Sun Nov  6 08:49:37",
        ] {
            assert_eq!(parse_http_date(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn a_written_date_is_that_of_httpdate_and_is_read_back_for_600_years() {
        let mut previous = Civil::from_epoch_s(0);
        for day in 1..219_150 {
            let at = day * SECONDS_PER_DAY + day % SECONDS_PER_DAY;
            let time = Civil::from_epoch_s(at);
            assert_eq!(parse_http_date(&http_date(at)), Some(at));
            let theirs = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
            assert_eq!(text(&http_date(at)), httpdate::fmt_http_date(theirs));
            assert_eq!(time.weekday, (previous.weekday + 1) % 7);
            let next_day = time.day == previous.day + 1 && time.month == previous.month;
            assert!(next_day || time.day == 1, "{previous:?} {time:?}");
            previous = time;
        }
    }
}
