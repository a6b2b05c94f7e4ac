//! The groups whose servers are others than the configuration's: one immutable value, published as a whole.
//!
//! Owns: which group a name means, without regard to case, as for the names of blocks. Must never: change while it is shared;
//! each change is a new value, which shares what did not change.

use std::sync::Arc;

use sorted::SortedMap;

use crate::spec::GroupSpec;

/// A group whose servers were changed while it serves, or that was made at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSet {
    /// Its settings with the servers that are in force, complete: the ring of `hash … consistent` is made.
    pub spec: Arc<GroupSpec>,
    /// For a group that no block has: the group of the configuration whose other settings it has, those that a [`GroupSpec`]
    /// does not hold (the key of `hash`, `zone`).
    pub like: Option<Arc<str>>,
}

/// All of them, by their names in lower case. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct GroupSets(SortedMap<Arc<[u8]>, GroupSet>);

impl GroupSets {
    /// Returns the group of this name.
    pub fn get(&self, name: &[u8]) -> Option<&GroupSet> {
        // A name in lower case, nearly every one, is looked up without a copy.
        match name.iter().any(u8::is_ascii_uppercase) {
            true => self.0.get(&*name.to_ascii_lowercase()),
            false => self.0.get(name),
        }
    }

    /// Returns these sets with this group in them, in the place of one of the same name.
    #[must_use]
    pub fn with(&self, set: GroupSet) -> GroupSets {
        let mut sets = self.clone();
        sets.0.insert(name_of(&set), set);
        sets
    }

    /// Returns these sets without the group of this name: it has the configuration's servers again, or is gone.
    #[must_use]
    pub fn without(&self, name: &[u8]) -> GroupSets {
        let mut sets = self.clone();
        sets.0.remove(&*name.to_ascii_lowercase());
        sets
    }

    /// Returns the groups, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &GroupSet> {
        self.0.iter().map(|(_, set)| set)
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names, in lower case, of the groups that are others than before, each with what it is now: none if it is
    /// no longer here. Costs as much as differs, however many groups there are.
    pub fn changes_since<'a>(&'a self, before: &'a GroupSets) -> Vec<(&'a [u8], Option<&'a GroupSet>)> {
        let mut changes = Vec::new();
        self.0.differences(&before.0, |name, old, new| match (old, new) {
            (Some(old), Some(new)) if old.is_same(new) => {}
            _ => changes.push((&**name, new)),
        });
        changes
    }
}

fn name_of(set: &GroupSet) -> Arc<[u8]> {
    set.spec.name.to_ascii_lowercase().into_bytes().into()
}

impl GroupSet {
    fn is_same(&self, other: &GroupSet) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec) && self.like == other.like
    }
}

impl FromIterator<GroupSet> for GroupSets {
    /// Of two groups of one name the later stays.
    fn from_iter<I: IntoIterator<Item = GroupSet>>(sets: I) -> GroupSets {
        GroupSets(sets.into_iter().map(|set| (name_of(&set), set)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BalancerSpec, KeepaliveSpec, Ring};

    fn set(name: &str) -> GroupSet {
        let spec = GroupSpec {
            name: name.into(),
            peers: Vec::new(),
            balancer: BalancerSpec::default(),
            keepalive: KeepaliveSpec::OFF,
            ring: Ring::default(),
        };
        GroupSet { spec: Arc::new(spec), like: None }
    }

    #[test]
    fn names_are_found_without_regard_to_case_and_replaced_by_it() {
        let sets = GroupSets::default().with(set("Blue")).with(set("green"));
        let name = |name: &str| sets.get(name.as_bytes()).map(|set| set.spec.name.as_str());
        assert_eq!(
            (name("blue"), name("BLUE"), name("green"), name("red")),
            (Some("Blue"), Some("Blue"), Some("green"), None)
        );
        let other = sets.with(set("bluE"));
        assert_eq!((sets.iter().count(), other.iter().count()), (2, 2));
        assert!(Arc::ptr_eq(&other.get(b"green").unwrap().spec, &sets.get(b"green").unwrap().spec));
        assert_eq!(other.without(b"BLUE").without(b"green").iter().count(), 0);
        assert!(other.without(b"BLUE").without(b"green").is_empty());
    }

    #[test]
    fn a_diff_lists_exactly_the_differences() {
        let sets: GroupSets = ["a", "b", "d"].map(set).into_iter().collect();
        let changes = |now: &GroupSets| -> Vec<(String, bool)> {
            let changes = now.changes_since(&sets).into_iter();
            changes.map(|(name, set)| (String::from_utf8(name.to_vec()).unwrap(), set.is_some())).collect()
        };
        assert_eq!(changes(&sets.clone()), []);
        let same = sets.iter().cloned().collect();
        assert_eq!(changes(&same), [], "another value of the same groups");
        let is = |names: &[(&str, bool)]| {
            names.iter().map(|(name, here)| ((*name).to_owned(), *here)).collect::<Vec<_>>()
        };
        assert_eq!(
            changes(&sets.without(b"A").with(set("B")).with(set("c"))),
            is(&[("a", false), ("b", true), ("c", true)])
        );
        assert_eq!(changes(&GroupSets::default()), is(&[("a", false), ("b", false), ("d", false)]));
        assert_eq!(GroupSets::default().changes_since(&GroupSets::default()).len(), 0);
        let like = GroupSet { like: Some("x".into()), ..sets.get(b"d").unwrap().clone() };
        assert_eq!(changes(&sets.with(like).with(set("e"))), is(&[("d", true), ("e", true)]));
    }
}
