//! The leaky buckets of one zone, by key, in the order of their last use.
//!
//! Owns the arithmetic (excess counts thousandths of a request) and what is forgotten when there is no room. It reads
//! no clock: the time of the loop's turn comes in.

use crate::modules::limit_zone::capacity::{State, ZoneCapacity};
use std::collections::HashMap;
use std::sync::Arc;

/// The rate at which a bucket leaks, in thousandths of a request a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(pub u64);

/// The result of a lookup. Excess is in thousandths of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The burst is exceeded.
    TooMany(u64),
    /// It is within the burst and entered.
    Accounted(u64),
    /// It is within the burst; the bucket of this number waits for [`Buckets::account`] or [`Buckets::release`].
    Held(u32),
    /// The zone is full of buckets that are held.
    ZoneFull,
}

/// The buckets of one zone, in the order of their last use.
#[derive(Debug)]
pub struct Buckets {
    numbers: HashMap<Arc<[u8]>, u32>,
    buckets: Vec<Bucket>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    capacity: ZoneCapacity,
}

#[derive(Debug)]
struct Bucket {
    key: Arc<[u8]>,
    newer: u32,
    older: u32,
    /// The time of its last entry.
    last_ms: i64,
    /// In thousandths of a request.
    excess: u64,
    /// Requests that hold it: it must not be removed.
    holders: u32,
}

const NONE: u32 = u32::MAX;

/// Of a bucket whose first request is not entered yet: so long ago that it has leaked whatever the rate.
const LONG_AGO_MS: i64 = 1_000_000_000;

/// The time for which a bucket must have been empty before it is removed while there is room.
const KEEP_MS: u64 = 60_000;

/// The bytes of nginx's record beside the key: it decides how many fit in a zone.
const RECORD_BYTES: usize = 80;

impl State for Buckets {
    const DIRECTIVE: &'static str = "limit_req_zone";
    const WORD: &'static str = "limit_req";

    fn new(size: u64) -> Buckets {
        Buckets {
            numbers: HashMap::new(),
            buckets: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            capacity: ZoneCapacity::new(size),
        }
    }
}

impl Buckets {
    /// Looks a key up at a time of a clock that never goes back, and enters the request if `account` says so.
    pub fn look(&mut self, key: &[u8], now_ms: i64, rate: Rate, burst: u64, account: bool) -> Looked {
        let Some(number) = self.numbers.get(key).copied() else {
            return self.begin(key, now_ms, rate, account);
        };
        self.unlink(number);
        self.link_newest(number);
        let bucket = &mut self.buckets[number as usize];
        let (excess, ms) = bucket.leaked(now_ms, rate);
        if excess > burst {
            return Looked::TooMany(excess);
        }
        if !account {
            bucket.holders += 1;
            return Looked::Held(number);
        }
        bucket.enter(excess, ms, now_ms);
        Looked::Accounted(excess)
    }

    /// Enters a request that holds a bucket, and answers the excess.
    pub fn account(&mut self, number: u32, now_ms: i64, rate: Rate) -> u64 {
        let bucket = &mut self.buckets[number as usize];
        let (excess, ms) = bucket.leaked(now_ms, rate);
        bucket.enter(excess, ms, now_ms);
        bucket.holders -= 1;
        excess
    }

    /// Lets go of a bucket: the request is refused elsewhere.
    pub fn release(&mut self, number: u32) {
        self.buckets[number as usize].holders -= 1;
    }

    fn begin(&mut self, key: &[u8], now_ms: i64, rate: Rate, account: bool) -> Looked {
        self.expire(now_ms, rate, false);
        let bytes = RECORD_BYTES + key.len();
        if !self.capacity.take(bytes) {
            self.expire(now_ms, rate, true);
            if !self.capacity.take(bytes) {
                return Looked::ZoneFull;
            }
        }
        let key: Arc<[u8]> = key.into();
        let last_ms = if account { now_ms } else { now_ms - LONG_AGO_MS };
        let holders = u32::from(!account);
        let bucket = Bucket { key: Arc::clone(&key), newer: NONE, older: NONE, last_ms, excess: 0, holders };
        let number = match self.free.pop() {
            Some(number) => {
                self.buckets[number as usize] = bucket;
                number
            }
            None => {
                self.buckets.push(bucket);
                (self.buckets.len() - 1) as u32
            }
        };
        self.numbers.insert(key, number);
        self.link_newest(number);
        if account { Looked::Accounted(0) } else { Looked::Held(number) }
    }

