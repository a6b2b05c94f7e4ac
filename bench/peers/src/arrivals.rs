//! When requests are due at a fixed offered rate, and how long each took counted from then.
//!
//! Users do not wait for each other's answers: a request that could not be sent in time, because the server answered
//! earlier ones slowly, has been waiting since it was due, and that wait belongs to its latency. A generator that sends
//! the next request only after an answer leaves it out (coordinated omission).
//!
//! It reads no clock: the time, in nanoseconds since the round began, is an argument.

use std::collections::VecDeque;

use fastrand::Rng;
use hdrhistogram::Histogram;

/// The requests of a round at an offered rate, with random gaps (a Poisson process), the same for the same seed.
pub(crate) struct Arrivals {
    next_ns: f64,
    mean_gap_ns: f64,
    end_ns: u64,
    random: Rng,
    waiting: VecDeque<u64>,
    /// The time of each answered request since it was due.
    pub(crate) latencies_ns: Histogram<u64>,
}

impl Arrivals {
    /// Creates arrivals of `rate` requests per second, for a while.
    pub(crate) fn new(rate: f64, length_ns: u64, seed: u64) -> Result<Arrivals, String> {
        let mut arrivals = Arrivals {
            next_ns: 0.0,
            mean_gap_ns: 1e9 / rate,
            end_ns: length_ns,
            random: Rng::with_seed(seed),
            waiting: VecDeque::new(),
            latencies_ns: Histogram::new(3).map_err(|e| e.to_string())?,
        };
        arrivals.next_ns = arrivals.gap();
        Ok(arrivals)
    }

    /// Returns the next request that is due and not yet sent: when it was due.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u64> {
        while (self.next_ns as u64) <= now_ns && (self.next_ns as u64) < self.end_ns {
            self.waiting.push_back(self.next_ns as u64);
            self.next_ns += self.gap();
        }
        self.waiting.pop_front()
    }

    /// Records the answer of a request that was due at `due_ns`.
    pub(crate) fn answered(&mut self, due_ns: u64, now_ns: u64) {
        // The histogram resizes itself: every value fits.
        let _ = self.latencies_ns.record(now_ns.saturating_sub(due_ns));
    }

    /// Returns true if no more requests become due and all have been taken.
    pub(crate) fn is_over(&self) -> bool {
        self.next_ns as u64 >= self.end_ns && self.waiting.is_empty()
    }

    /// Gives up on requests that were never sent: they count with their wait so far. Returns how many.
    pub(crate) fn give_up(&mut self, now_ns: u64) -> usize {
        let mut count = 0;
        while let Some(due_ns) = self.take(now_ns) {
            self.answered(due_ns, now_ns);
            count += 1;
        }
        count
    }

    /// Draws the time to the next request, exponentially distributed.
    fn gap(&mut self) -> f64 {
        // In (0, 1], so that the logarithm is finite.
        let share = 1.0 - self.random.f64();
        -share.ln() * self.mean_gap_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn requests_become_due_at_the_rate_and_at_random() {
        let due = |seed| {
            let mut arrivals = Arrivals::new(10_000.0, SECOND, seed).expect("valid");
            std::iter::from_fn(|| arrivals.take(SECOND)).collect::<Vec<_>>()
        };
        let first = due(1);
        assert!((9_600..10_400).contains(&first.len()), "{}", first.len());
        assert!(first.is_sorted());
        assert_eq!(first, due(1));
        assert_ne!(first, due(2));
        // Of exponential gaps a share of 1/e is longer than the mean.
        let long = first.windows(2).filter(|pair| pair[1] - pair[0] > 100_000).count();
        assert!((3_400..3_950).contains(&long), "{long}");
    }

    /// A server with one connection that answers in 100 µs, but stalls for 200 ms in the middle.
    #[test]
    fn requests_due_during_a_stall_have_waited() {
        const SERVICE: u64 = 100_000;
        let (stall_from, stall_to) = (SECOND / 2, SECOND / 2 + 200_000_000);
        let mut arrivals = Arrivals::new(1_000.0, SECOND, 7).expect("valid");
        let (mut now, mut naive) = (0, Vec::new());
        while !arrivals.is_over() {
            let Some(due) = arrivals.take(now) else {
                now += 1_000;
                continue;
            };
            let sent = now;
            now += SERVICE;
            if (stall_from..stall_to).contains(&now) {
                now = stall_to;
            }
            arrivals.answered(due, now);
            naive.push(now - sent);
        }
        // Some 200 requests were due in the stall; half of them waited more than half of it.
        let late = arrivals.latencies_ns.count_between(100_000_001, u64::MAX);
        assert!((70..140).contains(&late), "{late} waited more than 100 ms");
        // Counted from when it was sent, a single one would have.
        assert_eq!(naive.iter().filter(|took| **took > 100_000_000).count(), 1);
        assert_eq!(arrivals.latencies_ns.len(), naive.len() as u64);
    }

    #[test]
    fn unsent_requests_count_with_their_wait() {
        let mut arrivals = Arrivals::new(1_000.0, SECOND, 3).expect("valid");
        let given_up = arrivals.give_up(2 * SECOND);
        assert!((850..1_150).contains(&given_up));
        assert_eq!(arrivals.latencies_ns.len(), given_up as u64);
        assert!(arrivals.latencies_ns.min() >= SECOND * 999 / 1000);
        assert!(arrivals.is_over());
    }
}
