//! The file of a unix socket: whose it is, and its removal.
//!
//! Owns every look at a path that a unix socket is bound to. Must never follow a link there, and never remove or change
//! anything but a socket: what a path names in the configuration may be anybody's file.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file of a socket of ours. The path may have become somebody else's since: each use looks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The socket that is at a path now; `None` where there is something else, or nothing.
    pub(super) fn at(path: &Path) -> Option<SocketFile> {
        let found = std::fs::symlink_metadata(path).ok().filter(|found| found.file_type().is_socket())?;
        Some(SocketFile::known(path, found.dev(), found.ino()))
    }

    /// The file with these numbers, as another process of the same server knows it.
    pub(super) fn known(path: &Path, device: u64, inode: u64) -> SocketFile {
        SocketFile { path: path.to_owned(), device, inode }
    }

    /// Where it was made.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode.
    pub(super) fn numbers(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether the path still leads to it.
    pub(super) fn is_there(&self) -> bool {
        SocketFile::at(&self.path).as_ref() == Some(self)
    }

    /// Removes it. Answers whether it was there: what somebody else has put in its place stays.
    ///
    /// # Errors
    /// There is nothing at the path, or it cannot be removed.
    pub(super) fn remove(&self) -> io::Result<bool> {
        std::fs::symlink_metadata(&self.path)?;
        let ours = self.is_there();
        if ours {
            std::fs::remove_file(&self.path)?;
        }
        Ok(ours)
    }

    /// Sets its rights, and its group if one is given. Answers the call that failed.
    pub(super) fn open_to(
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

/// Binds a socket to a path. A socket there that a killed process has left is replaced (nginx refuses to start on it):
/// nobody takes a connection to it. Anything else is in use.
pub(super) fn bind_to(fd: &OwnedFd, path: &Path) -> Result<Option<SocketFile>, Errno> {
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
    // The one that was asked, and untouched since: another server may have put its own there meanwhile.
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
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "precious").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        drop(UnixListener::bind(path("dead")).unwrap());
        drop(UnixListener::bind(path("other")).unwrap());
        let _live = UnixListener::bind(path("live")).unwrap();
        let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
        for (link, target) in [("to-file", "file"), ("to-dead", "other"), ("to-nothing", "nothing")] {
            std::os::unix::fs::symlink(path(target), path(link)).unwrap();
        }
        let state = || {
            let mut all: Vec<_> = std::fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| (entry.file_name(), entry.metadata().unwrap().ino()))
                .collect();
            all.sort();
            all
        };
        let before = state();
        let used = ["file", "folder", "fifo", "live", "datagram", "to-file", "to-dead", "to-nothing"];
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
    fn what_has_taken_the_place_of_a_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let fd = unbound();
        let made = bind_to(&fd, &path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(made.remove().unwrap_err().raw_os_error(), Some(libc::ENOENT));
        std::fs::write(&path, "precious").unwrap();
        assert!(!made.remove().unwrap());
        assert_eq!(made.open_to(0o600, None).unwrap_err().0, "chmod()");
        std::fs::remove_file(&path).unwrap();
        let _newer = UnixListener::bind(&path).unwrap();
        assert!(!made.remove().unwrap(), "another socket");
        assert!(path.exists());
    }
}
