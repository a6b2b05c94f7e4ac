//! Faults of a store's file.
//!
//! Owns: the conversion of SQLite's and the system's errors to faults with a remedy. Must never: repair anything.

use engine::modules::switch::GROUPS_NAME;
use rusqlite::{Connection, ErrorCode, ffi};
use std::io;
use std::path::Path;
use switch::{KeyKind, StoreFault, StoreFaultKind};

/// Returns the remedy of a damaged store, as in docs/switching.md.
fn afresh(path: &str) -> String {
    let (verb, then) = match Path::new(path).file_stem() {
        Some(name) if name == GROUPS_NAME => {
            ("restore --switch groups", "groups then have the servers of the configuration alone")
        }
        _ => ("restore", "every key then has the switch's default"),
    };
    format!(
        "restore a backup (pointsman {verb}), or start over: move {path}, {path}-wal, {path}-shm and {path}-anchor away; {then}"
    )
}

/// Returns the path of a connection's file.
fn name(connection: &Connection) -> String {
    connection.path().unwrap_or("in memory").to_owned()
}

/// Returns the fault of a file with contents that we did not write.
pub(super) fn damaged(connection: &Connection, what: &str) -> StoreFault {
    damaged_at(&name(connection), what)
}

pub(super) fn damaged_at(path: &str, what: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Damaged,
        text: format!("the store {path} is damaged: {what}"),
        remedy: afresh(path),
    }
}

/// Returns the fault of a store that is sound in itself, but that nothing vouches for.
pub(super) fn unvouched(path: &str, what: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Damaged,
        text: format!("the store {path} cannot be verified: {what}"),
        remedy: format!(
            "put {path}-anchor back; or check the table, and accept it with \"pointsman restore --accept\" (docs/backups.md)"
        ),
    }
}

/// Adds to a fault of a store what takes its place: the table of this revision in its second file, or nothing.
pub(super) fn without(fault: StoreFault, revision: Option<u64>) -> StoreFault {
    let served = match revision {
        Some(revision) => format!("traffic follows revision {revision} of the second file"),
        None => "no table can be trusted".to_owned(),
    };
    StoreFault { text: format!("{}; {served}", fault.text), kind: StoreFaultKind::Damaged, ..fault }
}

/// Returns the fault of a second file that cannot be written.
pub(super) fn anchor(path: &Path, error: &io::Error) -> StoreFault {
    let StoreFault { kind, text, remedy } = system(path, "written", error);
    let text = text.replacen("the store", "the second file of the store", 1);
    StoreFault { kind, text: format!("{text}; until it can be written, orders are refused"), remedy }
}

/// Returns the warning that a second file was damaged, and is made anew from its store.
pub(super) fn anchor_rewritten(path: &Path) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Damaged,
        text: format!(
            "the second file {}-anchor was damaged or torn; the store holds all it vouched for",
            path.display()
        ),
        remedy: "it has been written anew; check the disk if it happens again".to_owned(),
    }
}

/// Returns the fault of a kept hold that cannot be read.
pub(super) fn hold(path: &Path, error: &io::Error) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("the hold in {} cannot be read: {error}", path.display()),
        remedy: "remove the file, and place the hold again (pointsman hold) if it is still wanted".to_owned(),
    }
}

/// Returns the fault of a folder of holds that cannot be read.
pub(super) fn holds(folder: &Path, error: &io::Error) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("the holds in {} cannot be read: {error}", folder.display()),
        remedy: "allow the worker's user to read the folder, or move it away and place the holds again (pointsman hold)".to_owned(),
    }
}

/// Adds to the fault of a lock what follows from it.
pub(super) fn unlocked(fault: StoreFault) -> StoreFault {
    StoreFault { text: format!("{}; until it can be taken, orders are refused", fault.text), ..fault }
}

/// Returns the fault of a store that is to be restored from itself.
pub(super) fn same(path: &Path) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("{} is the store itself, not a backup", path.display()),
        remedy: "to accept the store as it is: pointsman restore --accept".to_owned(),
    }
}

/// Returns the fault of a backup whose keys are of another kind than the store's.
pub(super) fn other_keys(backup: &Path, kind: KeyKind) -> StoreFault {
    let (found, wanted) = match kind {
        KeyKind::Host => ("hosts", "texts"),
        KeyKind::Text => ("texts", "hosts"),
    };
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!(
            "{} is the backup of another switch: its keys are {found}, and those of the store {wanted}",
            backup.display()
        ),
        remedy: "name a backup of this switch, or the other switch with --switch; nothing has changed"
            .to_owned(),
    }
}

/// Returns the fault of what is named as a backup and is none.
pub(super) fn no_backup(file: &Path, fault: &StoreFault) -> StoreFault {
    // The copy that was looked at is no name that anybody knows.
    let what = fault.text.rsplit_once(": ").map_or(&*fault.text, |(_, what)| what);
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("{} is no backup that can be restored: {what}", file.display()),
        remedy: "name a file that `pointsman backup` has made; nothing has changed".to_owned(),
    }
}

/// Returns the fault of a store that is sound, and was to be accepted as it is.
pub(super) fn nothing_to_accept(path: &Path) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("there is nothing to accept: {} and its second file agree", path.display()),
        remedy: "a reload takes up a store that is sound again; nothing has changed".to_owned(),
    }
}

