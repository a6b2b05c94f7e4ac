//! Conversion between a switch's values and their rows.
//!
//! Owns: writing and reading commits and entries. Must never: trust a row; one that cannot be read is damage.

use super::fault;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use switch::{Change, Commit, CommitKind, Hash, Key, KeyKind, Pending, Route, StoreFault};

/// Longer than any configured limit: keys that were accepted once are read back.
const NO_LIMIT: usize = usize::MAX;

/// Returns an entry's contribution to `head.digest`: the first half of the SHA-256 over key, route (each after its length, 8 bytes,
/// least significant first) and revision (8 bytes likewise). The sum does not depend on the order of the entries.
pub(super) fn entry_digest(key: &str, route: &str, revision: u64) -> u128 {
    let mut sum = Sha256::new();
    for text in [key, route] {
        sum.update((text.len() as u64).to_le_bytes());
        sum.update(text.as_bytes());
    }
    sum.update(revision.to_le_bytes());
    let bytes: [u8; 32] = sum.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    u128::from_le_bytes(half)
}

/// `head.key_kind`.
pub(super) fn kind_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Host => "host",
        KeyKind::Text => "text",
    }
}

pub(super) fn kind_of_name(name: &str) -> Option<KeyKind> {
    match name {
        "host" => Some(KeyKind::Host),
        "text" => Some(KeyKind::Text),
        _ => None,
    }
}

/// The row of `head`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: KeyKind,
    pub(super) revision: u64,
    pub(super) hash: Hash,
    pub(super) keys: u64,
    pub(super) digest: u128,
}

impl Head {
    pub(super) fn read(connection: &Connection) -> Result<Head, StoreFault> {
        let read = |row: &Row<'_>| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, Vec<u8>>(4)?,
            ))
        };
        let sql = "SELECT key_kind, revision, hash, keys, digest FROM head WHERE one = 1";
        let row = connection.prepare_cached(sql).and_then(|mut s| s.query_row([], read).optional());
        let (kind, revision, hash, keys, digest) = row
            .map_err(|error| fault::of(connection, &error))?
            .ok_or_else(|| fault::damaged(connection, "its head is unreadable"))?;
        let whole = || {
            Some(Head {
                kind: kind_of_name(&kind)?,
                revision: u64::try_from(revision).ok()?,
                hash: Hash(hash.try_into().ok()?),
                keys: u64::try_from(keys).ok()?,
                digest: u128::from_le_bytes(digest.try_into().ok()?),
            })
        };
        whole().ok_or_else(|| fault::damaged(connection, "its head is unreadable"))
    }

    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "UPDATE head SET revision = ?1, hash = ?2, keys = ?3, digest = ?4 WHERE one = 1";
        let digest = self.digest.to_le_bytes();
        let row = params![number(self.revision), &self.hash.0[..], number(self.keys), &digest[..]];
        connection.prepare_cached(sql)?.execute(row).map(drop)
    }
}

/// Converts to SQLite's signed integers; no revision or time reaches the upper half.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Parses routes; the same text gives the same value, so that a million entries share a handful of names.
pub(super) struct Routes(HashMap<String, Route>);

impl Routes {
    pub(super) fn new() -> Routes {
        Routes(HashMap::new())
    }

    pub(super) fn read(&mut self, text: &str) -> Option<Route> {
        if let Some(known) = self.0.get(text) {
            return Some(known.clone());
        }
        let route = Route::parse(text).ok()?;
        // Bounded, because splits can be of endless variety.
        if self.0.len() < 4096 {
            self.0.insert(text.to_owned(), route.clone());
        }
        Some(route)
    }
}

