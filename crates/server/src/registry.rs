//! The open connections of a thread: how many there are, and which of them are idle, so that those can be woken when
//! the thread is to end and closed when there is no room for others.

use crate::deadlines::Deadline;
use crate::process::log::Level;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

/// One connection as the registry knows it.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    waker: RefCell<Option<Waker>>,
    /// How long its task waits.
    pub(crate) deadline: Deadline,
    /// Its answer is a stream from this time of the thread's clock on, in ms.
    stream_from_ms: Cell<Option<u64>>,
    /// Its stream is to end now.
    is_cut: Cell<bool>,
    /// Since when it is idle, on a clock that counts the times a connection became idle; 0 if it is not.
    idle_since: Cell<u64>,
    /// It is to make room for another, unless a request has come meanwhile.
    is_unwanted: Cell<bool>,
    /// The generation that its request began under; 0 without one.
    generation: Cell<u64>,
}

impl Seat {
    /// The answer under way will be a stream from this time on: 0 for one that is from its beginning.
    pub(crate) fn stream_from(&self, ms: u64) {
        self.stream_from_ms.set(Some(ms));
    }

    /// The answer is over.
    pub(crate) fn no_stream(&self) {
        self.stream_from_ms.set(None);
    }

    /// The request is over. Answers whether its stream was cut.
    pub(crate) fn end_stream(&self) -> bool {
        self.no_stream();
        self.is_cut.replace(false)
    }

    /// Is the answer under way a stream?
    pub(crate) fn is_stream(&self, now_ms: u64) -> bool {
        self.stream_from_ms.get().is_some_and(|from| from <= now_ms)
    }

    /// Ends the stream: whatever its task waits for, it is woken and finds that its time is up.
    pub(crate) fn cut(&self) {
        self.is_cut.set(true);
        self.wake();
    }

    /// Wakes its task.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// A request begins under this generation; 0 when it has ended.
    pub(crate) fn serve(&self, generation: u64) {
        self.generation.set(generation);
    }

    /// Is the stream to end?
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Is it to be closed, for want of room?
    pub(crate) fn is_unwanted(&self) -> bool {
        self.is_unwanted.get()
    }