    /// Throws one or two old empty buckets away; with `force` the oldest before them, whatever is in it.
    fn expire(&mut self, now_ms: i64, rate: Rate, force: bool) {
        for may_be_full in [force, false, false].into_iter().skip(usize::from(!force)) {
            let Some(bucket) = self.buckets.get(self.oldest as usize).filter(|oldest| oldest.holders == 0)
            else {
                return;
            };
            let age_ms = now_ms.abs_diff(bucket.last_ms);
            let leaked = rate.0.saturating_mul(age_ms) / 1000;
            if !may_be_full && (age_ms < KEEP_MS || bucket.excess > leaked) {
                return;
            }
            self.remove(self.oldest);
        }
    }

    fn remove(&mut self, number: u32) {
        self.unlink(number);
        let bucket = &mut self.buckets[number as usize];
        let key = std::mem::take(&mut bucket.key);
        self.capacity.give(RECORD_BYTES + key.len());
        self.numbers.remove(&key);
        self.free.push(number);
    }

    fn unlink(&mut self, number: u32) {
        let Bucket { newer, older, .. } = self.buckets[number as usize];
        match self.buckets.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.buckets.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, number: u32) {
        let second = std::mem::replace(&mut self.newest, number);
        let bucket = &mut self.buckets[number as usize];
        (bucket.newer, bucket.older) = (NONE, second);
        match self.buckets.get_mut(second as usize) {
            Some(second) => second.newer = number,
            None => self.oldest = number,
        }
    }
}

impl Bucket {
    /// Returns its level with one more request, and the time for which it has leaked, in ms.
    fn leaked(&self, now_ms: i64, rate: Rate) -> (u64, i64) {
        let ms = match now_ms - self.last_ms {
            // Threads read the time each for itself: a little backwards is no time at all.
            ..-60_000 => 1,
            -60_000..0 => 0,
            ms => ms,
        };
        let leaked = rate.0.saturating_mul(ms as u64) / 1000;
        ((self.excess + 1000).saturating_sub(leaked), ms)
    }

    fn enter(&mut self, excess: u64, ms: i64, now_ms: i64) {
        self.excess = excess;
        if ms > 0 {
            self.last_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(size: u64) -> Buckets {
        Buckets::new(size)
    }

    #[test]
    fn a_bucket_leaks_at_its_rate() {
        let mut buckets = zone(1 << 20);
        let rate = Rate(2000);
        let mut look = |at_ms: i64| buckets.look(b"k", at_ms, rate, 1000, true);
        assert_eq!(look(0), Looked::Accounted(0));
        assert_eq!(look(0), Looked::Accounted(1000));
        assert_eq!(look(0), Looked::TooMany(2000));
        assert_eq!(look(250), Looked::TooMany(1500));
        assert_eq!(look(500), Looked::Accounted(1000));
        assert_eq!(look(750), Looked::TooMany(1500));
        // A clock of another thread that is behind.
        assert_eq!(look(499), Looked::TooMany(2000));
        assert_eq!(look(100_000), Looked::Accounted(0));
    }

    #[test]
    fn keys_have_separate_buckets_and_held_ones_stay() {
        let mut buckets = zone(32 << 10);
        let rate = Rate(1000);
        let Looked::Held(first) = buckets.look(b"first", 0, rate, 0, false) else { panic!() };
        // The zone takes some hundred keys: the oldest go, but not the one that is held.
        let mut full = false;
        for n in 0..2000u32 {
            full |= buckets.look(&n.to_be_bytes(), 0, rate, 0, true) == Looked::ZoneFull;
        }
        assert!(full, "the oldest is held: nothing behind it goes");
        assert_eq!(buckets.account(first, 5, rate), 0);
        for n in 0..2000u32 {
            assert_ne!(buckets.look(&n.to_le_bytes(), 10, rate, 5000, true), Looked::ZoneFull);
        }
        assert_eq!(
            buckets.look(b"first", 10, rate, 5000, true),
            Looked::Accounted(0),
            "it is forgotten by now"
        );
        assert!(buckets.numbers.len() <= 256, "{}", buckets.numbers.len());
        assert_eq!(buckets.numbers.len() + buckets.free.len(), buckets.buckets.len());
    }

    #[test]
    fn old_empty_buckets_are_removed_two_at_a_time() {
        let mut buckets = zone(1 << 20);
        for n in 0..10u8 {
            buckets.look(&[n], 0, Rate(1000), 0, true);
        }
        buckets.look(b"a", 59_999, Rate(1000), 0, true);
        assert_eq!(buckets.numbers.len(), 11);
        buckets.look(b"b", 60_000, Rate(1000), 0, true);
        assert_eq!(buckets.numbers.len(), 10);
    }
}
