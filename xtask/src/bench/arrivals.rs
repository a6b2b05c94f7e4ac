//! When requests are due at a fixed offered rate, and how long each took counted from then.
//!
//! Users do not wait for one another's answers: a request that could not be sent in time, because the server was slow to
//! answer those before it, has been waiting since the moment it was due, and that wait belongs to its latency. A
//! generator that sends the next request only after an answer leaves it out (coordinated omission).
//!
//! Reads no clock: the time, in nanoseconds since the round began, comes as an argument.

use std::collections::VecDeque;

/// Requests of a round at an offered rate, with random gaps (a Poisson process), the same in every round with the
/// same seed.
pub(super) struct Arrivals {
    next_ns: f64,
    mean_gap_ns: f64,
    end_ns: u64,
    state: u64,
    waiting: VecDeque<u64>,
    /// What each answered request took since it was due.
    pub(super) latencies_ns: Vec<u64>,
}

impl Arrivals {
    /// `rate` requests per second, for a while.
    pub(super) fn new(rate: f64, length_ns: u64, seed: u64) -> Arrivals {
        let mean_gap_ns = 1e9 / rate;
        let expected = (length_ns as f64 / mean_gap_ns) as usize;
        let mut arrivals = Arrivals {
            next_ns: 0.0,
            mean_gap_ns,
            end_ns: length_ns,
            state: seed,
            waiting: VecDeque::new(),
            latencies_ns: Vec::with_capacity(expected + expected / 4),
        };
        arrivals.next_ns = arrivals.gap();
        arrivals
    }

    /// The next request that is due and not yet sent: when it was due.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<u64> {
        while (self.next_ns as u64) <= now_ns && (self.next_ns as u64) < self.end_ns {
            self.waiting.push_back(self.next_ns as u64);
            self.next_ns += self.gap();
        }
        self.waiting.pop_front()
    }

    /// A request that was due at `due_ns` is answered.
    pub(super) fn answered(&mut self, due_ns: u64, now_ns: u64) {
        self.latencies_ns.push(now_ns.saturating_sub(due_ns));
    }

    /// Will no request become due any more, and has each been taken?
    pub(super) fn is_over(&self) -> bool {
        self.next_ns as u64 >= self.end_ns && self.waiting.is_empty()
    }

    /// Gives up on those that were never sent: they count with what they have waited so far. Answers how many.
    pub(super) fn give_up(&mut self, now_ns: u64) -> usize {
        let mut count = 0;
        while let Some(due_ns) = self.take(now_ns) {
            self.answered(due_ns, now_ns);
            count += 1;
        }
        count
    }

    /// The time to the next request, exponentially distributed.
    fn gap(&mut self) -> f64 {
        // SplitMix64, Steele and others 2014: enough for gaps, and the same on every machine.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let share = ((z >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -share.ln() * self.mean_gap_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn as_many_become_due_as_the_rate_says_at_random_and_always_the_same() {
        let due = |seed| {
            let mut arrivals = Arrivals::new(10_000.0, SECOND, seed);
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

    /// A server with one connection that answers in 100 µs, but stands still for 200 ms in the middle.
    #[test]
    fn who_was_due_while_the_server_stood_still_has_waited() {
        const SERVICE: u64 = 100_000;
        let (stall_from, stall_to) = (SECOND / 2, SECOND / 2 + 200_000_000);
        let mut arrivals = Arrivals::new(1_000.0, SECOND, 7);
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
        let over = |values: &[u64], limit| values.iter().filter(|value| **value > limit).count();
        // Some 200 requests were due in the stall; half of them waited more than half of it.
        let late = over(&arrivals.latencies_ns, 100_000_000);
        assert!((70..140).contains(&late), "{late} waited more than 100 ms");
        // Counted from when it was sent, a single one would have.
        assert_eq!(over(&naive, 100_000_000), 1);
        assert_eq!(arrivals.latencies_ns.len(), naive.len());
    }

    #[test]
    fn what_was_never_sent_counts_with_what_it_waited() {
        let mut arrivals = Arrivals::new(1_000.0, SECOND, 3);
        let given_up = arrivals.give_up(2 * SECOND);
        assert!((850..1_150).contains(&given_up));
        assert_eq!(arrivals.latencies_ns.len(), given_up);
        assert!(arrivals.latencies_ns.iter().all(|latency| *latency >= SECOND));
        assert!(arrivals.is_over());
    }
}
