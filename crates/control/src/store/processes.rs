//! Which processes serve with the same state folder, and what each says of its requests.
//!
//! Owns the file `serving.lock` there: each process has one byte of it locked for as long as it lives, so that another one
//! knows that requests may be elsewhere, too. And `serving-N` beside it, of the process at the byte N: what it lets the others
//! know, replaced as a whole. Must never wait for a lock, nor keep a process from serving.

use crate::plain_file;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The name of the file with the locks.
const FILE: &str = "serving.lock";
/// What the names of the other files begin with.
const REPORT: &str = "serving-";
/// How many bytes are tried: a process in another container may have the same number.
const TRIES: i64 = 64;
/// The most processes that are looked for.
const MAX_OTHERS: usize = 64;
/// The largest report that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// This process's place in the file. It is given up when it is dropped, at the latest when the process ends.
#[derive(Debug)]
pub(crate) struct ProcessEntry {
    locks: File,
    folder: PathBuf,
    place: i64,
}

impl ProcessEntry {
    /// Announces this process in a state folder.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub(crate) fn announce(folder: &Path) -> io::Result<ProcessEntry> {
        let locks = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(FILE))?;
        let first = i64::from(std::process::id());
        for place in first..first + TRIES {
            match fcntl(&locks, FcntlArg::F_OFD_SETLK(&lock_of(place, 1))) {
                Ok(_) => {
                    let process_entry = ProcessEntry { locks, folder: folder.to_owned(), place };
                    process_entry.remove_left_reports();
                    return Ok(process_entry);
                }
                Err(Errno::EAGAIN | Errno::EACCES) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EAGAIN.into())
    }

    /// Returns true if another process has announced itself, and lives. What cannot be asked is taken for none.
    pub(crate) fn has_others(&self) -> bool {
        self.other_in(0, 0).is_some()
    }

    /// Returns true if another process has this number. One in another container is known by its report alone.
    pub(crate) fn is_at(&self, pid: u32) -> bool {
        self.other_in(pid.into(), 1).is_some()
    }

    /// Returns the places of the other processes.
    pub(crate) fn others(&self) -> Vec<i64> {
        let mut found = Vec::new();
        let mut ranges = vec![(0, 0)];
        while let Some((start, len)) = ranges.pop()
            && found.len() < MAX_OTHERS
        {
            let Some(place) = self.other_in(start, len) else { continue };
            found.push(place);
            if place > start {
                ranges.push((start, place - start));
            }
            match len {
                0 => ranges.push((place + 1, 0)),
                len if place + 1 < start + len => ranges.push((place + 1, start + len - place - 1)),
                _ => {}
            }
        }
        found.sort_unstable();
        found
    }

    /// Returns a place in so many bytes from there (0 are all) that another process has locked.
    fn other_in(&self, start: i64, len: i64) -> Option<i64> {
        // The locks of one open file do not conflict with each other (fcntl(2), open file description locks).
        let mut lock = lock_of(start, len);
        let asked = fcntl(&self.locks, FcntlArg::F_OFD_GETLK(&mut lock));
        (asked.is_ok() && lock.l_type != libc::F_UNLCK as i16).then_some(lock.l_start)
    }

    fn path_of(&self, place: i64) -> PathBuf {
        self.folder.join(format!("{REPORT}{place}"))
    }

    /// Lets the others know this. A reader finds the text before it or this one, whole.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn report(&self, text: &[u8]) -> io::Result<()> {
        let path = self.path_of(self.place);
        let draft = path.with_extension("new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // It need not outlive a crash of the machine: nothing is synced.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?.write_all(text)?;
        fs::rename(&draft, path)
    }

    /// Returns what the process at a place says; `None` if it says nothing.
    pub(crate) fn report_of(&self, place: i64) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let file = plain_file::open(&self.path_of(place)).ok()?;
        file.take(MAX_BYTES + 1).read_to_end(&mut text).ok()?;
        (text.len() as u64 <= MAX_BYTES).then_some(text)
    }

    /// Removes what processes have left that are gone, one with this one's number included.
    fn remove_left_reports(&self) {
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        let others = self.others();
        for file in files.flatten() {
            let name = file.file_name();
            let place = name.to_str().and_then(|name| name.strip_prefix(REPORT));
            let place = place.and_then(|place| place.trim_end_matches(".new").parse::<i64>().ok());
            if place.is_some_and(|place| !others.contains(&place)) {
                // What stays is of a process that is gone, which its contents show.
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

impl Drop for ProcessEntry {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path_of(self.place));
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
        let first = ProcessEntry::announce(folder.path()).unwrap();
        assert!(!first.has_others());
        let second = ProcessEntry::announce(folder.path()).unwrap();
        assert!(first.has_others() && second.has_others());
        assert!(first.is_at(second.place as u32) && !first.is_at(first.place as u32) && !first.is_at(1));
        drop(first);
        assert!(!second.has_others());
        assert!(ProcessEntry::announce(&folder.path().join("none")).is_err());
    }

    #[test]
    fn processes_read_each_other_s_reports_while_they_live() {
        let folder = tempfile::tempdir().unwrap();
        let own = ProcessEntry::announce(folder.path()).unwrap();
        let others: Vec<ProcessEntry> =
            (0..5).map(|_| ProcessEntry::announce(folder.path()).unwrap()).collect();
        let mut places: Vec<i64> = others.iter().map(|other| other.place).collect();
        places.sort_unstable();
        assert_eq!(own.others(), places);
        assert_eq!(own.report_of(others[0].place), None);
        for text in ["one", "two"] {
            others[0].report(text.as_bytes()).unwrap();
            assert_eq!(own.report_of(others[0].place).as_deref(), Some(text.as_bytes()));
        }
        // What a process has left that was killed.
        let left = folder.path().join("serving-1");
        fs::write(&left, "left").unwrap();
        let at = others[0].path_of(others[0].place);
        drop(ProcessEntry::announce(folder.path()).unwrap());
        assert!(!left.exists() && at.exists());
        drop(others);
        assert!(own.others().is_empty() && !at.exists());
    }
}