/// Inserts a commit's rows, except those of the entries.
pub(super) fn insert_commit(connection: &Connection, commit: &Commit) -> rusqlite::Result<()> {
    let sql = "INSERT INTO commits (revision, time_ms, kind, about, actor, reason, idempotency, forced,
        confirm_by_ms, gate, previous, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let gate = serde_json::Value::from(commit.gate.clone()).to_string();
    connection.prepare_cached(sql)?.execute(params![
        number(commit.revision),
        number(commit.time_ms),
        commit.kind.name(),
        commit.kind.of().map(number),
        commit.actor,
        commit.reason,
        commit.idempotency,
        commit.forced,
        commit.confirm_by_ms.map(number),
        gate,
        &commit.previous.0[..],
        &commit.hash.0[..],
    ])?;
    let sql =
        "INSERT INTO changes (revision, place, key, before, after, undoes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut insert = connection.prepare_cached(sql)?;
    for (place, change) in commit.changes.iter().enumerate() {
        insert.execute(params![
            number(commit.revision),
            place as i64,
            change.key.as_str(),
            change.before.as_ref().map(Route::to_string),
            change.after.as_ref().map(Route::to_string),
            change.undoes.map(number),
        ])?;
    }
    if let Some(name) = &commit.idempotency {
        let sql = "INSERT INTO idempotency (name, revision) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute(params![name, number(commit.revision)])?;
    }
    if let Some(by) = commit.confirm_by_ms {
        let sql = "INSERT INTO pending (revision, confirm_by_ms) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute(params![number(commit.revision), number(by)])?;
    }
    if let Some(settled) = commit.kind.settles() {
        let sql = "DELETE FROM pending WHERE revision = ?1";
        connection.prepare_cached(sql)?.execute([number(settled)])?;
    }
    Ok(())
}

/// Applies a commit's changes to `entries`, and to the number of keys and the digest in `head`.
pub(super) fn change_entries(
    connection: &Connection,
    commit: &Commit,
    head: &mut Head,
) -> rusqlite::Result<()> {
    let mut find = connection.prepare_cached("SELECT route, revision FROM entries WHERE key = ?1")?;
    let mut put = connection
        .prepare_cached("INSERT OR REPLACE INTO entries (key, route, revision) VALUES (?1, ?2, ?3)")?;
    let mut remove = connection.prepare_cached("DELETE FROM entries WHERE key = ?1")?;
    for change in &commit.changes {
        let key = change.key.as_str();
        let old =
            find.query_row([key], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).optional()?;
        if let Some((route, revision)) = &old {
            head.digest = head.digest.wrapping_sub(entry_digest(key, route, *revision as u64));
            head.keys = head.keys.wrapping_sub(1);
        }
        if let Some(after) = &change.after {
            let route = after.to_string();
            head.digest = head.digest.wrapping_add(entry_digest(key, &route, commit.revision));
            head.keys += 1;
            put.execute(params![key, route, number(commit.revision)])?;
        } else if old.is_some() {
            remove.execute([key])?;
        }
    }
    Ok(())
}

/// Reads the commits of a query with the columns of [`COLUMNS`], and their changes.
pub(super) fn read_commits(
    connection: &Connection,
    kind: KeyKind,
    sql: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Commit>, StoreFault> {
    let failed = |error: rusqlite::Error| fault::of(connection, &error);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(values).map_err(failed)?;
    let mut commits = Vec::new();
    let mut routes = Routes::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let mut commit = commit_of(row)
            .map_err(failed)?
            .ok_or_else(|| fault::damaged(connection, "a commit is unreadable"))?;
        let rest = "WHERE revision = ?1 ORDER BY place";
        let changes = read_changes(connection, kind, rest, &[&number(commit.revision)], &mut routes)?;
        commit.changes = changes.into_iter().map(|(_, change)| change).collect();
        commits.push(commit);
    }
    Ok(commits)
}

/// The columns of a commit, in reading order.
pub(super) const COLUMNS: &str = "revision, time_ms, kind, about, actor, reason, idempotency, forced, \
    confirm_by_ms, gate, previous, hash";

/// Returns `None` for a row that we did not write.
fn commit_of(row: &Row<'_>) -> rusqlite::Result<Option<Commit>> {
    let unsigned = |at: usize| row.get::<_, i64>(at).map(|value| value as u64);
    let perhaps = |at: usize| row.get::<_, Option<i64>>(at).map(|value| value.map(|value| value as u64));
    let (kind, about) = (row.get::<_, String>(2)?, perhaps(3)?);
    let gate = serde_json::from_str::<Vec<String>>(&row.get::<_, String>(9)?);
    let hash = |at: usize| row.get::<_, Vec<u8>>(at).map(|bytes| bytes.try_into().ok().map(Hash));
    let (Some(kind), Ok(gate), Some(previous), Some(own)) =
        (CommitKind::from_parts(&kind, about), gate, hash(10)?, hash(11)?)
    else {
        return Ok(None);
    };
    Ok(Some(Commit {
        revision: unsigned(0)?,
        time_ms: unsigned(1)?,
        kind,
        actor: row.get(4)?,
        reason: row.get(5)?,
        idempotency: row.get(6)?,
        forced: row.get::<_, i64>(7)? != 0,
        confirm_by_ms: perhaps(8)?,
        changes: Vec::new(),
        gate,
        previous,
        hash: own,
    }))
}

