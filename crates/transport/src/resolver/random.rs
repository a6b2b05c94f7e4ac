//! Random numbers for queries to name servers.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Numbers that an outsider cannot predict: a keyed hash of a counter. One who guesses a query's number and port can
/// answer it (RFC 5452, section 4).
#[derive(Debug, Default)]
pub(super) struct Random {
    key: RandomState,
    count: Cell<u64>,
}

impl Random {
    /// Returns a random number.
    pub(super) fn next(&self) -> u64 {
        self.count.set(self.count.get().wrapping_add(1));
        self.key.hash_one(self.count.get())
    }

    /// Returns a number below `end`, which is not 0.
    pub(super) fn below(&self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}
