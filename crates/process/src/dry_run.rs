//! The dry run of a start (`-t`).
//!
//! Owns the checks that find the errors of acquiring [`crate::resources`]. Must never create, change or remove
//! a file, so that testing a configuration can hurt neither a running server nor the files of others. (nginx creates
//! missing files and directories, and gives directories to the user of its workers, when it tests too.)

use crate::late_files;
use crate::log::Level;
use crate::privileges;
use crate::process_log::{ProcessLog, Reported};
use crate::requirements::{Address, ListenSpec, Requirements, SocketAccess};
use crate::resources::{is_pid_file, must_be_dir};
use crate::sockets;
use crate::source::Source;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::socket::UnixAddr;
use nix::unistd::{AccessFlags, faccessat, getegid, geteuid, getgroups};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Reports everything that a start would fail at and that can be found out beside a running server.
pub(crate) fn dry_run(
    requirements: &Requirements,
    source: &Source,
    log: &ProcessLog,
) -> Result<(), Reported> {
    if let Some(owner) = privileges::worker_user(requirements.user.as_ref(), log)? {
        late_files::warn(&requirements.late_files, &owner, log);
    }
    let mut disk = DryDisk::default();
    let pid = disk.open(&requirements.pid_path).and_then(|()| is_pid_file(&requirements.pid_path));
    pid.map_err(|error| cannot_open(&requirements.pid_path, &error, log))?;
    for dir in &requirements.dirs.temp {
        disk.make_dir(dir).map_err(|error| cannot_make(dir, Level::Emerg, &error, log))?;
    }
    for dir in &requirements.dirs.state {
        match disk.make_dir(dir) {
            // A start goes on, too.
            Err(error) if dir.symlink_metadata().is_ok() => {
                cannot_make(dir, Level::Crit, &error, log);
            }
            made => made.map_err(|error| cannot_make(dir, Level::Emerg, &error, log))?,
        }
    }
    if let Some(ListenSpec { address: Address::Unix(path), .. }) = &requirements.control
        && let Some(dir) = path.parent()
    {
        // If this fails, the check of the socket reports it.
        let _ = disk.make_dir(dir);
    }
    for path in requirements.all_log_files(source) {
        disk.open(&path).map_err(|error| cannot_open(&path, &error, log))?;
    }
    for spec in requirements.sockets() {
        match &spec.address {
            Address::Inet(_) => sockets::try_inet(&spec, log)?,
            Address::Unix(path) => try_unix(&disk, path, &spec, log)?,
        }
    }
    Ok(())
}

fn cannot_make(dir: &Path, level: Level, error: &io::Error, log: &ProcessLog) -> Reported {
    log.failed(level, format_args!("mkdir() \"{}\"", dir.display()), error)
}

fn cannot_open(path: &Path, error: &io::Error, log: &ProcessLog) -> Reported {
    log.failed(Level::Emerg, format_args!("open() \"{}\"", path.display()), error)
}

/// Checks the path of a unix socket. An existing socket is accepted: it is a running server's, most likely this one's, or a
/// dead one that a start replaces.
fn try_unix(disk: &DryDisk, path: &Path, spec: &ListenSpec, log: &ProcessLog) -> Result<(), Reported> {
    let level = if spec.optional.is_some() { Level::Warn } else { Level::Emerg };
    let bound = UnixAddr::new(path).map_err(io::Error::from).and_then(|_| match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(Errno::EADDRINUSE.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.make(path),
        Err(error) => Err(error),
    });
    let failed = match (bound, spec.access.as_ref().map(may_give)) {
        (Err(error), _) => log.failed(level, format_args!("bind() to {}", spec.address), &error),
        (_, Some(Err((what, error)))) => {
            log.failed(Level::Emerg, format_args!("{what} \"{}\"", path.display()), &error)
        }
        _ => return Ok(()),
    };
    match spec.optional.is_some() {
        true => {
            sockets::log_missing(spec, log);
            Ok(())
        }
        false => Err(failed),
    }
}

