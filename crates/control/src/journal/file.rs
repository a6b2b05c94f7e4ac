//! The journal's file: an SQLite database, as the stores are.
//!
//! Owns its tables, its bounds and the verification of its chain. An append-only file would need locks and a compaction of
//! its own: two processes write to it during an upgrade, and old entries go. It is not synced for each entry: what a crash
//! of the machine takes are entries at the end, never the order of the others.
//!
//! Must never be trusted with a table: no order depends on it.

use super::entry::{JournalEntry, Occurrence};
use crate::plain_file;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior, params};
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use switch::{Hash, StoreFault, StoreFaultKind};

/// The maximum number of entries.
pub(super) const MAX_ENTRIES: u64 = 50_000;
/// The maximum age of an entry.
pub(super) const MAX_AGE_MS: u64 = 400 * 24 * 3_600_000;
/// Entries beyond the bounds go after so many new ones.
const PRUNED_EVERY: u64 = 64;
/// The maximum length of a text, in bytes.
const MAX_TEXT: usize = 1000;
/// How long to wait for the other process that writes.
const BUSY_TIME: Duration = Duration::from_secs(2);

const APPLICATION_ID: i32 = i32::from_be_bytes(*b"PNTJ");
const FORMAT: i32 = 1;

/// `anchor` names the newest entry that was pruned: the first one that is kept follows from its hash.
const TABLES: &str = "
CREATE TABLE anchor (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY,
    time_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    switch TEXT,
    subject TEXT,
    actor TEXT NOT NULL,
    reason TEXT,
    count INTEGER NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO anchor (one, sequence, hash) VALUES (1, 0, zeroblob(32));
";

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct JournalQuery {
    /// Only those before this one.
    pub before: Option<u64>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those of this switch, and those of none.
    pub switch: Option<String>,
    /// Only those from this time on, in ms since 1970 UTC.
    pub since_ms: Option<u64>,
    /// The maximum number.
    pub limit: usize,
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalVerification {
    /// The number of entries that were checked.
    pub entries: u64,
    /// The number of entries before these that were pruned.
    pub pruned: u64,
    /// The last one's hash.
    pub hash: Hash,
    /// The first fault.
    pub fault: Option<String>,
}

/// An open file.
pub(super) struct JournalFile {
    connection: Connection,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl JournalFile {
    /// Opens the file; creates it if it does not exist.
    pub(super) fn open(path: &Path) -> Result<JournalFile, StoreFault> {
        // SQLite would create it with the mode of the umask.
        let created = plain_file::open_with(path, OpenOptions::new().append(true).create(true).mode(0o600));
        let found = created.and_then(|file| file.metadata());
        let found = found.map_err(|error| failed(path, StoreFaultKind::Unreadable, &error.to_string()))?;
        let of = |error: rusqlite::Error| fault(path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(of)?;
        connection.busy_timeout(BUSY_TIME).map_err(of)?;
        for (name, value) in [("trusted_schema", "OFF"), ("cell_size_check", "ON"), ("temp_store", "MEMORY")]
        {
            connection.pragma_update(None, name, value).map_err(of)?;
        }
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(of)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(of)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(of)?;
        let mark = |name| -> Result<i32, StoreFault> {
            transaction.pragma_query_value(None, name, |row| row.get(0)).map_err(of)
        };
        match (mark("application_id")?, mark("user_version")?) {
            (APPLICATION_ID, FORMAT) => {}
            (0, 0) if is_empty(&transaction).map_err(of)? => {
                transaction.execute_batch(TABLES).map_err(of)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(of)?;
                transaction.pragma_update(None, "user_version", FORMAT).map_err(of)?;
            }
            _ => return Err(failed(path, StoreFaultKind::Newer, "it is no journal that this version knows")),
        }
        transaction.commit().map_err(of)?;
        Ok(JournalFile { connection, path: path.to_owned(), identity: (found.dev(), found.ino()) })
    }

    /// Returns true if its path still names it.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// Appends entries, all or none.
    pub(super) fn append(&mut self, occurrences: &[Occurrence], now_ms: u64) -> Result<(), StoreFault> {
        let path = self.path.clone();
        self.try_append(occurrences, now_ms).map_err(|error| fault(&path, &error))
    }

    fn try_append(&mut self, occurrences: &[Occurrence], now_ms: u64) -> rusqlite::Result<()> {
        // Immediate: the entry before must stay the last one.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut sequence, mut previous) = last(&transaction)?;
        let before = sequence;
        for occurrence in occurrences {
            sequence += 1;
            let mut occurrence = occurrence.clone();
            cut(&mut occurrence.actor);
            [&mut occurrence.reason, &mut occurrence.subject].into_iter().flatten().for_each(cut);
            let entry = JournalEntry::following(sequence, previous, occurrence);
            insert(&transaction, &entry)?;
            previous = entry.hash;
        }
        if before / PRUNED_EVERY != sequence / PRUNED_EVERY {
            prune(&transaction, sequence, now_ms)?;
        }
        transaction.commit()
    }

    /// Returns entries, newest first.
    pub(super) fn read(&self, query: &JournalQuery) -> Result<Vec<JournalEntry>, StoreFault> {
        let read = || -> rusqlite::Result<Vec<JournalEntry>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT sequence, time_ms, kind, switch, subject, actor, reason, count, previous, hash
                 FROM entries
                 WHERE sequence < ?1 AND (?2 IS NULL OR kind = ?2) AND time_ms >= ?3
                     AND (?4 IS NULL OR switch IS NULL OR switch = ?4)
                 ORDER BY sequence DESC LIMIT ?5",
            )?;
            let before = number(query.before.unwrap_or(u64::MAX));
            let since = number(query.since_ms.unwrap_or(0));
            let rows = statement
                .query_map(params![before, query.kind, since, query.switch, query.limit as i64], entry)?;
            rows.collect()
        };
        read().map_err(|error| fault(&self.path, &error))
    }

    /// Verifies the chain of all entries, from the anchor on.
    pub(super) fn verify(&self) -> Result<JournalVerification, StoreFault> {
        let verify = || -> rusqlite::Result<JournalVerification> {
            // One transaction: another process may append and prune.
            let transaction = self.connection.unchecked_transaction()?;
            let (pruned, hash) = anchor(&transaction)?;
            let mut found = JournalVerification { entries: 0, pruned, hash, fault: None };
            let mut statement = transaction.prepare(
                "SELECT sequence, time_ms, kind, switch, subject, actor, reason, count, previous, hash
                 FROM entries ORDER BY sequence",
            )?;
            for (expected, row) in (pruned + 1..).zip(statement.query_map([], entry)?) {
                let row = row?;
                let sequence = row.sequence;
                found.fault = if sequence != expected {
                    Some(format!("found entry {sequence} in place of entry {expected}"))
                } else if row.previous != found.hash {
                    Some(format!("entry {sequence} does not follow the one before it"))
                } else if row.hash != row.computed_hash() {
                    Some(format!("entry {sequence} was altered after it was written"))
                } else {
                    None
                };
                if found.fault.is_some() {
                    return Ok(found);
                }
                found.entries += 1;
                found.hash = row.hash;
            }
            Ok(found)
        };
        verify().map_err(|error| fault(&self.path, &error))
    }
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        .map(|count| count == 0)
}

fn anchor(connection: &Connection) -> rusqlite::Result<(u64, Hash)> {
    let sql = "SELECT sequence, hash FROM anchor WHERE one = 1";
    connection.query_row(sql, [], |row| Ok((unsigned(row, 0)?, Hash(row.get(1)?))))
}

/// Returns the last entry's sequence and hash, or the anchor's.
fn last(connection: &Connection) -> rusqlite::Result<(u64, Hash)> {
    let sql = "SELECT sequence, hash FROM entries ORDER BY sequence DESC LIMIT 1";
    match connection.query_row(sql, [], |row| Ok((unsigned(row, 0)?, Hash(row.get(1)?)))) {
        Err(rusqlite::Error::QueryReturnedNoRows) => anchor(connection),
        found => found,
    }
}

fn insert(transaction: &Transaction<'_>, entry: &JournalEntry) -> rusqlite::Result<()> {
    let JournalEntry { sequence, occurrence, previous, hash } = entry;
    let Occurrence { time_ms, kind, switch, subject, actor, reason, count } = occurrence;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO entries (sequence, time_ms, kind, switch, subject, actor, reason, count, previous, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    statement
        .execute(params![
            number(*sequence),
            number(*time_ms),
            kind,
            switch,
            subject,
            actor,
            reason,
            number(*count),
            previous.0,
            hash.0
        ])
        .map(|_| ())
}

/// Removes the entries beyond the bounds, and remembers the last of them.
fn prune(transaction: &Transaction<'_>, newest: u64, now_ms: u64) -> rusqlite::Result<()> {
    let oldest_ms = number(now_ms.saturating_sub(MAX_AGE_MS));
    let young: Option<i64> = transaction.query_row(
        "SELECT min(sequence) FROM entries WHERE time_ms >= ?1",
        [oldest_ms],
        |row| row.get(0),
    )?;
    let too_old = young.map_or(newest, |sequence| sequence.unsigned_abs().saturating_sub(1));
    let end = too_old.max(newest.saturating_sub(MAX_ENTRIES));
    let moved = transaction.execute(
        "UPDATE anchor SET (sequence, hash) = (SELECT sequence, hash FROM entries WHERE sequence = ?1)
         WHERE EXISTS (SELECT 1 FROM entries WHERE sequence = ?1)",
        [number(end)],
    )?;
    if moved > 0 {
        transaction.execute("DELETE FROM entries WHERE sequence <= ?1", [number(end)])?;
    }
    Ok(())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<JournalEntry> {
    Ok(JournalEntry {
        sequence: unsigned(row, 0)?,
        occurrence: Occurrence {
            time_ms: unsigned(row, 1)?,
            kind: row.get(2)?,
            switch: row.get(3)?,
            subject: row.get(4)?,
            actor: row.get(5)?,
            reason: row.get(6)?,
            count: unsigned(row, 7)?,
        },
        previous: Hash(row.get(8)?),
        hash: Hash(row.get(9)?),
    })
}

/// SQLite's integers have a sign.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

fn cut(text: &mut String) {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}

fn fault(path: &Path, error: &rusqlite::Error) -> StoreFault {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => StoreFaultKind::Damaged,
        Some(ErrorCode::DiskFull) => StoreFaultKind::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreFaultKind::Locked,
        _ => StoreFaultKind::Failed,
    };
    failed(path, kind, &error.to_string())
}

fn failed(path: &Path, kind: StoreFaultKind, why: &str) -> StoreFault {
    let remedy = match kind {
        StoreFaultKind::Damaged | StoreFaultKind::Newer => "move it away, and a new one is begun".to_owned(),
        StoreFaultKind::Full => "free space on its file system".to_owned(),
        StoreFaultKind::Locked => "wait until the other process has finished with it".to_owned(),
        _ => "allow the worker's user to write to it and to its folder".to_owned(),
    };
    StoreFault { kind, text: format!("the journal {} failed: {why}", path.display()), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(time_ms: u64) -> Occurrence {
        Occurrence { time_ms, kind: "hold".into(), actor: "ann".into(), count: 1, ..Occurrence::default() }
    }

    fn all() -> JournalQuery {
        JournalQuery { limit: usize::MAX >> 1, ..JournalQuery::default() }
    }

    #[test]
    fn entries_are_chained_across_processes_and_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut one = JournalFile::open(&path).unwrap();
        let mut other = JournalFile::open(&path).unwrap();
        for time_ms in 0..20 {
            let file = if time_ms % 3 == 0 { &mut one } else { &mut other };
            file.append(&[held(time_ms), held(time_ms)], time_ms).unwrap();
        }
        drop((one, other));
        let file = JournalFile::open(&path).unwrap();
        let found = file.verify().unwrap();
        assert_eq!((found.entries, found.pruned, &found.fault), (40, 0, &None));
        let entries = file.read(&JournalQuery { before: Some(40), limit: 2, ..all() }).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [39, 38]);
        assert_eq!(file.read(&JournalQuery { since_ms: Some(18), ..all() }).unwrap().len(), 4);
        assert!(file.read(&JournalQuery { kind: Some("reload".into()), ..all() }).unwrap().is_empty());
    }

    #[test]
    fn changed_removed_and_inserted_entries_are_found() {
        for (sql, word) in [
            ("UPDATE entries SET actor = 'bob' WHERE sequence = 2", "entry 2 was altered"),
            ("DELETE FROM entries WHERE sequence = 2", "entry 3 in place of entry 2"),
            ("DELETE FROM entries WHERE sequence = 1", "entry 2 in place of entry 1"),
            ("UPDATE anchor SET hash = randomblob(32)", "entry 1 does not follow"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut file = JournalFile::open(&folder.path().join("journal.db")).unwrap();
            file.append(&[held(1), held(2), held(3), held(4)], 4).unwrap();
            file.connection.execute(sql, []).unwrap();
            let fault = file.verify().unwrap().fault.unwrap_or_default();
            assert!(fault.contains(word), "{sql}: {fault}");
        }
    }

    #[test]
    fn old_entries_go_and_the_chain_verifies_from_the_anchor() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = JournalFile::open(&folder.path().join("journal.db")).unwrap();
        let some: Vec<Occurrence> = (0..1000).map(held).collect();
        for _ in 0..52 {
            file.append(&some, 1000).unwrap();
        }
        let found = file.verify().unwrap();
        assert_eq!((found.pruned + found.entries, found.fault), (52_000, None));
        assert!((MAX_ENTRIES..MAX_ENTRIES + PRUNED_EVERY).contains(&found.entries), "{}", found.entries);
        // A year later all of them are too old, but those that come then.
        let now_ms = MAX_AGE_MS + 1_000_000;
        let later: Vec<Occurrence> = (0..64).map(|_| held(now_ms)).collect();
        file.append(&later, now_ms).unwrap();
        let found = file.verify().unwrap();
        assert_eq!((found.entries, found.pruned, found.fault), (64, 52_000, None));
        assert_eq!(file.read(&all()).unwrap().last().map(|entry| entry.sequence), Some(52_001));
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        std::fs::write(&path, "a text ".repeat(1000)).unwrap();
        let fault = JournalFile::open(&path).err().unwrap();
        assert_eq!(fault.kind, StoreFaultKind::Damaged, "{fault}");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("a text"));
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert_eq!(JournalFile::open(&path).err().unwrap().kind, StoreFaultKind::Newer);
    }
}
