//! Commits and their changes, read from their rows.
//!
//! Owns how much of them is read. Must never: trust a row; one that cannot be read is damage.

use super::fault;
use super::rows::{NO_LIMIT, Routes, number};
use super::schema::Format;
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;
use switch::{
    Change, Commit, CommitKind, Hash, KEY_SUBJECT, Key, KeyKind, Pending, StoreFault, SubjectChange,
};

/// How much of the commits that a condition selects is read.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// The commit that brings the number of changes to this one is the last.
    pub(super) max_changes: usize,
    /// False leaves the changes of keys out.
    pub(super) with_keys: bool,
}

impl Extent {
    /// All of them, whole.
    pub(super) const WHOLE: Extent = Extent { max_changes: usize::MAX, with_keys: true };
}

/// Reads the commits that a condition selects, and their changes.
pub(super) fn read_commits(
    connection: &Connection,
    format: Format,
    kind: KeyKind,
    extent: Extent,
    rest: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Commit>, StoreFault> {
    let failed = |error: rusqlite::Error| fault::of(connection, &error);
    let unreadable = || fault::damaged(connection, "a commit is unreadable");
    let sql = format!("SELECT {} FROM commits {rest}", format.commit_columns());
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(values).map_err(failed)?;
    let mut commits = Vec::new();
    let mut routes = Routes::new();
    let mut changes = 0;
    while changes < extent.max_changes
        && let Some(row) = rows.next().map_err(failed)?
    {
        let mut commit = commit_of(row).map_err(failed)?.ok_or_else(unreadable)?;
        let revision = number(commit.revision);
        let of = match extent.with_keys {
            true => read_changes(connection, format, "WHERE revision = ?1 ORDER BY place", &[&revision])?,
            false => read_subject_changes(connection, format, revision)?,
        };
        changes += of.len();
        for change in of {
            if change.subject == KEY_SUBJECT && commit.subjects.is_empty() {
                commit.changes.push(change.of_key(kind, &mut routes).ok_or_else(unreadable)?);
            } else {
                commit.subjects.push(change.of_subject());
            }
        }
        commits.push(commit);
    }
    Ok(commits)
}

/// Reads the changes of a commit that stand behind those of its keys, however many these are.
fn read_subject_changes(
    connection: &Connection,
    format: Format,
    revision: i64,
) -> Result<Vec<ChangeRow>, StoreFault> {
    if format == Format::One {
        return Ok(Vec::new());
    }
    let read = || -> rusqlite::Result<Vec<ChangeRow>> {
        let sql = format!(
            "SELECT {} FROM changes WHERE revision = ?1 ORDER BY place DESC",
            format.change_columns()
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map([revision], ChangeRow::read)?;
        let is_of_key =
            |row: &rusqlite::Result<ChangeRow>| matches!(row, Ok(row) if row.subject == KEY_SUBJECT);
        rows.take_while(|row| !is_of_key(row)).collect()
    };
    let mut changes = read().map_err(|error| fault::of(connection, &error))?;
    changes.reverse();
    #[cfg(test)]
    super::read_rows::add(connection, changes.len() + 1);
    Ok(changes)
}

/// Returns `None` for a row that we did not write.
fn commit_of(row: &Row<'_>) -> rusqlite::Result<Option<Commit>> {
    let unsigned = |at: usize| row.get::<_, i64>(at).map(|value| value as u64);
    let perhaps = |at: usize| row.get::<_, Option<i64>>(at).map(|value| value.map(|value| value as u64));
    let gate = serde_json::from_str::<Vec<String>>(&row.get::<_, String>(9)?);
    let hash = |at: usize| row.get::<_, Vec<u8>>(at).map(|bytes| bytes.try_into().ok().map(Hash));
    let extra = match row.get::<_, Option<String>>(12)? {
        Some(text) => serde_json::from_str(&text),
        None => Ok(BTreeMap::new()),
    };
    let (Ok(gate), Ok(extra), Some(previous), Some(own)) = (gate, extra, hash(10)?, hash(11)?) else {
        return Ok(None);
    };
    Ok(Some(Commit {
        revision: unsigned(0)?,
        time_ms: unsigned(1)?,
        kind: CommitKind::from_parts(&row.get::<_, String>(2)?, perhaps(3)?),
        actor: row.get(4)?,
        reason: row.get(5)?,
        idempotency: row.get(6)?,
        forced: row.get::<_, i64>(7)? != 0,
        confirm_by_ms: perhaps(8)?,
        changes: Vec::new(),
        subjects: Vec::new(),
        extra,
        gate,
        previous,
        hash: own,
    }))
}

/// A row of `changes`.
pub(super) struct ChangeRow {
    pub(super) revision: u64,
    subject: String,
    name: String,
    before: Option<String>,
    after: Option<String>,
    undoes: Option<u64>,
}

impl ChangeRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<ChangeRow> {
        Ok(ChangeRow {
            revision: row.get::<_, i64>(0)? as u64,
            name: row.get(1)?,
            before: row.get(2)?,
            after: row.get(3)?,
            undoes: row.get::<_, Option<i64>>(4)?.map(|value| value as u64),
            subject: row.get(5)?,
        })
    }

    /// Returns the change of a key; `None` for a row that we did not write.
    pub(super) fn of_key(self, kind: KeyKind, routes: &mut Routes) -> Option<Change> {
        let mut route = |text: Option<String>| match text {
            Some(text) => routes.read(&text).map(Some),
            None => Some(None),
        };
        Some(Change {
            key: Key::parse(kind, self.name.as_bytes(), NO_LIMIT).ok()?,
            before: route(self.before)?,
            after: route(self.after)?,
            undoes: self.undoes,
        })
    }

    fn of_subject(self) -> SubjectChange {
        let ChangeRow { subject, name, before, after, undoes, revision: _ } = self;
        SubjectChange { subject, name, before, after, undoes }
    }
}

/// Reads the changes that a condition selects.
pub(super) fn read_changes(
    connection: &Connection,
    format: Format,
    rest: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<ChangeRow>, StoreFault> {
    let sql = format!("SELECT {} FROM changes {rest}", format.change_columns());
    let all = connection.prepare_cached(&sql).and_then(|mut statement| {
        let rows = statement.query_map(values, ChangeRow::read)?;
        rows.collect::<rusqlite::Result<Vec<ChangeRow>>>()
    });
    #[cfg(test)]
    super::read_rows::add(connection, all.as_ref().map_or(0, Vec::len));
    all.map_err(|error| fault::of(connection, &error))
}

/// Returns true if the index of keys finds this revision's change of the key.
pub(super) fn finds_change(connection: &Connection, revision: u64, key: &Key) -> rusqlite::Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM changes INDEXED BY changes_by_key WHERE key = ?1 AND revision = ?2)";
    connection.prepare_cached(sql)?.query_row((key.as_str(), number(revision)), |row| row.get(0))
}

/// Reads the pending confirmations. Fails unless they match their commits.
pub(super) fn read_pending(
    connection: &Connection,
    format: Format,
    kind: KeyKind,
) -> Result<Vec<Pending>, StoreFault> {
    let failed = |error: rusqlite::Error| fault::of(connection, &error);
    let mut statement = connection
        .prepare("SELECT revision, confirm_by_ms FROM pending ORDER BY revision")
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut pending = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let (revision, by) = (row.get::<_, i64>(0).map_err(failed)?, row.get::<_, i64>(1).map_err(failed)?);
        let rest = "WHERE revision = ?1";
        let commit = read_commits(connection, format, kind, Extent::WHOLE, rest, &[&revision])?.pop();
        let Some(commit) = commit.filter(|commit| commit.confirm_by_ms == Some(by as u64)) else {
            return Err(fault::damaged(connection, "the pending confirmations do not match the commits"));
        };
        Pending::follow(&mut pending, &Commit { kind: CommitKind::Set, ..commit });
    }
    Ok(pending)
}
