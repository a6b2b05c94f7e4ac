//! Buffers, exchanges and heads that are not in use, for reuse.
//!
//! A connection leases one only while there are bytes in it; an idle connection has none.

use engine::Exchange;
use http::ResponseHead;
use std::cell::{Cell, RefCell};

/// The size of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BufferSize {
    /// For requests: two of nginx's large header buffers.
    #[default]
    Request,
    /// For responses: what one read takes goes to the client in one write, so that a large buffer saves both. It is held no
    /// longer than it takes to pass the bytes on.
    Answer,
}

impl BufferSize {
    /// Returns the size in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            BufferSize::Request => 16 << 10,
            BufferSize::Answer => 64 << 10,
        }
    }
}

/// How many bytes of buffers of one kind are kept.
const KEEP_BYTES: usize = 4 << 20;
/// How many texts are kept.
const KEEP_TEXTS: usize = 256;

/// How many exchanges are kept, with the buffers in them.
const KEEP_EXCHANGES: usize = 256;

/// How many response heads are kept, and how large they may be.
const KEEP_HEADS: usize = 256;
const KEEP_HEAD_BYTES: usize = 8 << 10;

/// Things of one kind that are not in use.
#[derive(Debug)]
struct Kept<T> {
    things: RefCell<Vec<T>>,
    /// The fewest there were since the last call of `settle`: so many are not needed.
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

    /// Keeps one more, up to `most`.
    fn keep(&self, thing: T, most: usize) {
        let mut things = self.things.borrow_mut();
        if things.len() < most {
            things.push(thing);
        }
    }

    /// Drops those that were not needed since the last call. Returns true if there were any.
    fn settle(&self) -> bool {
        let mut things = self.things.borrow_mut();
        // Those at the end were in use last.
        let unneeded = things.drain(..self.fewest.get()).count();
        self.fewest.set(things.len());
        unneeded > 0
    }
}

/// A thread's reusable buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    requests: Kept<Vec<u8>>,
    answers: Kept<Vec<u8>>,
    texts: Kept<Vec<u8>>,
    // Boxed, both: they are large, and move in and out of here with each request.
    exchanges: Kept<Box<Exchange>>,
    heads: Kept<Box<ResponseHead>>,
}

impl Buffers {
    /// Returns a buffer of this size, with undefined contents.
    pub fn lease(&self, room: BufferSize) -> Vec<u8> {
        self.kept(room).take().unwrap_or_else(|| vec![0; room.bytes()])
    }

    fn kept(&self, room: BufferSize) -> &Kept<Vec<u8>> {
        match room {
            BufferSize::Request => &self.requests,
            BufferSize::Answer => &self.answers,
        }
    }

    /// Returns an empty buffer for a text.
    pub fn lease_text(&self) -> Vec<u8> {
        self.texts.take().unwrap_or_default()
    }

    /// Takes a text's buffer back.
    pub fn give_back_text(&self, mut text: Vec<u8>) {
        if text.capacity() <= BufferSize::Request.bytes() {
            text.clear();
            self.texts.keep(text, KEEP_TEXTS);
        }
    }

    /// Takes a buffer back. One that has grown is dropped.
    pub fn give_back(&self, buffer: Vec<u8>) {
        let rooms = [BufferSize::Request, BufferSize::Answer];
        if let Some(room) = rooms.into_iter().find(|room| room.bytes() == buffer.len()) {
            self.kept(room).keep(buffer, KEEP_BYTES / room.bytes());
        }
    }

    /// Returns an exchange for a request; idle connections have none.
    pub fn lease_exchange(&self) -> Box<Exchange> {
        self.exchanges.take().unwrap_or_default()
    }

    /// Takes an exchange back for another request, and releases what it holds for this one.
    pub fn give_back_exchange(&self, mut exchange: Box<Exchange>) {
        exchange.release();
        self.exchanges.keep(exchange, KEEP_EXCHANGES);
    }

    /// Returns a head for an upstream's response.
    pub fn lease_head(&self) -> Box<ResponseHead> {
        self.heads.take().unwrap_or_default()
    }

    /// Takes a head back for another response.
    pub fn give_back_head(&self, mut head: Box<ResponseHead>) {
        head.clear();
        head.headers.shrink_to(KEEP_HEAD_BYTES);
        self.heads.keep(head, KEEP_HEADS);
    }

    /// Drops what was not needed since the last call: what a burst of requests took is not kept for the next one. Returns
    /// true if there was anything.
    pub fn settle(&self) -> bool {
        let buffers = self.requests.settle() | self.answers.settle() | self.texts.settle();
        buffers | self.exchanges.settle() | self.heads.settle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_reused_unless_it_has_grown() {
        let buffers = Buffers::default();
        for room in [BufferSize::Request, BufferSize::Answer] {
            let one = buffers.lease(room);
            let place = one.as_ptr();
            buffers.give_back(one);
            let again = buffers.lease(room);
            assert_eq!((again.as_ptr(), again.len()), (place, room.bytes()));
        }
        buffers.give_back(vec![0; BufferSize::Request.bytes() * 2]);
        let kept =
            [BufferSize::Request, BufferSize::Answer].map(|room| buffers.kept(room).things.borrow().len());
        assert_eq!(kept, [0, 0], "the one that has grown is gone");
    }

    #[test]
    fn unneeded_buffers_are_dropped() {
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
