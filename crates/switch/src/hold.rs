//! A hold: new requests of a key wait until it is released, within bounds.
//!
//! Owns which requests may wait and in which order each goes on: that of their arrival, whichever worker has them. Must
//! never wait itself or read a clock: times are arguments, in ms of one monotonic clock for all workers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

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
    /// The number of requests that were turned away.
    rejected: AtomicU64,
    queue: Mutex<Queue>,
}

/// The phase of a hold, which decides what happens to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldPhase {
    /// They wait.
    Held,
    /// They are turned away.
    Refusing,
    /// They proceed one by one, in the order of their arrival. New ones join the queue.
    Releasing,
    /// They proceed.
    Released,
}

/// The waiting requests in the order of their arrival.
#[derive(Debug)]
struct Queue {
    phase: HoldPhase,
    /// Each request's number, and its task if it waits for its turn to come.
    requests: BTreeMap<u64, Option<Waker>>,
    arrivals: u64,
    pace: Pace,
}

/// How fast a queue empties.
#[derive(Debug, Clone, Copy)]
struct Pace {
    since_ms: u64,
    per_second: u32,
    /// Requests that have gone on since then.
    gone: u64,
}

/// The place of one waiting request. Gives it back when dropped.
#[derive(Debug)]
pub struct Ticket {
    hold: Arc<Hold>,
    bytes: usize,
    deadline_ms: u64,
    number: u64,
    /// It has gone on.
    gone: bool,
    /// It is counted as turned away.
    rejected: bool,
}

