//! Conversion between a switch's values and their rows.
//!
//! Owns: writing and reading commits and entries. Must never: trust a row; one that cannot be read is damage.

use super::fault;
use super::schema::Format;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use switch::{Commit, Hash, KEY_SUBJECT, Key, KeyKind, Route, StoreFault, SubjectValue, Subjects};

/// Longer than any configured limit: keys that were accepted once are read back.
pub(super) const NO_LIMIT: usize = usize::MAX;

/// Returns an entry's contribution to `head.digest`: the first half of the SHA-256 over key, route (each after its length, 8 bytes,
/// least significant first) and revision (8 bytes likewise). The sum does not depend on the order of the entries.
pub(super) fn entry_digest(key: &str, route: &str, revision: u64) -> u128 {
    digest(Sha256::new(), &[key, route], revision)
}

/// Returns the same of a subject's value: over 8 bytes of ones, subject, name, value and revision.
pub(super) fn subject_digest(subject: &str, name: &str, value: &str, revision: u64) -> u128 {
    digest(Sha256::new_with_prefix([0xff; 8]), &[subject, name, value], revision)
}

fn digest(mut sum: Sha256, texts: &[&str], revision: u64) -> u128 {
    for text in texts {
        sum.update((text.len() as u64).to_le_bytes());
        sum.update(text.as_bytes());
    }
    sum.update(revision.to_le_bytes());
    let bytes: [u8; 32] = sum.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    u128::from_le_bytes(half)
}

/// Returns the word of `head.key_kind`.
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
    /// Goes up each time the store is restored.
    pub(super) epoch: u64,
    /// There has been a second file.
    pub(super) anchored: bool,
}

