//! What goes wrong with a store's file, in words that help.
//!
//! Owns: SQLite's and the system's errors as faults with a remedy. Must never: mend anything.

use rusqlite::{Connection, ErrorCode};
use std::io;
use std::path::Path;
use switch::{StoreFault, StoreFaultKind};

/// How one begins afresh: the way that docs/switching.md tells.
fn afresh(path: &str) -> String {
    format!(
        "put back a copy of the file, or begin afresh: move {path}, {path}-wal and {path}-shm away, and every key is at the \
         switch's default again"
    )
}

/// The file of a connection, for texts.
fn name(connection: &Connection) -> String {
    connection.path().unwrap_or("in memory").to_owned()
}

/// Something in the file is not what we wrote.
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

/// It is a file, but none of ours.
pub(super) fn not_ours(path: &str, what: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("{path} is no store of a switch: {what}"),
        remedy: "name another file in the switch's `state`, or move this one away".to_owned(),
    }
}

/// A newer version wrote it.
pub(super) fn newer(path: &str, found: i32) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Newer,
        text: format!(
            "the store {path} was written by a newer pointsman (form {found}, and this one knows {})",
            super::schema::VERSION
        ),
        remedy: format!("start the newer pointsman; or {}", afresh(path)),
    }
}

/// It can be read but not written.
pub(super) fn read_only(path: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::ReadOnly,
        text: format!("the store {path} cannot be written"),
        remedy: format!(
            "let the worker's user write {path} and the folder it lies in; the file system must be writable too"
        ),
    }
}

/// Somebody has moved or removed the file while it is open: what is written is in no file any more.
pub(super) fn gone(path: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!(
            "the store {path} is not the file any more that was opened: it was moved away or replaced"
        ),
        remedy: "put it back, or restart to go on with what is there now".to_owned(),
    }
}

/// The system's error.
pub(super) fn system(path: &Path, what: &str, error: &io::Error) -> StoreFault {
    let path = path.display();
    let (kind, remedy) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            return full(&path.to_string());
        }
        io::ErrorKind::ReadOnlyFilesystem => return read_only(&path.to_string()),
        io::ErrorKind::NotFound => {
            (StoreFaultKind::Unreadable, "make the folder, and let the worker's user write there".to_owned())
        }
        io::ErrorKind::PermissionDenied => (
            StoreFaultKind::Unreadable,
            format!("let the worker's user read and write {path} and the folder it lies in"),
        ),
        _ => (StoreFaultKind::Unreadable, format!("look after the file system that {path} lies on")),
    };
    StoreFault { kind, text: format!("the store {path} cannot be {what}: {error}"), remedy }
}

fn full(path: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Full,
        text: format!("there is no room left for the store {path}"),
        remedy: format!("make room on the file system that {path} lies on, and repeat the order"),
    }
}

/// SQLite's error.
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
        ErrorCode::NotADatabase => damaged_at(path, "it does not begin as one"),
        ErrorCode::DiskFull => full(path),
        ErrorCode::ReadOnly => read_only(path),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => failed(
            StoreFaultKind::Locked,
            "wait until the other process has finished with the file, and repeat the order".to_owned(),
        ),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => failed(
            StoreFaultKind::Unreadable,
            format!("let the worker's user read and write {path} and the folder it lies in"),
        ),
        ErrorCode::SystemIoFailure => {
            failed(StoreFaultKind::Failed, format!("look after the file system that {path} lies on"))
        }
        _ => failed(StoreFaultKind::Failed, "repeat the order; if it fails again, report it".to_owned()),
    }
}
