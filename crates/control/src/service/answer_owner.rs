//! Whose answers are whose: of several commits that are watched, the one that routed a request.
//!
//! Owns the rule alone. Must never: count.

use crate::data_plane::Watch;
use statistics::Answered;
use std::sync::Arc;

/// A commit whose answers are told from those of others.
#[derive(Clone)]
pub(super) struct WatchedCommit {
    pub(super) switch: Arc<str>,
    pub(super) watch: Arc<Watch>,
}

impl WatchedCommit {
    /// Returns its revision.
    pub(super) fn revision(&self) -> u64 {
        self.watch.after.revision()
    }
}

/// Whose answers they are.
pub(super) enum Owner {
    /// This commit's.
    Commit(u64),
    /// One of these, and perhaps of none.
    Unclear(Vec<u64>),
}

/// Finds the commit that routed these requests: the newest that changed the key and that they can have followed. Commits
/// are in their order.
pub(super) fn owner(commits: &[WatchedCommit], side: &Answered<'_>) -> Owner {
    let upto = commits.partition_point(|commit| commit.revision() <= side.revision);
    let known = &commits[..upto];
    if let Some(key) = side.key {
        let own = known.iter().rev().find(|commit| commit.watch.concerns(key));
        return own.map_or(Owner::Unclear(Vec::new()), |commit| Owner::Commit(commit.revision()));
    }
    // Of entries, the revision says it; what got another route because an entry was removed needs the key.
    match known.last() {
        Some(last) if last.revision() == side.revision && !last.watch.removes() => {
            Owner::Commit(side.revision)
        }
        _ => {
            let open = known.iter().filter(|commit| commit.watch.reaches_further());
            Owner::Unclear(open.map(WatchedCommit::revision).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statistics::Answers;
    use switch::{Key, KeyKind, Route, Table};

    fn key(text: &str) -> Key {
        Key::parse(KeyKind::Host, text.as_bytes(), 255).unwrap()
    }

    type Entries<'a> = &'a [(&'a str, &'a str, u64)];

    /// Returns a commit that has changed these keys, with the table after it.
    fn commit(revision: u64, before: Entries<'_>, after: Entries<'_>, changes: &[&str]) -> WatchedCommit {
        let table = |revision, entries: Entries<'_>| {
            let entries = entries.iter().map(|&(name, to, by)| (key(name), Route::parse(to).unwrap(), by));
            Arc::new(Table::from_entries(revision, entries))
        };
        let watch = Watch {
            id: revision,
            switch: 0,
            before: table(revision - 1, before),
            after: table(revision, after),
            changes: changes.iter().map(|name| key(name)).collect(),
        };
        WatchedCommit { switch: "live".into(), watch: Arc::new(watch) }
    }

    #[test]
    fn promise_8_an_answer_belongs_to_the_newest_commit_that_routed_it() {
        let (target, answers) = (Arc::from("green"), Answers::default());
        let side = |key: Option<&'static str>, revision| {
            let side = Answered { key: key.map(str::as_bytes), target: &target, revision, answers: &answers };
            (revision, side)
        };
        let commits = [
            commit(3, &[], &[("*.example", "green", 3)], &["*.example"]),
            commit(5, &[], &[("a.example", "green", 5)], &["a.example"]),
            // Removed again: it falls back to the wildcard of revision 3.
            commit(7, &[("a.example", "green", 5)], &[], &["a.example"]),
        ];
        for (key, revision, expected) in [
            (Some("b.example"), 3, Some(3)),
            (Some("a.example"), 3, Some(3)),
            (Some("a.example"), 5, Some(5)),
            (Some("a.example"), 7, Some(7)),
            // Revision 7 has not changed this one, although it may have.
            (Some("b.example"), 7, Some(3)),
            (Some("other"), 7, None),
            (Some("b.example"), 2, None),
            (None, 3, Some(3)),
            (None, 5, Some(5)),
        ] {
            let (_, side) = side(key, revision);
            match owner(&commits, &side) {
                Owner::Commit(found) => assert_eq!(Some(found), expected, "{key:?} {revision}"),
                Owner::Unclear(unclear) => {
                    assert!(expected.is_none() && unclear.is_empty(), "{key:?} {revision}: {unclear:?}");
                }
            }
        }
        for (revision, expected) in [(4, vec![3]), (7, vec![3, 7])] {
            let (_, side) = side(None, revision);
            let Owner::Unclear(unclear) = owner(&commits, &side) else { panic!("{revision}") };
            assert_eq!(unclear, expected, "{revision}");
        }
    }
}