/// Returns the fault of a backup that cannot be read.
pub(super) fn unreadable_backup(file: &Path, error: &io::Error) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("the backup {} cannot be read: {error}", file.display()),
        remedy: "name a file that `pointsman backup` has made; nothing has changed".to_owned(),
    }
}

/// Returns the fault of a store that is not there.
pub(super) fn missing(path: &Path) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("there is no store {}", path.display()),
        remedy: "name a backup to restore, or another store".to_owned(),
    }
}

/// Returns the fault of a file that is not a store.
pub(super) fn not_ours(path: &str, what: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("{path} is not a switch store: {what}"),
        remedy: "name another file in the switch's `state`, or move this one away".to_owned(),
    }
}

/// Returns the fault of a file of a newer version.
pub(super) fn newer(path: &str, found: i32) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Newer,
        text: format!(
            "the store {path} was written by a newer pointsman (format {found}; this version knows {})",
            super::schema::Format::NEWEST.version()
        ),
        remedy: format!("start the newer pointsman; or {}", afresh(path)),
    }
}

/// Returns the fault of an order that needs format 2 while the file has format 1.
pub(super) fn older(connection: &Connection, kind: &str) -> StoreFault {
    let path = name(connection);
    StoreFault {
        kind: StoreFaultKind::Older,
        text: format!(
            "the store {path} has format 1, which cannot hold an order of kind \"{kind}\": a program that knows no \
             other has it open"
        ),
        remedy: "wait until the old process of the upgrade has gone, and repeat the order".to_owned(),
    }
}

/// Returns the fault of a file that can be read but not written.
pub(super) fn read_only(path: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::ReadOnly,
        text: format!("the store {path} cannot be written"),
        remedy: format!(
            "allow the worker's user to write {path} and its folder; the file system must be writable too"
        ),
    }
}

/// Returns the fault of a lock that another process has held for too long.
pub(super) fn locked(path: &Path) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Locked,
        text: format!("another process has held the lock {} for too long", path.display()),
        remedy: "wait until the other process has finished with the store, and repeat the order".to_owned(),
    }
}

/// Returns the fault of a file that was moved or removed while open: what is written would be lost.
pub(super) fn gone(path: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("the store {path} is no longer the file that was opened: it was moved or replaced"),
        remedy: "put it back, or restart to continue with the current file".to_owned(),
    }
}

/// Converts a system error.
pub(super) fn system(path: &Path, what: &str, error: &io::Error) -> StoreFault {
    let path = path.display();
    let (kind, remedy) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            return full(&path.to_string());
        }
        io::ErrorKind::ReadOnlyFilesystem => return read_only(&path.to_string()),
        io::ErrorKind::NotFound => (
            StoreFaultKind::Unreadable,
            "create the folder, and allow the worker's user to write to it".to_owned(),
        ),
        io::ErrorKind::PermissionDenied => (
            StoreFaultKind::Unreadable,
            format!("allow the worker's user to read and write {path} and its folder"),
        ),
        // `plain_file` has found it.
        io::ErrorKind::InvalidInput => (StoreFaultKind::Unreadable, format!("move {path} away")),
        _ => (StoreFaultKind::Unreadable, format!("check the file system of {path}")),
    };
    StoreFault { kind, text: format!("the store {path} cannot be {what}: {error}"), remedy }
}

fn full(path: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Full,
        text: format!("no space is left for the store {path}"),
        remedy: format!("free space on the file system of {path}, and repeat the order"),
    }
}

/// Converts an SQLite error.
pub(super) fn of(connection: &Connection, error: &rusqlite::Error) -> StoreFault {
    at(&name(connection), error)
}

pub(super) fn at(path: &str, error: &rusqlite::Error) -> StoreFault {
    let failed =
        |kind, remedy: String| StoreFault { kind, text: format!("the store {path} failed: {error}"), remedy };
    let Some(failure) = error.sqlite_error() else {
        // A value of another type than the column's: nothing we wrote.
        return damaged_at(path, &error.to_string());
    };
    match failure.code {
        ErrorCode::DatabaseCorrupt => damaged_at(path, &error.to_string()),
        ErrorCode::NotADatabase => damaged_at(path, "it has no SQLite header"),
        ErrorCode::DiskFull => full(path),
        ErrorCode::ReadOnly => read_only(path),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => failed(
            StoreFaultKind::Locked,
            "wait until the other process has finished with the file, and repeat the order".to_owned(),
        ),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => failed(
            StoreFaultKind::Unreadable,
            format!("allow the worker's user to read and write {path} and its folder"),
        ),
        // A file or its log is shorter than it says.
        ErrorCode::SystemIoFailure
            if matches!(failure.extended_code, ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_DATA) =>
        {
            damaged_at(path, "it, or its write-ahead log, is cut off or was replaced")
        }
        ErrorCode::SystemIoFailure => {
            failed(StoreFaultKind::Failed, format!("check the file system of {path}"))
        }
        _ => failed(StoreFaultKind::Failed, "repeat the order; if it fails again, report it".to_owned()),
    }
}
