//! Converts the control service's answers to the API's types.
//!
//! Must never query anything itself.

use super::types;
use crate::info::{
    Difference, Entries, HoldInfo, OverdueInfo, PendingInfo, SaidInfo, SourceInfo, SwitchInfo, Verification,
};
use std::collections::BTreeMap;
use switch::{Commit, HoldPhase, Key, KeyKind, Route, SubjectChange, Table};

pub(super) fn switch(state: SwitchInfo) -> types::Switch {
    let (rules, default) = (&state.rules, state.own_default.as_ref());
    types::Switch {
        keys_are: match rules.kind {
            KeyKind::Host => "host".into(),
            KeyKind::Text => "text".into(),
        },
        default_in_file: default
            .filter(|(own, _)| **own != *rules.default)
            .map(|_| rules.default.to_string()),
        default_revision: default.map(|(_, revision)| *revision),
        default: default.map_or_else(|| rules.default.to_string(), |(own, _)| own.clone()),
        targets: rules.targets.iter().map(ToString::to_string).collect(),
        dynamic: rules.run_time.is_admitted,
        ends_without_master_ms: state.ends_without_master_ms,
        revision: state.revision,
        keys: state.keys as u64,
        max_keys: rules.max_keys as u64,
        max_key_length: rules.max_key_len as u64,
        state: state.file.map_or_else(|| "memory".into(), |path| path.display().to_string()),
        store_fault: state.store_fault.map(|(text, remedy)| types::StoreFault { text, remedy }),
        pending: state.pending.into_iter().map(pending).collect(),
        holds: state.holds.into_iter().map(hold).collect(),
        draining: state
            .draining
            .into_iter()
            .map(|(revision, drain)| types::Draining { revision, drain })
            .collect(),
        name: state.name,
    }
}

fn pending(state: PendingInfo) -> types::Pending {
    let overdue = |info: OverdueInfo| types::Overdue { since_ms: info.since_ms, answers: info.answers };
    types::Pending {
        revision: state.revision,
        confirm_by_ms: state.confirm_by_ms,
        left_ms: state.left_ms,
        overdue: state.overdue.map(overdue),
    }
}

pub(super) fn hold(held: HoldInfo) -> types::Hold {
    types::Hold {
        key: held.key.as_str().into(),
        state: match held.phase {
            HoldPhase::Held => types::HoldState::Held,
            HoldPhase::Refusing => types::HoldState::Refusing,
            HoldPhase::Releasing => types::HoldState::Releasing,
            HoldPhase::Released => types::HoldState::Released,
        },
        max: held.max as u64,
        timeout_ms: held.timeout_ms,
        max_bytes: held.max_bytes as u64,
        waiting: held.waiting as u64,
        waiting_elsewhere: held.waiting_elsewhere as u64,
        partial: held.is_partial,
        waiting_bytes: held.waiting_bytes as u64,
        rejected: held.rejected,
        since_ms: held.since_ms,
        until_ms: held.end.map(|end| end.at_ms),
        then: held.end.map(|end| match end.releases {
            true => types::HoldThen::Release,
            false => types::HoldThen::Refuse,
        }),
        of_order: held.of_order,
        actor: held.actor,
        reason: held.reason,
        recorded: held.recorded,
        notes: held.notes,
    }
}

pub(super) fn page(name: String, found: Entries) -> types::KeyPage {
    let entry = |entry: &crate::info::EntryInfo| types::KeyEntry {
        key: entry.key.as_str().into(),
        route: entry.route.to_string(),
        revision: entry.revision,
    };
    let next = found.entries.last().filter(|_| found.more).map(|entry| entry.key.as_str().into());
    types::KeyPage {
        switch: name,
        revision: found.revision,
        keys: found.entries.iter().map(entry).collect(),
        committed_ms: None,
        commits: BTreeMap::new(),
        next,
    }
}

/// Returns who made commits. JSON's names are texts.
pub(super) fn notes(found: BTreeMap<u64, SaidInfo>) -> BTreeMap<String, types::CommitNote> {
    let note = |(revision, said): (u64, SaidInfo)| {
        let SaidInfo { actor, reason, time_ms } = said;
        (revision.to_string(), types::CommitNote { actor, reason, time_ms })
    };
    found.into_iter().map(note).collect()
}

