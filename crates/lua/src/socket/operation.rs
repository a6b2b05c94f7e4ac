//! An operation of a socket that a script waits for.

use std::task::Poll;

/// See the module. When it is dropped, `end` is told whether the operation has come to its end: if not, the light thread
/// that waits for it was killed, or its request has ended.
pub(super) struct Operation<End: FnMut(bool)> {
    end: End,
    is_over: bool,
}

impl<End: FnMut(bool)> Operation<End> {
    pub(super) fn new(end: End) -> Operation<End> {
        Operation { end, is_over: false }
    }

    /// Notes what polling it has come to, and returns that.
    pub(super) fn polled(&mut self, polled: Poll<()>) -> Poll<()> {
        self.is_over = polled.is_ready();
        polled
    }
}

impl<End: FnMut(bool)> Drop for Operation<End> {
    fn drop(&mut self) {
        (self.end)(self.is_over);
    }
}
