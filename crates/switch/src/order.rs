//! A request to change a switch.
//!
//! Owns the shape of an order. Whether it can be carried out is for the plan to say.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::{
    Change, Commit, CommitKind, GROUP_SUBJECT, GroupOrder, GroupVerb, Key, Route, ServerOrder, Undoing,
};

/// An order to one switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The action.
    pub action: Action,
    /// Who orders it, why, and under which conditions.
    pub meta: Meta,
}

/// The action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give these keys these routes; `None` is back to the default. All or none.
    Set(Vec<(Key, Option<Route>)>),
    /// Take back a commit, or the last change of each of some keys ([`Undoing::of_commit`], [`Undoing::of_keys`]).
    Undo(Undoing),
    /// Make this target the default: the configuration says so now.
    Default {
        /// What it said before, if the table does not know.
        former: Arc<str>,
        /// What it says now.
        target: Arc<str>,
    },
    /// Keep the commit of this revision.
    Confirm(u64),
    /// Take back a commit that was not confirmed in time. Keys that were changed since keep the later decision.
    Revert(Undoing),
    /// Change servers of groups. All or none.
    Servers(Vec<ServerOrder>),
    /// Make or remove a group.
    Group(GroupOrder),
}

/// Who orders it, why, and under which conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Who: at least one character.
    pub actor: String,
    /// Why, in the actor's words.
    pub reason: Option<String>,
    /// Only if the table is at this revision.
    pub expect: Option<u64>,
    /// Only if each of its keys is so, whatever happened to others.
    pub expect_keys: Vec<Expected>,
    /// Only if these of its keys are so.
    pub expect_each: Vec<(Key, Expected)>,
    /// The caller's own name for the order, so that the same order twice is one commit.
    pub idempotency: Option<String>,
    /// Override the gate, and changes newer than what is undone. Recorded.
    pub force: bool,
    /// Take it back after this time unless it is confirmed.
    pub confirm_within_ms: Option<u64>,
    /// Count the answers to the requests that it moves for this time, not for the one that the switch has.
    pub watch_ms: Option<u64>,
}

/// The state in which an order expects each of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The revision of its own entry; 0 for none.
    Revision(u64),
    /// Its requests follow this route: its entry's, a wildcard's or the default's.
    Route(Route),
    /// It has no entry of its own.
    NoEntry,
}

impl Order {
    /// Returns the keys that it names.
    pub fn keys(&self) -> Vec<&Key> {
        match &self.action {
            Action::Set(keys) => keys.iter().map(|(key, _)| key).collect(),
            Action::Undo(undoing) | Action::Revert(undoing) => {
                undoing.keys().iter().map(|undone| &undone.key).chain(undoing.missing()).collect()
            }
            Action::Confirm(_) | Action::Default { .. } | Action::Servers(_) | Action::Group(_) => Vec::new(),
        }
    }

    /// Returns true if groups may come or go by it.
    pub fn touches_groups(&self) -> bool {
        match &self.action {
            Action::Group(_) => true,
            Action::Undo(undoing) | Action::Revert(undoing) => {
                undoing.subjects().iter().any(|one| one.subject == GROUP_SUBJECT)
            }
            _ => false,
        }
    }

    /// Returns the groups that it may remove, in lower case: nothing may lead there then.
    pub fn leaving_groups(&self) -> Vec<String> {
        match &self.action {
            Action::Group(GroupOrder { group, verb: GroupVerb::Remove }) => vec![group.to_ascii_lowercase()],
            Action::Undo(undoing) | Action::Revert(undoing) => {
                let groups = undoing.subjects().iter().filter(|one| one.subject == GROUP_SUBJECT);
                groups.map(|one| one.name.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns true if this order may have made this commit. Asked about a commit with the order's idempotency key: if
    /// not, the key was used for something else.
    ///
    /// Keys of the order that already had their route are in no commit, so their presence cannot be checked.
    pub fn may_have_made(&self, commit: &Commit) -> bool {
        self.meta.actor == commit.actor
            && match &self.action {
                Action::Set(keys) => {
                    let ordered: HashMap<&Key, &Option<Route>, foldhash::fast::RandomState> =
                        keys.iter().map(|(key, route)| (key, route)).collect();
                    let is_ordered = |change: &Change| ordered.get(&change.key) == Some(&&change.after);
                    commit.kind == CommitKind::Set && commit.changes.iter().all(is_ordered)
                }
                Action::Undo(undoing) => match undoing.of() {
                    Some(of) => commit.kind == CommitKind::Undo { of },
                    None => {
                        let named: HashSet<&Key, foldhash::fast::RandomState> =
                            self.keys().into_iter().collect();
                        commit.kind == CommitKind::UndoKeys
                            && commit.changes.iter().all(|change| named.contains(&change.key))
                    }
                },
                Action::Servers(orders) => {
                    commit.kind == CommitKind::Server
                        && commit
                            .subjects
                            .iter()
                            .all(|change| orders.iter().any(|order| order.may_have_made(change)))
                }
                Action::Group(order) => {
                    commit.kind == CommitKind::Group
                        && commit.subjects.iter().all(|change| order.may_have_made(change))
                }
                Action::Default { .. } => commit.kind == CommitKind::Default,
                Action::Confirm(of) => commit.kind == CommitKind::Confirm { of: *of },
                Action::Revert(undoing) => {
                    undoing.of().is_some_and(|of| commit.kind == CommitKind::Revert { of })
                }
            }
    }
}
