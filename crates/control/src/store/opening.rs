//! Opening a store's file, or refusing to.
//!
//! Owns: what is checked before a file is trusted, and how a new one comes about. Must never: overwrite or repair a file
//! that exists; whoever wants to begin afresh moves it away.

use super::{fault, rows, schema, wal};
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use switch::{KeyKind, StoreFault};

/// How long a commit waits for another process that is writing, which an upgrade's two may do.
const BUSY_MS: u64 = 2_000;

/// How often a log that looks damaged is looked at, and how long to wait between.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// How large a file may be to be checked with its index when it is opened, in bytes. That takes ten times as long as without:
/// with a million changes it would hold up a start for seconds, so they have `pointsman verify` instead.
const CHECKED_WHOLE_BYTES: u64 = 4 << 20;

/// An open file and what it is known by.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Device and inode.
    pub(super) identity: (u64, u64),
}

/// Opens the file, makes it if it is not there, and checks that it is ours, whole and writable.
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
        return Err(fault::not_ours(&shown, "it is no regular file"));
    }
    if found.len() == 0 {
        // A new store appears under its name when it is complete, so nobody but somebody else emptied it.
        return Err(fault::damaged_at(&shown, "it is empty"));
    }
    look_at_log(path)?;
    let connection = connect(path)?;
    check_marks(&connection, &shown)?;
    let wrong = |error: rusqlite::Error| fault::at(&shown, &error);
    // The quick one counts what the index of the changes holds, and does not look where it leads.
    let check = if found.len() <= CHECKED_WHOLE_BYTES {
        "PRAGMA integrity_check(1)"
    } else {
        "PRAGMA quick_check(1)"
    };
    let findings: String = connection.query_row(check, [], |row| row.get(0)).map_err(wrong)?;
    if findings != "ok" {
        return Err(fault::damaged_at(&shown, findings.trim()));
    }
    // Also the proof that it can be written, before anybody relies on it.
    let sql = "UPDATE head SET opened_ms = ?1 WHERE one = 1";
    connection.execute(sql, [rows::number(now_ms)]).map_err(wrong)?;
    Ok(Opened { connection, identity: (found.dev(), found.ino()) })
}

/// Whether the path still leads to the file that was opened.
pub(super) fn still_there(path: &Path, identity: (u64, u64)) -> bool {
    fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == identity)
}

fn look_at_log(path: &Path) -> Result<(), StoreFault> {
    let log = beside(path, "-wal");
    for _ in 0..LOOKS {
        let file = match File::open(&log) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fault::system(&log, "opened", &error)),
        };
        match wal::look(io::BufReader::with_capacity(1 << 16, file)) {
            Ok(wal::Condition::Sound) => return Ok(()),
            // Another process may have begun the log anew while it was read. Damage stays.
            Ok(wal::Condition::Damaged) => std::thread::sleep(BETWEEN_LOOKS),
            Err(error) => return Err(fault::system(&log, "read", &error)),
        }
    }
    Err(fault::damaged_at(
        &path.display().to_string(),
        "commits in its write-ahead log follow a part that does not fit",
    ))
}

fn connect(path: &Path) -> Result<Connection, StoreFault> {
    let shown = path.display().to_string();
    let wrong = |error: rusqlite::Error| fault::at(&shown, &error);
    // Without CREATE: that is done elsewhere, and a file that has just gone is no reason to begin afresh.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
    connection.busy_timeout(Duration::from_millis(BUSY_MS)).map_err(wrong)?;
    // SQLite falls back to reading alone without a word.
    if connection.is_readonly("main").map_err(wrong)? {
        return Err(fault::read_only(&shown));
    }
    for (name, value) in [("trusted_schema", "OFF"), ("cell_size_check", "ON"), ("temp_store", "MEMORY")] {
        connection.pragma_update(None, name, value).map_err(wrong)?;
    }
    // What is written before this is read: whether it is a database at all.
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(wrong)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(fault::damaged_at(&shown, "it cannot have a write-ahead log"));
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(wrong)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn check_marks(connection: &Connection, shown: &str) -> Result<(), StoreFault> {
    let mark = |name: &str| -> Result<i32, StoreFault> {
        connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| fault::at(shown, &error))
    };
    if mark("application_id")? != schema::APPLICATION_ID {
        return Err(fault::not_ours(shown, "it is a database of another program"));
    }
    match mark("user_version")? {
        schema::VERSION => Ok(()),
        found if found > schema::VERSION => Err(fault::newer(shown, found)),
        found => Err(fault::damaged_at(shown, &format!("its form has the number {found}, which never was"))),
    }
}

/// Makes a new store under another name and gives it its own when it is complete and synced: nobody ever sees half of
/// one, also after a crash.
fn create(path: &Path, kind: KeyKind, now_ms: u64) -> Result<(), StoreFault> {
    let draft = beside(path, &format!(".new.{}", std::process::id()));
    let result = draw_up(&draft, kind, now_ms).and_then(|()| {
        let failed = |error: io::Error| fault::system(path, "made", &error);
        // A link, unlike a renaming, does not replace what another process has put there meanwhile.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(failed)
    });
    for ending in ["", "-wal", "-shm"] {
        // They are gone but for a fault on the way, which is told already.
        let _ = fs::remove_file(beside(&draft, ending));
    }
    result
}

fn draw_up(draft: &Path, kind: KeyKind, now_ms: u64) -> Result<(), StoreFault> {
    for ending in ["", "-wal", "-shm"] {
        // Left by a process of this number that was killed here.
        let _ = fs::remove_file(beside(draft, ending));
    }
    // Who may switch is the control socket's to say; the file lets nobody else in. The log gets the same rights.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)
        .map_err(|error| fault::system(draft, "made", &error))?;
    let connection = connect(draft)?;
    let fill = || -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        transaction.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", schema::VERSION)?;
        transaction.execute_batch(schema::TABLES)?;
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

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
