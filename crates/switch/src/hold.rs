//! A hold: new requests of a key wait until it is released, within bounds.
//!
//! Owns which requests may wait and when each goes on. Must never wait itself or read a clock: times are arguments, in
//! ms of one monotonic clock for all workers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Key;

/// Bounds on the waiting requests: their number, time and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    /// Requests.
    pub max: usize,
    /// Each request's time from its start of waiting, ms.
    pub timeout_ms: u64,
    /// Bytes of the waiting requests together, as far as they are buffered.
    pub max_bytes: usize,
}

/// One hold on one key of one switch, shared by all workers.
#[derive(Debug)]
pub struct Hold {
    switch: usize,
    key: Key,
    limits: HoldLimits,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    /// The number of requests that have waited.
    admitted: AtomicU64,
    /// Places in the queue that were given out since the release.
    places: AtomicU64,
    release: OnceLock<Release>,
}

#[derive(Debug, Clone, Copy)]
struct Release {
    at_ms: u64,
    per_second: Option<u32>,
}

/// The place of one waiting request. Gives it back when dropped.
#[derive(Debug)]
pub struct Ticket {
    hold: Arc<Hold>,
    bytes: usize,
    deadline_ms: u64,
    place: Option<u64>,
}

/// The next step of a waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// Wait for the release, but not beyond the ticket's deadline.
    Wait,
    /// It is released: ask again at this time, ms.
    WaitUntil(u64),
    /// Go on, with the newest tables.
    Go,
    /// It waited too long.
    TimedOut,
}

impl Hold {
    /// Creates a hold on a key of a switch (its index in the configuration).
    pub fn new(switch: usize, key: Key, limits: HoldLimits) -> Arc<Hold> {
        Arc::new(Hold {
            switch,
            key,
            limits,
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            admitted: AtomicU64::new(0),
            places: AtomicU64::new(0),
            release: OnceLock::new(),
        })
    }

    /// Returns the index of its switch.
    pub fn switch(&self) -> usize {
        self.switch
    }

    /// Returns its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns its bounds.
    pub fn limits(&self) -> HoldLimits {
        self.limits
    }

    /// Returns the number of requests that wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns the bytes that the waiting requests hold.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of requests that have waited.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Returns true once it is released.
    pub fn is_released(&self) -> bool {
        self.release.get().is_some()
    }

    /// Admits a request that holds so many bytes to the queue. `None` if the queue is full: 503.
    pub fn admit(self: &Arc<Hold>, bytes: usize, now_ms: u64) -> Option<Ticket> {
        if !take(&self.waiting, 1, self.limits.max) {
            return None;
        }
        if !take(&self.bytes, bytes, self.limits.max_bytes) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        let deadline_ms = now_ms.saturating_add(self.limits.timeout_ms);
        Some(Ticket { hold: Arc::clone(self), bytes, deadline_ms, place: None })
    }

    /// Releases the waiting requests: all at once, or so many a second. Only the first release counts; returns true if
    /// this was it. 0 a second is taken as 1.
    pub fn release(&self, now_ms: u64, per_second: Option<u32>) -> bool {
        let release = Release { at_ms: now_ms, per_second: per_second.map(|rate| rate.max(1)) };
        self.release.set(release).is_ok()
    }
}

/// Adds to a counter unless that would go beyond its bound.
fn take(counter: &AtomicUsize, amount: usize, max: usize) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            now.checked_add(amount).filter(|&sum| sum <= max)
        })
        .is_ok()
}

