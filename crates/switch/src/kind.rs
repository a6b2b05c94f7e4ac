//! The kinds of commits.
//!
//! Owns their names, which are on disk: a name never changes its meaning. Must never forget a kind that it does not know:
//! a newer program may have written it, and its commit is still part of the chain.
//!
//! To add a kind: add a variant, its name in [`CommitKind::name`] and in [`CommitKind::from_parts`], and say in its text
//! which subjects it changes ([`crate::SubjectChange`]). Nothing else knows the list, and neither form nor file changes:
//! what a commit *does* to the table follows from its changes alone, so that a program that does not know the kind has
//! the same table. A kind that settles a pending commit, or skips revisions, is another matter: it needs a new format.

use std::fmt;
use std::sync::Arc;

/// The kind of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitKind {
    /// Keys were set, or reset to the default.
    Set,
    /// A whole commit was taken back.
    Undo {
        /// The revision that was taken back.
        of: u64,
    },
    /// The last change of each of some keys was taken back; which, says [`crate::Change::undoes`].
    UndoKeys,
    /// A commit was confirmed. It changes no key.
    Confirm {
        /// The revision that was confirmed.
        of: u64,
    },
    /// A commit that was not confirmed in time was taken back.
    Revert {
        /// The revision that was taken back.
        of: u64,
    },
    /// The default was changed (subject `default`).
    Default,
    /// Keys were held (subject `hold`).
    Hold,
    /// Keys were released (subject `hold`).
    Release,
    /// A server of a group was changed (subject `server`).
    Server,
    /// A group was changed (subject `group`).
    Group,
    /// The table of a switch of another name was adopted (subject `adopt`).
    Adopt,
    /// The store was restored from a backup: the history before this commit is the backup's. Revisions may be missing
    /// before it, so that no revision is used twice.
    Restore,
    /// A kind that this version does not know, by its name.
    Other {
        /// Its name.
        name: Arc<str>,
        /// The revision it is about.
        of: Option<u64>,
    },
}

impl CommitKind {
    /// Returns its stable name.
    pub fn name(&self) -> &str {
        match self {
            CommitKind::Set => "set",
            CommitKind::Undo { .. } => "undo",
            CommitKind::UndoKeys => "undo_keys",
            CommitKind::Confirm { .. } => "confirm",
            CommitKind::Revert { .. } => "revert",
            CommitKind::Default => "default",
            CommitKind::Hold => "hold",
            CommitKind::Release => "release",
            CommitKind::Server => "server",
            CommitKind::Group => "group",
            CommitKind::Adopt => "adopt",
            CommitKind::Restore => "restore",
            CommitKind::Other { name, .. } => name,
        }
    }

    /// Returns the revision it is about.
    pub fn of(&self) -> Option<u64> {
        match *self {
            CommitKind::Undo { of } | CommitKind::Confirm { of } | CommitKind::Revert { of } => Some(of),
            CommitKind::Other { of, .. } => of,
            _ => None,
        }
    }

    /// Builds it from [`CommitKind::name`] and [`CommitKind::of`], for stores. What does not fit together is a kind that
    /// this version does not know.
    pub fn from_parts(name: &str, of: Option<u64>) -> CommitKind {
        match (name, of) {
            ("set", None) => CommitKind::Set,
            ("undo_keys", None) => CommitKind::UndoKeys,
            ("undo", Some(of)) => CommitKind::Undo { of },
            ("confirm", Some(of)) => CommitKind::Confirm { of },
            ("revert", Some(of)) => CommitKind::Revert { of },
            ("default", None) => CommitKind::Default,
            ("hold", None) => CommitKind::Hold,
            ("release", None) => CommitKind::Release,
            ("server", None) => CommitKind::Server,
            ("group", None) => CommitKind::Group,
            ("adopt", None) => CommitKind::Adopt,
            ("restore", None) => CommitKind::Restore,
            (name, of) => CommitKind::Other { name: name.into(), of },
        }
    }

    /// Returns true if this version knows it.
    pub fn is_known(&self) -> bool {
        !matches!(self, CommitKind::Other { .. })
    }

    /// Returns the pending commit that it settles, if that was pending.
    pub fn settles(&self) -> Option<u64> {
        match *self {
            CommitKind::Undo { of } | CommitKind::Confirm { of } | CommitKind::Revert { of } => Some(of),
            _ => None,
        }
    }

    /// Returns its byte in form 1 of a commit, if that form has it.
    pub(crate) fn form_1(&self) -> Option<u8> {
        Some(match self {
            CommitKind::Set => 0,
            CommitKind::Undo { .. } => 1,
            CommitKind::UndoKeys => 2,
            CommitKind::Confirm { .. } => 3,
            CommitKind::Revert { .. } => 4,
            _ => return None,
        })
    }
}

impl fmt::Display for CommitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_from_its_parts() {
        let kinds = [
            CommitKind::Set,
            CommitKind::Undo { of: 1 },
            CommitKind::UndoKeys,
            CommitKind::Confirm { of: 2 },
            CommitKind::Revert { of: 3 },
            CommitKind::Default,
            CommitKind::Hold,
            CommitKind::Release,
            CommitKind::Server,
            CommitKind::Group,
            CommitKind::Adopt,
            CommitKind::Restore,
        ];
        for kind in kinds {
            assert_eq!(CommitKind::from_parts(kind.name(), kind.of()), kind);
            // With another revision it is not the same thing, and is kept as what it is.
            let other = CommitKind::from_parts(kind.name(), kind.of().xor(Some(9)));
            assert_eq!(
                (other.name(), other.of(), other.is_known()),
                (kind.name(), kind.of().xor(Some(9)), false)
            );
        }
        let newer = CommitKind::from_parts("promote", Some(4));
        assert_eq!((newer.name(), newer.of(), newer.settles()), ("promote", Some(4), None));
    }
}
