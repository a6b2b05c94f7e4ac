//! Bytes that were read from a connection and are not used yet.
//!
//! The buffer is leased when the first byte is about to come and given back when the last one is used, so that an idle
//! connection holds none.

use crate::buffers::{BufferSize, Buffers};
use crate::stream::Stream;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};
use tokio::task::coop;

/// A connection's unread bytes.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The size of the buffer that is leased next.
    room: BufferSize,
    /// Whether the last read filled the buffer, so that there may be more.
    was_filled: bool,
}

impl ReadBuffer {
    /// Creates one that leases buffers of this size.
    pub fn with_size(room: BufferSize) -> ReadBuffer {
        ReadBuffer { room, ..ReadBuffer::default() }
    }

    /// Creates one that holds these bytes.
    pub fn holding(bytes: Vec<u8>) -> ReadBuffer {
        ReadBuffer { end: bytes.len(), bytes, ..ReadBuffer::default() }
    }

    /// Returns the unread bytes.
    #[inline]
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Returns true if there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Marks bytes as used. Their range stays valid until the next read: see [`ReadBuffer::slice`].
    #[inline]
    pub fn consume(&mut self, count: usize) -> Range<usize> {
        let range = self.start..self.start + count;
        self.start += count;
        debug_assert!(self.start <= self.end);
        range
    }

    /// Returns where the unread bytes begin, for ranges that [`ReadBuffer::slice`] takes.
    #[inline]
    pub fn position(&self) -> usize {
        self.start
    }

    /// Returns the bytes of a range from [`ReadBuffer::consume`] or [`ReadBuffer::position`], until the next read.
    #[inline]
    pub fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Reads what there is behind the unread bytes; 0 is the peer's end.
    ///
    /// A buffer that is full of unread bytes grows: the caller bounds what it leaves unread.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        buffers: &Buffers,
    ) -> Poll<io::Result<usize>> {
        if self.was_filled {
            // Yield, so that a peer that always has more does not monopolise the thread.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        if self.bytes.len() < self.room.bytes() {
            if !self.is_empty() {
                // Unless more has come, a small buffer stays.
                ready!(stream.poll_readable(cx))?;
            }
            self.lease(buffers);
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
                // Nothing has come, or the peer is gone: there is no need for a buffer.
                self.was_filled = false;
                self.release(buffers);
                other
            }
        }
    }

    /// Moves the unread bytes into a buffer of the usual size.
    fn lease(&mut self, buffers: &Buffers) {
        let mut bytes = buffers.lease(self.room);
        let unread = self.end - self.start;
        bytes[..unread].copy_from_slice(self.unread());
        (self.bytes, self.start, self.end) = (bytes, 0, unread);
    }

    /// Keeps the unread bytes in a buffer that is no larger than they are, because more of them may be long in coming.
    /// Ranges of earlier bytes become invalid.
    pub fn shrink(&mut self, buffers: &Buffers) {
        let unread = self.end - self.start;
        if unread < self.bytes.len() {
            let kept = self.unread().to_vec();
            buffers.give_back(std::mem::replace(&mut self.bytes, kept));
            (self.start, self.end) = (0, unread);
        }
    }

    /// Gives the buffer back if nothing in it is unread.
    #[inline]
    pub fn release(&mut self, buffers: &Buffers) {
        if self.is_empty() && !self.bytes.is_empty() {
            buffers.give_back(std::mem::take(&mut self.bytes));
            (self.start, self.end) = (0, 0);
        }
    }
}
