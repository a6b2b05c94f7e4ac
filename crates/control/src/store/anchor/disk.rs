//! The writes of the second file.
//!
//! Owns: that a test can have any of them fail, as disks do. Must never: retry one; what a disk has after a fault is unknown.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Writes all these bytes.
pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    if let Err(error) = ready() {
        // Some of it may be there.
        let _ = file.write_all_at(&bytes[..bytes.len() / 2], at);
        return Err(error);
    }
    file.write_all_at(bytes, at)
}

/// Syncs what was written; its length too if that has changed.
pub(super) fn sync(file: &File, has_grown: bool) -> io::Result<()> {
    ready()?;
    if has_grown { file.sync_all() } else { file.sync_data() }
}

/// Fails where a test wants it.
#[cfg(not(test))]
pub(super) fn ready() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use tests::ready;
#[cfg(test)]
pub(in crate::store) use tests::{fail_after, heal};

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        /// How many writes and syncs succeed until all fail, and their error.
        static FAULT: Cell<Option<(usize, i32)>> = const { Cell::new(None) };
    }

    /// Has the writes of this thread fail with this error once so many have succeeded.
    pub(in crate::store) fn fail_after(writes: usize, errno: i32) {
        FAULT.set(Some((writes, errno)));
    }

    /// Ends that. Returns true if any has failed.
    pub(in crate::store) fn heal() -> bool {
        FAULT.take().is_some_and(|(left, _)| left == 0)
    }

    pub(in crate::store::anchor) fn ready() -> io::Result<()> {
        match FAULT.get() {
            Some((0, errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some((left, errno)) => {
                FAULT.set(Some((left - 1, errno)));
                Ok(())
            }
            None => Ok(()),
        }
    }
}
