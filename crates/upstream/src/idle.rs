//! Connections that wait for their next request.
//!
//! Owns: which connections are kept, how long and for which requests — nginx's `keepalive` in `upstream {}`. Must
//! never: close one; every connection that leaves the pool is returned to the caller.
//!
//! As in nginx the pool belongs to one group in one worker, returns the connection used last, and makes room by
//! evicting the one that has been idle longest. That a peer closed an idle connection is for the caller to notice:
//! either as it happens ([`IdlePool::remove_where`]) or after [`IdlePool::take`].

use crate::address::Address;
use crate::spec::KeepaliveSpec;

/// The properties that a connection must have to serve a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdleKey {
    /// The peer's address.
    pub address: Address,
    /// A further property that must be equal, as a number chosen by the caller: with [`KeepaliveSpec::local`] the location, over
    /// TLS the settings and the server name.
    pub tag: u64,
}

/// The use of a connection so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionUse {
    /// Requests served, the one just ended included.
    pub requests: u32,
    /// When it was opened, in milliseconds.
    pub opened_ms: u64,
}

/// No slot; ends the lists.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<C, K> {
    /// Towards the connection used last.
    newer: u32,
    /// Towards the one idle longest; in a free slot, the next free one.
    older: u32,
    kept: Option<Kept<C, K>>,
}

#[derive(Debug)]
struct Kept<C, K> {
    key: K,
    connection: C,
    since_ms: u64,
}

/// The idle connections of one group. `K` is [`IdleKey`] unless the caller has something cheaper to compare and
/// clone, such as an `Rc` of it.
///
/// The memory grows to `max_idle` slots and stays; in steady state nothing is allocated.
#[derive(Debug)]
pub struct IdlePool<C, K = IdleKey> {
    spec: KeepaliveSpec,
    slots: Vec<Slot<C, K>>,
    newest: u32,
    oldest: u32,
    free: u32,
    len: u32,
}

impl<C, K: PartialEq> IdlePool<C, K> {
    /// Returns an empty pool.
    pub fn new(spec: KeepaliveSpec) -> IdlePool<C, K> {
        IdlePool { spec, slots: Vec::new(), newest: NONE, oldest: NONE, free: NONE, len: 0 }
    }

    /// Returns its settings.
    pub fn spec(&self) -> &KeepaliveSpec {
        &self.spec
    }

    /// Returns the number of idle connections.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the connection used last of those that fit and have not timed out.
    pub fn take(&mut self, key: &K, now_ms: u64) -> Option<C> {
        let mut at = self.newest;
        while let Some((older, kept)) = self.kept_at(at) {
            if self.is_timed_out(kept, now_ms) {
                return None; // and so has everything older
            }
            if kept.key == *key {
                return self.remove(at);
            }
            at = older;
        }
        None
    }

