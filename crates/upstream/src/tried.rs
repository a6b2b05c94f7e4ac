//! The tries of one request.
//!
//! Owns: the peers already tried, the tries left, and the state of a hash balancer. Must never: outlive its request.

/// The peers that the next pick considers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Primary,
    Backup,
}

/// The place of a hash or random balancer in its own sequence of attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// Unavailable peers it hit; beyond [`Probe::MOST_MISSES`] round robin takes over.
    pub(crate) misses: u8,
    pub(crate) rehash: u32,
    /// The hash so far; `None` before the first pick.
    pub(crate) hash: Option<u32>,
}

impl Probe {
    const NEW: Probe = Probe { misses: 0, rehash: 0, hash: None };
    /// nginx's number for `ip_hash`, `hash` and `random` alike.
    const MOST_MISSES: u8 = 20;

    pub(crate) fn is_spent(&self) -> bool {
        self.misses > Probe::MOST_MISSES
    }
}

/// The tries of one request in one group. Made new, or [reset](Tried::reset), for each request.
#[derive(Debug)]
pub struct Tried {
    /// Peers 0 to 63; the usual group needs no more.
    first: u64,
    rest: Vec<u64>,
    pub(crate) tier: Tier,
    pub(crate) probe: Probe,
    /// The list of peers the marks belong to; 0 before the first pick.
    revision: u64,
    limit: u32,
    left: u32,
}

impl Default for Tried {
    fn default() -> Tried {
        Tried::new(0)
    }
}

impl Tried {
    /// Creates an empty record. `limit` is `proxy_next_upstream_tries`; 0 allows as many tries as there are peers.
    pub fn new(limit: u32) -> Tried {
        Tried {
            first: 0,
            rest: Vec::new(),
            tier: Tier::Primary,
            probe: Probe::NEW,
            revision: 0,
            limit,
            left: 0,
        }
    }

    /// Forgets everything, for the next request; keeps the memory.
    pub fn reset(&mut self, limit: u32) {
        self.clear_marks();
        self.revision = 0;
        self.limit = limit;
        self.left = 0;
    }

    /// Returns the tries left after the one that was picked last. In nginx: one for each peer that is not `down`,
    /// backups included, at most `proxy_next_upstream_tries`; none after the first in a group of a single peer.
    pub fn tries_left(&self) -> u32 {
        self.left
    }

    /// Gives a try back: the last one failed with an error on a connection that had been kept idle, which its peer
    /// may have closed in the meantime. nginx does not count such a try, so even a single peer is tried afresh.
    pub fn refund(&mut self) {
        self.left = self.left.saturating_add(1);
    }

    /// Spends the try in question without a peer.
    pub fn forgo(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Allows so many tries more, or fewer.
    pub(crate) fn grant(&mut self, more: i32) {
        self.left = self.left.saturating_add_signed(more);
    }

    /// Prepares for a pick. Marks mean positions, so they are void once the peers were replaced; the number of
    /// tries left is not.
    pub(crate) fn begin(&mut self, revision: u64, tries: impl FnOnce() -> u32) {
        if self.revision == revision {
            return;
        }
        if self.revision == 0 {
            self.left = tries();
            if self.limit > 0 {
                self.left = self.left.min(self.limit);
            }
        } else {
            self.clear_marks();
        }
        self.revision = revision;
    }

    fn clear_marks(&mut self) {
        self.first = 0;
        self.rest.clear();
        self.tier = Tier::Primary;
        self.probe = Probe::NEW;
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        if index < 64 {
            return self.first >> index & 1 == 1;
        }
        self.rest.get(index / 64 - 1).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, index: usize) {
        if index < 64 {
            self.first |= 1 << index;
            return;
        }
        let word = index / 64 - 1;
        if word >= self.rest.len() {
            self.rest.resize(word + 1, 0);
        }
        self.rest[word] |= 1 << (index % 64);
    }

    /// Spends one try; in a group of a single peer there is no other.
    pub(crate) fn spend(&mut self, single: bool) {
        self.left = if single { 0 } else { self.left.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_beyond_the_64th_are_marked_too() {
        let mut tried = Tried::new(0);
        for index in [0, 63, 64, 65, 127, 128, 1000] {
            assert!(!tried.contains(index));
            tried.insert(index);
            assert!(tried.contains(index));
        }
        let marked = (0..2000).filter(|&index| tried.contains(index)).count();
        assert_eq!(marked, 7);
        tried.reset(0);
        assert_eq!((0..2000).filter(|&index| tried.contains(index)).count(), 0);
    }

    #[test]
    fn the_limit_holds_and_a_replacement_does_not_renew_tries() {
        let mut tried = Tried::new(2);
        tried.begin(1, || 5);
        assert_eq!(tried.tries_left(), 2);
        tried.spend(false);
        tried.insert(3);
        tried.begin(2, || 9);
        assert_eq!(tried.tries_left(), 1);
        assert!(!tried.contains(3));
        tried.spend(false);
        tried.spend(false);
        assert_eq!(tried.tries_left(), 0);
        tried.refund();
        assert_eq!(tried.tries_left(), 1);
    }
}
