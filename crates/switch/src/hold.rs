//! A hold: new requests of a key wait until it is released, within bounds.
//!
//! Owns who may wait and when each may go on. Must never wait itself or read a clock: times are arguments, in ms of one
//! monotonic clock for all workers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Key;

/// How many may wait, for how long, holding how much.
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
    /// How many waited at some time.
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

/// What a waiting request may do.
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
    /// A hold on a key of a switch (its index in the configuration).
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

    /// The index of its switch.
    pub fn switch(&self) -> usize {
        self.switch
    }

    /// What it holds.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its bounds.
    pub fn limits(&self) -> HoldLimits {
        self.limits
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many bytes the waiting ones hold.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many waited at some time.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Was it released?
    pub fn is_released(&self) -> bool {
        self.release.get().is_some()
    }

    /// A place for a request that holds so many bytes. `None` if there is none: 503.
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

    /// Lets the waiting ones go: all at once, or so many a second. Only the first release counts; says whether this was
    /// it. 0 a second is taken for 1.
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
    /// When it times out, ms.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// Takes further bytes that were buffered for the request while it waits. `false`: there is no room for them.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let room = take(&self.hold.bytes, bytes, self.hold.limits.max_bytes);
        if room {
            self.bytes += bytes;
        }
        room
    }

    /// May the request go on?
    ///
    /// With a pace, request n after the release goes at the time of the release + n / pace. The n is taken when the
    /// ticket first asks after the release, so those that gave up before leave no gaps.
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
