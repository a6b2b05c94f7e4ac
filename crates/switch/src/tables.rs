//! The publication to the workers: the tables of all switches, and the holds.
//!
//! Owns that it is one value: a request sees all of one publication or nothing of it.

use std::sync::Arc;

use crate::{Hold, Key, Refusal, Table};

/// One publication. Immutable; the next one shares what did not change.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// In the order of the configuration's switches.
    pub tables: Box<[Arc<Table>]>,
    /// Nearly always none.
    pub holds: Box<[Arc<Hold>]>,
    /// Goes up at each publication.
    pub number: u64,
}

impl Tables {
    /// Returns the next publication, with another table of one switch. A switch that is not there changes nothing.
    #[must_use]
    pub fn with_table(&self, switch: usize, table: Arc<Table>) -> Tables {
        let mut next = self.next();
        if let Some(place) = next.tables.get_mut(switch) {
            *place = table;
        }
        next
    }

    /// Returns the next publication, in which nothing has changed but what its holds do.
    #[must_use]
    pub fn again(&self) -> Tables {
        self.next()
    }

    /// Returns the next publication, with one hold more.
    ///
    /// # Errors
    /// `hold_exists`: the key of this switch is held already.
    pub fn with_hold(&self, hold: Arc<Hold>) -> Result<Tables, Refusal> {
        if self.hold(hold.switch(), hold.key()).is_some() {
            return Err(Refusal::hold_exists(hold.key()));
        }
        let mut next = self.next();
        next.holds = self.holds.iter().cloned().chain([hold]).collect();
        Ok(next)
    }

    /// Returns the next publication, without the hold on this key, and the hold, to release it.
    ///
    /// # Errors
    /// `not_held`: there is none.
    pub fn without_hold(&self, switch: usize, key: &Key) -> Result<(Tables, Arc<Hold>), Refusal> {
        let Some(hold) = self.hold(switch, key).cloned() else { return Err(Refusal::not_held(key)) };
        let mut next = self.next();
        next.holds = self.holds.iter().filter(|other| !Arc::ptr_eq(other, &hold)).cloned().collect();
        Ok((next, hold))
    }

    /// Returns the hold on this very key.
    pub fn hold(&self, switch: usize, key: &Key) -> Option<&Arc<Hold>> {
        self.holds.iter().find(|hold| hold.switch() == switch && hold.key() == key)
    }

    /// Returns the index of the hold for which a request with this key (normalised) must wait.
    ///
    /// A hold on a wildcard stops what the wildcard's entry would serve: a key with a more exact entry goes on.
    pub fn held(&self, switch: usize, normalised: &[u8]) -> Option<usize> {
        // Nearly always empty: then this costs one comparison.
        self.holds.iter().position(|hold| {
            hold.switch() == switch
                && hold.key().covers(normalised)
                && !self
                    .tables
                    .get(switch)
                    .and_then(|table| table.find_key(normalised))
                    .is_some_and(|(found, _)| found.precedes(hold.key()))
        })
    }

    fn next(&self) -> Tables {
        Tables { number: self.number + 1, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HoldLimits, KeyKind, Route};

    fn key(text: &str) -> Key {
        Key::parse(KeyKind::Host, text.as_bytes(), 64).unwrap()
    }

    fn hold(switch: usize, text: &str) -> Arc<Hold> {
        Hold::new(switch, key(text), HoldLimits { max: 1, timeout_ms: 1, max_bytes: 1 })
    }

    fn tables(keys: &[&str]) -> Tables {
        let entries = keys.iter().map(|text| (key(text), Route::One("green".into()), 1));
        let other = Arc::new(Table::default());
        Tables { tables: [Arc::new(Table::from_entries(1, entries)), other].into(), ..Tables::default() }
    }

    #[test]
    fn each_publication_has_the_next_number_and_shares_the_rest() {
        let first = tables(&["a"]);
        let second = first.with_table(1, Arc::new(Table::from_entries(5, [])));
        assert_eq!((first.number, second.number), (0, 1));
        assert!(Arc::ptr_eq(&first.tables[0], &second.tables[0]));
        assert_eq!((first.tables[1].revision(), second.tables[1].revision()), (0, 5));
        let third = second.with_hold(hold(0, "a")).unwrap();
        assert_eq!((third.number, third.holds.len()), (2, 1));
        let (fourth, released) = third.without_hold(0, &key("a")).unwrap();
        assert_eq!((fourth.number, fourth.holds.len(), released.key()), (3, 0, &key("a")));
    }

    #[test]
    fn a_hold_stops_what_its_entry_would_serve() {
        let held = |keys: &[&str], on: &str, text: &str| {
            tables(keys).with_hold(hold(0, on)).unwrap().held(0, text.as_bytes()).is_some()
        };
        assert!(held(&[], "a.b", "a.b") && held(&["a.b"], "a.b", "a.b") && !held(&[], "a.b", "x.b"));
        assert!(held(&[], "*.b", "a.b") && held(&["*.b"], "*.b", "a.b"));
        assert!(!held(&["a.b"], "*.b", "a.b"), "it has an entry of its own");
        assert!(held(&["a.*", "*"], "*.b", "a.b"), "less exact entries do not count");
        assert!(!held(&["*.a.b"], "*.b", "x.a.b") && held(&["*.b"], "*.a.b", "x.a.b"));
        assert!(held(&["c"], "*", "a.b") && !held(&["c"], "*", "c"));
        let two = tables(&[]).with_hold(hold(1, "x")).unwrap().with_hold(hold(1, "y")).unwrap();
        assert_eq!((two.held(1, b"y"), two.held(0, b"y")), (Some(1), None), "holds are one switch's");
        assert_eq!(tables(&["a"]).held(0, b"a"), None);
    }
}
