//! Whether a failed try is followed by another: nginx's `proxy_next_upstream`.
//!
//! Owns: the kinds of failure, which of them count against a peer, which status the client gets when no try is
//! left. Must never: know how a failure was noticed.
//!
//! A failure without an answer (error, timeout, invalid header, no live peer) goes like this: [`crate::Group::finish`]
//! with [`TryFailure::outcome`]; if it was an error on a reused connection, [`crate::Tried::refund`]; then
//! [`may_retry`], or else answer [`TryFailure::status`]. An answer whose status is one of
//! [`TryFailure::from_status`] asks [`may_retry`] first: only if there is another try has the peer failed, otherwise
//! the answer goes to the client as it came and the try was a success.
//!
//! Source of behaviour: <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_next_upstream>.

use std::ops::{BitOr, BitOrAssign};

use crate::lease::TryOutcome;

/// The words of `proxy_next_upstream`, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextUpstream(u16);

impl NextUpstream {
    /// Connecting, sending or reading the head of the answer failed.
    pub const ERROR: NextUpstream = NextUpstream(1);
    /// One of those took too long.
    pub const TIMEOUT: NextUpstream = NextUpstream(1 << 1);
    /// The answer was empty or not HTTP.
    pub const INVALID_HEADER: NextUpstream = NextUpstream(1 << 2);
    /// Also requests that change something (POST, LOCK, PATCH) after they were sent.
    pub const NON_IDEMPOTENT: NextUpstream = NextUpstream(1 << 3);
    /// An answer with status 500.
    pub const HTTP_500: NextUpstream = NextUpstream(1 << 4);
    /// An answer with status 502.
    pub const HTTP_502: NextUpstream = NextUpstream(1 << 5);
    /// An answer with status 503.
    pub const HTTP_503: NextUpstream = NextUpstream(1 << 6);
    /// An answer with status 504.
    pub const HTTP_504: NextUpstream = NextUpstream(1 << 7);
    /// An answer with status 403.
    pub const HTTP_403: NextUpstream = NextUpstream(1 << 8);
    /// An answer with status 404.
    pub const HTTP_404: NextUpstream = NextUpstream(1 << 9);
    /// An answer with status 429.
    pub const HTTP_429: NextUpstream = NextUpstream(1 << 10);
    /// Accepted by nginx too, and without effect: it matters to `proxy_cache_use_stale` alone.
    pub const UPDATING: NextUpstream = NextUpstream(1 << 11);
    /// Never. Overrides every other word, wherever it is written.
    pub const OFF: NextUpstream = NextUpstream(0);

    /// Each word and its meaning, in nginx's order. `off` must be looked for first: see [`NextUpstream::from_words`].
    pub const WORDS: [(&'static str, NextUpstream); 13] = [
        ("error", NextUpstream::ERROR),
        ("timeout", NextUpstream::TIMEOUT),
        ("invalid_header", NextUpstream::INVALID_HEADER),
        ("non_idempotent", NextUpstream::NON_IDEMPOTENT),
        ("http_500", NextUpstream::HTTP_500),
        ("http_502", NextUpstream::HTTP_502),
        ("http_503", NextUpstream::HTTP_503),
        ("http_504", NextUpstream::HTTP_504),
        ("http_403", NextUpstream::HTTP_403),
        ("http_404", NextUpstream::HTTP_404),
        ("http_429", NextUpstream::HTTP_429),
        ("updating", NextUpstream::UPDATING),
        ("off", NextUpstream::OFF),
    ];

    /// Returns the meaning of one word.
    fn from_word(word: &[u8]) -> Option<NextUpstream> {
        NextUpstream::WORDS.iter().find(|(name, _)| name.as_bytes() == word).map(|&(_, set)| set)
    }

    /// Returns the set that the arguments of the directive mean, or the place of the first argument that is no such
    /// word.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Result<NextUpstream, usize> {
        let mut set = NextUpstream::OFF;
        let mut off = false;
        for (place, word) in words.into_iter().enumerate() {
            let one = NextUpstream::from_word(word).ok_or(place)?;
            off |= one == NextUpstream::OFF;
            set |= one;
        }
        Ok(if off { NextUpstream::OFF } else { set })
    }

    /// Returns true if all of `other` is in the set.
    pub fn contains(self, other: NextUpstream) -> bool {
        self.0 & other.0 == other.0
    }
}

