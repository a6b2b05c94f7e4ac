//! Groups of servers, and the choice of one for a request.
//!
//! Owns: what an `upstream {}` block means while it serves — peers and their passive and active health, nginx's
//! balancing algorithms, leases, the rules of `proxy_next_upstream`, and the pool of idle connections.
//! Must never: open a socket or a file, start a thread, read a clock, draw its own random numbers, or know a
//! protocol. Time (milliseconds of one monotonic clock) and randomness are arguments, so a seed replays a run.
//!
//! One try of one request:
//!
//! 1. [`Group::pick`] gives a [`Lease`] on a peer, and notes it in the request's [`Tried`].
//! 2. The caller takes an idle connection from its [`IdlePool`] or connects to [`Peer::address`].
//! 3. The try ends: [`Group::finish`] takes the lease and its [`TryOutcome`].
//! 4. After a [`retry::TryFailure`], [`retry::may_retry`] says whether there is another try.
//!
//! The algorithms are those of nginx 1.31; `tests/upstream/nginx_picks.rs` compares them, pick by pick, with an
//! installed nginx.

mod address;
mod balancers;
mod crc32;
mod group;
mod group_sets;
pub mod health;
mod idle;
mod lease;
mod peer;
mod pick;
pub mod retry;
mod ring;
mod spec;
mod tried;

pub use address::Address;
pub use group::{Finished, Group};
pub use group_sets::{GroupSet, GroupSets};
pub use idle::{ConnectionUse, IdleKey, IdlePool};
pub use lease::{Lease, TryOutcome};
pub use peer::Peer;
pub use pick::{PickError, PickInput};
pub use ring::Ring;
pub use spec::{BalancerSpec, GroupSpec, KeepaliveSpec, PeerSource, PeerSpec, TwoBy};
pub use tried::Tried;
