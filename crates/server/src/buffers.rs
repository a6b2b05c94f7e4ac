//! What no connection needs just now: buffers, exchanges, heads.
//!
//! A connection leases one only while there are bytes in it; an idle connection has none.

use engine::Exchange;
use http::ResponseHead;
use std::cell::{Cell, RefCell};

/// How large a buffer is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Room {
    /// For requests: two of nginx's large header buffers.
    #[default]
    Request,
    /// For answers: what comes of a body in one read goes to the client in one write, so that a large buffer saves
    /// both. It is held for no longer than it takes to pass the bytes on.
    Answer,
}

impl Room {
    /// In bytes.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Room::Request => 16 << 10,
            Room::Answer => 64 << 10,
        }
    }
}

/// How many bytes of buffers of one kind are kept for later.
const KEEP_BYTES: usize = 4 << 20;
/// How many texts are kept for later, and how long they may be.
const KEEP_TEXTS: usize = 256;

/// How many exchanges that are not in use are kept, with the buffers in them.
const KEEP_EXCHANGES: usize = 256;

/// How many heads of answers are kept, and how large they may be.
const KEEP_HEADS: usize = 256;
const KEEP_HEAD_BYTES: usize = 8 << 10;

/// Things of one kind that are not in use.
#[derive(Debug)]
struct Kept<T> {
    things: RefCell<Vec<T>>,
    /// The fewest there were since the last look: so many are there for nothing.
    fewest: Cell<usize>,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept { things: RefCell::default(), fewest: Cell::new(0) }
    }
}

impl<T> Kept<T> {
    fn take(&self) -> Option<T> {
        let mut things = self.things.borrow_mut();
        let thing = things.pop();
        self.fewest.set(self.fewest.get().min(things.len()));
        thing
    }

    /// Keeps one more, but no more than so many.
    fn keep(&self, thing: T, most: usize) {
        let mut things = self.things.borrow_mut();
        if things.len() < most {
            things.push(thing);
        }
    }

    /// Lets those go that nobody has needed since the last time. Answers whether there were any.
    fn settle(&self) -> bool {
        let mut things = self.things.borrow_mut();
        // Those at the end were in use last.
        let unneeded = things.drain(..self.fewest.get()).count();
        self.fewest.set(things.len());
        unneeded > 0
    }
}

/// A thread's store of them.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    requests: Kept<Vec<u8>>,
    answers: Kept<Vec<u8>>,
    texts: Kept<Vec<u8>>,
    // Boxed, both: they are large, and move in and out of here with each request.
    exchanges: Kept<Box<Exchange>>,
    heads: Kept<Box<ResponseHead>>,
}

impl Buffers {
    /// A buffer with so much room; what stands in it is of no meaning.
    pub(crate) fn lease(&self, room: Room) -> Vec<u8> {
        self.kept(room).take().unwrap_or_else(|| vec![0; room.bytes()])
    }

    fn kept(&self, room: Room) -> &Kept<Vec<u8>> {
        match room {
            Room::Request => &self.requests,
            Room::Answer => &self.answers,
        }
    }

    /// An empty buffer to put a text together in.
    pub(crate) fn lease_text(&self) -> Vec<u8> {
        self.texts.take().unwrap_or_default()
    }

    /// Gives a text's buffer back.
    pub(crate) fn give_back_text(&self, mut text: Vec<u8>) {
        if text.capacity() <= Room::Request.bytes() {
            text.clear();
            self.texts.keep(text, KEEP_TEXTS);
        }
    }

    /// Gives a buffer back. One that grew is let go.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        let rooms = [Room::Request, Room::Answer];
        if let Some(room) = rooms.into_iter().find(|room| room.bytes() == buffer.len()) {
            self.kept(room).keep(buffer, KEEP_BYTES / room.bytes());
        }
    }

    /// An exchange for a request; idle connections have none.
    pub(crate) fn lease_exchange(&self) -> Box<Exchange> {
        self.exchanges.take().unwrap_or_default()
    }

    /// Gives an exchange back for another request. What it holds on to for this one is let go.
    pub(crate) fn give_back_exchange(&self, mut exchange: Box<Exchange>) {
        exchange.release();
        self.exchanges.keep(exchange, KEEP_EXCHANGES);
    }

    /// A head for an upstream's answer.
    pub(crate) fn lease_head(&self) -> Box<ResponseHead> {
        self.heads.take().unwrap_or_default()
    }

    /// Gives a head back for another answer.
    pub(crate) fn give_back_head(&self, mut head: Box<ResponseHead>) {
        head.clear();
        head.headers.shrink_to(KEEP_HEAD_BYTES);
        self.heads.keep(head, KEEP_HEADS);
    }

    /// Lets go what nobody has needed since the last time: what a burst of requests took is not kept for the next one.
    /// Answers whether there was anything.
    pub(crate) fn settle(&self) -> bool {
        let buffers = self.requests.settle() | self.answers.settle() | self.texts.settle();
        buffers | self.exchanges.settle() | self.heads.settle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_and_a_swollen_one_does_not() {
        let buffers = Buffers::default();
        for room in [Room::Request, Room::Answer] {
            let one = buffers.lease(room);
            let place = one.as_ptr();
            buffers.give_back(one);
            let again = buffers.lease(room);
            assert_eq!((again.as_ptr(), again.len()), (place, room.bytes()));
        }
        buffers.give_back(vec![0; Room::Request.bytes() * 2]);
        let kept = [Room::Request, Room::Answer].map(|room| buffers.kept(room).things.borrow().len());
        assert_eq!(kept, [0, 0], "the swollen one is gone");
    }

    #[test]
    fn what_nobody_needs_is_let_go() {
        let kept = Kept::default();
        (0..8).for_each(|thing| kept.keep(thing, 8));
        kept.settle();
        let taken: Vec<i32> = (0..3).filter_map(|_| kept.take()).collect();
        taken.into_iter().for_each(|thing| kept.keep(thing, 8));
        assert_eq!(kept.things.borrow().len(), 8);
        kept.settle();
        assert_eq!(kept.things.borrow().len(), 3, "three were needed at a time");
        kept.settle();
        assert_eq!(kept.things.borrow().len(), 0, "and none since");
    }
}
