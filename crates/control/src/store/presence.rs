//! Which processes serve with the same state folder.
//!
//! Owns the file `serving.lock` there: each process has one byte of it locked for as long as it lives, so that another one
//! knows that requests may be elsewhere, too. Must never wait, nor keep a process from serving.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The name of the file.
const FILE: &str = "serving.lock";
/// How many bytes are tried: a process in another container may have the same number.
const TRIES: i64 = 64;

/// This process's place in the file. It is given up when it is dropped, at the latest when the process ends.
#[derive(Debug)]
pub(crate) struct Presence(File);

impl Presence {
    /// Announces this process in a state folder.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub(crate) fn announce(folder: &Path) -> io::Result<Presence> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(FILE))?;
        let first = i64::from(std::process::id());
        for place in first..first + TRIES {
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock_of(place, 1))) {
                Ok(_) => return Ok(Presence(file)),
                Err(Errno::EAGAIN | Errno::EACCES) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EAGAIN.into())
    }

    /// Returns true if another process has announced itself, and lives. What cannot be asked is taken for none.
    pub(crate) fn has_others(&self) -> bool {
        // The locks of one open file do not conflict with each other (fcntl(2), open file description locks).
        let mut lock = lock_of(0, 0);
        let asked = fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut lock));
        asked.is_ok() && lock.l_type != libc::F_UNLCK as i16
    }
}

/// Returns a lock of so many bytes from there; 0 are all.
fn lock_of(start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_see_each_other_while_they_live() {
        let folder = tempfile::tempdir().unwrap();
        let first = Presence::announce(folder.path()).unwrap();
        assert!(!first.has_others());
        let second = Presence::announce(folder.path()).unwrap();
        assert!(first.has_others() && second.has_others());
        drop(first);
        assert!(!second.has_others());
        assert!(Presence::announce(&folder.path().join("none")).is_err());
    }
}
