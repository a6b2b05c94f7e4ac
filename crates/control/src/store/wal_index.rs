//! The index of a store's log (`-shm`), which SQLite keeps in memory that processes share by mapping the file.
//!
//! Owns: that the file is as long as what is mapped of it. Reading beyond its end would end the process (SIGBUS). Must never
//! shorten it, or write a byte that is not zero: SQLite takes an index of zeros for one to make anew from the log.

use super::files;
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Two copies of the header, and what is known of checkpoints: <https://www.sqlite.org/walformat.html#the_wal_index_file_format>.
const HEADER_BYTES: usize = 136;

/// The index of one open store.
pub(super) struct WalIndex {
    path: PathBuf,
    /// How long it was: it grows only.
    bytes: u64,
}

impl WalIndex {
    /// Begins to watch the index of a store that is open.
    pub(super) fn of(store: &Path) -> WalIndex {
        let mut index = WalIndex { path: files::beside(store, "-shm"), bytes: 0 };
        index.extend();
        index
    }

    fn open(&self) -> io::Result<File> {
        // Something else may be there by now.
        OpenOptions::new()
            .write(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&self.path)
    }

    /// Gives the file its length back if something has shortened it. To be called before SQLite is.
    pub(super) fn extend(&mut self) {
        let Some(found) = std::fs::symlink_metadata(&self.path).ok().filter(std::fs::Metadata::is_file)
        else {
            return;
        };
        if found.len() >= self.bytes {
            self.bytes = found.len();
        } else if let Ok(file) = self.open() {
            // What is left of it must not be taken for the beginning of a whole one. What fails is found out by SQLite.
            let _ = file.set_len(self.bytes).and_then(|()| file.write_all_at(&[0; HEADER_BYTES], 0));
        }
    }
}
