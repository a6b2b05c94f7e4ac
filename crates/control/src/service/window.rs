//! The windows in which commits must be confirmed: when their ends are warned of, and which have ended without an answer.
//!
//! Owns what a process remembers of each, and when something is due. The deadlines themselves are stored with the commits.
//! Pure: times and answers are arguments.

use crate::info::OverdueInfo;
use crate::receipt::GateResult;
use engine::modules::switch::{RevertIfDead, SwitchSpec};
use std::collections::BTreeMap;
use std::time::Duration;
use switch::{ClockReading, Pending, Plan};
use tokio::time::Instant;

/// The shortest and the longest pause between two attempts to store a revert.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How far a window is when its end is warned of, in tenths.
const WARNED_AT: [u64; 2] = [5, 9];

/// The times of what follows the end of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowTimes {
    /// The pause between two questions to the sides of an overdue commit.
    pub retry: Duration,
    /// How long after its start a process waits for the first answer of either side.
    pub grace: Duration,
}

impl Default for WindowTimes {
    fn default() -> WindowTimes {
        WindowTimes { retry: Duration::from_secs(10), grace: Duration::from_secs(30) }
    }
}

/// The windows of a switch's pending commits.
#[derive(Debug, Default)]
pub(super) struct Windows(BTreeMap<u64, Window>);

#[derive(Debug, Default)]
struct Window {
    /// How many of the warnings are given.
    warned: usize,
    /// When it is looked at again, if it has ended and stays for now.
    again: Option<Instant>,
    /// The last pause after an attempt that failed.
    pause: Duration,
    /// It stays although it has ended.
    overdue: Option<OverdueInfo>,
}

impl Windows {
    /// Forgets the windows of commits that are not pending any more.
    pub(super) fn keep(&mut self, pending: &[Pending]) {
        self.0.retain(|revision, _| pending.iter().any(|one| one.revision == *revision));
    }

    /// Returns the windows whose end is to be warned of, each once at half and once at nine tenths.
    pub(super) fn take_warnings(&mut self, pending: &[Pending], now: ClockReading) -> Vec<Pending> {
        let mut due = Vec::new();
        for one in pending.iter().filter(|one| !one.is_overdue(now)) {
            let window = self.0.entry(one.revision).or_default();
            let passed = WARNED_AT.iter().filter(|at| left_until(one, **at, now) == 0).count();
            if passed > window.warned {
                window.warned = passed;
                due.push(*one);
            }
        }
        due
    }

    /// Returns the first window that has ended and is to be looked at now. The oldest comes first: of two for the same key
    /// the newer one then goes back to what lies beneath both, and never to a route that was not confirmed either.
    pub(super) fn due(&self, pending: &[Pending], now: ClockReading, at: Instant) -> Option<Pending> {
        let is_due = |one: &&Pending| one.is_overdue(now) && self.again(one).is_none_or(|again| again <= at);
        pending.iter().find(is_due).copied()
    }

    /// Returns the time until something is due, if there is anything.
    pub(super) fn wait(&self, pending: &[Pending], now: ClockReading, at: Instant) -> Option<Duration> {
        let until = |one: &Pending| match self.again(one).filter(|_| one.is_overdue(now)) {
            Some(again) => again.saturating_duration_since(at),
            None => {
                let warnings = WARNED_AT.iter().map(|tenths| left_until(one, *tenths, now));
                let left = warnings.filter(|left_ms| *left_ms > 0).min().unwrap_or(u64::MAX);
                Duration::from_millis(left.min(one.left_ms(now)))
            }
        };
        pending.iter().map(until).min()
    }

    /// Has a window looked at again after so long.
    pub(super) fn look_again(&mut self, revision: u64, at: Instant) {
        self.0.entry(revision).or_default().again = Some(at);
    }

    /// Has a window looked at again after an attempt that failed, each time later.
    pub(super) fn failed(&mut self, revision: u64, now: Instant) {
        let window = self.0.entry(revision).or_default();
        window.pause = (window.pause * 2).clamp(PAUSES.0, PAUSES.1);
        window.again = Some(now + window.pause);
    }

