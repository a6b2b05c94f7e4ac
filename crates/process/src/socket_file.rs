//! The file of a unix socket: its identity, its removal.
//!
//! Owns every access to a path that a unix socket is bound to. Must never follow a link there, and never remove or change
//! anything but a socket: the path in a configuration may name any file.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file of a unix socket of this server. The path may lead to another file by now, so that each use checks it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Returns the socket at a path; `None` if there is another file or none.
    pub(crate) fn at(path: &Path) -> Option<SocketFile> {
        let found = std::fs::symlink_metadata(path).ok().filter(|found| found.file_type().is_socket())?;
        Some(SocketFile::known(path, found.dev(), found.ino()))
    }

    /// Returns the file that another process of the same server has identified.
    pub(crate) fn known(path: &Path, device: u64, inode: u64) -> SocketFile {
        SocketFile { path: path.to_owned(), device, inode }
    }

    /// Returns the path at which it was created.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns device and inode.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Returns true if the path still leads to it.
    pub(crate) fn is_there(&self) -> bool {
        SocketFile::at(&self.path).as_ref() == Some(self)
    }

    /// Removes it. Returns false if another file has taken its place, which stays.
    ///
    /// # Errors
    /// Fails if there is no file at the path, or it cannot be removed.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        std::fs::symlink_metadata(&self.path)?;
        let ours = self.is_there();
        if ours {
            std::fs::remove_file(&self.path)?;
        }
        Ok(ours)
    }

    /// Sets its permissions, and its group if one is given. Returns the call that failed.
    pub(crate) fn set_access(
        &self,
        mode: u32,
        group: Option<nix::unistd::Gid>,
    ) -> Result<(), (&'static str, io::Error)> {
        if !self.is_there() {
            return Err(("chmod()", Errno::ESTALE.into()));
        }
        if group.is_some() {
            nix::unistd::chown(&self.path, None, group).map_err(|error| ("chown()", error.into()))?;
        }
        std::fs::set_permissions(&self.path, Permissions::from_mode(mode)).map_err(|error| ("chmod()", error))
    }
}

/// Binds a socket to a path. A socket of a killed process, which refuses connections, is replaced (nginx refuses to start
/// on it). Any other file is an address in use.
pub(crate) fn bind_to(fd: &OwnedFd, path: &Path) -> Result<Option<SocketFile>, Errno> {
    let address = UnixAddr::new(path)?;
    match bind(fd.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) => {
            remove_dead(path, &address)?;
            bind(fd.as_raw_fd(), &address)?;
        }
        other => other?,
    }
    Ok(SocketFile::at(path))
}

fn remove_dead(path: &Path, address: &UnixAddr) -> Result<(), Errno> {
    let found = socket_at(path).ok_or(Errno::EADDRINUSE)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    if connect(probe.as_raw_fd(), address) != Err(Errno::ECONNREFUSED) {
        return Err(Errno::EADDRINUSE);
    }
    // It must be the file that was probed: another server may have bound its own there since.
    let same = |now: Metadata| {
        (now.dev(), now.ino(), now.ctime(), now.ctime_nsec())
            == (found.dev(), found.ino(), found.ctime(), found.ctime_nsec())
    };
    match socket_at(path).is_some_and(same) {
        true => nix::unistd::unlink(path),
        false => Err(Errno::EADDRINUSE),
    }
}

fn socket_at(path: &Path) -> Option<Metadata> {
    std::fs::symlink_metadata(path).ok().filter(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    fn unbound() -> OwnedFd {
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap()
    }

    #[test]
    fn only_a_dead_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "precious").unwrap();
        std::fs::create_dir(path("dir")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        drop(UnixListener::bind(path("dead")).unwrap());
        drop(UnixListener::bind(path("other")).unwrap());
        let _live = UnixListener::bind(path("live")).unwrap();
        let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
        for (link, target) in [("to-file", "file"), ("to-dead", "other"), ("to-nothing", "nothing")] {
            std::os::unix::fs::symlink(path(target), path(link)).unwrap();
        }
        let state = || {
            let mut all: Vec<_> = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| (entry.file_name(), entry.metadata().unwrap().ino()))
                .collect();
            all.sort();
            all
        };
        let before = state();
        let used = ["file", "dir", "fifo", "live", "datagram", "to-file", "to-dead", "to-nothing"];
        for name in used {
            assert_eq!(bind_to(&unbound(), &path(name)), Err(Errno::EADDRINUSE), "{name}");
            assert_eq!(state(), before, "{name}");
        }
        assert_eq!(std::fs::read(path("file")).unwrap(), b"precious");
        let made = bind_to(&unbound(), &path("dead")).unwrap().unwrap();
        assert!(made.is_there() && made.remove().unwrap());
        assert!(!path("dead").exists());
    }

    #[test]
    fn a_file_that_replaced_a_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let fd = unbound();
        let made = bind_to(&fd, &path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(made.remove().unwrap_err().raw_os_error(), Some(libc::ENOENT));
        std::fs::write(&path, "precious").unwrap();
        assert!(!made.remove().unwrap());
        assert_eq!(made.set_access(0o600, None).unwrap_err().0, "chmod()");
        std::fs::remove_file(&path).unwrap();
        let _newer = UnixListener::bind(&path).unwrap();
        assert!(!made.remove().unwrap(), "another socket");
        assert!(path.exists());
    }
}
