//! Commits as values of the shared store: JSON.
//!
//! Owns: the form. Every field of a commit that is hashed is in it, so that a value that was altered is noticed by its hash.
//! Must never: trust one before that.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use switch::{Change, Commit, CommitKind, Hash, Key, KeyKind, Route, SubjectChange};

/// No length of a key is too long that a commit holds.
const NO_LIMIT: usize = usize::MAX;

#[derive(Serialize, Deserialize)]
struct StoredCommit {
    /// Raised when an older program must not read it.
    form: u32,
    revision: u64,
    time_ms: u64,
    kind: StoredKind,
    actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idempotency: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    forced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirm_by_ms: Option<u64>,
    #[serde(default)]
    keys: String,
    changes: Vec<StoredChange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subjects: Vec<StoredSubject>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gate: Vec<String>,
    previous: String,
    hash: String,
}

#[derive(Serialize, Deserialize)]
struct StoredKind {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct StoredChange {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undoes: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct StoredSubject {
    subject: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undoes: Option<u64>,
}

/// Returns the value of a commit.
pub(crate) fn write(commit: &Commit, kind: KeyKind) -> Vec<u8> {
    let route = |route: &Option<Route>| route.as_ref().map(Route::to_string);
    let stored = StoredCommit {
        form: 1,
        revision: commit.revision,
        time_ms: commit.time_ms,
        kind: StoredKind { name: commit.kind.name().to_owned(), of: commit.kind.of() },
        actor: commit.actor.clone(),
        reason: commit.reason.clone(),
        idempotency: commit.idempotency.clone(),
        forced: commit.forced,
        confirm_by_ms: commit.confirm_by_ms,
        keys: kind_name(kind).to_owned(),
        changes: commit
            .changes
            .iter()
            .map(|change| StoredChange {
                key: change.key.to_string(),
                before: route(&change.before),
                after: route(&change.after),
                undoes: change.undoes,
            })
            .collect(),
        subjects: commit
            .subjects
            .iter()
            .map(|change| StoredSubject {
                subject: change.subject.clone(),
                name: change.name.clone(),
                before: change.before.clone(),
                after: change.after.clone(),
                undoes: change.undoes,
            })
            .collect(),
        extra: commit.extra.clone(),
        gate: commit.gate.clone(),
        previous: commit.previous.to_string(),
        hash: commit.hash.to_string(),
    };
    // A value of texts and numbers has a JSON.
    serde_json::to_vec(&stored).unwrap_or_default()
}

/// Returns the commit of a value, if its hash is that of its fields.
pub(crate) fn read(value: &[u8]) -> Result<Commit, String> {
    let stored: StoredCommit = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    if stored.form != 1 {
        return Err(format!("it has form {}, and this version knows form 1", stored.form));
    }
    let kind = [KeyKind::Host, KeyKind::Text].into_iter().find(|kind| kind_name(*kind) == stored.keys);
    let kind = kind.ok_or_else(|| format!("its keys are of the unknown kind \"{}\"", stored.keys))?;
    let route = |text: Option<String>| match text {
        None => Ok(None),
        Some(text) => Route::parse(&text).map(Some).map_err(|_| format!("\"{text}\" is no route")),
    };
    let changes = stored.changes.into_iter().map(|change| {
        Ok(Change {
            key: Key::parse(kind, change.key.as_bytes(), NO_LIMIT)
                .map_err(|_| format!("\"{}\" is no key", change.key))?,
            before: route(change.before)?,
            after: route(change.after)?,
            undoes: change.undoes,
        })
    });
    let subjects = stored.subjects.into_iter().map(|change| SubjectChange {
        subject: change.subject,
        name: change.name,
        before: change.before,
        after: change.after,
        undoes: change.undoes,
    });
    let commit = Commit {
        revision: stored.revision,
        time_ms: stored.time_ms,
        kind: CommitKind::from_parts(&stored.kind.name, stored.kind.of),
        actor: stored.actor,
        reason: stored.reason,
        idempotency: stored.idempotency,
        forced: stored.forced,
        confirm_by_ms: stored.confirm_by_ms,
        changes: changes.collect::<Result<_, String>>()?,
        subjects: subjects.collect(),
        extra: stored.extra,
        gate: stored.gate,
        previous: stored.previous.parse::<Hash>()?,
        hash: stored.hash.parse::<Hash>()?,
    };
    if commit.computed_hash() != commit.hash {
        return Err(format!("revision {} was altered after it was committed", commit.revision));
    }
    Ok(commit)
}

/// Returns the name of a kind of keys.
pub(crate) fn kind_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Host => "host",
        KeyKind::Text => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit() -> Commit {
        let change = |key: &str, after: Option<&str>| Change {
            key: Key::parse(KeyKind::Host, key.as_bytes(), 64).unwrap(),
            before: Some(Route::parse("blue").unwrap()),
            after: after.map(|route| Route::parse(route).unwrap()),
            undoes: Some(2),
        };
        let subject = SubjectChange {
            subject: "default".into(),
            name: String::new(),
            before: Some("blue".into()),
            after: None,
            undoes: None,
        };
        Commit {
            revision: 3,
            time_ms: 17,
            kind: CommitKind::Undo { of: 2 },
            actor: "anna".into(),
            reason: Some("because \"so\"".into()),
            idempotency: Some("x1".into()),
            forced: true,
            confirm_by_ms: Some(99),
            changes: vec![change("*.example.com", Some("green=10 blue=90")), change("a.example", None)],
            subjects: vec![subject],
            extra: [("note".to_owned(), "ü".to_owned())].into(),
            gate: vec!["passed".into()],
            previous: Hash([7; 32]),
            hash: Hash::ZERO,
        }
        .sealed()
    }

    #[test]
    fn every_field_of_a_commit_is_read_back() {
        let commit = commit();
        assert_eq!(read(&write(&commit, KeyKind::Host)), Ok(commit));
    }

    #[test]
    fn an_altered_value_is_noticed() {
        let text = String::from_utf8(write(&commit(), KeyKind::Host)).unwrap();
        for (from, to) in [("green=10", "green=11"), ("anna", "eve"), ("\"time_ms\":17", "\"time_ms\":18")] {
            assert!(text.contains(from), "{from}");
            let fault = read(text.replace(from, to).as_bytes()).unwrap_err();
            assert!(fault.contains("was altered"), "{fault}");
        }
        assert!(read(b"{}").is_err());
        assert!(read(text.replace("\"form\":1", "\"form\":2").as_bytes()).unwrap_err().contains("form 2"));
    }
}
