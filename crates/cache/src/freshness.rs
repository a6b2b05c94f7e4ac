//! Whether a response may be kept, and until when it is fresh: what its fields say.
//!
//! Owns nginx's reading of Cache-Control, Expires, X-Accel-Expires, Set-Cookie and Vary, which is not RFC 9111's in every
//! point. What the configuration says (`proxy_cache_valid`) comes after it.

use http::{Headers, Known};

/// The longest `Vary` whose variants are told apart; responses with a longer one are not kept, as in nginx.
const MAX_VARY_BYTES: usize = 128;

/// The fields of a response that decide how long it is kept. Times are in seconds since the epoch; 0 if nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// It may be kept.
    pub may_store: bool,
    /// The end of its freshness.
    pub valid_until_s: u64,
    /// How long after that it may be served while it is fetched anew, in seconds (`stale-while-revalidate`).
    pub stale_updating_s: u64,
    /// How long after that it may be served if it cannot be fetched, in seconds (`stale-if-error`).
    pub stale_error_s: u64,
    /// The request's fields that it depends on.
    pub vary: Vec<u8>,
}

/// The state of the reading: fields count in the order in which they come.
#[derive(Default)]
struct Reading {
    forbidden: bool,
    no_cache: bool,
    is_expired: bool,
    has_accel: bool,
    seen_expires: bool,
    seen_accel: bool,
    valid_until_s: u64,
    stale_updating_s: u64,
    stale_error_s: u64,
}

impl Freshness {
    /// Reads the fields of a response at this time; `ignores` says which of them are not heeded (`proxy_ignore_headers`).
    pub fn of(headers: &Headers, ignores: impl Fn(Known) -> bool, now_s: u64) -> Freshness {
        let mut reading = Reading::default();
        let mut vary: Vec<u8> = Vec::new();
        for (known, _, value) in headers.iter() {
            let Some(known) = known else { continue };
            // Of these a second one is ignored, as where they are passed on.
            if matches!(known, Known::Expires | Known::XAccelExpires)
                && std::mem::replace(reading.seen(known), true)
            {
                continue;
            }
            match known {
                Known::SetCookie
                | Known::Vary
                | Known::CacheControl
                | Known::Expires
                | Known::XAccelExpires
                    if ignores(known) => {}
                Known::SetCookie => reading.forbidden = true,
                Known::Vary => {
                    if !vary.is_empty() {
                        vary.extend_from_slice(b", ");
                    }
                    vary.extend_from_slice(value);
                }
                Known::CacheControl => reading.cache_control(value, now_s),
                Known::Expires => reading.expires(value, now_s),
                Known::XAccelExpires => reading.accel_expires(value, now_s),
                _ => {}
            }
        }
        let varies_too_much = vary.len() > MAX_VARY_BYTES || varies_by_all(&vary);
        let may_store = !(reading.forbidden || reading.no_cache || reading.is_expired || varies_too_much);
        Freshness {
            may_store,
            valid_until_s: reading.valid_until_s,
            stale_updating_s: reading.stale_updating_s,
            stale_error_s: reading.stale_error_s,
            vary,
        }
    }
}

/// Returns whether a request is never known to be like another one (RFC 9111, section 4.1).
fn varies_by_all(vary: &[u8]) -> bool {
    vary.split(|byte| *byte == b',').any(|member| member.trim_ascii() == b"*")
}

impl Reading {
    fn seen(&mut self, known: Known) -> &mut bool {
        if known == Known::Expires { &mut self.seen_expires } else { &mut self.seen_accel }
    }

    fn cache_control(&mut self, value: &[u8], now_s: u64) {
        if self.forbidden {
            return;
        }
        let value = value.to_ascii_lowercase();
        if !(self.has_accel || self.age(&value, now_s)) {
            return;
        }
        self.extensions(&value);
    }

    /// Reads whether and how long it says that a response is fresh; false if that settles it.
    fn age(&mut self, value: &[u8], now_s: u64) -> bool {
        let has = |word: &[u8]| memchr::memmem::find(value, word).is_some();
        if has(b"no-cache") || has(b"no-store") || has(b"private") {
            self.no_cache = true;
            return false;
        }
        match seconds(value, b"s-maxage=").or_else(|| seconds(value, b"max-age=")) {
            Some(None) => {
                self.forbidden = true;
                return false;
            }
            Some(Some(0)) => {
                self.no_cache = true;
                return false;
            }
            Some(Some(age)) => {
                self.valid_until_s = now_s.saturating_add(age);
                self.is_expired = false;
            }
            None => {}
        }
        true
    }

    fn extensions(&mut self, value: &[u8]) {
        match seconds(value, b"stale-while-revalidate=") {
            Some(None) => {
                self.forbidden = true;
                return;
            }
            Some(Some(time)) => (self.stale_updating_s, self.stale_error_s) = (time, time),
            None => {}
        }
        match seconds(value, b"stale-if-error=") {
            Some(None) => self.forbidden = true,
            Some(Some(time)) => self.stale_error_s = time,
            None => {}
        }
    }

    fn expires(&mut self, value: &[u8], now_s: u64) {
        if self.forbidden || self.valid_until_s != 0 {
            return;
        }
        match http::date::parse_http_date(value) {
            Some(until_s) if until_s >= now_s => self.valid_until_s = until_s,
            _ => self.is_expired = true,
        }
    }

