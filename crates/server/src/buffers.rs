//! Read buffers that no connection needs just now.
//!
//! A connection leases one only while there are bytes in it; an idle connection has none.

use std::cell::RefCell;

/// How large a leased buffer is: two of nginx's large header buffers, and what one read of a body takes.
pub(crate) const BUFFER_BYTES: usize = 16 << 10;

/// How many are kept for later.
const KEEP: usize = 256;

/// A thread's store of buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
    texts: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// A buffer of [`BUFFER_BYTES`]; what stands in it is of no meaning.
    pub(crate) fn lease(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES])
    }

    /// An empty buffer to put a text together in.
    pub(crate) fn lease_text(&self) -> Vec<u8> {
        self.texts.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a text's buffer back.
    pub(crate) fn give_back_text(&self, mut text: Vec<u8>) {
        let mut texts = self.texts.borrow_mut();
        if text.capacity() <= BUFFER_BYTES && texts.len() < KEEP {
            text.clear();
            texts.push(text);
        }
    }

    /// Gives a buffer back. One that grew is let go.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if buffer.len() == BUFFER_BYTES && free.len() < KEEP {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_and_a_swollen_one_does_not() {
        let buffers = Buffers::default();
        let one = buffers.lease();
        let place = one.as_ptr();
        buffers.give_back(one);
        let again = buffers.lease();
        assert_eq!(again.as_ptr(), place);
        buffers.give_back(vec![0; BUFFER_BYTES * 8]);
        assert!(buffers.free.borrow().is_empty(), "the swollen one is gone");
    }
}
