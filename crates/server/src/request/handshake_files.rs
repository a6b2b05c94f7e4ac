//! The files that handshakes read, because their names have variables: as this process may read them, in its thread, as nginx does.

use conf::system_words;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use tls::{FileStamp, HandshakeFiles};
use transport::clock::Clock;

/// The most that a chain of certificates, or a key, may have.
const MAX_BYTES: u64 = 1 << 20;

/// See the module.
pub(crate) struct ReadFiles<'a> {
    pub(crate) clock: &'a Clock,
}

impl HandshakeFiles for ReadFiles<'_> {
    fn read(&mut self, path: &[u8]) -> Result<(Vec<u8>, FileStamp), String> {
        let failed =
            |call: &'static str| move |error: io::Error| format!("{call} failed ({})", system_words(&error));
        let (file, found) = open(path).map_err(failed("open()"))?;
        if !found.is_file() {
            return Err("it is not a regular file".to_owned());
        }
        let mut bytes = Vec::with_capacity(found.len().min(MAX_BYTES) as usize);
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed("read()"))?;
        match bytes.len() as u64 > MAX_BYTES {
            true => Err("it has more than 1m".to_owned()),
            false => Ok((bytes, stamp_of(&found))),
        }
    }

    fn stamp(&mut self, path: &[u8]) -> Option<FileStamp> {
        Path::new(OsStr::from_bytes(path)).metadata().ok().map(|found| stamp_of(&found))
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().monotonic_ms()
    }
}

fn open(path: &[u8]) -> io::Result<(File, Metadata)> {
    // A FIFO must not block the thread.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(OsStr::from_bytes(path))?;
    let found = file.metadata()?;
    Ok((file, found))
}

fn stamp_of(found: &Metadata) -> FileStamp {
    FileStamp {
        inode: found.ino(),
        len: found.len(),
        modified_ns: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
    }
}
