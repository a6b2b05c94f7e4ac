//! When a certificate is ordered next: pure, with the time as an argument.
//!
//! Times are seconds since the epoch. What must not happen to many servers at once is spread by a seed that stays the same
//! for a certificate.

use engine::modules::acme::CertificateFacts;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

/// Below this lifetime a certificate is short-lived.
const SHORT_LIVED_S: u64 = 10 * DAY_S;

/// The window that an issuer suggests (RFC 9773).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalWindow {
    /// The first moment of it.
    pub start_s: u64,
    /// The last one.
    pub end_s: u64,
}

/// Returns when to renew a certificate: at a moment of the window that its issuer suggests; without one, when a third of its
/// lifetime is left, or half of a short one, a little earlier for some than for others. Never later than with a tenth left,
/// and never in its first twentieth: an issuer whose windows are always past must not be asked without end.
pub fn renewal_s(facts: &CertificateFacts, window: Option<RenewalWindow>, seed: u64) -> u64 {
    let lifetime_s = facts.until_s.saturating_sub(facts.from_s);
    let latest_s = facts.until_s.saturating_sub(lifetime_s / 10);
    if let Some(RenewalWindow { start_s, end_s }) = window {
        let span_s = end_s.saturating_sub(start_s);
        let at_s = start_s.saturating_add(seed % span_s.saturating_add(1));
        return at_s.min(latest_s).max(facts.from_s.saturating_add(lifetime_s / 20));
    }
    let left_s = if lifetime_s < SHORT_LIVED_S { lifetime_s / 2 } else { lifetime_s / 3 };
    let spread_s = seed % (lifetime_s / 50 + 1);
    facts.until_s.saturating_sub(left_s + spread_s)
}

/// Returns when the issuer is asked for its window again, if it says after how long that makes sense.
pub fn window_again_s(now_s: u64, retry_after_s: u64) -> u64 {
    now_s.saturating_add(retry_after_s.clamp(MINUTE_S, DAY_S))
}

/// Why an order failed, as far as it matters for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The issuer could not be asked, or has troubles of its own: nothing was counted against us.
    Unreachable,
    /// It refused, or did not accept the proof that a name is ours.
    Refused,
    /// Too much was asked of it.
    RateLimited,
}

/// Returns when to order again after so many failures in a row, at least one: never before the issuer allows it.
pub fn retry_s(now_s: u64, failures: u32, cause: Cause, retry_after_s: Option<u64>, seed: u64) -> u64 {
    let (first_s, most_s) = match cause {
        Cause::Unreachable => (5, HOUR_S),
        // Issuers allow some five failed proofs of a name an hour.
        Cause::Refused => (10 * MINUTE_S, DAY_S),
        Cause::RateLimited => (HOUR_S, DAY_S),
    };
    let doubled_s = first_s << (failures.saturating_sub(1)).min(20);
    let delay_s = match (cause, retry_after_s) {
        // The issuer knows its limits.
        (Cause::RateLimited, Some(wait_s)) => wait_s.max(1),
        (_, wait_s) => doubled_s.min(most_s).max(wait_s.unwrap_or(0)),
    };
    let spread_s = seed % (delay_s / 10 + 1);
    now_s.saturating_add(delay_s).saturating_add(spread_s)
}

/// Returns how long a Retry-After asks to wait (RFC 9110, section 10.2.3): seconds, or a date.
pub fn retry_after_s(field: &str, now_s: u64) -> Option<u64> {
    let field = field.trim();
    match field.parse::<u64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => http::date::parse_http_date(field.as_bytes()).map(|at_s| at_s.saturating_sub(now_s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lifetime_s: u64) -> CertificateFacts {
        let from_s = 1_000_000_000;
        CertificateFacts { from_s, until_s: from_s + lifetime_s, authority_key: None, serial: vec![1] }
    }

    #[test]
    fn renewal_is_due_with_a_third_left_or_half_of_a_short_lifetime() {
        let long = facts(90 * DAY_S);
        assert_eq!(renewal_s(&long, None, 0), long.until_s - 30 * DAY_S);
        let short = facts(6 * DAY_S);
        assert_eq!(renewal_s(&short, None, 0), short.until_s - 3 * DAY_S);
        let minutes = facts(60);
        assert_eq!(renewal_s(&minutes, None, 0), minutes.until_s - 30);
        for seed in 0..1000u64 {
            let at_s = renewal_s(&long, None, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let earliest_s = long.until_s - 30 * DAY_S - 90 * DAY_S / 50;
            assert!((earliest_s..=long.until_s - 30 * DAY_S).contains(&at_s), "{seed}");
        }
        // A certificate that makes no sense is renewed at once, and nothing overflows.
        let broken = CertificateFacts { from_s: 10, until_s: 5, authority_key: None, serial: Vec::new() };
        assert!(renewal_s(&broken, None, u64::MAX) <= 5);
    }

    #[test]
    fn issuers_window_counts_but_not_past_the_end() {
        let facts = facts(90 * DAY_S);
        let window = |start_s, end_s| Some(RenewalWindow { start_s, end_s });
        let start_s = facts.from_s + 10 * DAY_S;
        for seed in [0, 1, 17, u64::MAX] {
            let at_s = renewal_s(&facts, window(start_s, start_s + 100), seed);
            assert!((start_s..=start_s + 100).contains(&at_s), "{seed}");
        }
        let after = renewal_s(&facts, window(facts.until_s, facts.until_s + DAY_S), 5);
        assert_eq!(after, facts.until_s - 9 * DAY_S);
        assert_eq!(renewal_s(&facts, window(0, 10), 3), facts.from_s + 90 * DAY_S / 20);
        // One that is the wrong way round is its start.
        assert_eq!(renewal_s(&facts, window(start_s, start_s - 5), 7), start_s);
    }

    #[test]
    fn failures_are_retried_later_each_time_and_never_before_the_issuer_allows() {
        let wait = |failures, cause, after| retry_s(1000, failures, cause, after, 0) - 1000;
        let waits: Vec<u64> = (1..5).map(|failures| wait(failures, Cause::Unreachable, None)).collect();
        assert_eq!(waits, [5, 10, 20, 40]);
        assert_eq!(wait(30, Cause::Unreachable, None), HOUR_S);
        assert_eq!(wait(1, Cause::Unreachable, Some(90)), 90);
        assert_eq!(wait(1, Cause::Refused, None), 10 * MINUTE_S);
        assert_eq!(wait(u32::MAX, Cause::Refused, None), DAY_S);
        assert_eq!(wait(1, Cause::RateLimited, None), HOUR_S);
        assert_eq!(wait(9, Cause::RateLimited, Some(3)), 3);
        assert_eq!(wait(1, Cause::RateLimited, Some(0)), 1);
        for seed in 0..100 {
            assert!((1090..=1099).contains(&retry_s(1000, 1, Cause::Unreachable, Some(90), seed)));
        }
        assert_eq!(retry_s(u64::MAX, 1, Cause::RateLimited, Some(u64::MAX), 0), u64::MAX);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after_s(" 120 ", 5), Some(120));
        assert_eq!(retry_after_s("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_770), Some(7));
        assert_eq!(retry_after_s("Sun, 06 Nov 1994 08:49:37 GMT", 900_000_000), Some(0));
        assert_eq!(retry_after_s("soon", 5), None);
        assert_eq!(window_again_s(100, 0), 160);
        assert_eq!(window_again_s(100, 6 * HOUR_S), 100 + 6 * HOUR_S);
        assert_eq!(window_again_s(100, u64::MAX), 100 + DAY_S);
    }
}