/// nginx's default, `error timeout`.
impl Default for NextUpstream {
    fn default() -> NextUpstream {
        NextUpstream::ERROR | NextUpstream::TIMEOUT
    }
}

impl BitOr for NextUpstream {
    type Output = NextUpstream;
    fn bitor(self, other: NextUpstream) -> NextUpstream {
        NextUpstream(self.0 | other.0)
    }
}

impl BitOrAssign for NextUpstream {
    fn bitor_assign(&mut self, other: NextUpstream) {
        *self = *self | other;
    }
}

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryFailure {
    /// Connecting, sending or reading the head failed.
    Error,
    /// Connecting, sending or reading the head took too long.
    Timeout,
    /// The answer was empty or not HTTP.
    InvalidHeader,
    /// There was no peer to try: [`crate::PickError::NoLive`].
    NoLive,
    /// Status 500.
    Http500,
    /// Status 502.
    Http502,
    /// Status 503.
    Http503,
    /// Status 504.
    Http504,
    /// Status 403.
    Http403,
    /// Status 404.
    Http404,
    /// Status 429.
    Http429,
}

impl TryFailure {
    /// Returns the failure that the status of an answer may be under some configuration.
    pub fn from_status(status: u16) -> Option<TryFailure> {
        Some(match status {
            500 => TryFailure::Http500,
            502 => TryFailure::Http502,
            503 => TryFailure::Http503,
            504 => TryFailure::Http504,
            403 => TryFailure::Http403,
            404 => TryFailure::Http404,
            429 => TryFailure::Http429,
            _ => return None,
        })
    }

    /// Returns the status for the client when no try is left, and this try's value in `$upstream_status`.
    pub fn status(self) -> u16 {
        match self {
            TryFailure::Timeout | TryFailure::Http504 => 504,
            TryFailure::Error | TryFailure::InvalidHeader | TryFailure::NoLive | TryFailure::Http502 => 502,
            TryFailure::Http500 => 500,
            TryFailure::Http503 => 503,
            TryFailure::Http403 => 403,
            TryFailure::Http404 => 404,
            TryFailure::Http429 => 429,
        }
    }

    /// Returns the outcome for [`crate::Group::finish`]: 403 and 404 never count against a peer, everything else does.
    /// (A status that is not a reason for another try is no failure at all: [`TryOutcome::Success`].)
    pub fn outcome(self) -> TryOutcome {
        match self {
            TryFailure::Http403 | TryFailure::Http404 => TryOutcome::Neutral,
            _ => TryOutcome::Failed,
        }
    }

    /// Returns the word that must be set; no word means [`TryFailure::NoLive`], which nothing can retry.
    fn word(self) -> Option<NextUpstream> {
        Some(match self {
            TryFailure::Error => NextUpstream::ERROR,
            TryFailure::Timeout => NextUpstream::TIMEOUT,
            TryFailure::InvalidHeader => NextUpstream::INVALID_HEADER,
            TryFailure::NoLive => return None,
            TryFailure::Http500 => NextUpstream::HTTP_500,
            TryFailure::Http502 => NextUpstream::HTTP_502,
            TryFailure::Http503 => NextUpstream::HTTP_503,
            TryFailure::Http504 => NextUpstream::HTTP_504,
            TryFailure::Http403 => NextUpstream::HTTP_403,
            TryFailure::Http404 => NextUpstream::HTTP_404,
            TryFailure::Http429 => NextUpstream::HTTP_429,
        })
    }
}

/// Returns true if `proxy_next_upstream` needs `non_idempotent` for this method. nginx names POST, LOCK and PATCH; a
/// method it does not know counts as repeatable.
pub fn is_non_idempotent(method: &[u8]) -> bool {
    matches!(method, b"POST" | b"LOCK" | b"PATCH")
}

/// The state of a request after a try.
#[derive(Debug, Clone, Copy)]
pub struct TryState {
    /// [`is_non_idempotent`] of the request's method.
    pub non_idempotent: bool,
    /// Whether any byte of the request went out in this try.
    pub request_sent: bool,
    /// Whether its body was passed on while it arrived (`proxy_request_buffering off`), so it cannot be sent again.
    pub body_streamed: bool,
    /// [`crate::Tried::tries_left`], after a refund where one is due.
    pub tries_left: u32,
    /// Since the first try began, in milliseconds.
    pub elapsed_ms: u64,
    /// `proxy_next_upstream_timeout` in milliseconds; 0 is no limit.
    pub timeout_ms: u64,
}

