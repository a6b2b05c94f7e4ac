//! The control plane of one process: it takes orders, checks them, commits them, publishes them and reports on them.
//!
//! Owns: stores on disk, gates, confirmations, holds, drains, receipts, events, the API, the dashboard. Must never: hold up a request.
//! The data plane is an argument ([`DataPlane`]) and never waits for anything here.
//!
//! Reading order: [`ControlHandle`] (the way in), `service/order.rs` and
//! `service/commit.rs` (an order becomes a commit), [`store`] (how commits are stored), [`gate`] (whether a target may get
//! traffic), [`receipt`] (the report of an order).

pub mod api;
mod barred;
mod call;
mod checks_now;
pub mod dashboard;
mod data_plane;
mod discovery;
mod event;
pub mod gate;
mod horizon;
mod info;
mod journal;
mod notify;
mod options;
mod plain_file;
pub mod receipt;
mod service;
mod setup;
pub mod store;
#[cfg(test)]
mod testing;

pub use call::{ApiAnswer, ApiCall, Origin, VerifiedCertificate, Via};
pub use checks_now::checks_now;
pub use data_plane::{
    Acknowledgement, AskedServer, DataPlane, GroupState, OldRequest, PeerState, Reloaded, Reply, Watch,
    WatchReport,
};
pub use event::{Event, EventKind, Subscription};
pub use info::{
    Difference, Entries, EntryInfo, EntryQuery, HoldEnd, HoldInfo, KeyDifference, PastTable, PendingInfo,
    SwitchInfo, Verification,
};
pub use journal::{JournalEntry, JournalQuery, JournalVerification, Occurrence};
pub use options::{CommitRef, HoldOptions, HoldOrder, HoldStreams, Options, PastMoment, Wait};
pub use receipt::Receipt;
pub use service::{
    ControlHandle, Declarations, Declared, FileDefault, FleetInfo, PreparedReload, StoreCheck, StoredReload,
    UndoWhat, WindowTimes, check_groups, check_stores,
};
pub use setup::{Log, Setup};
