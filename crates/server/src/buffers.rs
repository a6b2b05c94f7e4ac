//! What no connection needs just now: buffers, exchanges, heads.
//!
//! A connection leases one only while there are bytes in it; an idle connection has none.

use engine::Exchange;
use http::ResponseHead;
use std::cell::RefCell;

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

/// A thread's store of them.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    requests: RefCell<Vec<Vec<u8>>>,
    answers: RefCell<Vec<Vec<u8>>>,
    texts: RefCell<Vec<Vec<u8>>>,
    // Boxed, both: they are large, and move in and out of here with each request.
    #[allow(clippy::vec_box)]
    exchanges: RefCell<Vec<Box<Exchange>>>,
    #[allow(clippy::vec_box)]
    heads: RefCell<Vec<Box<ResponseHead>>>,
}

impl Buffers {
    /// A buffer with so much room; what stands in it is of no meaning.
    pub(crate) fn lease(&self, room: Room) -> Vec<u8> {
        self.kept(room).borrow_mut().pop().unwrap_or_else(|| vec![0; room.bytes()])
    }

    fn kept(&self, room: Room) -> &RefCell<Vec<Vec<u8>>> {
        match room {
            Room::Request => &self.requests,
            Room::Answer => &self.answers,
        }
    }

    /// An empty buffer to put a text together in.
    pub(crate) fn lease_text(&self) -> Vec<u8> {
        self.texts.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a text's buffer back.
    pub(crate) fn give_back_text(&self, mut text: Vec<u8>) {
        let mut texts = self.texts.borrow_mut();
        if text.capacity() <= Room::Request.bytes() && texts.len() < KEEP_TEXTS {
            text.clear();
            texts.push(text);
        }
    }

    /// Gives a buffer back. One that grew is let go.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        let Some(room) = [Room::Request, Room::Answer].into_iter().find(|room| room.bytes() == buffer.len())
        else {
            return;
        };
        let mut kept = self.kept(room).borrow_mut();
        if (kept.len() + 1) * room.bytes() <= KEEP_BYTES {
            kept.push(buffer);
        }
    }

    /// An exchange for a request; idle connections have none.
    pub(crate) fn lease_exchange(&self) -> Box<Exchange> {
        self.exchanges.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives an exchange back for another request. What it holds on to for this one is let go.
    pub(crate) fn give_back_exchange(&self, mut exchange: Box<Exchange>) {
        exchange.release();
        let mut exchanges = self.exchanges.borrow_mut();
        if exchanges.len() < KEEP_EXCHANGES {
            exchanges.push(exchange);
        }
    }

    /// A head for an upstream's answer.
    pub(crate) fn lease_head(&self) -> Box<ResponseHead> {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a head back for another answer.
    pub(crate) fn give_back_head(&self, mut head: Box<ResponseHead>) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < KEEP_HEADS {
            head.clear();
            head.headers.shrink_to(KEEP_HEAD_BYTES);
            heads.push(head);
        }
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
        let kept = [Room::Request, Room::Answer].map(|room| buffers.kept(room).borrow().len());
        assert_eq!(kept, [0, 0], "the swollen one is gone");
    }
}
