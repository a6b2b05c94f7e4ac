//! Opening files for the engine, with its care about symlinks; temporary files.

use engine::exchange::BodyFile;
use engine::host::{FileError, FolderEntry, OpenRequest, Opened, Symlinks};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use std::any::Any;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

/// Opens a file, or only looks at it.
///
/// # Errors
/// Fails with the system's error and the call that failed.
pub fn open(request: OpenRequest<'_>) -> Result<Opened, FileError> {
    let fail = |call| move |errno: Errno| FileError { errno: errno as i32, call };
    if request.path.contains(&0) {
        return Err(fail("open()")(Errno::ENOENT));
    }
    let path = Path::new(OsStr::from_bytes(request.path));
    if request.symlinks != Symlinks::Follow {
        return open_carefully(path, request);
    }
    if request.stat_only {
        let stat = nix::sys::stat::stat(path).map_err(fail("stat()"))?;
        return Ok(opened(&stat, None));
    }
    // O_NONBLOCK: opening a FIFO must not block the thread; nginx does the same.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, Mode::empty()).map_err(fail("open()"))?;
    finish(fd)
}

/// Reads a whole file.
///
/// # Errors
/// Fails with the system's error and the call that failed.
pub fn read(path: &[u8]) -> Result<Vec<u8>, FileError> {
    let opened = open(OpenRequest {
        path,
        stat_only: false,
        symlinks: Symlinks::Follow,
        trusted_prefix: 0,
        kept: None,
    })?;
    let failed = |errno| FileError { errno, call: "pread()" };
    let Some(file) = opened.file else {
        let errno = if opened.is_dir { Errno::EISDIR } else { Errno::EINVAL };
        return Err(failed(errno as i32));
    };
    let mut bytes = Vec::with_capacity(opened.len as usize);
    match (&*file).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(failed(error.raw_os_error().unwrap_or(Errno::EIO as i32))),
    }
}

fn finish(fd: OwnedFd) -> Result<Opened, FileError> {
    let stat = fstat(&fd).map_err(|errno| FileError { errno: errno as i32, call: "fstat()" })?;
    let is_file = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    let file = is_file.then(|| Rc::new(File::from(fd)));
    Ok(opened(&stat, file))
}

fn opened(stat: &nix::libc::stat, file: Option<Rc<File>>) -> Opened {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    Opened {
        file,
        len: stat.st_size.max(0) as u64,
        modified_s: stat.st_mtime.max(0) as u64,
        is_dir: kind == SFlag::S_IFDIR,
        is_file: kind == SFlag::S_IFREG,
        is_executable: stat.st_mode & Mode::S_IXUSR.bits() != 0,
    }
}

/// Walks the path piece by piece for `disable_symlinks`: no link, or none to another owner's file, after the trusted prefix
/// (nginx's ngx_open_file_wrapper).
fn open_carefully(path: &Path, request: OpenRequest<'_>) -> Result<Opened, FileError> {
    let fail = |errno: Errno| FileError { errno: errno as i32, call: "openat()" };
    let (trusted, rest) = request.path.split_at(request.trusted_prefix.min(request.path.len()));
    let mut start = PathBuf::from(OsStr::from_bytes(trusted));
    if trusted.is_empty() {
        start = PathBuf::from(if path.is_absolute() { "/" } else { "." });
    }
    let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at = nix::fcntl::open(&start, folder, Mode::empty()).map_err(fail)?;
    let mut pieces = rest.split(|byte| *byte == b'/').filter(|piece| !piece.is_empty()).peekable();
    if pieces.peek().is_none() {
        return finish(
            nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(fail)?,
        );
    }
    while let Some(piece) = pieces.next() {
        let name = OsStr::from_bytes(piece);
        let last = pieces.peek().is_none();
        let flags = match last {
            true => OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
            false => folder,
        };
        let next = match request.symlinks {
            Symlinks::RefuseOtherOwner => {
                let link = fstatat(&at, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail)?;
                let fd = openat(&at, name, flags, Mode::empty()).map_err(fail)?;
                let is_link = SFlag::from_bits_truncate(link.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK;
                if is_link && fstat(&fd).map_err(fail)?.st_uid != link.st_uid {
                    return Err(fail(Errno::ELOOP));
                }
                fd
            }
            _ => openat(&at, name, flags | OFlag::O_NOFOLLOW, Mode::empty()).map_err(fail)?,
        };
        at = next;
    }
    finish(at)
}

/// Reads a directory. What is gone meanwhile, or may not be looked at, is left out.
///
/// # Errors
/// Fails with the system's error.
pub fn read_folder(path: &[u8]) -> Result<Vec<FolderEntry>, FileError> {
    let folder = Path::new(OsStr::from_bytes(path));
    let entries = std::fs::read_dir(folder).map_err(|error| error_of("opendir()", &error))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| error_of("readdir()", &error))?;
        let path = entry.path();
        let looked = std::fs::metadata(&path).or_else(|_| std::fs::symlink_metadata(&path));
        let Ok(looked) = looked else { continue };
        let modified = looked.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        found.push(FolderEntry {
            name: entry.file_name().into_vec(),
            len: looked.len(),
            modified_s: modified.map_or(0, |since| since.as_secs()),
            is_dir: looked.is_dir(),
            is_file: looked.is_file(),
        });
    }
    Ok(found)
}

