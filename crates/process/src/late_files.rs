//! Files that the worker process will read as its user: whether it may, as far as their modes say.
//!
//! Owns the warning of `-t`. Must never read a file: the rights of this process are not the worker's.

use crate::log::Level;
use crate::privileges::WorkerUser;
use crate::process_log::ProcessLog;
use crate::requirements::LateFiles;
use crate::source::glob;
use nix::unistd::{Gid, getgrouplist};
use std::ffi::CString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many files of one directive are named.
const MOST_NAMED: usize = 3;

/// Warns of files that the worker's user may not read.
pub(crate) fn warn(files: &[LateFiles], owner: &WorkerUser, log: &ProcessLog) {
    if owner.uid.is_root() {
        return;
    }
    let reader = Reader::new(owner);
    let mut directives: Vec<&str> = files.iter().map(|files| &*files.named_by).collect();
    directives.dedup();
    for directive in directives {
        let patterns = files.iter().filter(|files| files.named_by == directive);
        let found = patterns.flat_map(|files| glob(&files.pattern).unwrap_or_default());
        let mut unreadable: Vec<PathBuf> = found.filter(|path| !reader.can_read(path)).collect();
        unreadable.sort();
        unreadable.dedup();
        if let Some(text) = warning(directive, &owner.name, &unreadable) {
            log.write(Level::Warn, format_args!("{text}"));
        }
    }
}

fn warning(directive: &str, user: &str, unreadable: &[PathBuf]) -> Option<String> {
    let named: Vec<String> =
        unreadable.iter().take(MOST_NAMED).map(|path| format!("\"{}\"", path.display())).collect();
    if unreadable.is_empty() {
        return None;
    }
    let more = match unreadable.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "the user \"{user}\" cannot read {}{more}: the name in \"{directive}\" has variables, so that each handshake reads it \
         as that user",
        named.join(", ")
    ))
}

/// A user who reads files.
struct Reader {
    uid: u32,
    groups: Vec<u32>,
}

const READ: u32 = 4;
const SEARCH: u32 = 1;

impl Reader {
    fn new(owner: &WorkerUser) -> Reader {
        let name = CString::new(owner.name.as_str()).unwrap_or_default();
        let groups = getgrouplist(&name, owner.gid).unwrap_or_else(|_| vec![owner.gid]);
        Reader { uid: owner.uid.as_raw(), groups: groups.into_iter().map(Gid::as_raw).collect() }
    }

    /// Returns whether the modes of a file, and of all folders on its way, let the user read it.
    fn can_read(&self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else { return false };
        let can_reach = |path: &Path| {
            let folders = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
            folders.into_iter().all(|folder| self.may(folder, SEARCH))
        };
        can_reach(path) && can_reach(&real) && self.may(&real, READ)
    }

    fn may(&self, path: &Path, wanted: u32) -> bool {
        path.metadata().is_ok_and(|found| self.right(&found) & wanted != 0)
    }

    fn right(&self, found: &Metadata) -> u32 {
        if found.uid() == self.uid {
            found.mode() >> 6
        } else if self.groups.contains(&found.gid()) {
            found.mode() >> 3
        } else {
            found.mode()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn modes_of_files_and_folders_say_who_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let set = |name: &str, mode: u32| {
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::create_dir(path("live")).unwrap();
        std::fs::create_dir(path("archive")).unwrap();
        std::fs::write(path("archive/a.key"), "").unwrap();
        symlink("../archive/a.key", path("live/a.key")).unwrap();
        let found = path("archive/a.key").metadata().unwrap();
        let own = Reader { uid: found.uid(), groups: vec![] };
        let group = Reader { uid: found.uid() + 1, groups: vec![found.gid()] };
        let other = Reader { uid: found.uid() + 1, groups: vec![found.gid() + 1] };
        set("", 0o755);
        for (archive, key, readers) in [
            (0o755, 0o644, [true, true, true]),
            (0o755, 0o640, [true, true, false]),
            (0o755, 0o600, [true, false, false]),
            (0o750, 0o644, [true, true, false]),
            (0o700, 0o644, [true, false, false]),
        ] {
            set("archive", archive);
            set("archive/a.key", key);
            let seen = [&own, &group, &other].map(|reader| reader.can_read(&path("live/a.key")));
            assert_eq!(seen, readers, "{archive:o} {key:o}");
        }
        set("archive", 0o755);
        assert!(!own.can_read(&path("none.key")));
    }

    #[test]
    fn some_files_are_named() {
        let files: Vec<PathBuf> = ["/1", "/2", "/3", "/4", "/5"].map(PathBuf::from).into();
        assert_eq!(warning("x_key", "www", &[]), None);
        let text = warning("x_key", "www", &files[..1]).unwrap();
        assert!(text.starts_with("the user \"www\" cannot read \"/1\": the name in \"x_key\""), "{text}");
        let text = warning("x_key", "www", &files).unwrap();
        assert!(
            text.starts_with("the user \"www\" cannot read \"/1\", \"/2\", \"/3\" and 2 more: "),
            "{text}"
        );
    }
}
