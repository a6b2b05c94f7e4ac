//! Servers that are looked up while their groups serve: names, files, registries.
//!
//! Owns the asking, when it is done again, what is believed of it, and the last good sets on disk. Must never publish: what is
//! believed is the service's to publish.
//!
//! What is looked up is an observation, not an order: it has no gate, no revision and no undo.

mod belief;
mod file;
mod kept;
mod list;
mod looked_up;
mod lookup;
mod name;
mod schedule;
mod summary;
mod url;

pub(crate) use belief::{Beliefs, News};
pub(crate) use kept::Kept;
pub(crate) use looked_up::{FoundServers, LookedUp};
pub(crate) use lookup::{Lookup, first_looks};
pub(crate) use schedule::Schedule;
pub(crate) use summary::Summaries;
pub(crate) use url::AbortOnDrop;