    /// Notes that a commit stays although its window has ended. Returns true if it did not before.
    pub(super) fn stays(&mut self, revision: u64, info: OverdueInfo) -> bool {
        let window = self.0.entry(revision).or_default();
        let since_ms = window.overdue.as_ref().map(|before| before.since_ms);
        window.overdue = Some(OverdueInfo { since_ms: since_ms.unwrap_or(info.since_ms), ..info });
        since_ms.is_none()
    }

    /// Returns why a commit stays although its window has ended, if it does.
    pub(super) fn overdue(&self, revision: u64) -> Option<OverdueInfo> {
        self.0.get(&revision)?.overdue.clone()
    }

    fn again(&self, pending: &Pending) -> Option<Instant> {
        self.0.get(&pending.revision)?.again
    }
}

/// Returns the time until so many tenths of a window have passed, in ms.
fn left_until(pending: &Pending, tenths: u64, now: ClockReading) -> u64 {
    pending.left_ms(now).saturating_sub(pending.window_ms - pending.window_ms / 10 * tenths)
}

/// Returns true if a revert may be committed after these answers: every target on either side was asked, and no client would
/// be led from a target that passes to one that fails, unless the switch says so.
pub(super) fn may_go_back(spec: &SwitchSpec, plan: &Plan, answers: &[GateResult]) -> bool {
    let answer = |target: &str| answers.iter().find(|result| *result.target == *target);
    let present = plan.present_targets();
    plan.targets.iter().chain(&present).all(|target| answer(target).is_some())
        && (spec.revert_if_dead == RevertIfDead::Go
            || plan.worsens(|target| answer(target).is_some_and(|it| !it.passed)).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(revision: u64, confirm_by_ms: u64) -> Pending {
        Pending { revision, confirm_by_ms, confirm_by_boot: None, window_ms: 1_000 }
    }

    #[test]
    fn a_window_is_warned_of_at_half_and_at_nine_tenths_once() {
        let (mut windows, one) = (Windows::default(), [pending(1, 2_000)]);
        let warned =
            (1_000..=2_100).filter(|ms| !windows.take_warnings(&one, ClockReading::from(*ms)).is_empty());
        assert_eq!(warned.collect::<Vec<_>>(), [1_500, 1_900]);
        // A process that begins late says it once.
        let mut late = Windows::default();
        let times = (1_950..2_000).filter(|ms| !late.take_warnings(&one, ClockReading::from(*ms)).is_empty());
        assert_eq!(times.collect::<Vec<_>>(), [1_950]);
    }

    #[test]
    fn something_is_due_at_each_warning_and_at_the_end() {
        let (windows, one, at) = (Windows::default(), [pending(1, 2_000)], Instant::now());
        let wait = |ms| windows.wait(&one, ClockReading::from(ms), at).map(|time| time.as_millis());
        assert_eq!([1_000, 1_499, 1_500, 1_900, 2_000, 2_500].map(wait), [500, 1, 400, 100, 0, 0].map(Some));
        assert_eq!(windows.wait(&[], ClockReading::from(0), at), None);
    }

    #[test]
    fn the_oldest_window_is_first_and_one_that_stays_lets_the_next_pass() {
        let (mut windows, both, at) =
            (Windows::default(), [pending(1, 2_000), pending(2, 1_500)], Instant::now());
        let due = |windows: &Windows, ms, at| {
            windows.due(&both, ClockReading::from(ms), at).map(|one| one.revision)
        };
        assert_eq!(due(&windows, 1_400, at), None);
        assert_eq!(due(&windows, 1_600, at), Some(2));
        assert_eq!(due(&windows, 2_000, at), Some(1));
        let later = at + Duration::from_secs(10);
        windows.look_again(1, later);
        assert_eq!(due(&windows, 2_000, at), Some(2));
        assert_eq!(due(&windows, 2_000, later), Some(1));
        windows.keep(&both[1..]);
        assert_eq!(due(&windows, 2_000, at), Some(1), "it is another one of that number");
    }

    #[test]
    fn a_failed_attempt_is_repeated_later_each_time() {
        let (mut windows, one, at) = (Windows::default(), [pending(1, 0)], Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..7 {
            windows.failed(1, at);
            pauses.extend(windows.wait(&one, ClockReading::from(0), at).map(|time| time.as_secs()));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }
}
