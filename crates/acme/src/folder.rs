//! The folder of an issuer's state: the account, keys, certificates, and what other processes must answer meanwhile.
//!
//! Owns their names and permissions, that a file is whole or not there, and the locks by which one process at a time orders.
//! Its calls block, but never for long.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// The account of the issuer.
pub(crate) const ACCOUNT: &str = "account.json";
/// What requests and handshakes must be answered while names are being proven.
const CHALLENGES: &str = "challenges";
/// Whose lock it is that orders.
const LOCK: &str = "lock";
/// Processes that serve without ordering have a lock of this file.
const FOLLOWERS: &str = "followers";

/// How many characters of a name are in that of its file, which may have 255 in all.
const MAX_NAME: usize = 200;

/// The maximum size of a file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// A lock of a file in the folder. Dropping it releases it.
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held")] Flock<File>);

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Folder(Arc<Path>);

impl Folder {
    /// Opens the folder, and makes it if need be.
    pub(crate) fn open(path: &Path) -> io::Result<Folder> {
        for path in [path, &path.join(CHALLENGES)] {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(Folder(path.into()))
    }

    /// Returns true if others than its owner may look into it.
    pub(crate) fn is_open_to_others(&self) -> bool {
        fs::metadata(&self.0).is_ok_and(|data| data.mode() & 0o077 != 0)
    }

    /// Returns the path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns a file's contents; `None` if there is no such file.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let file = match plain(&self.path(name), OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Never grown, so that no copy of a key stays in memory.
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(file.metadata()?.len().min(MAX_BYTES) as usize + 1));
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 {
            0..=MAX_BYTES => Ok(Some(bytes)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large")),
        }
    }

    /// Returns the names of the files with certificates.
    pub(crate) fn certificates(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.ends_with(".pem")).collect()
    }

    /// Returns when a file was changed last, if it is there.
    pub(crate) fn changed(&self, name: &str) -> Option<SystemTime> {
        fs::metadata(self.path(name)).and_then(|data| data.modified()).ok()
    }

    /// Writes a file for its owner alone. When this returns, it is on the disk; until then the earlier one is there.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".new");
        // One that a crash has left might have other permissions.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(path.parent().unwrap_or(&self.0))?.sync_all()
    }

    /// Removes a file. It may be gone already.
    pub(crate) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Returns the lock under which one process orders; `None` if another one has it.
    pub(crate) fn lock(&self) -> io::Result<Option<Lock>> {
        self.take(LOCK, FlockArg::LockExclusiveNonblock)
    }

    /// Returns the lock by which the one that orders knows that others serve.
    pub(crate) fn follow(&self) -> io::Result<Option<Lock>> {
        self.take(FOLLOWERS, FlockArg::LockSharedNonblock)
    }

    /// Returns true if another process serves without ordering.
    pub(crate) fn has_followers(&self) -> bool {
        // Where it cannot be known, there may be one.
        !matches!(self.take(FOLLOWERS, FlockArg::LockExclusiveNonblock), Ok(Some(_)))
    }

    fn take(&self, name: &str, how: FlockArg) -> io::Result<Option<Lock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        match Flock::lock(plain(&self.path(name), &mut options)?, how) {
            Ok(lock) => Ok(Some(Lock(lock))),
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Writes what other processes must answer; returns its name for [`Folder::remove`].
    pub(crate) fn write_challenge(&self, name: &str, bytes: &[u8]) -> io::Result<String> {
        let name = format!("{CHALLENGES}/{name}");
        self.write(&name, bytes)?;
        Ok(name)
    }

    /// Returns the names of what there is to answer.
    pub(crate) fn challenges(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(CHALLENGES)) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| !name.ends_with(".new")).collect()
    }

    /// Returns what there is to answer under a name.
    pub(crate) fn read_challenge(&self, name: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        self.read(&format!("{CHALLENGES}/{name}"))
    }

    /// Removes what a process that is gone has left to answer.
    pub(crate) fn clear_challenges(&self) {
        for name in self.challenges() {
            self.remove(&format!("{CHALLENGES}/{name}"));
        }
    }
}

/// Opens a regular file, and nothing else: a link leads elsewhere, and a FIFO would block.
fn plain(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// Returns the name of a certificate's files, without an ending: its first name, and a number for all it is.
pub(crate) fn file_name(first: &str, seed: u64) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let first: String = first.chars().map(fits).take(MAX_NAME).collect();
    format!("{first}-{seed:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_for_their_owner_alone_and_whole() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("state")).unwrap();
        assert!(!folder.is_open_to_others());
        assert!(folder.read("a").unwrap().is_none());
        // What a crash has left, open to others.
        fs::write(folder.path("a.new"), "left over").unwrap();
        folder.write("a", b"one").unwrap();
        folder.write("a", b"two").unwrap();
        assert_eq!(**folder.read("a").unwrap().unwrap(), *b"two");
        assert_eq!(fs::metadata(folder.path("a")).unwrap().mode() & 0o777, 0o600);
        assert!(!folder.path("a.new").exists());
        assert_eq!(fs::metadata(folder.path(".")).unwrap().mode() & 0o777, 0o700);
        folder.remove("a");
        folder.remove("a");
        assert!(folder.changed("a").is_none());
    }

    #[test]
    fn only_regular_files_are_read_and_none_blocks() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        nix::unistd::mkfifo(&folder.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path("device")).unwrap();
        fs::create_dir(folder.path("folder")).unwrap();
        File::create(folder.path("large")).unwrap().set_len(MAX_BYTES + 1).unwrap();
        for name in ["fifo", "device", "folder", "large"] {
            assert!(folder.read(name).is_err(), "{name}");
        }
        nix::unistd::mkfifo(&folder.path(LOCK), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(folder.lock().is_err());
    }

    #[test]
    fn one_orders_and_knows_whether_others_follow() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let lock = folder.lock().unwrap();
        assert!(lock.is_some() && folder.lock().unwrap().is_none());
        assert!(!folder.has_followers());
        let follower = folder.follow().unwrap();
        assert!(follower.is_some() && folder.has_followers());
        drop((lock, follower));
        assert!(folder.lock().unwrap().is_some() && !folder.has_followers());
    }

    #[test]
    fn challenges_are_found_by_others() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let name = folder.write_challenge("http-token", b"text").unwrap();
        assert_eq!(folder.challenges(), ["http-token"]);
        assert_eq!(**folder.read_challenge("http-token").unwrap().unwrap(), *b"text");
        folder.remove(&name);
        assert!(folder.challenges().is_empty());
        folder.write_challenge("b", b"text").unwrap();
        folder.clear_challenges();
        assert!(folder.challenges().is_empty());
    }

    #[test]
    fn names_of_files_hold_nothing_but_a_name() {
        assert_eq!(file_name("shop.example.com", 10), "shop.example.com-000000000000000a");
        assert_eq!(file_name("../::1/x", 1), ".._____1_x-0000000000000001".replace("_____", "___"));
    }
}
