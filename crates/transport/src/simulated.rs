//! A simulated world in place of the operating system. For tests only.

use std::cell::Cell;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

/// A connection of a simulated world: see the methods of [`crate::stream::Stream`] of the same names.
pub trait SimulatedStream: Debug {
    /// Becomes ready when there is something to read, or the peer has closed.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Becomes ready when something can be written.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads what there is; 0 is the peer's end.
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes from several buffers.
    fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
    /// Writes from a file, and moves `offset` on.
    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &File,
        offset: &mut u64,
        len: usize,
    ) -> Poll<io::Result<usize>>;
    /// Returns how many bytes there are to read, up to one; 0 is the peer's end.
    fn peek(&self) -> io::Result<usize>;
    /// Ends our side.
    fn shut_down_write(&self);
    /// Makes the close that follows a reset.
    fn reset_on_close(&self);
}

/// A simulated world, for the thread that it runs on.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Returns the time of day, in microseconds since the Unix epoch; `None` for the system's.
    pub epoch_us: fn() -> Option<u64>,
    /// Fails if there is no room for another file.
    pub ask_disk: fn() -> io::Result<()>,
}

thread_local! {
    static WORLD: Cell<Option<World>> = const { Cell::new(None) };
}

/// Puts this thread into a world, or takes it out.
pub fn enter(world: Option<World>) {
    WORLD.set(world);
}

pub(crate) fn epoch_us() -> Option<u64> {
    WORLD.get().and_then(|world| (world.epoch_us)())
}

pub(crate) fn ask_disk() -> io::Result<()> {
    WORLD.get().map_or(Ok(()), |world| (world.ask_disk)())
}