/// Fails if this process may not give a socket to its group.
fn may_give(access: &SocketAccess) -> Result<(), (&'static str, io::Error)> {
    let Some(group) = sockets::group(access)? else { return Ok(()) };
    let member = || getegid() == group || getgroups().is_ok_and(|groups| groups.contains(&group));
    match geteuid().is_root() || member() {
        true => Ok(()),
        false => Err(("chown()", Errno::EPERM.into())),
    }
}

/// The file system as a start would change it.
#[derive(Default)]
struct DryDisk {
    /// Directories that would have been created by now.
    made: Vec<PathBuf>,
}

impl DryDisk {
    /// Fails if a file cannot be opened for writing or created.
    fn open(&self, path: &Path) -> io::Result<()> {
        match path.metadata() {
            Ok(found) if found.is_dir() => Err(Errno::EISDIR.into()),
            Ok(found) if found.is_file() => OpenOptions::new().append(true).open(path).map(drop),
            // Opening a pipe wakes its reader, and opening a device may do anything.
            Ok(_) => access(path, AccessFlags::W_OK),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(path),
            Err(error) => Err(error),
        }
    }

    /// Fails if a directory neither exists nor can be created.
    fn make_dir(&mut self, dir: &Path) -> io::Result<()> {
        match dir.symlink_metadata() {
            Ok(_) => must_be_dir(dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make(dir)?;
                self.made.push(dir.to_owned());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Fails if a new entry cannot be created at a path.
    fn make(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match self.made.iter().any(|made| made == dir) {
            true => Ok(()),
            // The dot makes it an error if this is not a directory.
            false => access(&dir.join("."), AccessFlags::W_OK | AccessFlags::X_OK),
        }
    }
}

fn access(path: &Path, wanted: AccessFlags) -> io::Result<()> {
    Ok(faccessat(nix::fcntl::AT_FDCWD, path, wanted, AtFlags::AT_EACCESS)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::os::unix::net::UnixListener;

    fn unix(path: PathBuf) -> ListenSpec {
        ListenSpec::new(Address::Unix(path))
    }

    fn tried(spec: &ListenSpec) -> Result<(), Reported> {
        match &spec.address {
            Address::Inet(_) => sockets::try_inet(spec, &ProcessLog::silent()),
            Address::Unix(path) => try_unix(&DryDisk::default(), path, spec, &ProcessLog::silent()),
        }
    }

    #[test]
    fn sockets_are_checked_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        tried(&ListenSpec::new(Address::Inet(taken.local_addr().unwrap()))).unwrap();
        let elsewhere = ListenSpec::new(Address::Inet(SocketAddr::from(([192, 0, 2, 1], 0))));
        assert_eq!(tried(&elsewhere), Err(Reported));

        tried(&unix(path("new.sock"))).unwrap();
        assert!(!path("new.sock").exists());
        let _live = UnixListener::bind(path("live.sock")).unwrap();
        tried(&unix(path("live.sock"))).unwrap();
        std::fs::write(path("file"), "").unwrap();
        assert_eq!(tried(&unix(path("file"))), Err(Reported));
        assert_eq!(tried(&unix(path("file/x.sock"))), Err(Reported));
        assert_eq!(tried(&unix(path("missing/x.sock"))), Err(Reported));
        assert_eq!(tried(&unix(path(&"x".repeat(200)))), Err(Reported));
        tried(&ListenSpec { optional: Some("control"), ..unix(path("file")) }).unwrap();
        let access = Some(SocketAccess { mode: 0o660, group: Some("no such group".to_owned()) });
        assert_eq!(tried(&ListenSpec { access, ..unix(path("new.sock")) }), Err(Reported));
    }

    #[test]
    fn directories_that_a_start_would_create_count_as_existing() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = DryDisk::default();
        let inner = dir.path().join("run");
        assert!(disk.open(&inner.join("error.log")).is_err());
        disk.make_dir(&inner).unwrap();
        disk.open(&inner.join("error.log")).unwrap();
        disk.make_dir(&inner.join("deeper")).unwrap();
        assert!(disk.make_dir(&inner.join("other/deeper")).is_err());
        assert!(!inner.exists());
        std::fs::write(&inner, "").unwrap();
        assert!(disk.make_dir(&inner).is_err());
        assert!(disk.open(dir.path()).is_err());
    }
}
