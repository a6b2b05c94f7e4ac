//! What the history says of servers by what became of their group: a group that is made at run time has no server that was said of
//! an older one of its name, and one that comes back has those that it had.
//!
//! Owns what a commit says of a server that it does not name. Must never decide what may be taken back: that is the plan's.

use std::collections::BTreeMap;

use crate::server::{FORGOTTEN_SUBJECT, GROUP_SUBJECT, SERVER_SUBJECT};
use crate::{Commit, Filter, Store, StoreFault, SubjectChange};

/// Commits that are read at a time.
pub(crate) const PAGE: usize = 64;

/// The effect of a commit on a server that it does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Implied {
    /// Nothing: its group was made, or was removed with all that was said of its servers.
    Unsaid,
    /// The effect of this revision on its group was taken back.
    TakesBack(u64),
}

/// Returns what a commit says of a server that it does not name, if it changes the server's group.
pub(crate) fn implied(commit: &Commit, server: &SubjectChange) -> Option<Implied> {
    let (group, _) = server.named_server()?;
    let own = commit.subjects.iter().find(|one| one.subject == GROUP_SUBJECT && one.name == group)?;
    let is_forgotten =
        || commit.subjects.iter().any(|one| one.subject == FORGOTTEN_SUBJECT && one.name == group);
    match (own.undoes, &own.before, &own.after) {
        (Some(of), ..) => Some(Implied::TakesBack(of)),
        (None, None, Some(_)) => Some(Implied::Unsaid),
        _ => is_forgotten().then_some(Implied::Unsaid),
    }
}

/// The number of changes that a page has about.
const CHANGES: usize = 20_000;

/// Passes each commit newer than a revision, newest first, with the changes of its keys or without them.
pub(crate) fn each_newer(
    store: &mut dyn Store,
    revision: u64,
    with_keys: bool,
    mut each: impl FnMut(&Commit),
) -> Result<(), StoreFault> {
    let (after_revision, limit, max_changes) = (revision, PAGE, CHANGES);
    let mut filter = Filter { after_revision, limit, max_changes, with_keys, ..Filter::default() };
    loop {
        let page = store.history(&filter)?;
        page.iter().for_each(&mut each);
        match page.last() {
            Some(oldest) => filter.before_revision = Some(oldest.revision),
            None => return Ok(()),
        }
    }
}

/// Returns the servers of groups that a commit has made or removed which it does not name, and of which an older change was taken
/// back since: beneath the commit they are not what it found. Each is as it was when the commit was made.
pub(crate) fn lapsed(store: &mut dyn Store, commit: &Commit) -> Result<Vec<SubjectChange>, StoreFault> {
    let groups = commit.subjects.iter().filter(|one| one.subject == GROUP_SUBJECT);
    let groups: Vec<&str> = groups.map(|one| &*one.name).collect();
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let is_named =
        |name: &str| commit.subjects.iter().any(|one| one.subject == SERVER_SUBJECT && one.name == name);
    let mut found: BTreeMap<String, (Option<String>, bool)> = BTreeMap::new();
    each_newer(store, commit.revision, false, |newer| {
        for change in &newer.subjects {
            let is_own = change.named_server().is_some_and(|(group, _)| groups.contains(&group));
            if !is_own || is_named(&change.name) {
                continue;
            }
            let (value, is_lapsed) = found.entry(change.name.clone()).or_default();
            value.clone_from(&change.before);
            let is_older = change.undoes.is_some_and(|of| of < commit.revision);
            *is_lapsed |= is_older && change.before == change.after;
        }
    })?;
    let of = |(name, (value, _)): (String, (Option<String>, bool))| SubjectChange {
        subject: SERVER_SUBJECT.to_owned(),
        name,
        before: value.clone(),
        after: value,
        undoes: None,
    };
    Ok(found.into_iter().filter(|(_, (_, is_lapsed))| *is_lapsed).map(of).collect())
}
