//! `expires`: how long an answer may be kept.

use super::{http_date, last_modified_s};
use crate::config::{Builder, invalid_value};
use crate::exchange::Exchange;
use crate::host::{Env, Now};
use crate::template::Template;
use conf::Diagnostic;
use http::Known;

const DAY_S: i64 = 24 * 60 * 60;

/// `expires` of one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expires {
    /// The two fields are left alone.
    Off,
    /// The same for every request.
    Fixed(Lifetime),
    /// It depends on variables.
    Computed {
        /// With `modified`.
        modified: bool,
        /// The text with the time; an invalid one counts as `off`.
        value: Template,
    },
}

/// The time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It was over long ago.
    Epoch,
    /// As long as can be said.
    Max,
    /// So many seconds from the request on.
    Access(i64),
    /// So many seconds from the last change on.
    Modified(i64),
    /// Until the next time this second of the local day comes.
    Daily(i64),
}

/// Reads the directive.
pub(super) fn parse(b: &mut Builder<'_>, d: &conf::Directive) -> Result<Expires, Diagnostic> {
    let (word, modified) = match d.args.as_slice() {
        [word] => (word, false),
        [first, word] if first.text() == "modified" => (word, true),
        [first, ..] => return Err(invalid_value(first).help("with two arguments the first is `modified`")),
        [] => return Err(invalid_value(&d.name)),
    };
    let value = b.template(word)?;
    match value.constant() {
        None => Ok(Expires::Computed { modified, value }),
        Some(text) => match read(text, modified) {
            Ok(Some(lifetime)) => Ok(Expires::Fixed(lifetime)),
            Ok(None) => Ok(Expires::Off),
            Err(fault) => {
                let fault = Diagnostic::error(word.span, fault);
                Err(fault.help("for example: 30d, -1, @18h30m, modified +1h, epoch, max, off"))
            }
        },
    }
}

/// Reads the value (ngx_http_parse_expires); `None` is `off`.
fn read(text: &[u8], modified: bool) -> Result<Option<Lifetime>, &'static str> {
    match text {
        b"epoch" if !modified => return Ok(Some(Lifetime::Epoch)),
        b"max" if !modified => return Ok(Some(Lifetime::Max)),
        b"off" if !modified => return Ok(None),
        [b'@', ..] if modified => return Err("daily time cannot be used with \"modified\" parameter"),
        _ => {}
    }
    let (sign, digits) = match text {
        [b'@' | b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => (1, text),
    };
    let seconds = conf::value::parse_time_s(digits).and_then(|seconds| i64::try_from(seconds).ok());
    let seconds = sign * seconds.ok_or("invalid value")?;
    match text {
        [b'@', ..] if seconds > DAY_S => Err("daily time value must be less than 24 hours"),
        [b'@', ..] => Ok(Some(Lifetime::Daily(seconds))),
        _ if modified => Ok(Some(Lifetime::Modified(seconds))),
        _ => Ok(Some(Lifetime::Access(seconds))),
    }
}

impl Expires {
    /// Sets the two fields (ngx_http_set_expires).
    pub(super) fn apply(&self, exchange: &mut Exchange, env: &mut Env<'_>) {
        let lifetime = match self {
            Expires::Off => return,
            Expires::Fixed(lifetime) => *lifetime,
            Expires::Computed { modified, value } => {
                let text = super::evaluate(exchange, env, value);
                let lifetime = read(&text, *modified);
                exchange.scratch = text;
                let Ok(Some(lifetime)) = lifetime else { return };
                lifetime
            }
        };
        let modified_s = last_modified_s(&exchange.response).and_then(|seconds| i64::try_from(seconds).ok());
        let (expires_s, max_age) = lifetime.resolve(env.host.now(), modified_s);
        let headers = &mut exchange.response.headers;
        headers.set_known(Known::Expires, &http_date(expires_s));
        match max_age {
            Some(seconds) => {
                let mut digits = itoa::Buffer::new();
                let digits = digits.format(seconds).as_bytes();
                let mut value = [0; b"max-age=".len() + 20];
                value[..8].copy_from_slice(b"max-age=");
                value[8..8 + digits.len()].copy_from_slice(digits);
                headers.set_known(Known::CacheControl, &value[..8 + digits.len()]);
            }
            None => headers.set_known(Known::CacheControl, b"no-cache"),
        }
    }
}