/// Returns the route that applies to a key: its own entry, the wildcard that matches it, or the default.
pub(super) fn key(state: SwitchInfo, table: &Table, key: &Key) -> types::Key {
    let own = table.get(key).map(|entry| (key, entry));
    let found = own.or_else(|| table.find_key(key.as_str().as_bytes()));
    let covering = |held: &HoldInfo| held.key == *key || held.key.covers(key.as_str().as_bytes());
    types::Key {
        key: key.as_str().into(),
        route: found.map_or_else(
            || table.default_target(&state.rules.default).to_string(),
            |(_, entry)| entry.route.to_string(),
        ),
        entry: found.map(|(key, _)| key.as_str().into()),
        entry_revision: found.map_or(0, |(_, entry)| entry.revision),
        revision: table.revision(),
        committed_ms: None,
        hold: state.holds.into_iter().find(covering).map(hold),
        switch: state.name,
    }
}

pub(super) fn commit(commit: Commit) -> types::Commit {
    let text = |route: &Option<Route>| route.as_ref().map(ToString::to_string);
    types::Commit {
        revision: commit.revision,
        time_ms: commit.time_ms,
        kind: commit.kind.name().to_owned(),
        note: (!commit.kind.is_known())
            .then(|| "its kind is unknown to this version: a newer pointsman made it".to_owned()),
        of: commit.kind.of(),
        changes: commit
            .changes
            .iter()
            .map(|change| types::Change {
                key: change.key.as_str().into(),
                from: text(&change.before),
                to: text(&change.after),
                undoes: change.undoes,
            })
            .collect(),
        subjects: commit.subjects.into_iter().map(subject).collect(),
        extra: commit.extra,
        actor: commit.actor,
        reason: commit.reason,
        idempotency_key: commit.idempotency,
        forced: commit.forced,
        confirm_by_ms: commit.confirm_by_ms,
        gate: commit.gate,
        traffic: None,
        previous: commit.previous.to_string(),
        hash: commit.hash.to_string(),
    }
}

/// Returns a page of what differs. What is no key comes with the first page.
pub(super) fn diff(
    switch: String,
    (from, to): (u64, u64),
    found: Difference,
    after: Option<&str>,
    limit: usize,
) -> types::Diff {
    let text = |route: &Option<Route>| route.as_ref().map(ToString::to_string);
    let mut keys = found.keys.into_iter().filter(|one| after.is_none_or(|after| one.key.as_str() > after));
    let page: Vec<types::DiffKey> = keys
        .by_ref()
        .take(limit)
        .map(|one| types::DiffKey { key: one.key.as_str().into(), from: text(&one.from), to: text(&one.to) })
        .collect();
    let next = keys.next().and_then(|_| page.last()).map(|last| last.key.clone());
    let subjects = if after.is_none() { found.subjects } else { Vec::new() };
    types::Diff { switch, from, to, keys: page, subjects: subjects.into_iter().map(subject).collect(), next }
}

fn subject(change: SubjectChange) -> types::Subject {
    let text = change.server_text();
    let SubjectChange { subject, name, before, after, .. } = change;
    types::Subject { subject, name, from: before, to: after, text }
}

/// Returns a place where servers are looked up.
pub(super) fn lookup(source: &SourceInfo) -> types::ServerLookup {
    let (failure, failing_since_ms) = source.failure.clone().unzip();
    types::ServerLookup {
        lookup: source.text.clone(),
        line: source.line.clone(),
        servers: source.servers as u64,
        age_ms: source.age_ms,
        failure,
        failing_since_ms,
        not_believed: source.doubt.clone(),
    }
}

pub(super) fn verified(found: Verification) -> types::Verified {
    types::Verified {
        intact: found.fault.is_none(),
        commits: found.commits,
        hash: found.hash,
        fault: found.fault.map(|(revision, text)| format!("revision {revision}: {text}")),
    }
}
