//! What comes with an order: how long its giver wants to wait, and whether requests are held meanwhile.
//!
//! Owns: the options of an order and of a hold. Must never: decide anything.

use std::time::Duration;
use switch::Key;

/// How an order is to be carried out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Plan and probe only, and tell what would happen.
    pub dry_run: bool,
    /// When the answer is given.
    pub wait: Wait,
    /// The longest time to wait for what `wait` says, and for the drain of `hold`. When it has passed the answer says how
    /// far things are; the switch stays. `None` is 30 seconds.
    pub timeout: Option<Duration>,
    /// Hold the keys' new requests, let those under way finish, switch, then let the held ones go.
    pub hold: Option<HoldOptions>,
}

/// When an order is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// As soon as it is kept and handed to the workers.
    None,
    /// When every worker has acknowledged it: each response to a request that begins later comes from the new side.
    #[default]
    Published,
    /// When the last request has left the old side, its streams included unless the policy keeps them.
    Drained,
}

/// The bounds of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldOptions {
    /// Most requests that wait.
    pub max: usize,
    /// The longest time one waits, in milliseconds; then it gets 503 with `Retry-After`.
    pub timeout_ms: u64,
    /// Most bytes of requests that wait.
    pub max_bytes: usize,
    /// How many requests are let go in a second when the hold ends by itself (after a switch); `None` is all at once.
    pub per_second: Option<u32>,
}

impl Default for HoldOptions {
    fn default() -> HoldOptions {
        HoldOptions { max: 1000, timeout_ms: 10_000, max_bytes: 16 << 20, per_second: None }
    }
}

/// A hold of one key.
#[derive(Clone, Debug)]
pub struct HoldOrder {
    /// The key whose new requests wait.
    pub key: Key,
    /// The bounds.
    pub options: HoldOptions,
    /// Who wants it.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}
