//! A time as an option's value: a span, or a moment of the past.
//!
//! Owns their notations: nginx's for a span, history's and a clock's for a moment. Must never judge how long is too long: the
//! server does.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// Checks a time in nginx's notation; the server parses it again.
pub(crate) fn time(text: &str) -> Result<String, String> {
    match conf::value::parse_time_ms(text.as_bytes()) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected a time such as 30s, 10m or 1h30m".into()),
    }
}

/// Returns the milliseconds of a time that [`time`] has accepted.
pub(crate) fn ms(text: &str) -> u64 {
    conf::value::parse_time_ms(text.as_bytes()).unwrap_or_default()
}

/// Parses a moment of the past as milliseconds since 1970: `2h` ago, `15:20` of the last 24 hours, `2026-11-30`, or
/// `2026-11-30 15:29:04`, with `Z` or an offset (as `history` prints it) or in the reader's time zone.
pub(crate) fn past(text: &str) -> Result<u64, String> {
    past_at(text, &Zoned::now())
}

fn past_at(text: &str, now: &Zoned) -> Result<u64, String> {
    let of = |zone: &TimeZone, at: DateTime| at.to_zoned(zone.clone()).map(|at| at.timestamp()).ok();
    let zone = now.time_zone();
    let text = text.trim();
    let span = || {
        let ago = i64::try_from(conf::value::parse_time_ms(text.as_bytes())?).ok()?;
        now.timestamp().checked_sub(ago.milliseconds()).ok()
    };
    let clock = || {
        let today = of(zone, now.date().to_datetime(text.parse::<Time>().ok()?))?;
        match today > now.timestamp() {
            true => of(zone, now.yesterday().ok()?.date().to_datetime(text.parse::<Time>().ok()?)),
            false => Some(today),
        }
    };
    let moment = span()
        .or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| of(zone, text.parse::<DateTime>().ok()?))
        .or_else(clock)
        .ok_or("expected a time such as 30m, 2h or 7d ago, 15:20, or 2026-11-30 15:29:04")?;
    if moment > now.timestamp() {
        return Err("that is a time to come".into());
    }
    u64::try_from(moment.as_millisecond()).map_err(|_| "that is before 1970".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_span_a_clock_time_or_what_history_prints() {
        let now: Zoned = "2026-11-30T15:45:00+01:00[+01:00]".parse().unwrap();
        let at = |text: &str| {
            let moment = past_at(text, &now).ok().map(|ms| Timestamp::from_millisecond(ms as i64).unwrap());
            moment.map_or_else(String::new, |moment| moment.to_string())
        };
        for (text, moment) in [
            ("30m", "2026-11-30T14:15:00Z"),
            ("1h30m", "2026-11-30T13:15:00Z"),
            ("15:20", "2026-11-30T14:20:00Z"),
            ("15:20:31", "2026-11-30T14:20:31Z"),
            ("16:00", "2026-11-29T15:00:00Z"),
            ("2026-11-30 15:29:04", "2026-11-30T14:29:04Z"),
            ("2026-11-30 15:29", "2026-11-30T14:29:00Z"),
            ("2026-11-30", "2026-11-29T23:00:00Z"),
            ("2026-11-30 13:29:04+00:00", "2026-11-30T13:29:04Z"),
            ("2026-11-30T13:29:04Z", "2026-11-30T13:29:04Z"),
            ("2026-11-30 16:00:00+05:30", "2026-11-30T10:30:00Z"),
        ] {
            assert_eq!(at(text), moment, "{text}");
        }
        for text in ["", "soon", "25:00", "2026-13-01", "2026-12-01", "2026-11-30 15:50", "1960-01-01", "-1h"]
        {
            assert_eq!(at(text), "", "{text}");
        }
    }
}
