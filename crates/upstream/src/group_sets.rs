//! The groups whose servers are others than the configuration's: one immutable value, published as a whole.
//!
//! Owns: which group a name means, without regard to case, as for the names of blocks. Must never: change while it is shared;
//! each change is a new value, which shares what did not change.

use std::collections::HashMap;
use std::sync::Arc;

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

/// All of them, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct GroupSets(Option<Arc<HashMap<Box<[u8]>, GroupSet>>>);

impl GroupSets {
    /// Returns the group of this name.
    pub fn get(&self, name: &[u8]) -> Option<&GroupSet> {
        let sets = self.0.as_ref()?;
        // A name in small letters, nearly every one, is looked up without a copy.
        match sets.get(name) {
            None if name.iter().any(u8::is_ascii_uppercase) => sets.get(&*name.to_ascii_lowercase()),
            found => found,
        }
    }

    /// Returns these sets with this group in them, in the place of one of the same name.
    #[must_use]
    pub fn with(&self, set: GroupSet) -> GroupSets {
        self.iter().map(|(_, set)| set.clone()).chain([set]).collect()
    }

    /// Returns these sets without the group of this name: it has the configuration's servers again, or is gone.
    #[must_use]
    pub fn without(&self, name: &[u8]) -> GroupSets {
        let name = name.to_ascii_lowercase();
        self.iter().filter(|(known, _)| *known != name).map(|(_, set)| set.clone()).collect()
    }

    /// Returns the groups with their names in lower case, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &GroupSet)> {
        self.0.iter().flat_map(|sets| sets.iter().map(|(name, set)| (&**name, set)))
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns true if both are the same value, not merely equal.
    pub fn is_same(&self, other: &GroupSets) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }
}

impl FromIterator<GroupSet> for GroupSets {
    /// Of two groups of one name the later stays.
    fn from_iter<I: IntoIterator<Item = GroupSet>>(sets: I) -> GroupSets {
        let named = |set: GroupSet| (set.spec.name.to_ascii_lowercase().into_bytes().into(), set);
        let sets: HashMap<_, _> = sets.into_iter().map(named).collect();
        GroupSets((!sets.is_empty()).then(|| Arc::new(sets)))
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
    fn the_same_value_is_recognised() {
        let sets = GroupSets::default().with(set("blue"));
        assert!(sets.is_same(&sets.clone()) && GroupSets::default().is_same(&GroupSets::default()));
        assert!(
            !sets.is_same(&GroupSets::default()) && !sets.is_same(&GroupSets::default().with(set("blue")))
        );
    }
}