impl Head {
    pub(super) fn read(connection: &Connection, format: Format) -> Result<Head, StoreFault> {
        let read = |row: &Row<'_>| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, Vec<u8>>(4)?,
                row.get::<_, i64>(5)?,
                row.get::<_, i64>(6)?,
            ))
        };
        let added = match format {
            Format::One => "1, 0",
            Format::Two => "epoch, anchored",
        };
        let sql = format!("SELECT key_kind, revision, hash, keys, digest, {added} FROM head WHERE one = 1");
        let row = connection.prepare_cached(&sql).and_then(|mut s| s.query_row([], read).optional());
        let (kind, revision, hash, keys, digest, epoch, anchored) = row
            .map_err(|error| fault::of(connection, &error))?
            .ok_or_else(|| fault::damaged(connection, "its head is unreadable"))?;
        let whole = || {
            Some(Head {
                kind: kind_of_name(&kind)?,
                revision: u64::try_from(revision).ok()?,
                hash: Hash(hash.try_into().ok()?),
                keys: u64::try_from(keys).ok()?,
                digest: u128::from_le_bytes(digest.try_into().ok()?),
                epoch: u64::try_from(epoch).ok()?,
                anchored: anchored != 0,
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

/// Inserts a commit's rows, except those of the entries and subjects. A file of format 1 takes commits of form 1.
pub(super) fn insert_commit(
    connection: &Connection,
    format: Format,
    commit: &Commit,
) -> rusqlite::Result<()> {
    let (extra, subject) = match format {
        Format::One => ("", ""),
        Format::Two => (", extra", ", subject"),
    };
    let revision = number(commit.revision);
    let about = commit.kind.of().map(number);
    let gate = serde_json::Value::from(commit.gate.clone()).to_string();
    let extra_fields = (!commit.extra.is_empty()).then(|| serde_json::json!(commit.extra).to_string());
    let confirm_by_ms = commit.confirm_by_ms.map(number);
    let mut values: Vec<&dyn rusqlite::ToSql> = Vec::with_capacity(13);
    let (time_ms, kind) = (number(commit.time_ms), commit.kind.name());
    let (previous, hash) = (&commit.previous.0[..], &commit.hash.0[..]);
    values.extend::<[&dyn rusqlite::ToSql; 12]>([
        &revision,
        &time_ms,
        &kind,
        &about,
        &commit.actor,
        &commit.reason,
        &commit.idempotency,
        &commit.forced,
        &confirm_by_ms,
        &gate,
        &previous,
        &hash,
    ]);
    if format == Format::Two {
        values.push(&extra_fields);
    }
    insert(
        connection,
        "commits",
        &format!(
            "revision, time_ms, kind, about, actor, reason, idempotency, forced, \
        confirm_by_ms, gate, previous, hash{extra}"
        ),
        &values,
    )?;
    let columns = format!("revision, place, key, before, after, undoes{subject}");
    let change =
        |place: usize, subject: &str, name: &str, sides: [Option<String>; 2], undoes: Option<u64>| {
            let (place, undoes, [before, after]) = (place as i64, undoes.map(number), sides);
            let values: [&dyn rusqlite::ToSql; 7] =
                [&revision, &place, &name, &before, &after, &undoes, &subject];
            insert(connection, "changes", &columns, &values[..if format == Format::Two { 7 } else { 6 }])
        };
    for (place, one) in commit.changes.iter().enumerate() {
        let sides = [&one.before, &one.after].map(|route| route.as_ref().map(Route::to_string));
        change(place, KEY_SUBJECT, one.key.as_str(), sides, one.undoes)?;
    }
    for (place, one) in commit.subjects.iter().enumerate() {
        let sides = [one.before.clone(), one.after.clone()];
        change(commit.changes.len() + place, &one.subject, &one.name, sides, one.undoes)?;
    }
    if let Some(name) = &commit.idempotency {
        let sql = "INSERT INTO idempotency (name, revision) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute(params![name, revision])?;
    }
    if let Some(by) = commit.confirm_by_ms {
        let sql = "INSERT INTO pending (revision, confirm_by_ms) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute(params![revision, number(by)])?;
    }
    if let Some(settled) = commit.kind.settles() {
        let sql = "DELETE FROM pending WHERE revision = ?1";
        connection.prepare_cached(sql)?.execute([number(settled)])?;
    }
    Ok(())
}

fn insert(
    connection: &Connection,
    table: &str,
    columns: &str,
    values: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<()> {
    let places: Vec<String> = (1..=values.len()).map(|at| format!("?{at}")).collect();
    let sql = format!("INSERT INTO {table} ({columns}) VALUES ({})", places.join(", "));
    connection.prepare_cached(&sql)?.execute(values).map(drop)
}

/// Applies a commit's changes to `subjects`, and to the digest in `head`.
pub(super) fn change_subjects(
    connection: &Connection,
    commit: &Commit,
    head: &mut Head,
) -> rusqlite::Result<()> {
    for change in &commit.subjects {
        let at = (&change.subject, &change.name);
        let old = connection
            .prepare_cached("SELECT value, revision FROM subjects WHERE subject = ?1 AND name = ?2")?
            .query_row(at, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        if let Some((value, revision)) = &old {
            let own = subject_digest(&change.subject, &change.name, value, *revision as u64);
            head.digest = head.digest.wrapping_sub(own);
        }
        if let Some(value) = &change.after {
            let own = subject_digest(&change.subject, &change.name, value, commit.revision);
            head.digest = head.digest.wrapping_add(own);
            let sql =
                "INSERT OR REPLACE INTO subjects (subject, name, value, revision) VALUES (?1, ?2, ?3, ?4)";
            let row = params![change.subject, change.name, value, number(commit.revision)];
            connection.prepare_cached(sql)?.execute(row)?;
        } else if old.is_some() {
            connection
                .prepare_cached("DELETE FROM subjects WHERE subject = ?1 AND name = ?2")?
                .execute(at)?;
        }
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

/// Reads all entries and subjects. Fails unless they add up to what `head` says.
pub(super) fn read_entries(
    connection: &Connection,
    format: Format,
    head: &Head,
    mut each: impl FnMut(Key, Route, u64),
) -> Result<Subjects, StoreFault> {
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
    let mut subjects = Subjects::default();
    if format == Format::Two {
        let sql = "SELECT subject, name, value, revision FROM subjects";
        let mut statement = connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let text = |at: usize| row.get::<_, String>(at).map_err(failed);
            let (subject, name, value) = (text(0)?, text(1)?, text(2)?);
            let revision = row.get::<_, i64>(3).map_err(failed)? as u64;
            digest = digest.wrapping_add(subject_digest(&subject, &name, &value, revision));
            subjects.put(&subject, &name, Some(SubjectValue { value, revision }));
        }
    }
    if (keys, digest) != (head.keys, head.digest) {
        return Err(fault::damaged(connection, "the table does not match the commits"));
    }
    Ok(subjects)
}
