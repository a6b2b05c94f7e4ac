//! The number of requests under way for each key of a zone.
//!
//! Owns the [`CountGuard`] by which a request is counted: it lies in the exchange and gives its place back when it is
//! dropped, however the request ends.

use crate::modules::limit_zone::capacity::{State, ZoneCapacity};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One request's place in a zone's count; dropping it gives the place back.
#[derive(Debug)]
pub struct CountGuard {
    counts: Arc<Mutex<Counts>>,
    number: u32,
}

impl CountGuard {
    /// Returns the place that [`Counts::enter`] gave.
    pub(super) fn new(counts: Arc<Mutex<Counts>>, number: u32) -> CountGuard {
        CountGuard { counts, number }
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).leave(self.number);
    }
}

/// The counts of one zone.
#[derive(Debug)]
pub struct Counts {
    numbers: HashMap<Arc<[u8]>, u32>,
    counts: Vec<(Arc<[u8]>, u32)>,
    free: Vec<u32>,
    capacity: ZoneCapacity,
}

/// The result of counting a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is, under this number.
    Counted(u32),
    /// There are as many as there may be.
    TooMany,
    /// The zone is full.
    ZoneFull,
}

/// The bytes of nginx's record beside the key: it decides how many fit in a zone.
const RECORD_BYTES: usize = 36;

impl State for Counts {
    const DIRECTIVE: &'static str = "limit_conn_zone";
    const WORD: &'static str = "limit_conn_zone";

    fn new(size: u64) -> Counts {
        Counts {
            numbers: HashMap::new(),
            counts: Vec::new(),
            free: Vec::new(),
            capacity: ZoneCapacity::new(size),
        }
    }
}

impl Counts {
    /// Counts one more request with this key, if there are fewer than the limit.
    pub fn enter(&mut self, key: &[u8], limit: u32) -> Entered {
        if let Some(number) = self.numbers.get(key) {
            let (_, count) = &mut self.counts[*number as usize];
            if *count >= limit {
                return Entered::TooMany;
            }
            *count += 1;
            return Entered::Counted(*number);
        }
        if !self.capacity.take(RECORD_BYTES + key.len()) {
            return Entered::ZoneFull;
        }
        let key: Arc<[u8]> = key.into();
        let number = self.free.pop().unwrap_or_else(|| {
            self.counts.push((Arc::default(), 0));
            (self.counts.len() - 1) as u32
        });
        self.counts[number as usize] = (Arc::clone(&key), 1);
        self.numbers.insert(key, number);
        Entered::Counted(number)
    }

    pub(super) fn leave(&mut self, number: u32) {
        let (key, count) = &mut self.counts[number as usize];
        *count -= 1;
        if *count == 0 {
            let key = std::mem::take(key);
            self.capacity.give(RECORD_BYTES + key.len());
            self.numbers.remove(&key);
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_and_released() {
        let mut counts = Counts::new(32 << 10);
        let Entered::Counted(a) = counts.enter(b"a", 2) else { panic!() };
        assert_eq!(counts.enter(b"a", 2), Entered::Counted(a));
        assert_eq!(counts.enter(b"a", 2), Entered::TooMany);
        let Entered::Counted(b) = counts.enter(b"b", 1) else { panic!() };
        assert_ne!(a, b);
        counts.leave(a);
        assert_eq!(counts.enter(b"a", 2), Entered::Counted(a));
        counts.leave(b);
        assert_eq!(counts.enter(b"c", 1), Entered::Counted(b), "a free place is used again");
        assert_eq!(counts.enter(b"b", 1), Entered::Counted(2));
    }

    #[test]
    fn a_full_zone_has_room_again_when_requests_end() {
        let mut counts = Counts::new(32 << 10);
        let mut seats = Vec::new();
        let mut n = 0u32;
        while let Entered::Counted(guard) = counts.enter(&n.to_be_bytes(), 1) {
            seats.push(guard);
            n += 1;
        }
        assert!((400..512).contains(&n), "{n}");
        assert_eq!(counts.enter(b"more", 1), Entered::ZoneFull);
        counts.leave(seats[7]);
        assert!(matches!(counts.enter(b"more", 1), Entered::Counted(_)));
    }
}