/// Returns true if there is another try.
pub fn may_retry(next: NextUpstream, failure: TryFailure, state: &TryState) -> bool {
    let Some(mut wanted) = failure.word() else { return false };
    if state.request_sent && state.non_idempotent {
        wanted |= NextUpstream::NON_IDEMPOTENT;
    }
    state.tries_left > 0
        && next.contains(wanted)
        && !(state.request_sent && state.body_streamed)
        && (state.timeout_ms == 0 || state.elapsed_ms < state.timeout_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: TryState = TryState {
        non_idempotent: false,
        request_sent: false,
        body_streamed: false,
        tries_left: 1,
        elapsed_ms: 0,
        timeout_ms: 0,
    };

    #[test]
    fn each_word_has_its_meaning() {
        let words = |text: &'static str| NextUpstream::from_words(text.split(' ').map(str::as_bytes));
        assert_eq!(words("error timeout"), Ok(NextUpstream::default()));
        assert_eq!(words("off error"), Ok(NextUpstream::OFF));
        assert_eq!(words("error off"), Ok(NextUpstream::OFF));
        assert_eq!(words("error http_501"), Err(1));
        assert_eq!(words("http_404 error http_404"), Ok(NextUpstream::HTTP_404 | NextUpstream::ERROR));
        assert_eq!(NextUpstream::from_word(b"Error"), None);
        for (index, (_, one)) in NextUpstream::WORDS.iter().enumerate() {
            for (_, other) in &NextUpstream::WORDS[index + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn each_condition_alone_forbids_a_retry() {
        let retry = |next, failure, state| may_retry(next, failure, &state);
        let next = NextUpstream::default();
        assert!(retry(next, TryFailure::Error, STATE));
        assert!(retry(next, TryFailure::Timeout, STATE));
        assert!(!retry(next, TryFailure::InvalidHeader, STATE));
        assert!(!retry(next, TryFailure::Error, TryState { tries_left: 0, ..STATE }));
        assert!(!retry(NextUpstream::OFF, TryFailure::Error, STATE));
        let everything = NextUpstream(u16::MAX);
        assert!(!retry(everything, TryFailure::NoLive, STATE));

        let timed = TryState { timeout_ms: 100, elapsed_ms: 99, ..STATE };
        assert!(retry(next, TryFailure::Error, timed));
        assert!(!retry(next, TryFailure::Error, TryState { elapsed_ms: 100, ..timed }));
    }

    #[test]
    fn a_sent_body_or_unsafe_method_forbids_a_retry() {
        let next = NextUpstream::default();
        let post = TryState { non_idempotent: true, ..STATE };
        assert!(may_retry(next, TryFailure::Error, &post), "nothing was sent yet");
        let sent = TryState { request_sent: true, ..post };
        assert!(!may_retry(next, TryFailure::Error, &sent));
        assert!(may_retry(next | NextUpstream::NON_IDEMPOTENT, TryFailure::Error, &sent));
        let streamed = TryState { body_streamed: true, request_sent: true, ..STATE };
        assert!(!may_retry(next, TryFailure::Error, &streamed));
        assert!(may_retry(next, TryFailure::Error, &TryState { request_sent: false, ..streamed }));
        assert!(is_non_idempotent(b"POST") && is_non_idempotent(b"LOCK") && is_non_idempotent(b"PATCH"));
        assert!(!is_non_idempotent(b"PUT") && !is_non_idempotent(b"GET") && !is_non_idempotent(b"post"));
    }

    #[test]
    fn each_failure_has_its_status() {
        for status in 100..600 {
            match TryFailure::from_status(status) {
                Some(failure) => {
                    assert_eq!(failure.status(), status);
                    let word = NextUpstream::from_word(format!("http_{status}").as_bytes()).unwrap();
                    assert!(may_retry(word, failure, &STATE));
                    assert!(!may_retry(NextUpstream::default(), failure, &STATE));
                    let blamed = !matches!(status, 403 | 404);
                    assert_eq!(failure.outcome() == TryOutcome::Failed, blamed);
                }
                None => assert!(![403, 404, 429, 500, 502, 503, 504].contains(&status)),
            }
        }
        assert_eq!(TryFailure::Timeout.status(), 504);
        assert_eq!(TryFailure::NoLive.status(), 502);
    }
}
