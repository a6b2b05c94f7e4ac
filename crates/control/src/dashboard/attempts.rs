//! Attempts to log in.
//!
//! Owns how many each address has: what is guessed here is a secret of many bits, and still no one may try without a limit.
//! Must never keep one address out because of another's attempts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The attempts of an address that may fail within [`SPAN`].
const MAX: u32 = 5;
/// The time in which they count.
const SPAN: Duration = Duration::from_secs(60);
/// The maximum number of addresses that are remembered; further ones share one count.
const ADDRESSES: usize = 4096;

/// The failed attempts of the last minute, and those under way.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<String, Failed>>);

#[derive(Clone, Copy, Debug)]
struct Failed {
    count: u32,
    since: Instant,
}

/// An attempt that is under way. It counts as failed until it has succeeded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    address: String,
}

impl Attempts {
    /// Begins an attempt, or returns the time after which one is allowed.
    pub(super) fn begin(&self, address: &str, now: Instant) -> Result<Attempt, Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |failed: &Failed| now.saturating_duration_since(failed.since) >= SPAN;
        let mut address = network(address);
        if !all.contains_key(&address) && all.len() >= ADDRESSES {
            all.retain(|_, failed| !is_over(failed));
            if all.len() >= ADDRESSES {
                address = String::new();
            }
        }
        let failed = all.entry(address.clone()).or_insert(Failed { count: 0, since: now });
        if is_over(failed) {
            *failed = Failed { count: 0, since: now };
        }
        if failed.count >= MAX {
            return Err(SPAN - now.saturating_duration_since(failed.since));
        }
        failed.count += 1;
        Ok(Attempt { address })
    }

    /// Notes that an attempt was none.
    pub(super) fn succeeded(&self, attempt: Attempt) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = all.get_mut(&attempt.address) {
            failed.count = failed.count.saturating_sub(1);
        }
    }
}

/// Returns what counts as one address: of IPv6 a whole /64, which one machine may have.
fn network(address: &str) -> String {
    match address.parse().map(|address: IpAddr| address.to_canonical()) {
        Ok(IpAddr::V6(v6)) => format!("{:?}", &v6.segments()[..4]),
        Ok(v4) => v4.to_string(),
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_an_address_are_limited_and_successes_are_not() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        for _ in 0..3 * MAX {
            let attempt = attempts.begin("192.0.2.1", start).unwrap();
            attempts.succeeded(attempt);
        }
        for _ in 0..MAX {
            attempts.begin("192.0.2.1", start).unwrap();
        }
        let soon = start + Duration::from_secs(10);
        assert_eq!(attempts.begin("192.0.2.1", soon), Err(SPAN - Duration::from_secs(10)));
        assert_eq!(attempts.begin("::ffff:192.0.2.1", soon).ok(), None, "the same address");
        assert!(attempts.begin("192.0.2.2", soon).is_ok());
        assert!(attempts.begin("192.0.2.1", start + SPAN).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_and_memory_is_bounded() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        for number in 0..MAX {
            attempts.begin(&format!("2001:db8::{number:x}"), start).unwrap();
        }
        assert!(attempts.begin("2001:db8::ffff", start).is_err());
        assert!(attempts.begin("2001:db8:0:1::1", start).is_ok());
        for number in 0..2 * ADDRESSES {
            let _ = attempts.begin(&format!("10.{}.{}.1", number / 256, number % 256), start);
        }
        assert!(attempts.0.lock().unwrap().len() <= ADDRESSES + 1);
        assert!(attempts.begin("203.0.113.9", start).is_err(), "those that are not remembered share a count");
        assert!(attempts.begin("203.0.113.9", start + SPAN).is_ok(), "for a minute");
    }
}
