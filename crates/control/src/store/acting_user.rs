//! Root acting as the user to whom the files of a store belong.
//!
//! Owns: as whom a store is restored. The user of the worker process owns its folder, and could have put links there: what root
//! does by a name there, it would do to any file. As that user it can do nothing that the user cannot, and what it makes
//! belongs to that user. Must never: be used in a process that serves; it changes all of its threads.

use nix::unistd::{Gid, Uid, getgroups, setegid, seteuid, setgroups};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The effective user that was left, which returns when this is dropped.
pub(super) struct ActingUser {
    former: Option<Former>,
}

struct Former {
    user: Uid,
    group: Gid,
    groups: Vec<Gid>,
}

impl ActingUser {
    /// Becomes the owner of the folder of a file, if that is another user than root and this is root. In a folder of root
    /// that others may write to, it is the owner of the file.
    ///
    /// # Errors
    /// There is no such folder, or another user could lead root elsewhere.
    pub(super) fn beside(file: &Path) -> io::Result<ActingUser> {
        if !Uid::effective().is_root() {
            return Ok(ActingUser { former: None });
        }
        let folder = folder_of(file)?;
        let found = fs::symlink_metadata(&folder)?;
        let is_open = found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0;
        let (user, group) = match fs::symlink_metadata(file) {
            Ok(file) if found.uid() == 0 && is_open && file.is_file() => (file.uid(), file.gid()),
            _ => (found.uid(), found.gid()),
        };
        if user == 0 {
            // As it is written, and as it is.
            check_way(&std::path::absolute(file)?)?;
            check_way(&folder)?;
            return Ok(ActingUser { former: None });
        }
        let former = Former { user: Uid::effective(), group: Gid::effective(), groups: getgroups()? };
        setgroups(&[Gid::from_raw(group), Gid::from_raw(found.gid())])?;
        // From here on dropping it leads back.
        let acting = ActingUser { former: Some(former) };
        setegid(Gid::from_raw(group))?;
        seteuid(Uid::from_raw(user))?;
        Ok(acting)
    }
}

impl Drop for ActingUser {
    fn drop(&mut self) {
        if let Some(Former { user, group, groups }) = &self.former {
            // A process whose real user is root may always go back.
            let _ = seteuid(*user).and_then(|()| setegid(*group)).and_then(|()| setgroups(groups));
        }
    }
}

/// Returns the folder of a file, without links on the way.
fn folder_of(file: &Path) -> io::Result<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).canonicalize()
}

/// Fails if a folder above one of root, or a link to it, belongs to another user, who could put another one in its place.
fn check_way(path: &Path) -> io::Result<()> {
    for above in path.ancestors().skip(1) {
        let found = fs::symlink_metadata(above)?;
        if found.uid() != 0 {
            let text = format!(
                "its folder belongs to root, but {} to user {}, who could lead root elsewhere",
                above.display(),
                found.uid()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
    }
    Ok(())
}
