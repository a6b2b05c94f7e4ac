//! The way of a file from format 1 to format 2.
//!
//! Owns: doing it only when nothing else has the file open, in one transaction, with a copy of the old file kept. Must
//! never: leave a file that is neither the one nor the other, or take it from a program that knows format 1 only.
//!
//! In a binary upgrade the old program has the file open too, and could not read it any more. In the mode with a
//! write-ahead log, every connection holds a shared lock on the file as long as it is open
//! (<https://www.sqlite.org/walformat.html>), so the mode can be left only by the last one: that is the question whether
//! this one is alone. A program that opens it after that waits for the transaction, and then reads the new format.

use super::rows::Head;
use super::schema::{self, Format};
use super::{fault, files};
use rusqlite::{Connection, TransactionBehavior};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use switch::StoreFault;

/// The ending of the copy that is kept.
const KEPT: &str = ".format-1";

/// Moves a file of format 1 to format 2 if nothing else has it open. Returns the format that it has then.
pub(super) fn try_migrate(connection: &Connection, path: &Path) -> Result<Format, StoreFault> {
    let wrong = |error: rusqlite::Error| fault::of(connection, &error);
    let mode = |mode: &str| {
        connection.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get::<_, String>(0))
    };
    // It is asked again later; no order waits for the answer.
    connection.busy_timeout(Duration::ZERO).map_err(wrong)?;
    let is_alone = mode("DELETE").is_ok_and(|mode| mode.eq_ignore_ascii_case("delete"));
    let migrated = if is_alone { migrate(connection, path) } else { Ok(Format::One) };
    connection.busy_timeout(files::BUSY_TIME).map_err(wrong)?;
    if is_alone {
        mode("WAL").map_err(wrong)?;
    }
    migrated
}

fn migrate(connection: &Connection, path: &Path) -> Result<Format, StoreFault> {
    let wrong = |error: rusqlite::Error| fault::of(connection, &error);
    let head = Head::read(connection, Format::One)?;
    keep_copy(connection, path)?;
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Exclusive).map_err(wrong)?;
    let mode: String = transaction.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(wrong)?;
    // Another program has opened it, or written to it, since it was copied.
    if !mode.eq_ignore_ascii_case("delete") || Head::read(&transaction, Format::One)? != head {
        return Ok(Format::One);
    }
    transaction.execute_batch(schema::TO_TWO).map_err(wrong)?;
    transaction.execute_batch(schema::UNCHANGED).map_err(wrong)?;
    transaction.commit().map_err(wrong)?;
    Ok(Format::Two)
}

/// Writes a copy of the file, whole and synced. SQLite makes it: a copy by other means would have to open and close the
/// file, and that drops the locks that this process has on it.
pub(super) fn copy(connection: &Connection, to: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let shown = to.to_str().ok_or_else(|| io::Error::other("its path is not UTF-8"))?;
    connection.execute("VACUUM INTO ?1", [shown]).map_err(io::Error::other)?;
    File::open(to)?.sync_all()
}

/// Keeps a copy of the file beside it.
fn keep_copy(connection: &Connection, path: &Path) -> Result<(), StoreFault> {
    let draft = files::beside(path, &format!("{KEPT}.{}", std::process::id()));
    let kept = files::beside(path, KEPT);
    let made = || -> io::Result<()> {
        let _ = fs::remove_file(&draft);
        copy(connection, &draft)?;
        fs::rename(&draft, &kept)?;
        files::sync_folder(path)
    };
    made().map_err(|error| {
        let _ = fs::remove_file(&draft);
        fault::system(&kept, "written", &error)
    })
}
