//! When each check has its turn.
//!
//! Owns: due times, and the bound on how many begin in a second. Must never: read a clock; time and randomness are arguments.

use engine::probe::CheckTimes;
use std::collections::{BTreeSet, HashMap};

/// The most checks that begin in a second: more of them are late instead.
pub(crate) const MAX_PER_SECOND: u64 = 2000;

/// The turns of checks, which are known by numbers.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    queue: BTreeSet<(u64, u64)>,
    due: HashMap<u64, u64>,
    /// The second that is counted, and the checks that have begun in it.
    begun: (u64, u64),
}

impl Schedule {
    /// Gives a check its next turn.
    pub(crate) fn set(&mut self, check: u64, due_ms: u64) {
        self.remove(check);
        self.queue.insert((due_ms, check));
        self.due.insert(check, due_ms);
    }

    /// Forgets a check.
    pub(crate) fn remove(&mut self, check: u64) {
        if let Some(due_ms) = self.due.remove(&check) {
            self.queue.remove(&(due_ms, check));
        }
    }

    /// Returns when the next check has its turn.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let (due_ms, _) = self.queue.first()?;
        match self.begun {
            (second, count) if count >= MAX_PER_SECOND => Some((*due_ms).max((second + 1) * 1000)),
            _ => Some(*due_ms),
        }
    }

    /// Takes a check whose turn has come.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<u64> {
        let (due_ms, check) = *self.queue.first()?;
        if due_ms > now_ms {
            return None;
        }
        let second = now_ms / 1000;
        if self.begun.0 != second {
            self.begun = (second, 0);
        }
        if self.begun.1 >= MAX_PER_SECOND {
            return None;
        }
        self.begun.1 += 1;
        self.remove(check);
        Some(check)
    }
}

/// Returns the first turn of a check: at once if its server waits for it, else at some time within the interval, so that
/// not all servers are asked at once.
pub(crate) fn first_turn(times: &CheckTimes, waits: bool, now_ms: u64, random: u64) -> u64 {
    if waits { now_ms } else { now_ms + random % times.interval.max(1) }
}

/// Returns the turn that follows one that began at `began_ms` and has ended now.
pub(crate) fn next_turn(times: &CheckTimes, began_ms: u64, now_ms: u64, random: u64) -> u64 {
    (began_ms + times.interval + random % (times.jitter + 1)).max(now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: CheckTimes =
        CheckTimes { interval: 1000, jitter: 200, connect: 500, total: 500, keepalive: 0 };

    #[test]
    fn checks_have_their_turns_in_order() {
        let mut schedule = Schedule::default();
        for (check, due_ms) in [(1, 30), (2, 10), (3, 20), (2, 40)] {
            schedule.set(check, due_ms);
        }
        assert_eq!((schedule.next_due_ms(), schedule.take_due(19)), (Some(20), None));
        let taken: Vec<u64> = std::iter::from_fn(|| schedule.take_due(35)).collect();
        assert_eq!((taken, schedule.next_due_ms()), (vec![3, 1], Some(40)));
        schedule.remove(2);
        assert_eq!((schedule.take_due(99), schedule.next_due_ms()), (None, None));
    }

    #[test]
    fn no_more_begin_in_a_second_than_may() {
        let mut schedule = Schedule::default();
        for check in 0..MAX_PER_SECOND + 5 {
            schedule.set(check, 0);
        }
        let begun = std::iter::from_fn(|| schedule.take_due(1999)).count() as u64;
        assert_eq!((begun, schedule.next_due_ms()), (MAX_PER_SECOND, Some(2000)));
        assert_eq!(std::iter::from_fn(|| schedule.take_due(2000)).count(), 5);
    }

    #[test]
    fn turns_lie_an_interval_and_at_most_the_jitter_apart() {
        for random in 0..5000 {
            assert!((7..1007).contains(&first_turn(&TIMES, false, 7, random)));
            assert_eq!(first_turn(&TIMES, true, 7, random), 7);
            assert!((1100..=1300).contains(&next_turn(&TIMES, 100, 400, random)));
        }
        assert_eq!(next_turn(&TIMES, 100, 5000, 7), 5000, "one that took long");
    }
}
