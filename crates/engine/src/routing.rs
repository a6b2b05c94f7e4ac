//! What the control plane publishes to the threads: where keys go, and the servers of the groups they go to.
//!
//! Owns that it is one value: a request that a switch sends to a group finds that group as it was when the table was in force.

use switch::Tables;
use upstream::GroupSets;

/// One publication. Immutable; its number is that of its tables.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// The tables of the switches, and the holds.
    pub tables: Tables,
    /// The groups whose servers are others than the configuration's.
    pub groups: GroupSets,
}

impl From<Tables> for Routing {
    /// Makes a publication in which every group has the configuration's servers.
    fn from(tables: Tables) -> Routing {
        Routing { tables, groups: GroupSets::default() }
    }
}
