//! Several nodes that switch as one: the table of a switch in a store that they share.
//!
//! Owns: the protocol (what a transaction compares, what makes an etcd another one, what is known of a proposal that got no
//! answer), the layout of the values, and etcd as a store. Must never: apply a commit; that is the control plane's, which keeps a copy on
//! disk and hands its position to each question here.
//!
//! Reading order: [`Keyspace`] (what is needed of a store), [`record`] (the layout), [`Fleet`] with `protocol/proposal.rs` (a commit),
//! `protocol/history.rs` (what follows a position), `protocol/membership.rs`, then `etcd/`.

mod etcd;
mod fault;
mod keyspace;
mod protocol;
pub mod record;
pub mod simulated;
mod stored_commit;
mod view;

pub use etcd::{Etcd, EtcdSettings};
pub use fault::{FaultKind, FleetFault};
pub use keyspace::{
    CallFault, Condition, Entry, KeyAnswer, KeyStep, KeyWatch, Keyspace, LocalBoxFuture, Read, SeenChange,
    Transaction,
};
pub use protocol::{
    Commitment, Connected, Fleet, FleetSettings, FleetTimes, Follower, Known, MAX_COMMIT_BYTES, MAX_NODES,
    Membership, NodeView, Proposal,
};
