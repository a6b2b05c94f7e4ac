//! Receipts that are not in the store yet.
//!
//! Owns: the newest receipts until the next commit or idle moment writes them: a receipt is not worth a sync of its own.
//! Bounded by the number of receipts that a store keeps.

use super::MAX_RECEIPTS;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// Receipts by their revisions.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<u64, String>);

impl Waiting {
    pub(super) fn put(&mut self, revision: u64, receipt: String) {
        self.0.insert(revision, receipt);
        while self.0.len() > MAX_RECEIPTS {
            self.0.pop_first();
        }
    }

    pub(super) fn get(&self, revision: u64) -> Option<&String> {
        self.0.get(&revision)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets them, once they are in the store.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Writes them and removes old ones, as part of a transaction.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Some((&newest, _)) = self.0.last_key_value() else { return Ok(()) };
        let sql = "INSERT OR REPLACE INTO receipts (revision, receipt) VALUES (?1, ?2)";
        let mut insert = connection.prepare_cached(sql)?;
        for (&revision, receipt) in &self.0 {
            insert.execute(params![super::rows::number(revision), receipt])?;
        }
        let oldest = newest.saturating_sub(MAX_RECEIPTS as u64);
        connection
            .prepare_cached("DELETE FROM receipts WHERE revision <= ?1")?
            .execute([super::rows::number(oldest)])
            .map(drop)
    }
}

/// Reads a receipt from the store.
pub(super) fn read(connection: &Connection, revision: u64) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT receipt FROM receipts WHERE revision = ?1")?
        .query_row([super::rows::number(revision)], |row| row.get(0))
        .optional()
}
