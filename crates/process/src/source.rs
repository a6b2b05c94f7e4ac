//! Where a configuration comes from.
//!
//! Owns [`Source`] (which files to load) and the only way in which their text reaches the program. Must never cache:
//! each load sees the files as they are.

use crate::log::LogTarget;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::{CStr, CString, OsString};
use std::fs::{Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which configuration to load: the command line, made absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The directory that relative paths of the configuration start from (`-p`).
    pub prefix: PathBuf,
    /// The configuration file (`-c`).
    pub conf_file: PathBuf,
    /// The error log until the configuration names one, and after that if it names none (`-e`).
    pub error_log: LogTarget,
    /// Directives in front of the configuration file (`-g`).
    pub globals: Option<Vec<u8>>,
    /// Whether findings are drawn in colour.
    pub colour: bool,
}

/// Longest file of a configuration, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// The media types of the packages, for configurations that include a `mime.types` that is not there.
const MIME_TYPES: &[u8] = include_bytes!("../../../packaging/etc/mime.types");

/// Reads files from the disk; patterns are expanded by `glob(3)`, as nginx does. A missing `mime.types` is the one of the
/// packages: nearly every nginx.conf includes it, and no package of nginx may be there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl conf::Loader for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // Looked at first: opening a device may do anything.
        let found = match path.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound && path.ends_with("mime.types") => {
                return Ok(MIME_TYPES.to_vec());
            }
            found => found?,
        };
        must_be_readable(&found)?;
        // Another file may have its place by now; opening a FIFO would block.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let found = file.metadata()?;
        must_be_readable(&found)?;
        let mut bytes = Vec::with_capacity(found.len().min(MAX_FILE) as usize);
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > MAX_FILE {
            true => Err(Errno::EFBIG.into()),
            false => Ok(bytes),
        }
    }

    /// Reads a named pipe too, as nginx reads passwords from one.
    fn read_private(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.metadata()?.file_type().is_fifo() {
            true => read_pipe(path, PIPE_WAIT),
            false => self.read(path),
        }
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        glob(pattern)
    }
}

/// Returns the paths that match a pattern, in order.
pub(crate) fn glob(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let pattern = CString::new(pattern.as_os_str().as_bytes())?;
    // SAFETY: glob_t is plain data for which all zeroes is the documented start. The pattern is a C string that
    // outlives the call; on success gl_pathv holds gl_pathc C strings, each copied before globfree releases
    // them, which is called exactly once whatever glob returned.
    #[allow(unsafe_code)]
    unsafe {
        let mut found: libc::glob_t = std::mem::zeroed();
        let result = libc::glob(pattern.as_ptr(), 0, None, &mut found);
        let mut paths = Vec::new();
        if result == 0 {
            for at in 0..found.gl_pathc {
                let path = CStr::from_ptr(*found.gl_pathv.add(at));
                paths.push(PathBuf::from(OsString::from_vec(path.to_bytes().to_vec())));
            }
        }
        libc::globfree(&mut found);
        match result {
            0 | libc::GLOB_NOMATCH => Ok(paths),
            libc::GLOB_NOSPACE => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
            _ => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }
}

/// How long the writer of a named pipe is waited for.
const PIPE_WAIT: Duration = Duration::from_secs(5);

/// Reads a named pipe until its writer closes it. Fails with `ETIMEDOUT` if that takes longer than `wait`.
fn read_pipe(path: &Path, wait: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + wait;
    let mut pipe = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !pipe.metadata()?.file_type().is_fifo() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let ready = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout);
        match ready {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => return Err(Errno::ETIMEDOUT.into()),
            Ok(_) => {}
        }
        match pipe.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(read) if (bytes.len() + read) as u64 > MAX_FILE => return Err(Errno::EFBIG.into()),
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Fails for what is not a file: a FIFO, a socket, a device other than /dev/null. Reading a directory fails by itself.
fn must_be_readable(found: &Metadata) -> io::Result<()> {
    let null = || found.file_type().is_char_device() && found.rdev() == libc::makedev(1, 3);
    match found.is_file() || found.is_dir() || null() {
        true => Ok(()),
        false => Err(Errno::EOPNOTSUPP.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conf::Loader;

    #[test]
    fn glob_returns_matches_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", "c.txt", ".hidden.conf"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let found = Disk.glob(&folder.path().join("*.conf")).unwrap();
        assert_eq!(found, [folder.path().join("a.conf"), folder.path().join("b.conf")]);
        assert_eq!(Disk.glob(&folder.path().join("*.none")).unwrap(), [] as [PathBuf; 0]);
        assert_eq!(Disk.read(&found[0]).unwrap(), b"a.conf");
    }

    #[test]
    fn missing_mime_types_are_those_of_the_packages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mime.types");
        let text = String::from_utf8(Disk.read(&path).unwrap()).unwrap();
        assert!(text.contains("text/html") && text.contains("font/woff2"), "{text}");
        std::fs::write(&path, "types { }").unwrap();
        assert_eq!(Disk.read(&path).unwrap(), b"types { }");
        assert_eq!(Disk.read(&folder.path().join("a.mime.types")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn secrets_are_read_from_a_named_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let timed_out = read_pipe(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(timed_out.raw_os_error(), Some(libc::ETIMEDOUT), "nothing writes to it");
        let writer = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "secret\n")
        });
        assert_eq!(Disk.read_private(&path).unwrap(), b"secret\n");
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn only_files_of_a_bounded_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let error = |path: &Path| Disk.read(path).unwrap_err().raw_os_error();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink(path("fifo"), path("to-fifo")).unwrap();
        for other in [path("fifo"), path("to-fifo"), path("socket"), "/dev/zero".into(), "/dev/tty".into()] {
            assert_eq!(error(&other), Some(libc::EOPNOTSUPP), "{}", other.display());
        }
        assert_eq!(error(folder.path()), Some(libc::EISDIR));
        assert_eq!(error(&path("none")), Some(libc::ENOENT));
        assert_eq!(Disk.read(Path::new("/dev/null")).unwrap(), b"");
        let file = std::fs::File::create(path("large")).unwrap();
        file.set_len(MAX_FILE).unwrap();
        assert_eq!(Disk.read(&path("large")).unwrap().len() as u64, MAX_FILE);
        file.set_len(MAX_FILE + 1).unwrap();
        assert_eq!(error(&path("large")), Some(libc::EFBIG));
    }
}
