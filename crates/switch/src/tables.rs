//! What is published to the workers: the tables of all switches, and the holds.
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
    /// The next publication, with another table of one switch. A switch that is not there changes nothing.
    #[must_use]
    pub fn with_table(&self, switch: usize, table: Arc<Table>) -> Tables {
        let mut next = self.next();
        if let Some(place) = next.tables.get_mut(switch) {
            *place = table;
        }
        next
    }

    /// The next publication, with one hold more.
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

    /// The next publication, without the hold on this key, and the hold, to release it.
    ///
    /// # Errors
    /// `not_held`: there is none.
    pub fn without_hold(&self, switch: usize, key: &Key) -> Result<(Tables, Arc<Hold>), Refusal> {
        let Some(hold) = self.hold(switch, key).cloned() else { return Err(Refusal::not_held(key)) };
        let mut next = self.next();
        next.holds = self.holds.iter().filter(|other| !Arc::ptr_eq(other, &hold)).cloned().collect();
        Ok((next, hold))
    }

    /// The hold on this very key.
    pub fn hold(&self, switch: usize, key: &Key) -> Option<&Arc<Hold>> {
        self.holds.iter().find(|hold| hold.switch() == switch && hold.key() == key)
    }

    /// Must a request with this key (in its one form) wait? Gives the index of the hold.
    ///
    /// A hold on a wildcard stops what the wildcard's entry would serve: a key that has a more exact entry goes on.
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