/// The next step of a waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// Wait to be woken, but not beyond the ticket's deadline.
    Wait,
    /// It is released: ask again at this time, ms.
    WaitUntil(u64),
    /// Go on, with the newest tables.
    Go,
    /// It waited too long, or the hold turns requests away.
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
            rejected: AtomicU64::new(0),
            queue: Mutex::new(Queue {
                phase: HoldPhase::Held,
                requests: BTreeMap::new(),
                arrivals: 0,
                pace: Pace { since_ms: 0, per_second: 1, gone: 0 },
            }),
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

    /// Returns what it does with requests.
    pub fn phase(&self) -> HoldPhase {
        self.queue().phase
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

    /// Returns the number of requests that were turned away: there was no room, or they waited too long.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Admits a request that holds so many bytes to the queue. `None` if the queue is full, or the hold turns requests
    /// away: 503.
    pub fn admit(self: &Arc<Hold>, bytes: usize, now_ms: u64) -> Option<Ticket> {
        let ticket = self.try_admit(bytes, now_ms);
        if ticket.is_none() {
            self.rejected.fetch_add(1, Ordering::Relaxed);
        }
        ticket
    }

    fn try_admit(self: &Arc<Hold>, bytes: usize, now_ms: u64) -> Option<Ticket> {
        let mut queue = self.queue();
        if queue.phase == HoldPhase::Refusing || !take(&self.waiting, 1, self.limits.max) {
            return None;
        }
        if !take(&self.bytes, bytes, self.limits.max_bytes) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        let deadline_ms = now_ms.saturating_add(self.limits.timeout_ms);
        let number = queue.arrivals;
        queue.arrivals += 1;
        queue.requests.insert(number, None);
        Some(Ticket { hold: Arc::clone(self), bytes, deadline_ms, number, gone: false, rejected: false })
    }

    /// Releases the waiting requests: all at once, or so many a second. A paced release can be followed by another one,
    /// which changes its pace. 0 a second is taken as 1. Returns true if this was the first release.
    ///
    /// It wakes nothing: the tables that are published next do.
    pub fn release(&self, now_ms: u64, per_second: Option<u32>) -> bool {
        let mut queue = self.queue();
        let is_first = matches!(queue.phase, HoldPhase::Held | HoldPhase::Refusing);
        if queue.phase == HoldPhase::Released {
            return false;
        }
        queue.phase = match per_second {
            Some(_) if !queue.requests.is_empty() => HoldPhase::Releasing,
            _ => HoldPhase::Released,
        };
        queue.pace = Pace { since_ms: now_ms, per_second: per_second.unwrap_or(1).max(1), gone: 0 };
        is_first
    }

    /// Turns all requests away from now on, unless it is released. It wakes nothing: the tables that are published next do.
    pub fn refuse(&self) {
        let mut queue = self.queue();
        if queue.phase == HoldPhase::Held {
            queue.phase = HoldPhase::Refusing;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_next(&self, number: u64) -> bool {
        self.requests.first_key_value().is_some_and(|(first, _)| *first == number)
    }

    /// Takes a request out, and wakes the next one if it may be its turn.
    fn leave(&mut self, number: u64) {
        let was_next = self.is_next(number);
        self.requests.remove(&number);
        if self.phase != HoldPhase::Releasing {
            return;
        }
        match self.requests.first_entry() {
            Some(mut next) if was_next => {
                if let Some(waker) = next.get_mut().take() {
                    waker.wake();
                }
            }
            Some(_) => {}
            None => self.phase = HoldPhase::Released,
        }
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

    /// Returns whether the request may go on; if it may not, `waker` is woken when the request before it has left.
    ///
    /// With a pace, request n since the release goes at the time of the release + n / pace, in the order of arrival.
    /// Requests that give up leave no gaps.
    pub fn poll(&mut self, now_ms: u64, waker: &Waker) -> HoldState {
        if self.gone {
            return HoldState::Go;
        }
        let hold = Arc::clone(&self.hold);
        let mut queue = hold.queue();
        let is_late = now_ms >= self.deadline_ms;
        let state = match queue.phase {
            HoldPhase::Released => HoldState::Go,
            HoldPhase::Refusing => HoldState::TimedOut,
            HoldPhase::Releasing if queue.is_next(self.number) => {
                let Pace { since_ms, per_second, gone } = queue.pace;
                let turn_ms = since_ms.saturating_add(gone.saturating_mul(1000) / u64::from(per_second));
                match now_ms >= turn_ms {
                    true => {
                        queue.pace.gone += 1;
                        HoldState::Go
                    }
                    false if is_late => HoldState::TimedOut,
                    false => HoldState::WaitUntil(turn_ms.min(self.deadline_ms)),
                }
            }
            HoldPhase::Held | HoldPhase::Releasing if is_late => HoldState::TimedOut,
            HoldPhase::Held => HoldState::Wait,
            HoldPhase::Releasing => {
                if let Some(own) = queue.requests.get_mut(&self.number)
                    && !own.as_ref().is_some_and(|own| own.will_wake(waker))
                {
                    *own = Some(waker.clone());
                }
                HoldState::Wait
            }
        };
        match state {
            HoldState::Go => {
                queue.leave(self.number);
                self.gone = true;
            }
            HoldState::TimedOut if !std::mem::replace(&mut self.rejected, true) => {
                hold.rejected.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        state
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.gone {
            self.hold.queue().leave(self.number);
        }
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
        assert_eq!(ticket.poll(1499, Waker::noop()), HoldState::Wait);
        assert_eq!(ticket.poll(1500, Waker::noop()), HoldState::TimedOut);
        assert!(hold.release(1600, None));
        assert_eq!(
            ticket.poll(1600, Waker::noop()),
            HoldState::Go,
            "still there when it is released: it goes"
        );
    }

    #[test]
    fn a_release_counts_once() {
        let hold = hold();
        assert_eq!(hold.phase(), HoldPhase::Held);
        assert!(hold.release(0, None) && hold.phase() == HoldPhase::Released);
        assert!(!hold.release(0, Some(1)));
        assert_eq!(hold.admit(0, 9).unwrap().poll(9, Waker::noop()), HoldState::Go);
        hold.refuse();
        assert_eq!(hold.phase(), HoldPhase::Released);
    }

    #[test]
    fn a_hold_that_refuses_turns_all_away_until_it_is_released() {
        let hold = hold();
        let mut waits = hold.admit(10, 0).unwrap();
        hold.refuse();
        assert!(hold.admit(0, 1).is_none());
        assert_eq!(waits.poll(1, Waker::noop()), HoldState::TimedOut);
        assert_eq!((hold.rejected(), hold.waiting()), (2, 1));
        drop(waits);
        assert!(hold.release(2, None), "the first release");
        assert_eq!(hold.admit(0, 3).unwrap().poll(3, Waker::noop()), HoldState::Go);
    }

    #[test]
    fn a_paced_release_admits_requests_in_the_order_of_their_arrival() {
        let hold = hold();
        let gone = hold.admit(0, 0).unwrap();
        let (mut a, mut b) = (hold.admit(0, 0).unwrap(), hold.admit(0, 0).unwrap());
        drop(gone);
        let mut c = hold.admit(0, 0).unwrap();
        hold.release(100, Some(10));
        let noop = Waker::noop();
        assert_eq!(c.poll(1_000, noop), HoldState::TimedOut, "it is the last, and late");
        assert_eq!(b.poll(500, noop), HoldState::Wait, "a comes first, however late it asks");
        assert_eq!(a.poll(100, noop), HoldState::Go, "one that gave up leaves no gap");
        assert_eq!(b.poll(100, noop), HoldState::WaitUntil(200));
        drop(c);
        let mut d = hold.admit(0, 150).unwrap();
        assert_eq!(d.poll(199, noop), HoldState::Wait, "a new one joins the queue");
        assert_eq!(b.poll(199, noop), HoldState::WaitUntil(200));
        assert_eq!(b.poll(200, noop), HoldState::Go);
        assert_eq!((d.poll(200, noop), hold.phase()), (HoldState::WaitUntil(300), HoldPhase::Releasing));
        drop(d);
        assert_eq!(hold.phase(), HoldPhase::Released, "the queue is empty");
        drop(a);
        assert_eq!(hold.admit(0, 200).unwrap().poll(200, noop), HoldState::Go);
    }

    #[test]
    fn the_next_is_woken_when_the_one_before_it_leaves() {
        struct Woken(AtomicUsize);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let count = || woken.0.load(Ordering::Relaxed);
        let hold = hold();
        let mut a = hold.admit(0, 0).unwrap();
        let (mut b, mut c) = (hold.admit(0, 0).unwrap(), hold.admit(0, 0).unwrap());
        hold.release(0, Some(1000));
        assert_eq!(b.poll(0, &waker), HoldState::Wait);
        assert_eq!(c.poll(0, Waker::noop()), HoldState::Wait);
        assert_eq!((a.poll(0, Waker::noop()), count()), (HoldState::Go, 1));
        drop(a);
        assert_eq!(count(), 1, "it had left already");
        assert_eq!(c.poll(0, &waker), HoldState::Wait);
        drop(b);
        assert_eq!((count(), c.poll(0, &waker)), (2, HoldState::WaitUntil(1)));
        assert!(!hold.release(0, None), "the pace changes");
        assert_eq!(c.poll(0, &waker), HoldState::Go);
    }

    #[test]
    fn a_turn_after_the_deadline_times_out() {
        let hold = hold();
        let mut tickets: Vec<Ticket> = (0..3).map(|_| hold.admit(0, 0).unwrap()).collect();
        hold.release(900, Some(0));
        assert_eq!(tickets[0].poll(900, Waker::noop()), HoldState::Go);
        assert_eq!(
            tickets[1].poll(900, Waker::noop()),
            HoldState::WaitUntil(1000),
            "0 a second is 1: its turn were at 1900"
        );
        assert_eq!(tickets[1].poll(1000, Waker::noop()), HoldState::TimedOut);
    }
}
