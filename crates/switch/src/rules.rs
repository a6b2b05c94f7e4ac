//! The configuration of a switch: its `switch {}` block, as far as an order needs it.
//!
//! Owns whether a table fits a configuration. Must never know how the configuration was written.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::{Key, KeyKind, Table};

/// The rules of one switch, made at load by the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The variable without its `$`; the switch's name everywhere.
    pub name: Box<str>,
    /// The target of keys without an entry. One of the targets.
    pub default: Arc<str>,
    /// The only names a route may hold.
    pub targets: Box<[Arc<str>]>,
    /// The kind of its keys.
    pub kind: KeyKind,
    /// `keys max=`: how many keys may have an entry.
    pub max_keys: usize,
    /// `keys length=`: how long a key may be, in bytes.
    pub max_key_len: usize,
}

/// A key whose target is not in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The key.
    pub key: Key,
    /// The missing target.
    pub target: Arc<str>,
}

impl Rules {
    /// Returns the target of this name, as the configuration holds it.
    pub fn target(&self, name: &str) -> Option<&Arc<str>> {
        self.targets.iter().find(|target| &***target == name)
    }

    /// Checks that the configuration has every target of a table. Called at load and at reload: a configuration that
    /// would leave keys without their target is refused.
    ///
    /// # Errors
    /// Every key with a missing target, ordered by key.
    pub fn admits(&self, table: &Table) -> Result<(), Vec<Orphan>> {
        let known: HashSet<&str, foldhash::fast::RandomState> = self.targets.iter().map(|t| &**t).collect();
        let mut orphans: Vec<Orphan> = table
            .iter()
            .flat_map(|(key, entry)| entry.route.targets().map(move |target| (key, target)))
            .filter(|(_, target)| !known.contains(&***target))
            .map(|(key, target)| Orphan { key: key.clone(), target: Arc::clone(target) })
            .collect();
        if orphans.is_empty() {
            return Ok(());
        }
        orphans.sort_by(|a, b| a.key.cmp(&b.key));
        Err(orphans)
    }
}
