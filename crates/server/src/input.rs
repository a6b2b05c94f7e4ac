//! Bytes that came over a connection and are not used yet.
//!
//! The buffer is leased when the first byte is about to come and given back when the last one is used, so that an
//! idle connection holds none.

use crate::buffers::{Buffers, Room};
use crate::stream::Stream;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};
use tokio::task::coop;

/// A connection's unread bytes.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// How much the buffer holds that is leased next.
    room: Room,
    /// The last read took all the buffer had room for: there may be more.
    was_filled: bool,
}

impl Input {
    /// The input of a connection whose messages are as large as this.
    pub(crate) fn with_room(room: Room) -> Input {
        Input { room, ..Input::default() }
    }

    /// The bytes not used yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// There are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// So many bytes are used. The slice of them stays valid until the next read: see [`Input::slice`].
    pub(crate) fn consume(&mut self, count: usize) -> Range<usize> {
        let range = self.start..self.start + count;
        self.start += count;
        debug_assert!(self.start <= self.end);
        range
    }

    /// Where the unread bytes begin, for ranges that [`Input::slice`] takes.
    pub(crate) fn position(&self) -> usize {
        self.start
    }

    /// Bytes at a place that was given by [`Input::consume`] or [`Input::position`], until the next read.
    pub(crate) fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Reads what is there behind the unread bytes; 0 is the peer's end. Leases the buffer only when something came.
    ///
    /// A buffer that is full of unread bytes grows: the caller bounds what it leaves unread.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        buffers: &Buffers,
    ) -> Poll<io::Result<usize>> {
        if self.was_filled {
            // A peer that always has more must not keep the thread for itself.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        if self.bytes.is_empty() {
            self.bytes = buffers.lease(self.room);
        }
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                self.bytes.resize(self.bytes.len() * 2, 0);
            }
        }
        match stream.poll_read(cx, &mut self.bytes[self.end..]) {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.end += count;
                self.was_filled = self.end == self.bytes.len();
                Poll::Ready(Ok(count))
            }
            other => {
                // Nothing has come, or the peer is gone: nothing to hold a buffer for.
                self.was_filled = false;
                self.release(buffers);
                other
            }
        }
    }

    /// Gives the buffer back if nothing in it is unread.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        if self.is_empty() && !self.bytes.is_empty() {
            buffers.give_back(std::mem::take(&mut self.bytes));
            (self.start, self.end) = (0, 0);
        }
    }
}
