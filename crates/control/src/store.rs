//! How the tables and histories of switches are kept.
//!
//! Owns: the stores and the thread each of them has. Must never: decide what is committed; that is the switch's plan.
//!
//! [`SqliteStore`] is a file for each switch. What a store must promise is [`switch::Store`]; [`Keep`] adds what the
//! control plane alone needs.

mod fault;
mod memory;
mod opening;
mod receipts;
mod rows;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;
mod thread;
mod wal;

pub use memory::MemoryKeep;
pub use sqlite::SqliteStore;
pub(crate) use thread::StoreThread;

use switch::{Commit, KeyKind, Store, StoreFault};

/// How many receipts a store keeps.
pub const RECEIPTS_KEPT: usize = 1000;

/// What the control plane needs of a store beyond [`Store`].
pub trait Keep: Store {
    /// What the keys are that the store was made for.
    fn key_kind(&self) -> KeyKind;
    /// Takes other keys, which it can only before the first commit. Says whether it did.
    ///
    /// # Errors
    /// The store cannot be written.
    fn rekey(&mut self, kind: KeyKind) -> Result<bool, StoreFault>;
    /// At most `limit` commits after this revision, oldest first: to go through a history that is too long to hold. Each of
    /// their changes is also looked for where a key's history is looked up.
    ///
    /// # Errors
    /// The store cannot be read.
    fn page(&mut self, after: u64, limit: usize) -> Result<Vec<Commit>, StoreFault>;
    /// Keeps a receipt (JSON) instead of the one there is for this revision. It need not be durable: the history is the
    /// record. At most [`RECEIPTS_KEPT`] of the newest are kept.
    fn keep_receipt(&mut self, revision: u64, receipt: String);
    /// A receipt.
    ///
    /// # Errors
    /// The store cannot be read.
    fn receipt(&mut self, revision: u64) -> Result<Option<String>, StoreFault>;
    /// Somebody else, such as the process that a binary upgrade replaces, has written to the store since this was last
    /// asked.
    ///
    /// # Errors
    /// The store cannot be read.
    fn moved_on(&mut self) -> Result<bool, StoreFault>;
    /// There is time for chores. Faults of chores are nobody's: what they would have done is done later.
    fn idle(&mut self);
}
