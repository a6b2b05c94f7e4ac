//! Opening what stands at the name of a store's file.
//!
//! Owns: that only a regular file is opened, and within a limit: a user who may write to the folder may also put a link, a FIFO or a
//! device there, which would lead elsewhere, or block. Must never: create a file through a link.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The maximum size of a file that is read from its beginning to its end, in bytes. A second file with a million keys has a
/// hundredth of that.
const MAX_BYTES: u64 = 8 << 30;

/// Opens a file to be read.
///
/// # Errors
/// It cannot be opened, is no regular file, or is too large to be read.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = open_with(path, OpenOptions::new().read(true))?;
    match file.metadata()?.len() {
        0..=MAX_BYTES => Ok(file),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is too large")),
    }
}

/// Opens a file as these options say, but no link, and without waiting for the other end of a FIFO.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub(crate) fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match options.custom_flags(flags.bits()).open(path) {
        // A link; a socket, or a FIFO without a reader; a folder.
        Err(error) if is_one_of(&error, &[Errno::ELOOP, Errno::ENXIO, Errno::EISDIR]) => {
            return Err(not_plain());
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_plain()) }
}

/// Fails if something else than a regular file is there. What is not there is fine.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(not_plain()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns true if nothing is there, which is more than that it cannot be seen.
pub(crate) fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn is_one_of(error: &io::Error, codes: &[Errno]) -> bool {
    codes.iter().any(|code| error.raw_os_error() == Some(*code as i32))
}

fn not_plain() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_regular_files_are_opened_and_none_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("plain"), "text").unwrap();
        open(&at("plain")).unwrap();
        check(&at("plain")).unwrap();
        symlink("plain", at("link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("/dev/zero", at("device")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for name in ["link", "dangling", "loop", "device", "folder", "fifo", "socket"] {
            let path = at(name);
            let kinds = [
                open(&path).unwrap_err().kind(),
                open_with(&path, OpenOptions::new().read(true).write(true).create(true)).unwrap_err().kind(),
                check(&path).unwrap_err().kind(),
            ];
            assert_eq!(kinds, [io::ErrorKind::InvalidInput; 3], "{name}");
        }
        assert!(!at("nowhere").exists(), "nothing is created through a link");
        let large = File::create(at("large")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(open(&at("large")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        check(&at("missing")).unwrap();
        assert!(is_absent(&at("missing")) && !is_absent(&at("dangling")));
    }
}