    fn accel_expires(&mut self, value: &[u8], now_s: u64) {
        if self.forbidden {
            return;
        }
        let until_s = match value {
            [b'@', time @ ..] => number(time),
            // Zero forbids; what is no number says nothing.
            b"0" => {
                self.forbidden = true;
                return;
            }
            value => number(value).map(|time| now_s.saturating_add(time)),
        };
        if let Some(until_s) = until_s {
            if until_s == now_s && !value.starts_with(b"@") {
                self.forbidden = true;
                return;
            }
            self.has_accel = true;
            self.valid_until_s = until_s;
            self.no_cache = false;
            self.is_expired = false;
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the number behind a word of Cache-Control, if it has the word; `Some(None)` if what follows is no number.
fn seconds(value: &[u8], word: &[u8]) -> Option<Option<u64>> {
    let start = memchr::memmem::find(value, word)? + word.len();
    let mut number = 0_u64;
    for byte in &value[start..] {
        match byte {
            b',' | b';' | b' ' => break,
            b'0'..=b'9' => number = number.saturating_mul(10).saturating_add(u64::from(byte - b'0')),
            _ => return Some(None),
        }
    }
    Some(Some(number))
}

/// Returns whether a request's `Range` begins before `limit` (`proxy_cache_max_range_offset`): one that asks for a later
/// part, or for the end, is not worth reading the whole body for.
pub fn range_begins_before(range: &[u8], limit: u64) -> bool {
    if limit == 0 {
        return false;
    }
    let Some((unit, rest)) = range.split_at_checked(6) else { return true };
    if rest.is_empty() || !unit.eq_ignore_ascii_case(b"bytes=") {
        return true;
    }
    let rest = rest.trim_ascii_start();
    if rest.starts_with(b"-") {
        return false;
    }
    let digits = &rest[..rest.iter().take_while(|byte| byte.is_ascii_digit()).count()];
    number(digits).is_none_or(|start| start < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;

    fn read(fields: &str) -> Freshness {
        let mut headers = Headers::new();
        for line in fields.split('\n').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            headers.push(name.as_bytes(), value.as_bytes());
        }
        Freshness::of(&headers, |_| false, NOW)
    }

    /// For how many seconds a response is kept; `None` if it is not.
    fn kept(fields: &str) -> Option<u64> {
        let read = read(fields);
        read.may_store.then(|| read.valid_until_s.saturating_sub(NOW))
    }

    #[test]
    fn fields_say_whether_and_for_how_long() {
        for (fields, expected) in [
            ("", Some(0)),
            ("Cache-Control: max-age=60", Some(60)),
            ("Cache-Control: public, max-age=60, s-maxage=90", Some(90)),
            ("Cache-Control: MAX-AGE=60", Some(60)),
            ("Cache-Control: max-age=0", None),
            ("Cache-Control: max-age=6x", None),
            ("Cache-Control: max-age=\"60\"", None),
            ("Cache-Control: no-store", None),
            ("Cache-Control: private, max-age=60", None),
            ("Set-Cookie: a=b\nCache-Control: max-age=60", None),
            ("Expires: Sun, 09 Sep 2001 01:47:40 GMT", Some(60)),
            ("Expires: Thu, 01 Jan 1970 00:00:01 GMT", None),
            ("Expires: 0", None),
            ("Expires: 0\nCache-Control: max-age=60", Some(60)),
            ("Cache-Control: max-age=60\nExpires: 0", Some(60)),
            ("X-Accel-Expires: 30", Some(30)),
            ("X-Accel-Expires: @1000000005", Some(5)),
            ("X-Accel-Expires: 0", None),
            ("X-Accel-Expires: soon", Some(0)),
            ("X-Accel-Expires: 30\nX-Accel-Expires: 0", Some(30)),
            ("X-Accel-Expires: 30\nCache-Control: no-cache", Some(30)),
            ("Cache-Control: no-cache\nX-Accel-Expires: 30", Some(30)),
            ("Expires: 0\nX-Accel-Expires: 30", Some(30)),
            ("Vary: *", None),
            ("Vary: Accept-Encoding", Some(0)),
        ] {
            assert_eq!(kept(fields), expected, "{fields}");
        }
        assert!(!read(&format!("Vary: {}", "x".repeat(129))).may_store);
        assert_eq!(read("Vary: A\nVary: B").vary, b"A, B");
        for varies_by_all in ["Vary: *", "Vary: *\nVary: A", "Vary: A, *"] {
            assert!(
                !read(&format!("{varies_by_all}\nCache-Control: max-age=5")).may_store,
                "{varies_by_all}"
            );
        }
    }

    #[test]
    fn extensions_say_how_long_a_stale_response_is_good() {
        let read = read("Cache-Control: max-age=1, stale-while-revalidate=10, stale-if-error=20");
        assert_eq!((read.stale_updating_s, read.stale_error_s), (10, 20));
        assert!(!self::read("Cache-Control: max-age=1, stale-if-error=x").may_store);
        let read = self::read("X-Accel-Expires: 30\nCache-Control: no-cache, stale-while-revalidate=10");
        assert_eq!((read.may_store, read.valid_until_s, read.stale_updating_s), (true, NOW + 30, 10));
    }

    #[test]
    fn ignored_fields_say_nothing() {
        let mut headers = Headers::new();
        headers.push(b"Set-Cookie", b"a=b");
        headers.push(b"Cache-Control", b"no-store");
        let read = Freshness::of(&headers, |_| true, NOW);
        assert!(read.may_store);
    }

    #[test]
    fn late_ranges_are_told_from_early_ones() {
        for (range, limit, early) in [
            ("bytes=0-9", 10, true),
            ("bytes=9-", 10, true),
            ("bytes=10-", 10, false),
            ("bytes= 5-", 10, true),
            ("bytes=-5", 10, false),
            ("bytes=0-9", 0, false),
            ("lines=5", 10, true),
            ("bytes=x", 10, true),
        ] {
            assert_eq!(range_begins_before(range.as_bytes(), limit), early, "{range} {limit}");
        }
    }
}
