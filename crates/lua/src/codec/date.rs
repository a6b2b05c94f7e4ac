//! Dates as `ngx.*` writes and reads them. Seconds since the epoch in, text out; UTC unless an offset is given.

const DAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAY_S: i64 = 86400;

/// A point in time in the proleptic Gregorian calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Civil {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
    /// 0 is Sunday.
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

/// The longest span, in either direction, that [`Civil`] can hold; times beyond it are clamped.
const FURTHEST_S: i64 = i64::MAX / 4;

impl Civil {
    fn at(unix_s: i64) -> Civil {
        let unix_s = unix_s.clamp(-FURTHEST_S, FURTHEST_S);
        let days = unix_s.div_euclid(DAY_S);
        let rest = unix_s.rem_euclid(DAY_S);
        // Years are counted from 1 March 0000, in eras of 400 years, so that the leap day comes last.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    fn unix_s(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let march_month = (self.month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        days * DAY_S + self.hour * 3600 + self.minute * 60 + self.second
    }
}

/// Appends `2010-11-19`, at an offset from UTC.
pub(crate) fn day(unix_s: i64, offset_s: i64, out: &mut Vec<u8>) {
    let at = Civil::at(unix_s.saturating_add(offset_s));
    digits(at.year, 4, out);
    out.push(b'-');
    digits(at.month, 2, out);
    out.push(b'-');
    digits(at.day, 2, out);
}

/// Appends `2010-11-19 20:56:31`, at an offset from UTC.
pub(crate) fn day_and_time(unix_s: i64, offset_s: i64, out: &mut Vec<u8>) {
    day(unix_s, offset_s, out);
    out.push(b' ');
    clock(Civil::at(unix_s.saturating_add(offset_s)), out);
}

/// Appends `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
pub(crate) fn http(unix_s: i64, out: &mut Vec<u8>) {
    let at = Civil::at(unix_s);
    weekday_and_day(at, b' ', out);
    digits(at.year, 4, out);
    out.push(b' ');
    clock(at, out);
    out.extend_from_slice(b" GMT");
}

/// Appends `Sun, 06-Nov-94 08:49:37 GMT`, with the year in full after 2037, which two digits would not tell.
pub(crate) fn cookie(unix_s: i64, out: &mut Vec<u8>) {
    let at = Civil::at(unix_s);
    weekday_and_day(at, b'-', out);
    if at.year > 2037 {
        digits(at.year, 4, out);
    } else {
        digits(at.year.rem_euclid(100), 2, out);
    }
    out.push(b' ');
    clock(at, out);
    out.extend_from_slice(b" GMT");
}

/// Parses the three formats of RFC 9110 section 5.6.7, as leniently about names of days as nginx does.
pub(crate) fn parse_http(text: &[u8]) -> Option<i64> {
    let at = match text.iter().position(|&byte| byte == b',' || byte == b' ')? {
        comma if text[comma] == b',' => parse_with_weekday(trim_start(&text[comma + 1..]))?,
        space => parse_asctime(trim_start(&text[space + 1..]))?,
    };
    let leap = at.year % 4 == 0 && (at.year % 100 != 0 || at.year % 400 == 0);
    let longest = match at.month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let plausible = (1..=longest).contains(&at.day) && at.hour <= 23 && at.minute <= 59 && at.second <= 59;
    plausible.then(|| at.unix_s())
}

/// Parses `06 Nov 1994 08:49:37 GMT` or `06-Nov-94 08:49:37 GMT`.
fn parse_with_weekday(text: &[u8]) -> Option<Civil> {
    let day = number(text.get(..2)?)?;
    let separator = *text.get(2)?;
    let month = month(text.get(3..6)?)?;
    if *text.get(6)? != separator {
        return None;
    }
    let (year, rest) = match separator {
        b' ' => (number(text.get(7..11)?)?, text.get(11..)?),
        b'-' => {
            let short = number(text.get(7..9)?)?;
            (if short < 70 { 2000 + short } else { 1900 + short }, text.get(9..)?)
        }
        _ => return None,
    };
    let (hour, minute, second) = time_of_day(trim_start(rest))?;
    Some(Civil { year, month, day, weekday: 0, hour, minute, second })
}

/// Parses `Nov  6 08:49:37 1994`.
fn parse_asctime(text: &[u8]) -> Option<Civil> {
    let month = month(text.get(..3)?)?;
    let day = match text.get(4..6)? {
        [b' ', one] => number(&[*one])?,
        two => number(two)?,
    };
    let rest = trim_start(text.get(6..)?);
    let (hour, minute, second) = time_of_day(rest)?;
    let year = number(trim_start(rest.get(8..)?).get(..4)?)?;
    Some(Civil { year, month, day, weekday: 0, hour, minute, second })
}

fn time_of_day(text: &[u8]) -> Option<(i64, i64, i64)> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *text.get(..8)? else { return None };
    Some((number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?))
}

fn trim_start(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|&&byte| byte == b' ').count();
    &text[spaces..]
}

fn month(name: &[u8]) -> Option<i64> {
    MONTHS.iter().position(|month| &month[..] == name).map(|at| at as i64 + 1)
}

fn number(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, &byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn weekday_and_day(at: Civil, separator: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(DAYS[at.weekday]);
    out.extend_from_slice(b", ");
    digits(at.day, 2, out);
    out.push(separator);
    out.extend_from_slice(MONTHS[(at.month - 1) as usize]);
    out.push(separator);
}

fn clock(at: Civil, out: &mut Vec<u8>) {
    digits(at.hour, 2, out);
    out.push(b':');
    digits(at.minute, 2, out);
    out.push(b':');
    digits(at.second, 2, out);
}

fn digits(value: i64, width: usize, out: &mut Vec<u8>) {
    let mut raw = [b'0'; 20];
    let mut left = value.unsigned_abs();
    let mut at = raw.len();
    while left > 0 || raw.len() - at < width {
        at -= 1;
        raw[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&raw[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_are_written_in_every_form() {
        assert_eq!(written(|out| http(784111777, out)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(written(|out| http(0, out)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(written(|out| cookie(1290079655, out)), "Thu, 18-Nov-10 11:27:35 GMT");
        assert_eq!(written(|out| cookie(2169518400, out)), "Fri, 01-Oct-2038 04:00:00 GMT");
        assert_eq!(written(|out| day_and_time(951782400, 0, out)), "2000-02-29 00:00:00");
        assert_eq!(written(|out| day_and_time(951782400, -3600, out)), "2000-02-28 23:00:00");
        assert_eq!(written(|out| day(951782400, 8 * 3600, out)), "2000-02-29");
    }

    #[test]
    fn the_three_forms_are_read() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse_http(text.as_bytes()), Some(784111777), "{text}");
        }
        for text in
            ["", "nonsense", "Sun, 06 Nov", "Thu, 30 Feb 2012 00:00:00 GMT", "Sun, 06 Nov 1994 24:00:00 GMT"]
        {
            assert_eq!(parse_http(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn writing_and_reading_agree() {
        for step in 0..4000i64 {
            let unix_s = step * 86400 * 13 + step * 7919;
            let text = written(|out| http(unix_s, out));
            assert_eq!(parse_http(text.as_bytes()), Some(unix_s), "{text}");
        }
    }
}
