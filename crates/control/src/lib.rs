//! The control plane of one process: it takes orders, checks them, keeps them, publishes them, and tells what became of
//! them.
//!
//! Owns: stores on disk, gates, confirmations, holds, drains, receipts, events, the API. Must never: stand in the way
//! of a request. What serves requests is reached through [`Traffic`], an argument; it never waits for anything here.
//!
//! Reading order: [`Office`] (the counter at which orders are handed in), `office/walk.rs` (how a commit comes about),
//! [`store`] (how it is kept), [`gate`] (whether its target is up), [`receipt`] (what is told about it afterwards).

pub mod api;
mod call;
mod event;
pub mod gate;
mod office;
mod order;
pub mod receipt;
mod setup;
mod state;
pub mod store;
#[cfg(test)]
mod testing;
mod traffic;

pub use call::{ApiAnswer, ApiCall, Origin, Via};
pub use event::{Event, EventKind, Subscription};
pub use office::{Admission, Office, UndoWhat};
pub use order::{HoldOptions, HoldOrder, Options, Wait};
pub use receipt::Receipt;
pub use setup::{Log, Setup};
pub use state::{Entries, EntryQuery, EntryState, HeldKey, PendingState, SwitchState, Verification};
pub use traffic::{Acknowledgement, GroupState, PeerState, Reloaded, Reply, Traffic, Watch, WatchReport};
