//! The lock of orders that touch groups and switches: one for all processes with the same state folder.
//!
//! Owns the file `orders.lock` there. Who makes or removes a group has it alone; who leads keys to such groups shares it. Must
//! never wait: that is for those who ask.

use super::fault;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use switch::StoreFault;

/// The name of the file.
const FILE: &str = "orders.lock";

/// The lock. Dropping it releases it.
pub(crate) struct OrderLock(#[expect(dead_code, reason = "it is held")] Flock<File>);

impl OrderLock {
    /// Takes the lock of a state folder, alone or with others; `None` if others have it otherwise.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub(crate) fn try_take(folder: &Path, is_shared: bool) -> Result<Option<OrderLock>, StoreFault> {
        let path = folder.join(FILE);
        let open =
            || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Another process may create it too; what keeps it from being there is said by the second attempt.
                let _ = DirBuilder::new().mode(0o700).create(folder);
                open()
            }
            opened => opened,
        };
        let file = file.map_err(|error| fault::system(&path, "opened", &error))?;
        let how = if is_shared { FlockArg::LockSharedNonblock } else { FlockArg::LockExclusiveNonblock };
        match Flock::lock(file, how) {
            Ok(lock) => Ok(Some(OrderLock(lock))),
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, errno)) => Err(fault::system(&path, "locked", &errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_shared_or_exclusive() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let take = |is_shared| OrderLock::try_take(&folder, is_shared).unwrap();
        let shared = (take(true).unwrap(), take(true).unwrap());
        assert!(take(false).is_none());
        drop(shared);
        let alone = take(false).unwrap();
        assert!(take(true).is_none() && take(false).is_none());
        drop(alone);
        assert!(take(true).is_some());
    }
}
