//! Purges of a zone: which keys must not be stored by those who had asked for them before.

use crate::key::KeyHash;
use std::collections::VecDeque;

/// How many purges of single keys are remembered. What was asked for before all of them is not stored, whatever its key.
const REMEMBERED: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Purges {
    count: u64,
    /// The last purge that everything before it counts as a part of.
    all: u64,
    /// Later ones of single keys, each with its number.
    recent: VecDeque<(u64, KeyHash)>,
}

impl Purges {
    /// Returns how many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Takes note of one of a key.
    pub(super) fn note(&mut self, main: KeyHash) {
        self.count += 1;
        if self.recent.len() == REMEMBERED
            && let Some((number, _)) = self.recent.pop_front()
        {
            self.all = number;
        }
        self.recent.push_back((self.count, main));
    }

    /// Takes note of one of all keys.
    pub(super) fn note_all(&mut self) {
        self.count += 1;
        self.all = self.count;
        self.recent.clear();
    }

    /// Returns whether a key was purged, or may have been, after the first `since` purges.
    pub(super) fn has_been(&self, main: KeyHash, since: u64) -> bool {
        if since == self.count {
            return false;
        }
        since < self.all || self.recent.iter().any(|(number, key)| *number > since && *key == main)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purges_count_for_what_was_asked_for_before_them() {
        let (a, b) = (KeyHash::of(b"a"), KeyHash::of(b"b"));
        let mut purges = Purges::default();
        assert!(!purges.has_been(a, 0));
        purges.note(a);
        assert!(purges.has_been(a, 0) && !purges.has_been(b, 0) && !purges.has_been(a, 1));
        purges.note_all();
        assert!(purges.has_been(b, 1) && !purges.has_been(b, 2));
        for _ in 0..=REMEMBERED {
            purges.note(b);
        }
        assert!(purges.has_been(a, 2), "that it was not can no longer be said");
        assert!(!purges.has_been(a, 3));
    }
}
