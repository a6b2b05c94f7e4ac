//! When a dead worker process is started again.
//!
//! Owns the pauses between two starts. Must never keep the first ones after a quiet time waiting: clients wait in the
//! queues of the sockets meanwhile. nginx always starts a worker at once.

use std::time::{Duration, Instant};

/// Starts that are not waited for, and the time after which one more is granted. They are for workers that have served.
const AT_ONCE: u32 = 10;
const GRANT_PAUSE: Duration = Duration::from_millis(250);
/// Failed starts that are not waited for. What fails each time is a loop, which must not use up the machine.
const FAILED_AT_ONCE: u32 = 3;
/// The first pause after a failed start; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Respawn {
    /// When the next worker is started.
    pub(super) due: Option<Instant>,
    /// Deaths before a worker was ready, in a row.
    failed: u32,
    /// Starts that are not waited for, and when they were counted.
    granted: u32,
    counted: Instant,
}

impl Respawn {
    pub(super) fn new(now: Instant) -> Respawn {
        Respawn { due: None, failed: 0, granted: AT_ONCE, counted: now }
    }

    /// Schedules a start after the death of a worker, and returns the pause before it.
    pub(super) fn after_death(&mut self, was_ready: bool, now: Instant) -> Duration {
        let pause = match was_ready {
            true => self.after_service(now),
            false => self.after_failure(),
        };
        self.due = Some(now + pause);
        pause
    }

    fn after_service(&mut self, now: Instant) -> Duration {
        self.failed = 0;
        while self.granted < AT_ONCE && self.counted + GRANT_PAUSE <= now {
            self.granted += 1;
            self.counted += GRANT_PAUSE;
        }
        if self.granted == AT_ONCE {
            self.counted = now;
        }
        match self.granted.checked_sub(1) {
            Some(left) => {
                self.granted = left;
                Duration::ZERO
            }
            // The next one, which the start takes.
            None => {
                self.counted += GRANT_PAUSE;
                self.counted.saturating_duration_since(now)
            }
        }
    }

    fn after_failure(&mut self) -> Duration {
        self.failed = self.failed.saturating_add(1);
        match self.failed.checked_sub(FAILED_AT_ONCE + 1) {
            None => Duration::ZERO,
            Some(beyond) => FIRST_PAUSE.saturating_mul(1 << beyond.min(16)).min(LAST_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(all: &[u64]) -> Vec<Duration> {
        all.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_worker_that_never_gets_ready_slows_down_after_three_starts() {
        let now = Instant::now();
        let mut respawn = Respawn::new(now);
        let waited: Vec<Duration> = (0..10).map(|_| respawn.after_death(false, now)).collect();
        assert_eq!(waited, ms(&[0, 0, 0, 200, 400, 800, 1600, 3200, 5000, 5000]));
        assert_eq!(respawn.after_death(true, now), Duration::ZERO);
        assert_eq!(respawn.after_death(false, now), Duration::ZERO, "the row has ended");
    }

    #[test]
    fn workers_that_have_served_are_replaced_at_once_up_to_a_limit() {
        let begin = Instant::now();
        let mut respawn = Respawn::new(begin);
        let mut now = begin;
        // Kills of the worker that was started after the last one.
        let mut kills = |number: usize, pause_ms: u64| {
            let mut waited = Vec::new();
            let first = now;
            for _ in 0..number {
                now += Duration::from_millis(pause_ms);
                let pause = respawn.after_death(true, now);
                now += pause;
                waited.push(pause);
            }
            (waited, number as f64 / (now - first).as_secs_f64())
        };
        assert_eq!(kills(100, 300).0, vec![Duration::ZERO; 100], "for as long as it lasts");
        let (waited, rate) = kills(200, 20);
        assert_eq!(waited[..9], vec![Duration::ZERO; 9]);
        assert!(waited.iter().all(|pause| *pause < GRANT_PAUSE), "{waited:?}");
        assert!(rate < 4.3, "{rate} starts per second");
        // A quiet time gives all of them back, and no more.
        now += Duration::from_secs(3600);
        let burst: Vec<Duration> = (0..12).map(|_| respawn.after_death(true, now)).collect();
        assert_eq!(burst[..10], vec![Duration::ZERO; 10]);
        assert_eq!(burst[11] - burst[10], GRANT_PAUSE);
    }
}