    /// Keeps a connection whose request ended well. Returns the one to close, if any: the connection itself if it has
    /// reached its limits, or the one that was evicted.
    ///
    /// The caller guarantees that it can be used again: the answer was read to its end, the request sent to its end,
    /// neither side said `close`, nothing unexpected was received.
    pub fn put(&mut self, key: K, connection: C, now_ms: u64, used: ConnectionUse) -> Option<C> {
        if self.spec.max_idle == 0
            || self.spec.timeout_ms == 0
            || used.requests >= self.spec.requests
            || now_ms.saturating_sub(used.opened_ms) > self.spec.time_ms
        {
            return Some(connection);
        }
        let evicted = if self.len >= self.spec.max_idle { self.remove(self.oldest) } else { None };
        let kept = Some(Kept { key, connection, since_ms: now_ms });
        let at = if self.free == NONE {
            self.slots.push(Slot { newer: NONE, older: NONE, kept });
            // In bounds: there are never more than `max_idle` slots, a u32.
            (self.slots.len() - 1) as u32
        } else {
            let at = self.free;
            let slot = &mut self.slots[at as usize];
            self.free = slot.older;
            slot.kept = kept;
            at
        };
        let slot = &mut self.slots[at as usize];
        slot.newer = NONE;
        slot.older = self.newest;
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].newer = at,
        }
        self.newest = at;
        self.len += 1;
        evicted
    }

    /// Removes the connections that have timed out, the oldest first.
    pub fn expire(&mut self, now_ms: u64, mut close: impl FnMut(C)) {
        while let Some((_, kept)) = self.kept_at(self.oldest)
            && self.is_timed_out(kept, now_ms)
        {
            if let Some(connection) = self.remove(self.oldest) {
                close(connection);
            }
        }
    }

    /// Returns when [`IdlePool::expire`] has something to do next; `None` while the pool is empty.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        let (_, kept) = self.kept_at(self.oldest)?;
        Some(kept.since_ms.saturating_add(self.spec.timeout_ms))
    }

    /// Removes the first connection, from the one used last, for which `is_it` holds: the one that its peer was seen to
    /// close.
    pub fn remove_where(&mut self, mut is_it: impl FnMut(&mut C) -> bool) -> Option<C> {
        let mut at = self.newest;
        while let Some(slot) = self.slots.get_mut(at as usize)
            && let Some(kept) = &mut slot.kept
        {
            if is_it(&mut kept.connection) {
                return self.remove(at);
            }
            at = slot.older;
        }
        None
    }

    /// Removes every connection whose key `is_unwanted`: those of a removed peer, or all of them.
    pub fn drain_where(&mut self, mut is_unwanted: impl FnMut(&K) -> bool, mut close: impl FnMut(C)) {
        let mut at = self.newest;
        while let Some((older, kept)) = self.kept_at(at) {
            if is_unwanted(&kept.key)
                && let Some(connection) = self.remove(at)
            {
                close(connection);
            }
            at = older;
        }
    }

    /// Replaces the settings, as after a reload, and removes the connections that are too many under them.
    pub fn reconfigure(&mut self, spec: KeepaliveSpec, now_ms: u64, mut close: impl FnMut(C)) {
        self.spec = spec;
        while self.len > self.spec.max_idle {
            match self.remove(self.oldest) {
                Some(connection) => close(connection),
                None => break,
            }
        }
        self.expire(now_ms, close);
    }

    fn is_timed_out(&self, kept: &Kept<C, K>, now_ms: u64) -> bool {
        now_ms.saturating_sub(kept.since_ms) >= self.spec.timeout_ms
    }

    /// Returns the content of a slot, and the next older slot.
    fn kept_at(&self, at: u32) -> Option<(u32, &Kept<C, K>)> {
        let slot = self.slots.get(at as usize)?;
        Some((slot.older, slot.kept.as_ref()?))
    }

    fn remove(&mut self, at: u32) -> Option<C> {
        let slot = self.slots.get_mut(at as usize)?;
        let kept = slot.kept.take()?;
        let (newer, older) = (slot.newer, slot.older);
        slot.older = self.free;
        self.free = at;
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        self.len -= 1;
        Some(kept.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: ConnectionUse = ConnectionUse { requests: 1, opened_ms: 0 };

    fn pool(max_idle: u32) -> IdlePool<u32, char> {
        IdlePool::new(KeepaliveSpec { max_idle, ..KeepaliveSpec::default() })
    }

    #[test]
    fn take_returns_the_last_used_that_fits() {
        let mut pool = pool(8);
        for (key, connection) in [('a', 1), ('b', 2), ('a', 3), ('b', 4)] {
            assert_eq!(pool.put(key, connection, 0, FRESH), None);
        }
        assert_eq!(pool.take(&'a', 1), Some(3));
        assert_eq!(pool.take(&'a', 1), Some(1));
        assert_eq!(pool.take(&'a', 1), None);
        assert_eq!(pool.len(), 2);
    }

    #[test]
    fn the_longest_idle_is_evicted() {
        let mut pool = pool(2);
        assert_eq!(pool.put('a', 1, 0, FRESH), None);
        assert_eq!(pool.put('b', 2, 1, FRESH), None);
        assert_eq!(pool.take(&'a', 2), Some(1));
        assert_eq!(pool.put('a', 1, 2, FRESH), None);
        assert_eq!(pool.put('c', 3, 3, FRESH), Some(2));
        assert_eq!(pool.len(), 2);
    }

    #[test]
    fn a_connection_at_its_limits_is_not_kept() {
        let mut pool = pool(2);
        let used = |requests, opened_ms| ConnectionUse { requests, opened_ms };
        assert_eq!(pool.put('a', 1, 5_000_000, used(999, 5_000_000)), None);
        assert_eq!(pool.put('a', 2, 5_000_000, used(1000, 5_000_000)), Some(2));
        assert_eq!(pool.put('a', 3, 5_000_000, used(1, 1_400_000)), None, "an hour to the millisecond");
        assert_eq!(pool.put('a', 4, 5_000_000, used(1, 1_399_999)), Some(4));
        assert_eq!(IdlePool::<u32, char>::new(KeepaliveSpec::OFF).put('a', 5, 0, FRESH), Some(5));
    }

    #[test]
    fn a_connection_expires_after_its_timeout() {
        let mut pool = pool(8);
        let timeout_ms = pool.spec().timeout_ms;
        assert_eq!(pool.next_expiry_ms(), None);
        pool.put('a', 1, 100, FRESH);
        pool.put('a', 2, 200, FRESH);
        assert_eq!(pool.next_expiry_ms(), Some(100 + timeout_ms));
        let mut closed = Vec::new();
        pool.expire(99 + timeout_ms, |connection| closed.push(connection));
        assert_eq!(closed, []);
        pool.expire(100 + timeout_ms, |connection| closed.push(connection));
        assert_eq!(closed, [1]);
        assert_eq!(pool.take(&'a', 200 + timeout_ms), None, "timed out, though not expired yet");
        assert_eq!(pool.take(&'a', 199 + timeout_ms), Some(2));
    }

    #[test]
    fn connections_are_removed_by_key_and_by_new_settings() {
        let mut pool = pool(8);
        for (index, key) in "abcabc".chars().enumerate() {
            pool.put(key, index as u32, 0, FRESH);
        }
        let mut closed = Vec::new();
        pool.drain_where(|&key| key == 'b', |connection| closed.push(connection));
        assert_eq!(closed, [4, 1]);
        assert_eq!(pool.remove_where(|connection| *connection == 2), Some(2));
        assert_eq!(pool.remove_where(|connection| *connection == 2), None);
        closed.clear();
        let spec = KeepaliveSpec { max_idle: 1, ..*pool.spec() };
        pool.reconfigure(spec, 0, |connection| closed.push(connection));
        assert_eq!(closed, [0, 3]);
        assert_eq!(pool.take(&'c', 0), Some(5));
        assert!(pool.is_empty());
    }

    /// Compares the pool with the simplest possible one: a list, newest first.
    #[test]
    fn the_pool_agrees_with_a_plain_list() {
        let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let spec = KeepaliveSpec { max_idle: 5, timeout_ms: 50, ..KeepaliveSpec::default() };
        let mut pool: IdlePool<u32, u64> = IdlePool::new(spec);
        let mut list: Vec<(u64, u32, u64)> = Vec::new();
        let mut now_ms = 0;
        for connection in 0..20_000 {
            now_ms += random(12);
            let key = random(4);
            match random(5) {
                0 | 1 => {
                    let opened = ConnectionUse { requests: 1, opened_ms: now_ms };
                    let evicted = pool.put(key, connection, now_ms, opened);
                    list.insert(0, (key, connection, now_ms));
                    let expected = if list.len() > 5 { list.pop().map(|kept| kept.1) } else { None };
                    assert_eq!(evicted, expected);
                }
                2 | 3 => {
                    let place = list.iter().position(|kept| kept.0 == key && now_ms - kept.2 < 50);
                    assert_eq!(pool.take(&key, now_ms), place.map(|place| list.remove(place).1));
                }
                _ => {
                    let mut closed = Vec::new();
                    pool.expire(now_ms, |connection| closed.push(connection));
                    let keep = list.iter().take_while(|kept| now_ms - kept.2 < 50).count();
                    let expected: Vec<u32> = list.drain(keep..).rev().map(|kept| kept.1).collect();
                    assert_eq!(closed, expected);
                }
            }
            assert_eq!(pool.len() as usize, list.len());
        }
        assert!(pool.slots.len() <= 5);
    }
}
