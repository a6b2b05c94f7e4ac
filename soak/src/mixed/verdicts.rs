//! The verdict on each answer: whether it came from the right group, as far as that can be known from outside.
//!
//! Owns the counts of switches begun and switches done for each key. A request during which no switch of its key was
//! under way has one right group; the others may be answered by either.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use crate::connection::Fault;

/// The number of keys that are switched, one by one or all in one commit.
pub(super) const KEYS: usize = 8;
/// The groups: each switch goes to the other one.
pub(super) const GROUPS: [&str; 2] = ["blue", "green"];

/// During an upgrade two processes share a store, and the one that did not take an order may lag behind by this much.
/// It polls every 25 ms; the rest is for a machine that this test keeps busy.
const MAX_LAG_MS: u64 = 250;

/// The switches of one key.
#[derive(Debug, Default)]
struct KeyCounts {
    begun: AtomicU64,
    done: AtomicU64,
    /// When the last one was acknowledged, since the start of the run.
    acknowledged_ms: AtomicU64,
}

/// The switches of all keys.
#[derive(Debug)]
pub(super) struct SwitchCounts {
    keys: [KeyCounts; KEYS],
    began: Instant,
}

/// The counts of a key before a request was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    done: u64,
    since_acknowledged_ms: u64,
}

/// The verdict on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It came from the one right group.
    Right,
    /// A switch was under way: either group was right.
    UnderWay,
    /// It came from a process that had not read the last switch, so many milliseconds after its acknowledgement.
    Behind(u64),
}

/// Returns the host name of a key.
pub(super) fn host(key: usize) -> String {
    format!("s{key}.example.com")
}

impl SwitchCounts {
    pub(super) fn new() -> SwitchCounts {
        SwitchCounts { keys: Default::default(), began: Instant::now() }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Returns the counts of a key; call it before a request is sent.
    pub(super) fn before(&self, key: usize) -> Before {
        let done = self.keys[key].done.load(SeqCst);
        let since_acknowledged_ms = self.now_ms().saturating_sub(self.keys[key].acknowledged_ms.load(SeqCst));
        Before { done, since_acknowledged_ms }
    }

    /// Returns the group that a key is to be switched to next.
    pub(super) fn next(&self, key: usize) -> &'static str {
        GROUPS[((self.keys[key].done.load(SeqCst) + 1) % 2) as usize]
    }

    /// Counts the begin of a switch.
    pub(super) fn begin(&self, key: usize) {
        self.keys[key].begun.fetch_add(1, SeqCst);
    }

    /// Counts the acknowledgement of a switch.
    pub(super) fn done(&self, key: usize) {
        self.keys[key].acknowledged_ms.store(self.now_ms(), SeqCst);
        self.keys[key].done.fetch_add(1, SeqCst);
    }

    /// Judges an answer when its head has come. `two` says that either of two processes may have answered, as in an
    /// upgrade.
    pub(super) fn judge(
        &self,
        key: usize,
        before: Before,
        group: Option<&str>,
        two: bool,
    ) -> Result<Verdict, Fault> {
        let Before { done, since_acknowledged_ms } = before;
        let after = self.keys[key].begun.load(SeqCst);
        let number = GROUPS.iter().position(|name| Some(*name) == group);
        match number {
            Some(_) if after > done => Ok(Verdict::UnderWay),
            Some(number) if number as u64 == done % 2 => Ok(Verdict::Right),
            Some(_) if two && done > 0 && since_acknowledged_ms <= MAX_LAG_MS => {
                Ok(Verdict::Behind(since_acknowledged_ms))
            }
            _ => Err(Fault::wrong(format!(
                "{group:?} answered for key {key}, {since_acknowledged_ms} ms after its switch {done} was acknowledged"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_group_is_right_only_during_a_switch() {
        let counts = SwitchCounts::new();
        let before = counts.before(3);
        assert_eq!(counts.judge(3, before, Some("blue"), false).expect("right"), Verdict::Right);
        assert!(counts.judge(3, before, Some("green"), false).is_err());
        assert!(counts.judge(3, before, None, true).is_err());
        assert_eq!(counts.next(3), "green");
        counts.begin(3);
        assert_eq!(counts.judge(3, before, Some("green"), false).expect("under way"), Verdict::UnderWay);
        counts.done(3);
        assert_eq!(counts.judge(3, before, Some("blue"), false).expect("it began before"), Verdict::UnderWay);
        let before = counts.before(3);
        assert!(counts.judge(3, before, Some("blue"), false).is_err());
        assert!(matches!(counts.judge(3, before, Some("blue"), true), Ok(Verdict::Behind(_))));
        let late = Before { since_acknowledged_ms: MAX_LAG_MS + 1, ..before };
        assert!(counts.judge(3, late, Some("blue"), true).is_err());
        assert_eq!(counts.judge(3, before, Some("green"), true).expect("right"), Verdict::Right);
        let other = counts.judge(2, counts.before(2), Some("blue"), false);
        assert_eq!(other.expect("another key"), Verdict::Right);
    }
}
