//! A file that is sent to a client that may take its time.
//!
//! Owns whether its descriptor is open: a client of HTTP/2 can have a hundred streams wait, and each would hold one. It must
//! never go on with another file than the one that was opened.

use crate::pipe::FileTicket;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::rc::Rc;

/// What a file is known by when it is opened again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(data: &Metadata) -> Identity {
        Identity {
            device: data.dev(),
            inode: data.ino(),
            len: data.len(),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct HeldFile {
    open: Option<Rc<File>>,
    /// Where it is once it is closed.
    aside: Option<(PathBuf, Identity)>,
    /// It stays open while it waits.
    ticket: Option<FileTicket>,
}

impl HeldFile {
    /// Takes an open file. Without a ticket [`HeldFile::wait`] closes it.
    pub fn new(file: Rc<File>, ticket: Option<FileTicket>) -> HeldFile {
        HeldFile { open: Some(file), aside: None, ticket }
    }

    /// Returns the file, opened again if need be.
    ///
    /// # Errors
    /// Fails if it cannot be opened, or is another one, or changed, by now.
    pub fn get(&mut self) -> io::Result<&File> {
        let file = match self.open.take() {
            Some(file) => file,
            None => Rc::new(self.reopened()?),
        };
        Ok(self.open.insert(file))
    }

    fn reopened(&self) -> io::Result<File> {
        let Some((path, identity)) = &self.aside else { return Err(io::ErrorKind::NotFound.into()) };
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        match Identity::of(&file.metadata()?) == *identity {
            true => Ok(file),
            false => Err(io::ErrorKind::StaleNetworkFileHandle.into()),
        }
    }

    /// Notes that its reader waits: the file is closed, unless it may stay open or could not be found again.
    pub fn wait(&mut self) {
        if self.ticket.is_some() {
            return;
        }
        let Some(file) = &self.open else { return };
        if self.aside.is_none() {
            // The path without links, as the system knows it.
            let link = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            let (Ok(path), Ok(data)) = (std::fs::read_link(link), file.metadata()) else { return };
            let identity = Identity::of(&data);
            // One that has been removed has another name there.
            if !std::fs::symlink_metadata(&path).is_ok_and(|found| Identity::of(&found) == identity) {
                return;
            }
            self.aside = Some((path, identity));
        }
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn content(held: &mut HeldFile) -> io::Result<String> {
        let mut text = String::new();
        held.get()?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn file_is_closed_while_it_waits_and_is_the_same_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut held = HeldFile::new(Rc::new(File::open(&link).unwrap()), None);
        held.wait();
        assert!(held.open.is_none());
        assert_eq!(content(&mut held).unwrap(), "one");
        held.wait();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert!(held.get().is_err(), "another file has its name");
        assert!(held.get().is_err());
    }

    #[test]
    fn file_that_could_not_be_found_again_stays_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let mut held = HeldFile::new(Rc::new(File::open(&path).unwrap()), None);
        std::fs::remove_file(&path).unwrap();
        held.wait();
        assert_eq!(content(&mut held).unwrap(), "one");
        std::fs::write(&path, "two").unwrap();
        let mut kept = HeldFile::new(Rc::new(File::open(&path).unwrap()), Some(FileTicket::of_connection()));
        kept.wait();
        assert!(kept.open.is_some());
    }
}
