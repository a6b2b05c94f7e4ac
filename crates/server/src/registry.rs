//! The open client connections of a thread, so that idle ones can be woken when the thread is to end.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

/// One connection as the registry knows it.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    waker: RefCell<Option<Waker>>,
    /// Its answer is a stream from this time of the thread's clock on, in ms.
    stream_from_ms: Cell<Option<u64>>,
    /// Its stream is to end now.
    is_cut: Cell<bool>,
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
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Is the stream to end?
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.get()
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

/// All connections of a thread.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    seats: RefCell<Vec<Weak<Seat>>>,
    taken: Cell<usize>,
    emptied: RefCell<Option<Waker>>,
}

impl Registry {
    /// A seat for a new connection.
    pub(crate) fn enter(&self) -> Rc<Seat> {
        let seat = Rc::new(Seat::default());
        let mut seats = self.seats.borrow_mut();
        if seats.len() > 64 && seats.len() > 2 * self.taken.get() {
            seats.retain(|seat| seat.strong_count() > 0);
        }
        seats.push(Rc::downgrade(&seat));
        self.taken.set(self.taken.get() + 1);
        seat
    }

    /// A connection is closed.
    pub(crate) fn leave(&self) {
        self.taken.set(self.taken.get() - 1);
        if self.taken.get() == 0
            && let Some(waker) = self.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// How many connections are open.
    pub(crate) fn len(&self) -> usize {
        self.taken.get()
    }

    /// Wakes every connection, to look whether it should end.
    pub(crate) fn wake_all(&self) {
        for seat in self.seats.borrow().iter().filter_map(Weak::upgrade) {
            if let Some(waker) = &*seat.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }

    /// Waits until no connection is open.
    pub(crate) async fn emptied(&self) {
        std::future::poll_fn(|cx| match self.taken.get() {
            0 => std::task::Poll::Ready(()),
            _ => {
                *self.emptied.borrow_mut() = Some(cx.waker().clone());
                std::task::Poll::Pending
            }
        })
        .await;
    }
}
