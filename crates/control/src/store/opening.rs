//! Opening a store's file, or refusing to.
//!
//! Owns: the checks before a file is trusted, and the creation of a new one. Must never: overwrite or repair an existing
//! file; to start over, it is moved away.

use super::files::{BUSY_TIME, beside, sync_folder};
use super::schema::Format;
use super::{anchor, fault, migration, objects, rows, schema, wal};
use crate::plain_file;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;
use switch::{KeyKind, StoreFault, StoreFaultKind};

/// The number of checks of a log that looks damaged, and the pause between them.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The maximum size of a file whose index is checked when it is opened, in bytes. The check takes ten times as long as that
/// of the table: with a million changes it would delay a start by seconds; `pointsman history --verify` does it then.
const CHECKED_WHOLE_BYTES: u64 = 4 << 20;

/// An open file and its identity.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Device and inode.
    pub(super) identity: (u64, u64),
    pub(super) format: Format,
}

/// Opens the file, creates it if it does not exist, and checks that it is ours, sound and writable.
pub(super) fn open(path: &Path, kind: KeyKind, now_ms: u64) -> Result<Opened, StoreFault> {
    let shown = path.display().to_string();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(path, kind, now_ms)?;
            fs::metadata(path).map_err(|error| fault::system(path, "opened", &error))?
        }
        Err(error) => return Err(fault::system(path, "opened", &error)),
    };
    if !found.is_file() {
        return Err(fault::not_ours(&shown, "it is not a regular file"));
    }
    if found.len() == 0 {
        // A new store gets its name when it is complete, so another program has emptied it.
        return Err(fault::damaged_at(&shown, "it is empty"));
    }
    // SQLite opens them itself, whatever they are.
    for ending in ["-wal", "-shm", "-journal"] {
        let file = beside(path, ending);
        plain_file::check(&file).map_err(|error| fault::system(&file, "opened", &error))?;
    }
    look_at_log(path)?;
    let connection = connect(path)?;
    let format = check_marks(&connection, &shown)?;
    objects::check(&connection, format, &shown)?;
    let wrong = |error: rusqlite::Error| fault::at(&shown, &error);
    check_pages(&connection, path)?;
    // Without room for the copy it keeps its format.
    let format = match format {
        Format::One => migration::try_migrate(&connection, path).unwrap_or(format),
        Format::Two => format,
    };
    if format == Format::Two {
        connection.execute_batch(schema::UNCHANGED).map_err(wrong)?;
    }
    // Also proves that the file can be written.
    let sql = "UPDATE head SET opened_ms = ?1 WHERE one = 1";
    connection.execute(sql, [rows::number(now_ms)]).map_err(wrong)?;
    Ok(Opened { connection, identity: (found.dev(), found.ino()), format })
}

/// Returns true if there was a store, as far as can be seen: then that it cannot be opened is its own fault, not one of the
/// configuration, such as a wrong path.
pub(super) fn was_there(path: &Path, fault: &StoreFault) -> bool {
    if !plain_file::is_absent(&anchor::path_of(path)) {
        return true;
    }
    if plain_file::is_absent(path) || fault.kind == StoreFaultKind::Newer {
        return false;
    }
    // What can be read and is no store may be a file of another program, whether it can be written or not.
    if fault.kind == StoreFaultKind::ReadOnly && !begins_as_store(path) {
        return false;
    }
    let is_closed =
        || plain_file::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    fault.kind != StoreFaultKind::Unreadable || is_closed()
}

/// Returns true if a file begins as those of SQLite do, or cannot be read (<https://sqlite.org/fileformat.html#the_database_header>).
fn begins_as_store(path: &Path) -> bool {
    let mut magic = [0; 16];
    match plain_file::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) => magic == *b"SQLite format 3\0",
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Returns true if the path still names the file that was opened.
pub(super) fn still_there(path: &Path, identity: (u64, u64)) -> bool {
    fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == identity)
}

/// Returns true if the file is small enough to be checked as a whole.
pub(super) fn is_small(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.len() <= CHECKED_WHOLE_BYTES)
}

/// Makes SQLite check the file's pages.
pub(super) fn check_pages(connection: &Connection, path: &Path) -> Result<(), StoreFault> {
    // The quick check counts the entries of the index of changes, but does not follow them.
    let check = if is_small(path) { "PRAGMA integrity_check(1)" } else { "PRAGMA quick_check(1)" };
    let shown = path.display().to_string();
    let findings: String =
        connection.query_row(check, [], |row| row.get(0)).map_err(|error| fault::at(&shown, &error))?;
    if findings == "ok" { Ok(()) } else { Err(fault::damaged_at(&shown, findings.trim())) }
}

