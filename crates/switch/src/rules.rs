//! The configuration of a switch: its `switch {}` block, as far as an order needs it.
//!
//! Owns whether a table fits a configuration. Must never know how the configuration was written.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::{BaseGroup, Key, KeyFault, KeyKind, RunTimeRules, Shape, Table};

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
    /// The groups whose servers its orders may change. None but of the groups' own store.
    pub groups: Box<[BaseGroup]>,
    /// Groups that were made at run time. Those that a switch admits are among its targets.
    pub run_time: RunTimeRules,
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

    /// Checks that a key which gets an entry for the first time is probably meant. `sure`: the caller insists.
    ///
    /// # Errors
    /// A host that no client sends, always; unless `sure`, a regular expression, the host "default", and a key that is
    /// spelt like a target.
    pub fn doubt(&self, key: &Key, sure: bool) -> Result<(), KeyFault> {
        let text = key.as_str();
        let is_regex = text.starts_with('~');
        match self.kind {
            KeyKind::Host if is_regex => return Err(KeyFault::Regex),
            KeyKind::Host => {
                let in_hosts = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._*:[]%".contains(byte);
                if let Some(byte) = text.bytes().find(|byte| !in_hosts(byte)) {
                    return Err(KeyFault::BadByte(byte));
                }
            }
            KeyKind::Text => {}
        }
        if sure || key.shape() != Shape::Exact {
            return Ok(());
        }
        match text {
            _ if is_regex => Err(KeyFault::Regex),
            "default" if self.kind == KeyKind::Host => Err(KeyFault::Default),
            _ if self.target(text).is_some() => Err(KeyFault::LikeTarget),
            _ => Ok(()),
        }
    }

    /// Checks that the configuration has every target of a table. Called at load and at reload: a configuration that
    /// would leave keys without their target is refused.
    ///
    /// # Errors
    /// Every key with a missing target, ordered by key.
    pub fn admits(&self, table: &Table) -> Result<(), Vec<Orphan>> {
        if self.run_time.are_unknown {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn doubt(kind: KeyKind, text: &str, sure: bool) -> Option<KeyFault> {
        let targets: Vec<Arc<str>> = ["blue", "green"].map(Arc::from).into();
        let rules = Rules {
            name: "live".into(),
            default: Arc::clone(&targets[0]),
            targets: targets.into(),
            kind,
            max_keys: 1000,
            max_key_len: 64,
            groups: Box::default(),
            run_time: Default::default(),
        };
        rules.doubt(&Key::parse(kind, text.as_bytes(), 64).unwrap(), sure).err()
    }

    #[test]
    fn a_key_that_no_host_matches_is_refused() {
        for (text, fault) in [
            ("~^a", KeyFault::Regex),
            ("a\"b", KeyFault::BadByte(b'"')),
            ("<script>", KeyFault::BadByte(b'<')),
            ("a;b", KeyFault::BadByte(b';')),
            ("a$b", KeyFault::BadByte(b'$')),
        ] {
            assert_eq!(doubt(KeyKind::Host, text, false), Some(fault), "{text}");
            assert_eq!(doubt(KeyKind::Host, text, true), Some(fault), "{text}, forced");
        }
        for text in ["a_b-c.example", "*.example", "a.*", "*", "[fe80::1%25]", "10.0.0.1"] {
            assert_eq!(doubt(KeyKind::Host, text, false), None, "{text}");
        }
        assert_eq!(doubt(KeyKind::Text, "a;<\"b", false), None);
    }

    #[test]
    fn promise_10_a_key_that_is_probably_not_meant_needs_force() {
        for (kind, text, fault) in [
            (KeyKind::Host, "green", KeyFault::LikeTarget),
            (KeyKind::Text, "green", KeyFault::LikeTarget),
            (KeyKind::Host, "default", KeyFault::Default),
            (KeyKind::Text, "~^a", KeyFault::Regex),
        ] {
            assert_eq!(doubt(kind, text, false), Some(fault), "{text}");
            assert_eq!(doubt(kind, text, true), None, "{text}, forced");
        }
        assert_eq!(doubt(KeyKind::Text, "default", false), None);
    }
}
