//! `$date_local` and `$date_gmt`, in the format of `config timefmt` (strftime(3), in the C locale).

use crate::clock::Now;
use crate::exchange::Exchange;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

/// The format without a `config`.
const USUAL: &[u8] = b"%A, %d-%b-%Y %H:%M:%S %Z";
/// A date that is longer is none.
const LONGEST: usize = 2048;

/// Appends the date; false if there is none in this format.
pub(crate) fn append_date(exchange: &Exchange, now: Now, is_local: bool, out: &mut Vec<u8>) -> bool {
    let format = exchange.subrequests.ssi.time_format.as_deref().unwrap_or(USUAL);
    if format == b"%s" {
        out.extend_from_slice(itoa::Buffer::new().format(now.epoch_s()).as_bytes());
        return true;
    }
    let Ok(time) = Timestamp::from_second(now.epoch_s() as i64) else { return false };
    let zone = match is_local {
        true => TimeZone::system(),
        false => Offset::UTC.to_time_zone(),
    };
    let text = formatted(&time.to_zoned(zone), is_local, format);
    out.extend_from_slice(&text);
    !text.is_empty() && text.len() < LONGEST
}

/// The formats that stand for several others.
const COMPOSED: [(u8, &[u8]); 8] = [
    (b'c', b"%a %b %e %H:%M:%S %Y"),
    (b'D', b"%m/%d/%y"),
    (b'F', b"%Y-%m-%d"),
    (b'r', b"%I:%M:%S %p"),
    (b'R', b"%H:%M"),
    (b'T', b"%H:%M:%S"),
    (b'x', b"%m/%d/%y"),
    (b'X', b"%H:%M:%S"),
];

fn formatted(time: &Zoned, is_local: bool, format: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = format;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let Some((&kind, after)) = rest.split_first().filter(|_| byte == b'%') else {
            out.push(byte);
            continue;
        };
        rest = after;
        if let Some((_, composed)) = COMPOSED.iter().find(|(known, _)| *known == kind) {
            out.extend_from_slice(&formatted(time, is_local, composed));
            continue;
        }
        match kind {
            b'%' => out.push(b'%'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'Z' if !is_local => out.extend_from_slice(b"GMT"),
            b'a' | b'A' | b'b' | b'B' | b'C' | b'd' | b'e' | b'g' | b'G' | b'h' | b'H' | b'I' | b'j'
            | b'k' | b'l' | b'm' | b'M' | b'p' | b'P' | b's' | b'S' | b'u' | b'U' | b'V' | b'w' | b'W'
            | b'y' | b'Y' | b'z' | b'Z' => {
                let own = [b'%', kind];
                let own = std::str::from_utf8(&own).unwrap_or_default();
                out.extend_from_slice(time.strftime(own).to_string().as_bytes());
            }
            _ => out.extend_from_slice(&[b'%', kind]),
        }
        if out.len() >= LONGEST {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_the_c_library() {
        let time = Timestamp::from_second(784_111_777).unwrap().to_zoned(Offset::UTC.to_time_zone());
        for (format, expected) in [
            ("%A, %d-%b-%Y %H:%M:%S %Z", "Sunday, 06-Nov-1994 08:49:37 GMT"),
            ("%c|%x|%X", "Sun Nov  6 08:49:37 1994|11/06/94|08:49:37"),
            ("%D %F %R %r", "11/06/94 1994-11-06 08:49 08:49:37 AM"),
            ("%a %B %e %I %j %y %z", "Sun November  6 08 310 94 +0000"),
            ("%u %w %U %W %V %G %g %C", "7 0 45 44 44 1994 94 19"),
            ("100%% %s", "100% 784111777"),
            ("%h%n%t%k%l%p%P", "Nov\n\t 8 8AMam"),
        ] {
            let text = formatted(&time, false, format.as_bytes());
            assert_eq!(String::from_utf8(text).unwrap(), expected, "{format}");
        }
    }
}