    /// Whoever polls here wants to be woken when the thread is to end.
    pub(crate) fn note(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

/// A connection to an upstream, counted as long as this is there.
#[derive(Debug)]
pub(crate) struct Outward(Rc<Cell<usize>>);

impl Drop for Outward {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// All connections of a thread.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// How many connections there are, with a seat or without.
    open: Cell<usize>,
    seats: RefCell<Vec<Weak<Seat>>>,
    taken: Cell<usize>,
    /// Connections to upstreams.
    outward: Rc<Cell<usize>>,
    /// Idle ones that were told to close and are not closed yet.
    leaving: Cell<usize>,
    idle_times: Cell<u64>,
    /// In which second the want of room was spoken of last: as an alert, and as a warning.
    said_s: Cell<[Option<u64>; 2]>,
    emptied: RefCell<Option<Waker>>,
}

impl Registry {
    /// A connection is open.
    pub(crate) fn enter(&self) {
        self.open.set(self.open.get() + 1);
    }

    /// A seat for a connection with a task.
    pub(crate) fn seat(&self) -> Rc<Seat> {
        let seat = Rc::new(Seat::default());
        self.seats.borrow_mut().push(Rc::downgrade(&seat));
        self.taken.set(self.taken.get() + 1);
        seat
    }

    /// Its seat is free.
    pub(crate) fn rise(&self, seat: &Seat) {
        self.stir(seat);
        self.taken.set(self.taken.get() - 1);
        let mut seats = self.seats.borrow_mut();
        if seats.len() > 64 && seats.len() > 2 * self.taken.get() {
            // This one has its task still, but nothing will wake that any more.
            seats.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), seat));
            let enough = 2 * seats.len();
            seats.shrink_to(enough);
        }
    }

    /// A connection is closed.
    pub(crate) fn leave(&self) {
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0
            && let Some(waker) = self.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// How many connections are open, those to upstreams included. One that was told to close is as good as closed.
    pub(crate) fn len(&self) -> usize {
        self.open.get() + self.outward.get() - self.leaving.get()
    }

    /// Counts a connection to an upstream.
    pub(crate) fn outward(&self) -> Outward {
        self.outward.set(self.outward.get() + 1);
        Outward(Rc::clone(&self.outward))
    }

    /// A connection waits for a request, or for nothing but its end.
    pub(crate) fn rest(&self, seat: &Seat) {
        self.idle_times.set(self.idle_times.get() + 1);
        seat.idle_since.set(self.idle_times.get());
    }

    /// It does so no more: something has come, or it is closed.
    pub(crate) fn stir(&self, seat: &Seat) {
        seat.idle_since.set(0);
        if seat.is_unwanted.replace(false) {
            self.leaving.set(self.leaving.get() - 1);
        }
    }

    /// May a line of this level say that there is no room? Once a second: whoever floods the connections must not flood
    /// the log.
    pub(crate) fn may_say(&self, level: Level, now_s: u64) -> bool {
        let mut said = self.said_s.get();
        let last = said[usize::from(level > Level::Alert)].replace(now_s);
        self.said_s.set(said);
        last != Some(now_s)
    }

    /// Is hardly any room left where `limit` connections are the most (nginx: a sixteenth)?
    pub(crate) fn is_nearly_full(&self, limit: usize) -> bool {
        limit.saturating_sub(self.len()) <= limit / 16
    }

    /// Those that have been idle longest are told to close, to make room where `limit` connections are the most: an eighth
    /// of them, but not too many at once. Answers how many.
    pub(crate) fn tell_oldest(&self, limit: usize) -> usize {
        let seats = self.seats.borrow();
        let mut idle: Vec<_> = seats
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|seat| seat.idle_since.get() > 0 && !seat.is_unwanted())
            .collect();
        if idle.is_empty() {
            return 0;
        }
        let wanted = worth_closing(idle.len(), limit);
        idle.select_nth_unstable_by_key(wanted - 1, |seat| seat.idle_since.get());
        for seat in &idle[..wanted] {
            seat.is_unwanted.set(true);
            seat.wake();
        }
        self.leaving.set(self.leaving.get() + wanted);
        wanted
    }

    /// Ends whatever still goes on under this generation or an older one.
    pub(crate) fn cut_up_to(&self, generation: u64) {
        let seats: Vec<Rc<Seat>> = self.seats.borrow().iter().filter_map(Weak::upgrade).collect();
        for seat in seats.iter().filter(|seat| (1..=generation).contains(&seat.generation.get())) {
            seat.cut();
        }
    }

    /// Wakes every connection, to look whether it should end.
    pub(crate) fn wake_all(&self) {
        for seat in self.seats.borrow().iter().filter_map(Weak::upgrade) {
            seat.wake();
        }
    }

    /// Waits until no connection is open.
    pub(crate) async fn emptied(&self) {
        std::future::poll_fn(|cx| match self.open.get() {
            0 => std::task::Poll::Ready(()),
            _ => {
                *self.emptied.borrow_mut() = Some(cx.waker().clone());
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

/// How many of so many idle connections to close at a time. Looking for the oldest takes as long as there are
/// connections, so that it must be worth it.
pub(crate) fn worth_closing(idle: usize, limit: usize) -> usize {
    (idle / 8).clamp(1, (limit / 64).max(32)).min(idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_those_that_are_idle_longest() {
        let registry = Registry::default();
        (0..32).for_each(|_| registry.enter());
        let seats: Vec<_> = (0..32).map(|_| registry.seat()).collect();
        assert_eq!(registry.tell_oldest(32), 0, "all are busy");
        seats.iter().rev().for_each(|seat| registry.rest(seat));
        assert!(registry.is_nearly_full(34) && !registry.is_nearly_full(35));
        assert_eq!(registry.tell_oldest(32), 4);
        let unwanted: Vec<_> = (0..32).filter(|at| seats[*at].is_unwanted()).collect();
        assert_eq!(unwanted, [28, 29, 30, 31]);
        assert_eq!(registry.len(), 28, "as good as closed");
        registry.stir(&seats[31]);
        assert!(!seats[31].is_unwanted(), "a request has come");
        assert_eq!(registry.len(), 29);
    }

    #[test]
    fn connections_to_upstreams_take_room_too() {
        let registry = Registry::default();
        registry.enter();
        let idle = registry.seat();
        registry.rest(&idle);
        let outward: Vec<_> = (0..15).map(|_| registry.outward()).collect();
        assert_eq!(registry.len(), 16);
        assert!(registry.is_nearly_full(17));
        assert_eq!(registry.tell_oldest(16), 1);
        assert!(idle.is_unwanted());
        drop(outward);
        assert_eq!(registry.len(), 0);
        registry.rise(&idle);
        registry.leave();
        assert_eq!(registry.len(), 0, "it is counted as closed once");
    }

    #[test]
    fn who_has_no_seat_is_open_still() {
        let registry = Registry::default();
        (0..200).for_each(|_| registry.enter());
        let seats: Vec<_> = (0..200).map(|_| registry.seat()).collect();
        seats.into_iter().for_each(|seat| registry.rise(&seat));
        assert_eq!((registry.len(), registry.taken.get()), (200, 0));
        assert!(registry.seats.borrow().len() <= 64, "free seats are not kept");
    }
}
