//! The options of orders and holds.
//!
//! Owns: their types and defaults. Must never: decide anything.

use std::time::Duration;
use switch::Key;

/// How an order is carried out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Plan and probe only, and report what would happen.
    pub dry_run: bool,
    /// Servers that an order adds or brings up are asked even if no switch with a gate leads to their group.
    pub gate: bool,
    /// When the order is answered.
    pub wait: Wait,
    /// The longest time to wait as `wait` says, and for the drain of `hold`. After it the answer reports how far the order
    /// is; the commit stays. `None` is 30 seconds.
    pub timeout: Option<Duration>,
    /// Hold the keys' new requests, drain those in flight, switch, then release the held ones.
    pub hold: Option<HoldOptions>,
}

/// A commit, as somebody who waits for it names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitRef {
    /// The newest one.
    Newest,
    /// By its revision.
    Revision(u64),
    /// By the idempotency key of its order.
    Id(String),
}

/// A moment in the past of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastMoment {
    /// Right after this commit; 0 is before the first.
    Revision(u64),
    /// At this time: milliseconds since the Unix epoch.
    TimeMs(u64),
}

/// When an order is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Once the commit is durable and handed to the workers.
    None,
    /// Once every worker has acknowledged it: each request that begins later follows the new table.
    #[default]
    Published,
    /// Once the last request has left the old side, its streams included unless the policy keeps them.
    Drained,
}

/// The limits of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldOptions {
    /// The maximum number of waiting requests.
    pub max: usize,
    /// The longest time a request waits, in milliseconds, before it gets 503 with `Retry-After`.
    pub timeout_ms: u64,
    /// The maximum bytes of waiting requests.
    pub max_bytes: usize,
    /// Requests released per second when the hold ends by itself (after a switch); `None` releases all at once.
    pub per_second: Option<u32>,
    /// The handling of streams on the old side, if the hold is a switch's.
    pub streams: HoldStreams,
}

/// The handling of streams on the old side by a switch with a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldStreams {
    /// They refuse the switch: their clients would go on with the old side.
    #[default]
    Refuse,
    /// The switch waits until they end.
    Wait,
    /// They are closed before the switch.
    Close,
}

impl Default for HoldOptions {
    fn default() -> HoldOptions {
        HoldOptions {
            max: 1000,
            timeout_ms: 10_000,
            max_bytes: 16 << 20,
            per_second: None,
            streams: HoldStreams::Refuse,
        }
    }
}

/// A hold of one key.
#[derive(Clone, Debug)]
pub struct HoldOrder {
    /// The key to hold.
    pub key: Key,
    /// Its limits.
    pub options: HoldOptions,
    /// When it ends by itself.
    pub end: Option<HoldEnd>,
    /// The actor.
    pub actor: String,
    /// The reason.
    pub reason: Option<String>,
}

/// How a hold ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldEnd {
    /// After so many milliseconds.
    pub after_ms: u64,
    /// The handling of the key's requests after that time.
    pub then: HoldThen,
}

/// The handling of a key's requests when the time of its hold is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldThen {
    /// They get 503 until the key is released, or switched by a newer order.
    #[default]
    Refuse,
    /// They proceed.
    Release,
}