fn look_at_log(path: &Path) -> Result<(), StoreFault> {
    let log = beside(path, "-wal");
    for _ in 0..LOOKS {
        let file = match plain_file::open(&log) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fault::system(&log, "opened", &error)),
        };
        match wal::look(io::BufReader::with_capacity(1 << 16, file)) {
            Ok(wal::Condition::Sound) => return Ok(()),
            // Another process may have restarted the log while it was read. Damage stays.
            Ok(wal::Condition::Damaged) => std::thread::sleep(BETWEEN_LOOKS),
            Err(error) => return Err(fault::system(&log, "read", &error)),
        }
    }
    Err(fault::damaged_at(
        &path.display().to_string(),
        "commits in its write-ahead log follow a damaged frame",
    ))
}

fn connect(path: &Path) -> Result<Connection, StoreFault> {
    let shown = path.display().to_string();
    let wrong = |error: rusqlite::Error| fault::at(&shown, &error);
    // Without CREATE: `create` does that, and a file that has just vanished must not be replaced.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
    connection.busy_timeout(BUSY_TIME).map_err(wrong)?;
    // SQLite silently falls back to read-only.
    if connection.is_readonly("main").map_err(wrong)? {
        return Err(fault::read_only(&shown));
    }
    restrict(&connection).map_err(wrong)?;
    for (name, value) in [("trusted_schema", "OFF"), ("cell_size_check", "ON"), ("temp_store", "MEMORY")] {
        connection.pragma_update(None, name, value).map_err(wrong)?;
    }
    // This reads the file's head, and so shows whether it is a database.
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(wrong)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(fault::damaged_at(&shown, "it cannot have a write-ahead log"));
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(wrong)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Has SQLite do no more for a file than store its rows.
fn restrict(connection: &Connection) -> rusqlite::Result<()> {
    for (setting, is_on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
    ] {
        connection.set_db_config(setting, is_on)?;
    }
    Ok(())
}

fn check_marks(connection: &Connection, shown: &str) -> Result<Format, StoreFault> {
    let mark = |name: &str| -> Result<i32, StoreFault> {
        connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| fault::at(shown, &error))
    };
    if mark("application_id")? != schema::APPLICATION_ID {
        return Err(fault::not_ours(shown, "it is a database of another program"));
    }
    let found = mark("user_version")?;
    match Format::of_version(found) {
        Some(format) => Ok(format),
        None if found > Format::NEWEST.version() => Err(fault::newer(shown, found)),
        None => Err(fault::damaged_at(shown, &format!("its format {found} is unknown"))),
    }
}

/// Creates a new store under a temporary name and renames it when it is complete and synced: an incomplete one is never
/// visible, even after a crash.
fn create(path: &Path, kind: KeyKind, now_ms: u64) -> Result<(), StoreFault> {
    let draft = beside(path, &format!(".new.{}", std::process::id()));
    let result = draw_up(&draft, kind, now_ms).and_then(|()| {
        let failed = |error: io::Error| fault::system(path, "created", &error);
        // A link, unlike a renaming, does not replace what another process has put there meanwhile.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        sync_folder(path).map_err(failed)
    });
    for ending in ["", "-wal", "-shm"] {
        // They remain only after a fault, which is reported already.
        let _ = fs::remove_file(beside(&draft, ending));
    }
    result
}

fn draw_up(draft: &Path, kind: KeyKind, now_ms: u64) -> Result<(), StoreFault> {
    for ending in ["", "-wal", "-shm"] {
        // Left by a killed process of the same pid.
        let _ = fs::remove_file(beside(draft, ending));
    }
    // Access is the control socket's to grant; the file is private. The log gets the same mode.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)
        .map_err(|error| fault::system(draft, "created", &error))?;
    let connection = connect(draft)?;
    let fill = || -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        transaction.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
        transaction.execute_batch(schema::TABLES)?;
        transaction.execute_batch(schema::TO_TWO)?;
        transaction.execute(
            "INSERT INTO head (one, key_kind, revision, hash, keys, digest, opened_ms)
             VALUES (1, ?1, 0, zeroblob(32), 0, zeroblob(16), ?2)",
            rusqlite::params![rows::kind_name(kind), rows::number(now_ms)],
        )?;
        transaction.commit()?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    };
    fill().map_err(|error| fault::of(&connection, &error))?;
    connection.close().map_err(|(connection, error)| fault::of(&connection, &error))?;
    File::open(draft).and_then(|file| file.sync_all()).map_err(|error| fault::system(draft, "synced", &error))
}
