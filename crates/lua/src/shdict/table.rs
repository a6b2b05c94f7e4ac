//! Finding, ordering and removing entries: hash chains, the list by last use, expiry, eviction.
//!
//! Every entry is on exactly one hash chain and on the list by last use. A lookup that finds a key counts as a use
//! even when the entry has expired, as in ngx_lua. This file never decides what is stored.

use super::arena::{Arena, ENTRY_HEADER_BYTES, NIL, ValueKind, element, entry};
use super::slab::Slab;

/// The smallest hash table; it doubles as entries are added.
const FIRST_BUCKETS: usize = 64;

/// The smallest zone that has room for a dict's own records.
const SMALLEST_BYTES: usize = 12 << 10;

/// The sizes that nginx allocates in a zone before the first entry: the dict's own record and the text of its log
/// messages.
const DICT_RECORD_BYTES: usize = 80;
const LOG_TEXT_BYTES: usize = 28;

/// The outcome of a lookup.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// A live entry.
    Live(usize),
    /// An expired entry.
    Expired(usize),
    /// No entry.
    Missing,
}

pub(super) struct HashIndex {
    pub(super) arena: Arena,
    slab: Slab,
    buckets: Vec<u64>,
    entries: usize,
    newest: u64,
    oldest: u64,
    seed: u64,
}

impl HashIndex {
    pub(super) fn new(name_bytes: usize, size_bytes: usize, seed: u64) -> HashIndex {
        let mut slab = Slab::new(size_bytes.max(SMALLEST_BYTES));
        // Both are only for the accounting: their contents are kept elsewhere. A name whose text finds no room takes
        // none.
        slab.alloc(DICT_RECORD_BYTES);
        slab.alloc(LOG_TEXT_BYTES + name_bytes);
        let arena = Arena::new(slab.arena_bytes());
        let buckets = vec![NIL; FIRST_BUCKETS];
        HashIndex { arena, slab, buckets, entries: 0, newest: NIL, oldest: NIL, seed }
    }

    pub(super) fn free_bytes(&self) -> usize {
        self.slab.free_bytes()
    }

    pub(super) fn alloc(&mut self, bytes: usize) -> Option<usize> {
        self.slab.alloc(bytes)
    }

    pub(super) fn free(&mut self, at: usize) {
        self.slab.free(at);
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        // Two rounds of multiply-and-fold per eight bytes under a secret seed: quick on short keys, and not predictable
        // without the seed.
        let mut state = self.seed ^ (key.len() as u64).wrapping_mul(FOLD_A);
        let mut words = key.chunks_exact(8);
        for word in &mut words {
            let mut raw = [0; 8];
            raw.copy_from_slice(word);
            state = fold(state ^ u64::from_le_bytes(raw), FOLD_A ^ self.seed.rotate_left(32));
        }
        let mut raw = [0; 8];
        raw[..words.remainder().len()].copy_from_slice(words.remainder());
        fold(state ^ u64::from_le_bytes(raw), FOLD_B ^ self.seed)
    }

    /// Finds `key` without counting it as a use.
    pub(super) fn peek(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let mut at = self.buckets[self.bucket(hash)];
        while at != NIL {
            let found = at as usize;
            if self.arena.u64(found + entry::HASH) == hash && self.arena.key(found) == key {
                return Some(found);
            }
            at = self.arena.u64(found + entry::CHAIN);
        }
        None
    }

    /// Finds `key`, makes it the most recently used, and returns whether it has expired.
    pub(super) fn lookup(&mut self, hash: u64, key: &[u8], now_ms: u64) -> Lookup {
        let Some(found) = self.peek(hash, key) else { return Lookup::Missing };
        self.touch(found);
        let expires_ms = self.arena.u64(found + entry::EXPIRES_MS);
        if expires_ms != 0 && expires_ms < now_ms { Lookup::Expired(found) } else { Lookup::Live(found) }
    }

    /// Makes `found` the most recently used.
    pub(super) fn touch(&mut self, found: usize) {
        if self.newest != found as u64 {
            self.unlink_use(found);
            self.link_newest(found);
        }
    }

    /// Puts a record whose key is written on its chain and at the recent end.
    pub(super) fn insert(&mut self, at: usize, hash: u64) {
        if self.entries >= self.buckets.len() {
            self.grow();
        }
        let bucket = self.bucket(hash);
        self.arena.set_u64(at + entry::HASH, hash);
        self.arena.set_u64(at + entry::CHAIN, self.buckets[bucket]);
        self.buckets[bucket] = at as u64;
        self.entries += 1;
        self.link_newest(at);
    }

    /// Removes an entry and frees its space, list elements included.
    pub(super) fn remove(&mut self, at: usize) {
        if self.arena.kind(at + entry::KIND) == ValueKind::List {
            self.free_elements(at);
        }
        self.unlink_chain(at);
        self.unlink_use(at);
        self.entries -= 1;
        self.slab.free(at);
    }