/// Reads the changes that a condition selects, with their revisions.
pub(super) fn read_changes(
    connection: &Connection,
    kind: KeyKind,
    rest: &str,
    values: &[&dyn rusqlite::ToSql],
    routes: &mut Routes,
) -> Result<Vec<(u64, Change)>, StoreFault> {
    let failed = |error: rusqlite::Error| fault::of(connection, &error);
    let sql = format!("SELECT key, before, after, undoes, revision FROM changes {rest}");
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(values).map_err(failed)?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let column = |at: usize| row.get::<_, Option<String>>(at).map_err(failed);
        let mut route = |text: Option<String>| match text {
            Some(text) => routes.read(&text).map(Some),
            None => Some(None),
        };
        let key = column(0)?.and_then(|text| Key::parse(kind, text.as_bytes(), NO_LIMIT).ok());
        let (Some(key), Some(before), Some(after)) = (key, route(column(1)?), route(column(2)?)) else {
            return Err(fault::damaged(connection, "a commit is unreadable"));
        };
        let undoes = row.get::<_, Option<i64>>(3).map_err(failed)?.map(|value| value as u64);
        let revision = row.get::<_, i64>(4).map_err(failed)? as u64;
        changes.push((revision, Change { key, before, after, undoes }));
    }
    Ok(changes)
}

/// Returns true if the index of keys finds this revision's change of the key.
pub(super) fn finds_change(connection: &Connection, revision: u64, key: &Key) -> rusqlite::Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM changes INDEXED BY changes_by_key WHERE key = ?1 AND revision = ?2)";
    connection.prepare_cached(sql)?.query_row((key.as_str(), number(revision)), |row| row.get(0))
}

/// Reads all entries. Fails unless they add up to what `head` says.
pub(super) fn read_entries(
    connection: &Connection,
    head: &Head,
    mut each: impl FnMut(Key, Route, u64),
) -> Result<(), StoreFault> {
    let failed = |error: rusqlite::Error| fault::of(connection, &error);
    let mut statement = connection.prepare("SELECT key, route, revision FROM entries").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let (mut keys, mut digest, mut routes) = (0_u64, 0_u128, Routes::new());
    while let Some(row) = rows.next().map_err(failed)? {
        let text = |at: usize| row.get_ref(at).ok().and_then(|value| value.as_str().ok());
        let revision = row.get::<_, i64>(2).map_err(failed)? as u64;
        let (Some(key), Some(route)) = (text(0), text(1)) else {
            return Err(fault::damaged(connection, "a table entry is unreadable"));
        };
        keys += 1;
        digest = digest.wrapping_add(entry_digest(key, route, revision));
        let (Ok(key), Some(route)) = (Key::parse(head.kind, key.as_bytes(), NO_LIMIT), routes.read(route))
        else {
            return Err(fault::damaged(connection, "a table entry is unreadable"));
        };
        each(key, route, revision);
    }
    if (keys, digest) != (head.keys, head.digest) {
        return Err(fault::damaged(connection, "the table does not match the commits"));
    }
    Ok(())
}

/// Reads the pending confirmations. Fails unless they match their commits.
pub(super) fn read_pending(connection: &Connection) -> Result<Vec<Pending>, StoreFault> {
    let failed = |error: rusqlite::Error| fault::of(connection, &error);
    let sql = "SELECT p.revision, p.confirm_by_ms, c.confirm_by_ms FROM pending p
        LEFT JOIN commits c ON c.revision = p.revision ORDER BY p.revision";
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut pending = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let number = |at: usize| row.get::<_, Option<i64>>(at).map_err(failed);
        let (revision, by, committed) = (number(0)?, number(1)?, number(2)?);
        let (Some(revision), Some(by)) = (revision, by.filter(|_| by == committed)) else {
            return Err(fault::damaged(connection, "the pending confirmations do not match the commits"));
        };
        pending.push(Pending { revision: revision as u64, confirm_by_ms: by as u64 });
    }
    Ok(pending)
}
