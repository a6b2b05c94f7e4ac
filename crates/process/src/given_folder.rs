//! Folders that root gives to the user of the worker process.
//!
//! Owns: that what is given is the folder that the configuration names. A folder above it may belong to that user, who could put
//! a link to a folder of the system there. Must never: follow a link that another user could have made, or change what a name
//! leads to instead of what was opened.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Uid, fchown};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

/// The maximum number of links on a way, as the kernel has it.
const MAX_LINKS: usize = 40;
/// The permissions of its owner.
const OWNERS: u32 = 0o700;

/// Makes a folder unless it is there, as one of this user with all permissions for it. One that is there is given only if
/// `takes_over`. Returns true if it is new.
///
/// # Errors
/// It cannot be made, is something else, or a link of another user leads there.
pub(crate) fn give(path: &Path, user: Uid, takes_over: bool) -> io::Result<bool> {
    // Nearly always: nothing is to be changed, so it does not matter what leads there.
    if let Ok(found) = std::fs::metadata(path)
        && found.is_dir()
    {
        let is_given = found.uid() == user.as_raw() && found.mode() & OWNERS == OWNERS;
        if is_given || !takes_over {
            return Ok(false);
        }
    }
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = walk(start(parent)?, parent)?;
    let is_new = match mkdirat(&parent, name, Mode::from_bits_truncate(OWNERS)) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(errno.into()),
    };
    let folder = walk(parent, Path::new(name)).map_err(|error| match error.kind() {
        // As mkdir() says it.
        io::ErrorKind::NotADirectory => Errno::EEXIST.into(),
        _ => error,
    })?;
    if is_new || takes_over {
        let found = fstat(&folder)?;
        if found.st_uid != user.as_raw() {
            fchown(&folder, Some(user), None)?;
        }
        if found.st_mode & OWNERS != OWNERS {
            fchmod(&folder, Mode::from_bits_truncate(found.st_mode & 0o7777 | OWNERS))?;
        }
    }
    Ok(is_new)
}

/// Opens the folder from which a path leads.
fn start(path: &Path) -> nix::Result<OwnedFd> {
    let name = if path.is_absolute() { "/" } else { "." };
    open(name, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens the folder to which a path leads from an open one.
fn walk(mut folder: OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut left = names(path);
    let mut links = 0;
    while let Some(name) = left.pop() {
        let found = fstatat(&folder, &*name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if kind(&found) == SFlag::S_IFLNK {
            links += 1;
            if links > MAX_LINKS || !is_safe(&folder, &found)? {
                let text = format!("\"{}\" on the way to it is a link of another user", name.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            let target = readlinkat(&folder, &*name)?;
            let target = Path::new(&target);
            if target.is_absolute() {
                folder = start(target)?;
            }
            left.extend(names(target));
            continue;
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        folder = openat(&folder, &*name, flags, Mode::empty())?;
    }
    Ok(folder)
}

/// Returns the names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    let mut names: Vec<OsString> = path.components().filter_map(name).collect();
    names.reverse();
    names
}

/// Returns true if only root could have put a link where it is.
fn is_safe(folder: &OwnedFd, link: &FileStat) -> nix::Result<bool> {
    let around = fstat(folder)?;
    // In a folder like /tmp no other user may rename it.
    let is_closed = around.st_mode & 0o022 == 0 || around.st_mode & 0o1000 != 0;
    Ok(link.st_uid == 0 && around.st_uid == 0 && is_closed)
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};

    const USER: Uid = Uid::from_raw(65534);

    #[test]
    fn no_link_of_the_user_has_a_folder_given_away() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: only root gives files away");
        }
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let owner = |name: &str| fs::metadata(at(name)).unwrap().uid();
        // Folders that are there, and one that is made.
        assert!(give(&at("state"), USER, false).unwrap());
        assert!(!give(&at("state"), USER, false).unwrap());
        fs::create_dir(at("temp")).unwrap();
        assert!(!give(&at("temp"), USER, false).unwrap());
        assert_eq!((owner("state"), owner("temp")), (65534, 0));
        assert!(!give(&at("temp"), USER, true).unwrap());
        assert_eq!((owner("temp"), fs::metadata(at("temp")).unwrap().mode() & 0o700), (65534, 0o700));
        // The user puts links in its folder, at the end of a path and within.
        fs::create_dir_all(at("system/inner")).unwrap();
        for (link, path) in [("state/cb", "state/cb"), ("state/in", "state/in/inner")] {
            symlink(at("system"), at(link)).unwrap();
            lchown(at(link), Some(65534), Some(65534)).unwrap();
            assert_eq!(
                give(&at(path), USER, true).unwrap_err().kind(),
                io::ErrorKind::PermissionDenied,
                "{path}"
            );
            // Nor does one of root that the user has moved there.
            fs::remove_file(at(link)).unwrap();
            symlink(at("system"), at(link)).unwrap();
            give(&at(path), USER, true).unwrap_err();
        }
        assert_eq!((owner("system"), owner("system/inner")), (0, 0));
        // A link of the administrator is followed.
        symlink("system/inner", at("cache")).unwrap();
        give(&at("cache"), USER, true).unwrap();
        assert_eq!((owner("system"), owner("system/inner")), (0, 65534));
        // What is given already needs nothing.
        chown(at("system"), Some(65534), None).unwrap();
        assert!(!give(&at("state/cb"), USER, true).unwrap());
        fs::write(at("file"), "").unwrap();
        assert_eq!(give(&at("file"), USER, true).unwrap_err().raw_os_error(), Some(Errno::EEXIST as i32));
        assert_eq!(owner("file"), 0);
    }
}
