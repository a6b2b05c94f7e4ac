//! The lock under which a store and its second file are written.
//!
//! Owns: that of all processes and connections one at a time writes both. SQLite's own lock ends with its transaction, and
//! the second file is written after that.

use super::fault;
use super::files::{BUSY_TIME, beside};
use crate::plain_file;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use switch::StoreFault;

/// The time between two attempts to get it.
const PAUSE: Duration = Duration::from_millis(1);

/// The lock. Dropping it releases it.
pub(super) struct Lock(#[expect(dead_code, reason = "it is held")] Flock<File>);

impl Lock {
    /// Takes the lock of a store, and waits for it as long as for SQLite's.
    pub(super) fn take(store: &Path) -> Result<Lock, StoreFault> {
        let path = beside(store, "-lock");
        // Opened each time: if somebody has removed the file, all take the new one.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = plain_file::open_with(&path, &mut options)
            .map_err(|error| fault::system(&path, "opened", &error))?;
        let until = Instant::now() + BUSY_TIME;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Lock(lock)),
                Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < until => file,
                Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => return Err(fault::locked(&path)),
                Err((_, errno)) => return Err(fault::system(&path, "locked", &errno.into())),
            };
            std::thread::sleep(PAUSE);
        }
    }
}