impl Ticket {
    /// Returns when it times out, ms.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// Adds bytes that were buffered for the request while it waits. Returns false if there is no room for them.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let room = take(&self.hold.bytes, bytes, self.hold.limits.max_bytes);
        if room {
            self.bytes += bytes;
        }
        room
    }

    /// Returns whether the request may go on.
    ///
    /// With a pace, request n after the release goes at the time of the release + n / pace. The n is assigned when the
    /// ticket first asks after the release, so that requests that gave up before leave no gaps.
    pub fn poll(&mut self, now_ms: u64) -> HoldState {
        if let Some(release) = self.hold.release.get() {
            let Some(per_second) = release.per_second else { return HoldState::Go };
            let place = *self.place.get_or_insert_with(|| self.hold.places.fetch_add(1, Ordering::Relaxed));
            let turn_ms = release.at_ms.saturating_add(place.saturating_mul(1000) / u64::from(per_second));
            if now_ms >= turn_ms {
                return HoldState::Go;
            }
            if now_ms < self.deadline_ms {
                return HoldState::WaitUntil(turn_ms.min(self.deadline_ms));
            }
        }
        if now_ms >= self.deadline_ms { HoldState::TimedOut } else { HoldState::Wait }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.hold.waiting.fetch_sub(1, Ordering::Relaxed);
        self.hold.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyKind;

    const LIMITS: HoldLimits = HoldLimits { max: 3, timeout_ms: 1000, max_bytes: 100 };

    fn hold() -> Arc<Hold> {
        Hold::new(0, Key::parse(KeyKind::Host, b"a.example", 64).unwrap(), LIMITS)
    }

    #[test]
    fn requests_and_bytes_are_bounded_and_released() {
        let hold = hold();
        let first = hold.admit(60, 0).unwrap();
        assert!(hold.admit(41, 0).is_none(), "41 bytes more are too many");
        let mut second = hold.admit(40, 0).unwrap();
        assert!(!second.grow(1));
        let third = hold.admit(0, 0).unwrap();
        assert!(hold.admit(0, 0).is_none(), "a fourth request is too many");
        assert_eq!((hold.waiting(), hold.bytes(), hold.admitted()), (3, 100, 3));
        drop(first);
        assert!(second.grow(60));
        assert_eq!((hold.waiting(), hold.bytes()), (2, 100));
        drop((second, third));
        assert_eq!((hold.waiting(), hold.bytes(), hold.admitted()), (0, 0, 3));
        assert!(hold.admit(usize::MAX, 0).is_none());
        assert_eq!((hold.waiting(), hold.bytes()), (0, 0));
    }

    #[test]
    fn a_request_waits_until_its_own_deadline() {
        let hold = hold();
        let mut ticket = hold.admit(0, 500).unwrap();
        assert_eq!(ticket.deadline_ms(), 1500);
        assert_eq!(ticket.poll(1499), HoldState::Wait);
        assert_eq!(ticket.poll(1500), HoldState::TimedOut);
        assert!(hold.release(1600, None));
        assert_eq!(ticket.poll(1600), HoldState::Go, "still there when it is released: it goes");
    }

    #[test]
    fn a_release_counts_once() {
        let hold = hold();
        assert!(!hold.is_released());
        assert!(hold.release(0, None) && hold.is_released());
        assert!(!hold.release(0, Some(1)));
        assert_eq!(hold.admit(0, 9).unwrap().poll(9), HoldState::Go);
    }

    #[test]
    fn a_paced_release_admits_requests_one_by_one() {
        let hold = hold();
        let gone = hold.admit(0, 0).unwrap();
        let (mut a, mut b) = (hold.admit(0, 0).unwrap(), hold.admit(0, 0).unwrap());
        drop(gone);
        let mut c = hold.admit(0, 0).unwrap();
        hold.release(100, Some(10));
        assert_eq!(a.poll(100), HoldState::Go, "who gave up leaves no gap");
        assert_eq!(b.poll(100), HoldState::WaitUntil(200));
        assert_eq!(c.poll(150), HoldState::WaitUntil(300));
        assert_eq!(b.poll(199), HoldState::WaitUntil(200), "the place is kept");
        assert_eq!(b.poll(200), HoldState::Go);
        assert_eq!(c.poll(300), HoldState::Go);
    }

    #[test]
    fn a_turn_after_the_deadline_times_out() {
        let hold = hold();
        let mut tickets: Vec<Ticket> = (0..3).map(|_| hold.admit(0, 0).unwrap()).collect();
        hold.release(900, Some(0));
        assert_eq!(tickets[0].poll(900), HoldState::Go);
        assert_eq!(
            tickets[1].poll(900),
            HoldState::WaitUntil(1000),
            "0 a second is 1: its turn were at 1900"
        );
        assert_eq!(tickets[1].poll(1000), HoldState::TimedOut);
    }
}