impl Lifetime {
    /// Returns the date of `Expires` in seconds since the epoch, and `max-age` in seconds; without one it is
    /// `no-cache`.
    fn resolve(self, now: Now, modified_s: Option<i64>) -> (u64, Option<u64>) {
        let now_s = i64::try_from(now.epoch_s()).unwrap_or(i64::MAX);
        let (expires_s, negative) = match self {
            Lifetime::Epoch => return (1, None),
            // 31 December 2037, 23:55:55, and ten years.
            Lifetime::Max => return (2_145_916_555, Some(315_360_000)),
            Lifetime::Access(0) | Lifetime::Modified(0) => return (now.epoch_s(), Some(0)),
            Lifetime::Daily(second) => (next_time(second, now_s, i64::from(now.utc_offset_s)), false),
            Lifetime::Access(seconds) => (now_s.saturating_add(seconds), seconds < 0),
            Lifetime::Modified(seconds) => (modified_s.unwrap_or(now_s).saturating_add(seconds), seconds < 0),
        };
        let max_age = u64::try_from(expires_s - now_s).ok().filter(|_| !negative);
        (u64::try_from(expires_s).unwrap_or(0), max_age)
    }
}

/// Returns the next time of this second of the local day. A change of the clocks in between is not considered.
fn next_time(second: i64, now_s: i64, utc_offset_s: i64) -> i64 {
    let midnight = now_s - (now_s + utc_offset_s).rem_euclid(DAY_S);
    let today = midnight + second;
    if today > now_s { today } else { today + DAY_S }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_000_000_000; // 2001-09-09 01:46:40 UTC

    fn resolved(text: &str, modified: bool, modified_s: Option<i64>) -> (i64, Option<u64>) {
        let now = Now { epoch_us: NOW_S * 1_000_000, utc_offset_s: 3600, ..Now::default() };
        let (expires_s, max_age) = read(text.as_bytes(), modified).unwrap().unwrap().resolve(now, modified_s);
        (expires_s as i64 - NOW_S as i64, max_age)
    }

    #[test]
    fn times_are_nginx_s() {
        assert_eq!(resolved("30", false, None), (30, Some(30)));
        assert_eq!(resolved("+1h", false, None), (3600, Some(3600)));
        assert_eq!(resolved("-1", false, None), (-1, None));
        assert_eq!(resolved("0", false, None), (0, Some(0)));
    }

    #[test]
    fn expires_counts_from_the_last_modification() {
        let hour_ago = Some(NOW_S as i64 - 3600);
        assert_eq!(resolved("+2h", true, hour_ago), (3600, Some(3600)));
        assert_eq!(resolved("30m", true, hour_ago), (-1800, None));
        assert_eq!(resolved("0", true, hour_ago), (0, Some(0)));
        assert_eq!(
            resolved("10", true, None),
            (10, Some(10)),
            "the time of the change is unknown: from now on"
        );
        assert_eq!(resolved("-1s", true, Some(NOW_S as i64 + 60)), (59, None));
    }

    #[test]
    fn times_of_the_local_day() {
        // It is 02:46:40 there.
        assert_eq!(resolved("@3h", false, None), (800, Some(800)));
        assert_eq!(resolved("@2h46m40s", false, None), (DAY_S, Some(86_400)), "now is not next");
        assert_eq!(resolved("@2h", false, None), (86_400 - 2800, Some(83_600)));
        assert_eq!(read(b"@25h", false), Err("daily time value must be less than 24 hours"));
        assert_eq!(read(b"@1h", true), Err("daily time cannot be used with \"modified\" parameter"));
    }

    #[test]
    fn expires_accepts_nginx_s_words() {
        assert_eq!(read(b"off", false), Ok(None));
        assert_eq!(read(b"max", false), Ok(Some(Lifetime::Max)));
        assert_eq!(read(b"epoch", false), Ok(Some(Lifetime::Epoch)));
        for (text, modified) in [("max", true), ("", false), ("1x", false), ("+-1", false)] {
            assert_eq!(read(text.as_bytes(), modified), Err("invalid value"), "{text}");
        }
    }
}
