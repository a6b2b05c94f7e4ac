//! Orders that changed nothing, by their idempotency keys.
//!
//! Owns: their table, bounded in number and age. They are no commits and take no revision. Must never: keep an order from
//! being answered; one that cannot be saved is remembered as long as the process runs.

use super::rows::number;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The maximum number of orders that are remembered; the oldest is forgotten first.
pub(crate) const MAX_UNCHANGED: usize = 10_000;
/// How long they are remembered, in milliseconds: 30 days.
pub(crate) const UNCHANGED_FOR_MS: u64 = 30 * 24 * 3600 * 1000;
/// The number of old ones that are forgotten with each new one.
const FORGOTTEN_AT_ONCE: i64 = 8;

/// An order that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnchangedOrder {
    /// Only the same order of the same actor has it.
    pub digest: [u8; 32],
    /// The revision that it found.
    pub revision: u64,
    /// When: milliseconds since the Unix epoch.
    pub time_ms: u64,
}

impl UnchangedOrder {
    /// Returns true if it is too old to be remembered.
    pub(crate) fn is_forgotten(&self, now_ms: u64) -> bool {
        self.time_ms.saturating_add(UNCHANGED_FOR_MS) < now_ms
    }
}

/// Reads an order.
pub(super) fn read(connection: &Connection, name: &str) -> rusqlite::Result<Option<UnchangedOrder>> {
    let read = |row: &Row<'_>| {
        let [revision, time_ms] = [row.get::<_, i64>(1)?, row.get(2)?].map(|value| value.max(0) as u64);
        Ok(UnchangedOrder { digest: row.get(0)?, revision, time_ms })
    };
    connection
        .prepare_cached("SELECT digest, revision, time_ms FROM unchanged WHERE name = ?1")?
        .query_row([name], read)
        .optional()
}

/// Saves an order, and forgets those that are too many or too old, in one transaction.
pub(super) fn write(connection: &Connection, name: &str, order: &UnchangedOrder) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let row = params![name, &order.digest[..], number(order.revision), number(order.time_ms)];
    let sql = "INSERT OR REPLACE INTO unchanged (name, digest, revision, time_ms) VALUES (?1, ?2, ?3, ?4)";
    transaction.prepare_cached(sql)?.execute(row)?;
    let oldest_ms = order.time_ms.saturating_sub(UNCHANGED_FOR_MS);
    // Row numbers rise, so the oldest are the first.
    let sql = "DELETE FROM unchanged WHERE rowid IN (
                   SELECT rowid FROM unchanged
                   WHERE rowid <= (SELECT max(rowid) FROM unchanged) - ?1
                      OR (time_ms < ?2 AND rowid IN (SELECT rowid FROM unchanged ORDER BY rowid LIMIT ?3)))";
    let limits = params![number(MAX_UNCHANGED as u64), number(oldest_ms), FORGOTTEN_AT_ONCE];
    transaction.prepare_cached(sql)?.execute(limits)?;
    transaction.commit()
}