/// Returns the path without symlinks, `.` and `..`.
///
/// # Errors
/// Fails with the system's error.
pub fn real_path(path: &[u8]) -> Result<Vec<u8>, FileError> {
    let found = std::fs::canonicalize(Path::new(OsStr::from_bytes(path)));
    found.map(|path| path.into_os_string().into_vec()).map_err(|error| error_of("realpath()", &error))
}

/// Returns the machine's name, in lower case.
pub fn hostname() -> &'static [u8] {
    static NAME: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let name = nix::unistd::gethostname().unwrap_or_default();
        name.as_bytes().to_ascii_lowercase()
    });
    &NAME
}

/// Appends to a file, which is created if it is missing.
///
/// # Errors
/// Fails with the system's error and the call that failed.
pub fn append(path: &[u8], line: &[u8]) -> Result<(), FileError> {
    let mut options = File::options();
    let opened = options.append(true).create(true).mode(0o644).open(Path::new(OsStr::from_bytes(path)));
    let mut file = opened.map_err(|error| error_of("open()", &error))?;
    file.write_all(line).map_err(|error| error_of("write()", &error))
}

fn error_of(call: &'static str, error: &io::Error) -> FileError {
    FileError { errno: error.raw_os_error().unwrap_or_default(), call }
}

/// Removes a file when it is dropped, unless the file is to stay.
#[derive(Debug)]
struct Removed {
    path: PathBuf,
    stays: Cell<bool>,
}

impl Drop for Removed {
    fn drop(&mut self) {
        if !self.stays.get() {
            // It fails if the file is already gone, which is fine.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns a guard that removes a file when it is dropped.
pub fn removal(path: &Path) -> Rc<dyn Any> {
    Rc::new(Removed { path: path.to_owned(), stays: Cell::new(false) })
}

/// Makes the file of a request's body stay when the request is over (`client_body_in_file_only on`).
pub fn keep(file: &BodyFile) {
    if let Some(removed) = file.guard.downcast_ref::<Removed>() {
        removed.stays.set(true);
    }
}

/// Creates a temporary file in a folder. Its name says whose it is: what a killed process has left there is [`swept`].
///
/// # Errors
/// Fails with the system's error.
pub fn temporary(folder: &Path, random: &mut dyn FnMut() -> u64) -> io::Result<BodyFile> {
    let owner = std::process::id();
    made(folder, &mut || format!("{owner}-{:016x}", random()))
}

/// Creates a file that is to stay, unless its request fails.
///
/// # Errors
/// Fails with the system's error.
pub fn lasting(folder: &Path, random: &mut dyn FnMut() -> u64) -> io::Result<BodyFile> {
    made(folder, &mut || format!("{:016x}", random()))
}

/// Removes the temporary files of processes that have ended, earlier ones with this one's number among them. Returns how
/// many there were. Must be called before this process creates any.
pub fn swept(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let is_left = |entry: &std::fs::DirEntry| owner(&entry.file_name()).is_some_and(is_gone);
    let left = entries.flatten().filter(is_left);
    left.filter(|entry| std::fs::remove_file(entry.path()).is_ok()).count()
}

/// Returns the process that a temporary file's name names.
fn owner(name: &OsStr) -> Option<u32> {
    let (owner, random) = name.to_str()?.split_once('-')?;
    let is_ours = random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    owner.parse().ok().filter(|_| is_ours)
}

fn is_gone(process: u32) -> bool {
    let pid = nix::unistd::Pid::from_raw(process.cast_signed());
    process == std::process::id() || nix::sys::signal::kill(pid, None) == Err(Errno::ESRCH)
}

fn made(folder: &Path, name: &mut dyn FnMut() -> String) -> io::Result<BodyFile> {
    #[cfg(feature = "simulation")]
    crate::simulated::ask_disk()?;
    for _ in 0..16 {
        let path = folder.join(name());
        match File::options().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => {
                let guard = removal(&path);
                return Ok(BodyFile { file: Rc::new(file), len: 0, path: path.into(), guard });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_ended_processes_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        let living = std::os::unix::process::parent_id();
        let names = [
            format!("{dead}-0123456789abcdef"),
            format!("{}-0123456789abcdef", std::process::id()),
            format!("{living}-0123456789abcdef"),
            "0123456789abcdef".to_owned(),
            format!("{dead}-notes"),
        ];
        for name in &names {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(swept(folder.path()), 2);
        for (name, stays) in names.iter().zip([false, false, true, true, true]) {
            assert_eq!(folder.path().join(name).exists(), stays, "{name}");
        }
        assert_eq!(swept(&folder.path().join("missing")), 0);
        let file = temporary(folder.path(), &mut || 7).unwrap();
        assert_eq!(owner(file.path.file_name().unwrap()), Some(std::process::id()));
    }
}
