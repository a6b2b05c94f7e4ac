//! The stores of the tables and histories of switches.
//!
//! Owns: the stores and their threads. Must never: decide what is committed; that is the plan's.
//!
//! [`FileStore`] is a store on disk; [`MemoryBackend`] one in memory. [`switch::Store`] states what a store must guarantee;
//! [`StoreBackend`] adds what only the control plane needs.
//!
//! # The files
//!
//! - `live.db` (and `-wal`, `-shm` while it is open): SQLite, `sqlite.rs`; `-shm` keeps its length by `wal_index.rs`. Tables and
//!   their two formats are in `schema.rs`, the way from format 1 to format 2 in `migration.rs`, with a copy kept as
//!   `live.db.format-1`.
//! - `live.db-anchor`: the second file, `anchor/`. A snapshot of the table and the commits since, each with a checksum.
//! - `live.db-lock`: the lock under which both are written, `lock.rs`.
//! - `groups.db`, with the same files beside it: what orders say of the servers of groups. The first of them creates it,
//!   `lazy_store.rs`.
//! - `orders.lock`, one in a state folder: who makes or removes a group has it alone, `order_lock.rs`.
//! - `serving.lock`, one in a state folder: which processes serve with it, `process_entry.rs`.
//! - `live.db-holds/`: a file for each held key, `holds.rs`.
//!
//! # A commit
//!
//! Under the lock, over all processes: the second file is made to hold what the store holds; SQLite's transaction, synced;
//! the commit is read back; a record is appended to the second file, synced; the lock is released, and the order answered
//! (`file_store.rs`). The second file never goes to a lower revision. So a store that lacks what the second file has was
//! damaged or replaced, and a second file is at most one commit behind. If the second file cannot be written, the order is
//! answered as committed, the log says so, and further orders are refused until it can.
//!
//! # Damage
//!
//! `verdict.rs` decides which file is trusted. Orders are refused; traffic goes on with the table that there is, after a
//! restart with that of the second file. Two files that both lose their ends alike, or a folder put back as it was, are not
//! noticed here: an exported hash of the head is the remedy (docs/backups.md).
//!
//! # What a later version adds
//!
//! A kind of commit, a kind of subject and an extra field need no new format: form 2 of a commit carries them by name
//! (`switch/src/kind.rs`, `switch/src/commit.rs`), `commits.extra`, `changes.subject` and `subjects` hold them, and the second
//! file has them in its JSON. A program that does not know them keeps and verifies them. What changes how the table follows
//! from the history needs another `schema::Format`. What changes no table at all (refusals, reloads) belongs to no store.

mod acting_user;
mod anchor;
mod commit_rows;
mod copy;
mod fault;
mod file_store;
mod files;
mod holds;
mod lazy_store;
mod lock;
mod memory;
mod migration;
mod objects;
mod opening;
mod order_lock;
mod processes;
#[cfg(test)]
pub(crate) mod read_rows;
mod receipts;
mod restore;
mod rows;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;
mod thread;
mod unchanged;
mod verdict;
mod wal;
mod wal_index;

pub(crate) use copy::StoreCopy;
pub use file_store::FileStore;
pub(crate) use holds::folder as holds_folder;
pub use holds::{KeptEnd, KeptHold, KeptHolds, KeptOrder};
pub use lazy_store::LazyStore;
pub use memory::MemoryBackend;
pub(crate) use order_lock::OrderLock;
pub(crate) use processes::ProcessEntry;
pub use restore::{RestoreOrder, Restored, restore, verify_backup};
#[cfg(test)]
use sqlite::SqliteStore;
pub(crate) use thread::StoreThread;
pub(crate) use unchanged::MAX_UNCHANGED;
#[cfg(test)]
pub(crate) use unchanged::UNCHANGED_FOR_MS;
pub use unchanged::UnchangedOrder;

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
    /// Returns why orders are refused, if they are: the store is damaged, or it cannot be verified. Its table is served all
    /// the same, if there is one that can be trusted.
    fn damage(&self) -> Option<StoreFault> {
        None
    }
    /// Opens a damaged store again, as after a restore. Returns true if it was opened: then it is to be loaded again.
    ///
    /// # Errors
    /// It is as damaged as before.
    fn recover(&mut self) -> Result<bool, StoreFault> {
        Ok(false)
    }
    /// Returns a copy of the whole store, as the bytes of a file.
    ///
    /// # Errors
    /// It is not on disk, or damaged.
    fn backup(&mut self) -> Result<Vec<u8>, StoreFault> {
        Err(restore::not_backed_up("the store is in memory", "name a file in the switch's `state`"))
    }
    /// Returns what the log should say, once.
    fn warnings(&mut self) -> Vec<StoreFault> {
        Vec::new()
    }
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
    /// Returns an order that changed nothing, by its idempotency key.
    ///
    /// # Errors
    /// The store cannot be read.
    fn unchanged(&mut self, idempotency: &str) -> Result<Option<UnchangedOrder>, StoreFault>;
    /// Saves an order that changed nothing: returns once it is durable. It is no commit and takes no revision. At most
    /// `MAX_UNCHANGED` of the newest are kept, and none for longer than `UNCHANGED_FOR_MS`.
    ///
    /// # Errors
    /// The store cannot be written, or has format 1.
    fn save_unchanged(&mut self, idempotency: &str, order: &UnchangedOrder) -> Result<(), StoreFault>;
    /// Keeps a hold. Returns false if its key has another one already, which is none of those that are over.
    ///
    /// # Errors
    /// It cannot be written.
    fn place_hold(&mut self, _hold: &KeptHold, _over: &[String]) -> Result<bool, StoreFault> {
        Ok(true)
    }
    /// Notes that a hold turns requests away. Returns false if it is gone, or that is noted.
    ///
    /// # Errors
    /// It cannot be written.
    fn note_refusing(&mut self, _hold: &KeptHold) -> Result<bool, StoreFault> {
        Ok(true)
    }
    /// Removes a hold. Returns false if it is gone.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove_hold(&mut self, _hold: &KeptHold) -> Result<bool, StoreFault> {
        Ok(true)
    }
    /// Returns the holds that it keeps.
    ///
    /// # Errors
    /// They cannot be read.
    fn kept_holds(&mut self) -> Result<KeptHolds, StoreFault> {
        Ok(KeptHolds::default())
    }
    /// Returns true if another process, such as the old one of a binary upgrade, has written to the store since the last
    /// call.
    ///
    /// # Errors
    /// The store cannot be read.
    fn written_by_others(&mut self) -> Result<bool, StoreFault>;
    /// Does maintenance. What fails is done later.
    fn idle(&mut self);
}
