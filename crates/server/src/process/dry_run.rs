//! What a start would fail at, found out without a trace (`-t`).
//!
//! Owns the dry run of what [`super::estate`] does for real. Must never make, change or remove a file, so that a test
//! of a configuration cannot hurt what runs, or what somebody else keeps where the configuration points. nginx makes
//! missing files and folders, and gives folders to the user of its workers, when it tests too.

use super::boot::{Address, Boot, ListenSpec, SocketAccess, Source};
use super::estate::{is_pid_file, must_be_folder};
use super::journal::{Journal, Said};
use super::log::Level;
use super::privileges;
use super::sockets;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::socket::UnixAddr;
use nix::unistd::{AccessFlags, faccessat, getegid, geteuid, getgroups};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Everything that can be found out without getting in the way of a server that runs.
pub(super) fn dry_run(boot: &Boot, source: &Source, journal: &Journal) -> Result<(), Said> {
    privileges::owner(boot.user.as_ref(), journal)?;
    let mut disk = DryDisk::default();
    let pid = disk.open(&boot.pid_path).and_then(|()| is_pid_file(&boot.pid_path));
    pid.map_err(|error| cannot_open(&boot.pid_path, &error, journal))?;
    for folder in boot.temp_dirs.iter().chain(&boot.state_dirs) {
        disk.make_folder(folder).map_err(|error| {
            journal.failed(Level::Emerg, format_args!("mkdir() \"{}\"", folder.display()), &error)
        })?;
    }
    if let Some(ListenSpec { address: Address::Unix(path), .. }) = &boot.control
        && let Some(folder) = path.parent()
    {
        // If it cannot be made, the socket says so.
        let _ = disk.make_folder(folder);
    }
    for path in boot.all_log_files(source) {
        disk.open(&path).map_err(|error| cannot_open(&path, &error, journal))?;
    }
    for spec in boot.sockets() {
        match &spec.address {
            Address::Inet(_) => sockets::try_inet(&spec, journal)?,
            Address::Unix(path) => try_unix(&disk, path, &spec, journal)?,
        }
    }
    Ok(())
}

fn cannot_open(path: &Path, error: &io::Error, journal: &Journal) -> Said {
    journal.failed(Level::Emerg, format_args!("open() \"{}\"", path.display()), error)
}

/// Looks at a path for a unix socket. A socket that is there is no fault: it is this server's, or a dead one that a
/// start replaces; whose it is, a start finds out.
fn try_unix(disk: &DryDisk, path: &Path, spec: &ListenSpec, journal: &Journal) -> Result<(), Said> {
    let level = if spec.optional { Level::Warn } else { Level::Emerg };
    let bound = UnixAddr::new(path).map_err(io::Error::from).and_then(|_| match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(Errno::EADDRINUSE.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.make(path),
        Err(error) => Err(error),
    });
    let failed = match (bound, spec.access.as_ref().map(may_give)) {
        (Err(error), _) => journal.failed(level, format_args!("bind() to {}", spec.address), &error),
        (_, Some(Err((what, error)))) => {
            journal.failed(Level::Emerg, format_args!("{what} \"{}\"", path.display()), &error)
        }
        _ => return Ok(()),
    };
    match spec.optional {
        true => {
            sockets::say_missing(spec, journal);
            Ok(())
        }
        false => Err(failed),
    }
}

/// Whether this process may give a socket to its group.
fn may_give(access: &SocketAccess) -> Result<(), (&'static str, io::Error)> {
    let Some(group) = sockets::group(access)? else { return Ok(()) };
    let member = || getegid() == group || getgroups().is_ok_and(|groups| groups.contains(&group));
    match geteuid().is_root() || member() {
        true => Ok(()),
        false => Err(("chown()", Errno::EPERM.into())),
    }
}

/// The disk as it would be.
#[derive(Default)]
struct DryDisk {
    /// Folders that would have been made.
    made: Vec<PathBuf>,
}

impl DryDisk {
    /// Opens a file for writing, and makes it if it is missing.
    fn open(&self, path: &Path) -> io::Result<()> {
        match path.metadata() {
            Ok(found) if found.is_dir() => Err(Errno::EISDIR.into()),
            Ok(found) if found.is_file() => OpenOptions::new().append(true).open(path).map(drop),
            // Opening a pipe wakes who reads from it, and opening a device may do anything.
            Ok(_) => access(path, AccessFlags::W_OK),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(path),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder unless it is there.
    fn make_folder(&mut self, folder: &Path) -> io::Result<()> {
        match folder.symlink_metadata() {
            Ok(_) => must_be_folder(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make(folder)?;
                self.made.push(folder.to_owned());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a new entry in a folder.
    fn make(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match self.made.iter().any(|made| made == folder) {
            true => Ok(()),
            // With the dot it is an error if it is no folder.
            false => access(&folder.join("."), AccessFlags::W_OK | AccessFlags::X_OK),
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

    fn tried(spec: &ListenSpec) -> Result<(), Said> {
        match &spec.address {
            Address::Inet(_) => sockets::try_inet(spec, &Journal::silent()),
            Address::Unix(path) => try_unix(&DryDisk::default(), path, spec, &Journal::silent()),
        }
    }

    #[test]
    fn sockets_are_tried_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        tried(&ListenSpec::new(Address::Inet(taken.local_addr().unwrap()))).unwrap();
        let elsewhere = ListenSpec::new(Address::Inet(SocketAddr::from(([192, 0, 2, 1], 0))));
        assert_eq!(tried(&elsewhere), Err(Said));

        tried(&unix(path("new.sock"))).unwrap();
        assert!(!path("new.sock").exists());
        let _live = UnixListener::bind(path("live.sock")).unwrap();
        tried(&unix(path("live.sock"))).unwrap();
        std::fs::write(path("file"), "").unwrap();
        assert_eq!(tried(&unix(path("file"))), Err(Said));
        assert_eq!(tried(&unix(path("file/x.sock"))), Err(Said));
        assert_eq!(tried(&unix(path("missing/x.sock"))), Err(Said));
        assert_eq!(tried(&unix(path(&"x".repeat(200)))), Err(Said));
        tried(&ListenSpec { optional: true, ..unix(path("file")) }).unwrap();
        let access = Some(SocketAccess { mode: 0o660, group: Some("no such group".to_owned()) });
        assert_eq!(tried(&ListenSpec { access, ..unix(path("new.sock")) }), Err(Said));
    }

    #[test]
    fn folders_that_a_start_would_make_count_as_made() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = DryDisk::default();
        let inner = folder.path().join("run");
        assert!(disk.open(&inner.join("error.log")).is_err());
        disk.make_folder(&inner).unwrap();
        disk.open(&inner.join("error.log")).unwrap();
        disk.make_folder(&inner.join("deeper")).unwrap();
        assert!(disk.make_folder(&inner.join("other/deeper")).is_err());
        assert!(!inner.exists());
        std::fs::write(&inner, "").unwrap();
        assert!(disk.make_folder(&inner).is_err());
        assert!(disk.open(folder.path()).is_err());
    }
}
