//! The records of the second file: a line each.
//!
//! Owns their form: 16 hexadecimal digits (the first 8 bytes of the SHA-256 of what follows the blank), a blank, JSON and a
//! line feed. People can read the file, and `grep` finds a key in it. Must never: accept a line whose checksum is wrong.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use switch::{BootTime, Change, Commit, CommitKind, Hash, Key, KeyKind, Pending, Route, SubjectChange};

/// The version of the file's form. A file of another one is not read.
pub(super) const VERSION: u32 = 1;
/// The space for records to come, in bytes. It is written and synced before it is used: else each commit would also wait
/// for the file system's own records of the file's length.
pub(super) const SPACE: u64 = 256 << 10;
/// Digits and blank before the JSON.
const PREFIX: usize = 17;

/// A record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The first of a file: the table's place in the history, and what its entries add up to.
    Snapshot(SnapshotRecord),
    /// Some entries of the table: key, route, revision.
    Entries(Vec<(String, String, u64)>),
    /// Some values of what is no key: subject, name, value, revision.
    Subjects(Vec<(String, String, String, u64)>),
    /// The table is whole; with its revision.
    End(u64),
    /// A commit after it.
    Commit(Box<CommitRecord>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    pub(super) version: u32,
    pub(super) key_kind: String,
    pub(super) epoch: u64,
    pub(super) revision: u64,
    pub(super) hash: String,
    pub(super) keys: u64,
    pub(super) digest: String,
    pub(super) pending: Vec<PendingRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PendingRecord {
    revision: u64,
    confirm_by_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirm_by_boot: Option<String>,
    /// Unlimited if it is missing.
    #[serde(default)]
    window_ms: Option<u64>,
}

/// A commit with all its fields.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CommitRecord {
    revision: u64,
    time_ms: u64,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<u64>,
    actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idempotency: Option<String>,
    forced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirm_by_ms: Option<u64>,
    /// Subject, name, before, after, undoes.
    changes: Vec<ChangeRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subjects: Vec<(String, ChangeRecord)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, String>,
    gate: Vec<String>,
    previous: String,
    hash: String,
}

/// Name, before, after, undoes.
type ChangeRecord = (String, Option<String>, Option<String>, Option<u64>);

/// Returns the line of a record.
pub(super) fn line(record: &Record) -> serde_json::Result<Vec<u8>> {
    let mut line = vec![b' '; PREFIX];
    serde_json::to_writer(&mut line, record)?;
    let sum = checksum(&line[PREFIX..]);
    line[..PREFIX - 1].copy_from_slice(sum.as_bytes());
    line.push(b'\n');
    Ok(line)
}

/// Returns the JSON of a line without its line feed, if the checksum is right.
pub(super) fn checked(line: &[u8]) -> Option<&[u8]> {
    let (sum, json) = line.split_at_checked(PREFIX)?;
    (sum[PREFIX - 1] == b' ' && sum[..PREFIX - 1] == *checksum(json).as_bytes()).then_some(json)
}

fn checksum(json: &[u8]) -> String {
    let sum: [u8; 32] = Sha256::digest(json).into();
    sum[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl PendingRecord {
    pub(super) fn of(pending: &Pending) -> PendingRecord {
        PendingRecord {
            revision: pending.revision,
            confirm_by_ms: pending.confirm_by_ms,
            confirm_by_boot: pending.confirm_by_boot.map(|by| by.to_string()),
            window_ms: Some(pending.window_ms),
        }
    }

    pub(super) fn read(&self) -> Option<Pending> {
        let confirm_by_boot = match &self.confirm_by_boot {
            Some(text) => Some(text.parse::<BootTime>().ok()?),
            None => None,
        };
        Some(Pending {
            revision: self.revision,
            confirm_by_ms: self.confirm_by_ms,
            confirm_by_boot,
            window_ms: self.window_ms.unwrap_or(u64::MAX),
        })
    }
}

impl CommitRecord {
    pub(super) fn of(commit: &Commit) -> CommitRecord {
        let route = |route: &Option<Route>| route.as_ref().map(Route::to_string);
        let change = |change: &Change| {
            (change.key.to_string(), route(&change.before), route(&change.after), change.undoes)
        };
        let subject = |change: &SubjectChange| {
            let SubjectChange { subject, name, before, after, undoes } = change.clone();
            (subject, (name, before, after, undoes))
        };
        CommitRecord {
            revision: commit.revision,
            time_ms: commit.time_ms,
            kind: commit.kind.name().to_owned(),
            of: commit.kind.of(),
            actor: commit.actor.clone(),
            reason: commit.reason.clone(),
            idempotency: commit.idempotency.clone(),
            forced: commit.forced,
            confirm_by_ms: commit.confirm_by_ms,
            changes: commit.changes.iter().map(change).collect(),
            subjects: commit.subjects.iter().map(subject).collect(),
            extra: commit.extra.clone(),
            gate: commit.gate.clone(),
            previous: commit.previous.to_string(),
            hash: commit.hash.to_string(),
        }
    }

    /// Returns the commit; `None` if it is not what was committed.
    pub(super) fn read(self, kind: KeyKind) -> Option<Commit> {
        let route = |text: Option<String>| match text {
            Some(text) => Route::parse(&text).ok().map(Some),
            None => Some(None),
        };
        let change = |(name, before, after, undoes): ChangeRecord| {
            let key = Key::parse(kind, name.as_bytes(), usize::MAX).ok()?;
            Some(Change { key, before: route(before)?, after: route(after)?, undoes })
        };
        let subject = |(subject, (name, before, after, undoes)): (String, ChangeRecord)| SubjectChange {
            subject,
            name,
            before,
            after,
            undoes,
        };
        let hash = |text: &str| text.parse::<Hash>().ok();
        let commit = Commit {
            revision: self.revision,
            time_ms: self.time_ms,
            kind: CommitKind::from_parts(&self.kind, self.of),
            actor: self.actor,
            reason: self.reason,
            idempotency: self.idempotency,
            forced: self.forced,
            confirm_by_ms: self.confirm_by_ms,
            changes: self.changes.into_iter().map(change).collect::<Option<_>>()?,
            subjects: self.subjects.into_iter().map(subject).collect(),
            extra: self.extra,
            gate: self.gate,
            previous: hash(&self.previous)?,
            hash: hash(&self.hash)?,
        };
        (commit.computed_hash() == commit.hash).then_some(commit)
    }
}
