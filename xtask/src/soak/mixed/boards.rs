//! Which group each key leads to, as far as anybody can know from outside.
//!
//! Owns the counts of switches begun and switches done for each key. A request that saw no switch of its key begin
//! between its start and its answer's head has one right group; one that did may be answered by either.

use super::wire::Fault;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

/// How many keys are switched, each for itself or all in one commit.
pub(super) const KEYS: usize = 8;
/// Where a key leads: each switch goes to the other one.
pub(super) const GROUPS: [&str; 2] = ["blue", "green"];

/// Of two processes that share a store while one follows the other, the one that did not take the order may be so late
/// to hear of it. It looks every 25 ms; the rest is for a machine that is busy with this very soak.
const BEHIND_MS: u64 = 250;

#[derive(Debug, Default)]
struct Board {
    begun: AtomicU64,
    done: AtomicU64,
    /// When the last one was done, on the clock of all boards.
    told_ms: AtomicU64,
}

/// All keys.
#[derive(Debug)]
pub(super) struct Boards {
    boards: [Board; KEYS],
    began: Instant,
}

/// What was known of a key before a request was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    done: u64,
    since_told_ms: u64,
}

/// What an answer says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It came from the one group that was right.
    Right,
    /// A switch was under way: either group was right.
    UnderWay,
    /// It came from a process that had not heard of the last switch, so many milliseconds after that was told.
    Behind(u64),
}

/// The host that is a key.
pub(super) fn host(key: usize) -> String {
    format!("s{key}.example.com")
}

impl Boards {
    pub(super) fn new() -> Boards {
        Boards { boards: Default::default(), began: Instant::now() }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// To be asked before a request is sent.
    pub(super) fn before(&self, key: usize) -> Before {
        let done = self.boards[key].done.load(SeqCst);
        let since_told_ms = self.now_ms().saturating_sub(self.boards[key].told_ms.load(SeqCst));
        Before { done, since_told_ms }
    }

    /// Where a key is to lead next.
    pub(super) fn next(&self, key: usize) -> &'static str {
        GROUPS[((self.boards[key].done.load(SeqCst) + 1) % 2) as usize]
    }

    /// A switch of a key begins.
    pub(super) fn begin(&self, key: usize) {
        self.boards[key].begun.fetch_add(1, SeqCst);
    }

    /// Everybody was told of it.
    pub(super) fn done(&self, key: usize) {
        self.boards[key].told_ms.store(self.now_ms(), SeqCst);
        self.boards[key].done.fetch_add(1, SeqCst);
    }

    /// Is it an answer of a group that was in force? To be asked when the answer's head is there. `two` processes may
    /// have answered, as in an upgrade.
    pub(super) fn judge(
        &self,
        key: usize,
        before: Before,
        group: Option<&str>,
        two: bool,
    ) -> Result<Verdict, Fault> {
        let Before { done, since_told_ms } = before;
        let after = self.boards[key].begun.load(SeqCst);
        let number = GROUPS.iter().position(|name| Some(*name) == group);
        match number {
            Some(_) if after > done => Ok(Verdict::UnderWay),
            Some(number) if number as u64 == done % 2 => Ok(Verdict::Right),
            Some(_) if two && done > 0 && since_told_ms <= BEHIND_MS => Ok(Verdict::Behind(since_told_ms)),
            _ => Err(Fault::wrong(format!(
                "key {key}, {since_told_ms} ms after its switch {done} was told, was answered by {group:?}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_group_is_right_only_while_the_switch_is_under_way() {
        let boards = Boards::new();
        let before = boards.before(3);
        assert_eq!(boards.judge(3, before, Some("blue"), false).expect("right"), Verdict::Right);
        assert!(boards.judge(3, before, Some("green"), false).is_err());
        assert!(boards.judge(3, before, None, true).is_err());
        assert_eq!(boards.next(3), "green");
        boards.begin(3);
        assert_eq!(boards.judge(3, before, Some("green"), false).expect("under way"), Verdict::UnderWay);
        boards.done(3);
        assert_eq!(boards.judge(3, before, Some("blue"), false).expect("it began before"), Verdict::UnderWay);
        let before = boards.before(3);
        assert!(boards.judge(3, before, Some("blue"), false).is_err());
        assert!(matches!(boards.judge(3, before, Some("blue"), true), Ok(Verdict::Behind(_))));
        let late = Before { since_told_ms: BEHIND_MS + 1, ..before };
        assert!(boards.judge(3, late, Some("blue"), true).is_err());
        assert_eq!(boards.judge(3, before, Some("green"), true).expect("right"), Verdict::Right);
        let other = boards.judge(2, boards.before(2), Some("blue"), false);
        assert_eq!(other.expect("another key"), Verdict::Right);
    }
}
