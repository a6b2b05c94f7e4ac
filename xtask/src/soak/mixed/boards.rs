//! Which group each key leads to, as far as anybody can know from outside.
//!
//! Owns the counts of switches begun and switches done for each key. A request that saw no switch of its key begin
//! between its start and its answer's head has one right group; one that did may be answered by either.

use super::wire::Fault;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// How many keys are switched, each for itself or all in one commit.
pub(super) const KEYS: usize = 8;
/// Where a key leads: each switch goes to the other one.
pub(super) const GROUPS: [&str; 2] = ["blue", "green"];

#[derive(Debug, Default)]
struct Board {
    begun: AtomicU64,
    done: AtomicU64,
}

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Boards([Board; KEYS]);

/// The host that is a key.
pub(super) fn host(key: usize) -> String {
    format!("s{key}.example.com")
}

impl Boards {
    /// How many switches of a key are done: to be asked before a request is sent.
    pub(super) fn before(&self, key: usize) -> u64 {
        self.0[key].done.load(SeqCst)
    }

    /// Where a key is to lead next.
    pub(super) fn next(&self, key: usize) -> &'static str {
        GROUPS[((self.0[key].done.load(SeqCst) + 1) % 2) as usize]
    }

    /// A switch of a key begins.
    pub(super) fn begin(&self, key: usize) {
        self.0[key].begun.fetch_add(1, SeqCst);
    }

    /// Everybody was told of it.
    pub(super) fn done(&self, key: usize) {
        self.0[key].done.fetch_add(1, SeqCst);
    }

    /// Is it an answer of a group that was in force? To be asked when the answer's head is there. Answers whether there
    /// was one right group.
    pub(super) fn judge(&self, key: usize, before: u64, group: Option<&str>) -> Result<bool, Fault> {
        let after = self.0[key].begun.load(SeqCst);
        let number = GROUPS.iter().position(|name| Some(*name) == group);
        match number {
            Some(_) if after > before => Ok(false),
            Some(number) if number as u64 == before % 2 => Ok(true),
            _ => Err(Fault::wrong(format!("key {key} after its switch {before} was answered by {group:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_group_is_right_only_while_the_switch_is_under_way() {
        let boards = Boards::default();
        let before = boards.before(3);
        assert!(boards.judge(3, before, Some("blue")).expect("right"));
        assert!(boards.judge(3, before, Some("green")).is_err());
        assert!(boards.judge(3, before, None).is_err());
        assert_eq!(boards.next(3), "green");
        boards.begin(3);
        assert!(!boards.judge(3, before, Some("green")).expect("under way"));
        boards.done(3);
        assert!(!boards.judge(3, before, Some("blue")).expect("it began before"));
        assert!(boards.judge(3, boards.before(3), Some("blue")).is_err());
        assert!(boards.judge(3, boards.before(3), Some("green")).expect("right"));
        assert!(boards.judge(2, boards.before(2), Some("blue")).expect("another key"));
    }
}
