//! A set of field names, made at load and asked for every field.
//!
//! Owns the comparison without regard to case. Must never allocate while it is asked.

use http::Known;

/// A set of field names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameSet {
    known: u128,
    others: Vec<Box<[u8]>>,
}

impl NameSet {
    /// Returns the set of these names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> NameSet {
        let mut set = NameSet::default();
        names.into_iter().for_each(|name| set.insert(name));
        set
    }

    /// Adds a name.
    pub fn insert(&mut self, name: &[u8]) {
        match Known::from_bytes(name) {
            Some(known) => self.known |= bit(known),
            None if self.contains(None, name) => {}
            None => self.others.push(name.into()),
        }
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &[u8]) {
        match Known::from_bytes(name) {
            Some(known) => self.known &= !bit(known),
            None => self.others.retain(|other| !other.eq_ignore_ascii_case(name)),
        }
    }

    /// Returns whether the set has the name, given its number if it is a known one.
    #[inline]
    pub fn contains(&self, known: Option<Known>, name: &[u8]) -> bool {
        match known {
            Some(known) => self.known & bit(known) != 0,
            None => self.others.iter().any(|other| other.eq_ignore_ascii_case(name)),
        }
    }

    /// Returns the known names in the set, as bits.
    #[inline]
    pub(super) fn known(&self) -> u128 {
        self.known
    }

    /// Returns whether the set has the known name.
    #[inline]
    pub fn has(&self, known: Known) -> bool {
        self.known & bit(known) != 0
    }
}

/// Returns a known name's bit. There are fewer than 128 of them: `http` asserts it.
#[inline]
pub(super) const fn bit(known: Known) -> u128 {
    1 << (known as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter() {
        let mut set = NameSet::of([&b"x-POWERED-by"[..], b"X-Mine"]);
        let holds =
            |set: &NameSet, name: &str| set.contains(Known::from_bytes(name.as_bytes()), name.as_bytes());
        assert!(holds(&set, "X-Powered-By") && holds(&set, "x-mine"));
        assert!(!holds(&set, "X-Mined") && !holds(&set, "Server"));
        set.remove(b"X-MINE");
        set.remove(b"X-Powered-By");
        assert_eq!(set, NameSet::default());
    }
}
