//! The stores of the tables and histories of switches.
//!
//! Owns: the stores and their threads. Must never: decide what is committed; that is the plan's.
//!
//! [`SqliteStore`] is a file per switch. [`switch::Store`] states what a store must guarantee; [`StoreBackend`] adds what
//! only the control plane needs.

mod fault;
mod files;
mod memory;
mod migration;
mod opening;
mod receipts;
mod rows;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;
mod thread;
mod wal;

pub use memory::MemoryBackend;
pub use sqlite::SqliteStore;
pub(crate) use thread::StoreThread;

use switch::{Commit, KeyKind, Store, StoreFault};

/// The maximum number of receipts that a store keeps.
pub const MAX_RECEIPTS: usize = 1000;

/// A store as the control plane uses it.
pub trait StoreBackend: Store {
    /// Returns the kind of the store's keys.
    fn key_kind(&self) -> KeyKind;
    /// Returns true if it takes commits of form 2 ([`Commit::form`]). One that does not has a file of format 1, which an
    /// older program has open.
    fn takes_form_2(&mut self) -> bool;
    /// Changes the kind of keys, which is possible only before the first commit. Returns true if it did.
    ///
    /// # Errors
    /// The store cannot be written.
    fn rekey(&mut self, kind: KeyKind) -> Result<bool, StoreFault>;
    /// Returns at most `limit` commits after this revision, oldest first, to scan a history that is too long to hold. Also
    /// checks that the index of keys finds each of their changes.
    ///
    /// # Errors
    /// The store cannot be read.
    fn page(&mut self, after: u64, limit: usize) -> Result<Vec<Commit>, StoreFault>;
    /// Saves a receipt (JSON), replacing that of the same revision. It need not be durable: the history is the record. At
    /// most [`MAX_RECEIPTS`] of the newest are kept.
    fn save_receipt(&mut self, revision: u64, receipt: String);
    /// Returns a receipt.
    ///
    /// # Errors
    /// The store cannot be read.
    fn receipt(&mut self, revision: u64) -> Result<Option<String>, StoreFault>;
    /// Returns true if another process, such as the old one of a binary upgrade, has written to the store since the last
    /// call.
    ///
    /// # Errors
    /// The store cannot be read.
    fn written_by_others(&mut self) -> Result<bool, StoreFault>;
    /// Does maintenance. What fails is done later.
    fn idle(&mut self);
}
