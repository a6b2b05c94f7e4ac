//! What the control plane tells about its switches when it is asked.
//!
//! Owns: the values of these answers. Must never: find them out.

use crate::receipt::Drain;
use std::path::PathBuf;
use std::sync::Arc;
use switch::{Key, Route, Rules};

/// A switch as it is now.
#[derive(Clone, Debug)]
pub struct SwitchState {
    /// The name of its variable, without `$`.
    pub name: String,
    /// Its number in the configuration.
    pub number: usize,
    /// What the configuration says it may do.
    pub rules: Arc<Rules>,
    /// The file its table is kept in; `None` is memory.
    pub file: Option<PathBuf>,
    /// The revision that is published.
    pub revision: u64,
    /// How many keys have an entry.
    pub keys: usize,
    /// Commits that go back by themselves unless they are confirmed.
    pub pending: Vec<PendingState>,
    /// Keys whose new requests wait.
    pub holds: Vec<HeldKey>,
    /// Why the last commit could not be kept, if none was kept since: text and remedy.
    pub store_fault: Option<(String, String)>,
    /// The newest drain that is not over: its revision and how far it was when last looked at.
    pub draining: Vec<(u64, Drain)>,
}

/// A commit that goes back by itself unless it is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingState {
    /// Its revision.
    pub revision: u64,
    /// When it goes back: milliseconds since the Unix epoch.
    pub confirm_by_ms: u64,
}

/// A hold as it is now.
#[derive(Clone, Debug)]
pub struct HeldKey {
    /// The switch.
    pub switch: String,
    /// The key.
    pub key: Key,
    /// Requests that wait.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// Most requests that wait.
    pub max: usize,
    /// Most bytes of requests that wait.
    pub max_bytes: usize,
    /// The longest time one waits, in milliseconds.
    pub timeout_ms: u64,
    /// Since when: milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Who wanted it.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}

/// Which entries of a table are asked for, in the order of their keys' text.
#[derive(Clone, Debug, Default)]
pub struct EntryQuery {
    /// Only keys that contain this.
    pub contains: Option<String>,
    /// Only entries that lead to this target, with whatever weight.
    pub target: Option<String>,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most so many; 0 is 100.
    pub limit: usize,
}

/// Entries of a table.
#[derive(Clone, Debug)]
pub struct Entries {
    /// The revision of the table they are from.
    pub revision: u64,
    /// The entries.
    pub entries: Vec<EntryState>,
    /// There are more after the last of them.
    pub more: bool,
}

/// One key of a table.
#[derive(Clone, Debug)]
pub struct EntryState {
    /// The key.
    pub key: Key,
    /// Where it leads.
    pub route: Route,
    /// The commit that said so.
    pub revision: u64,
}

/// What checking a history found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// How many commits were checked.
    pub commits: u64,
    /// The last revision.
    pub revision: u64,
    /// The last commit's hash, in hexadecimal.
    pub hash: String,
    /// What is wrong, if something is: the revision and the fault.
    pub fault: Option<(u64, String)>,
}