    /// Frees every element of a list entry; the entry's list head is stale afterwards.
    pub(super) fn free_elements(&mut self, at: usize) {
        let mut element = self.arena.u64(self.arena.list_head(at));
        while element != NIL {
            let next = self.arena.u64(element as usize + element::NEXT);
            self.slab.free(element as usize);
            element = next;
        }
    }

    /// Removes up to two expired entries from the old end; every ordinary call does so first.
    pub(super) fn expire_some(&mut self, now_ms: u64) {
        for _ in 0..2 {
            if !self.remove_oldest_if_expired(now_ms) {
                return;
            }
        }
    }

    /// Evicts the least recently used entry whatever its state, then up to two expired ones; returns false if there is
    /// none.
    pub(super) fn evict(&mut self, now_ms: u64) -> bool {
        if self.oldest == NIL {
            return false;
        }
        self.remove(self.oldest as usize);
        self.expire_some(now_ms);
        true
    }

    pub(super) fn flush_all(&mut self, now_ms: u64) {
        let mut at = self.newest;
        while at != NIL {
            self.arena.set_u64(at as usize + entry::EXPIRES_MS, 1);
            at = self.arena.u64(at as usize + entry::OLDER);
        }
        self.evict(now_ms);
    }

    pub(super) fn flush_expired(&mut self, max: u32, now_ms: u64) -> u32 {
        let mut removed = 0;
        let mut at = self.oldest;
        while at != NIL && (max == 0 || removed < max) {
            let newer = self.arena.u64(at as usize + entry::NEWER);
            if self.is_over(at as usize, now_ms) {
                self.remove(at as usize);
                removed += 1;
            }
            at = newer;
        }
        removed
    }

    pub(super) fn keys(&self, max: u32, now_ms: u64, mut see: impl FnMut(&[u8])) {
        let mut shown = 0;
        let mut at = self.oldest;
        while at != NIL && (max == 0 || shown < max) {
            if !self.is_over(at as usize, now_ms) {
                see(self.arena.key(at as usize));
                shown += 1;
            }
            at = self.arena.u64(at as usize + entry::NEWER);
        }
    }

    /// Returns whether an entry has expired for a sweep, which counts the last millisecond as over; a lookup does not,
    /// as in ngx_lua.
    fn is_over(&self, at: usize, now_ms: u64) -> bool {
        let expires_ms = self.arena.u64(at + entry::EXPIRES_MS);
        expires_ms != 0 && expires_ms <= now_ms
    }

    fn remove_oldest_if_expired(&mut self, now_ms: u64) -> bool {
        if self.oldest == NIL || !self.is_over(self.oldest as usize, now_ms) {
            return false;
        }
        self.remove(self.oldest as usize);
        true
    }

    fn link_newest(&mut self, at: usize) {
        self.arena.set_u64(at + entry::NEWER, NIL);
        self.arena.set_u64(at + entry::OLDER, self.newest);
        match self.newest {
            NIL => self.oldest = at as u64,
            newest => self.arena.set_u64(newest as usize + entry::NEWER, at as u64),
        }
        self.newest = at as u64;
    }

    fn unlink_use(&mut self, at: usize) {
        let newer = self.arena.u64(at + entry::NEWER);
        let older = self.arena.u64(at + entry::OLDER);
        match newer {
            NIL => self.newest = older,
            newer => self.arena.set_u64(newer as usize + entry::OLDER, older),
        }
        match older {
            NIL => self.oldest = newer,
            older => self.arena.set_u64(older as usize + entry::NEWER, newer),
        }
    }

    fn unlink_chain(&mut self, at: usize) {
        let bucket = self.bucket(self.arena.u64(at + entry::HASH));
        let after = self.arena.u64(at + entry::CHAIN);
        if self.buckets[bucket] == at as u64 {
            self.buckets[bucket] = after;
            return;
        }
        let mut before = self.buckets[bucket];
        while before != NIL {
            let link = before as usize + entry::CHAIN;
            let next = self.arena.u64(link);
            if next == at as u64 {
                self.arena.set_u64(link, after);
                return;
            }
            before = next;
        }
    }

    fn bucket(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    fn grow(&mut self) {
        let doubled = self.buckets.len() * 2;
        self.buckets.clear();
        self.buckets.resize(doubled, NIL);
        let mut at = self.newest;
        while at != NIL {
            let found = at as usize;
            let bucket = self.bucket(self.arena.u64(found + entry::HASH));
            self.arena.set_u64(found + entry::CHAIN, self.buckets[bucket]);
            self.buckets[bucket] = at;
            at = self.arena.u64(found + entry::OLDER);
        }
    }
}

/// Returns the size of an entry with a value of `value_bytes`.
pub(super) fn entry_bytes(key: &[u8], value_bytes: usize) -> usize {
    ENTRY_HEADER_BYTES + key.len() + value_bytes
}

const FOLD_A: u64 = 0x9E37_79B9_7F4A_7C15;
const FOLD_B: u64 = 0xD6E8_FEB8_6659_FD93;

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ (wide >> 64) as u64
}
