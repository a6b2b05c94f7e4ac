//! Switches, their keys and their holds.
//!
//! Owns how a table is shown. A key's view shows the route that a request would get, whether the key has an entry of its
//! own or not.

use super::HoldThen;
use crate::receipt::Drain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// All switches, in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Switches {
    /// Each switch.
    pub switches: Vec<Switch>,
}

/// A switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Switch {
    /// The name of its variable, without the `$`.
    #[schema(example = "live")]
    pub name: String,
    /// The kind of its keys: `host` (case, port and a dot at the end do not matter) or `text`.
    pub keys_are: String,
    /// The route of keys without an entry.
    pub default: String,
    /// The configuration's default, if it differs from the table's because the default was changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_in_file: Option<String>,
    /// The commit that set the default; absent as long as the history does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_revision: Option<u64>,
    /// The targets it may route to, with the groups that were made at run time if it admits them.
    pub targets: Vec<String>,
    /// True if its keys may lead to groups made at run time (`targets … dynamic`).
    #[serde(default)]
    pub dynamic: bool,
    /// The master process is gone: no orders are taken, and the process ends then, in milliseconds since 1970, unless another
    /// one takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_without_master_ms: Option<u64>,
    /// The table's revision: that of its last commit, 0 before the first.
    pub revision: u64,
    /// The number of keys with entries.
    pub keys: u64,
    /// The maximum number of keys with entries.
    pub max_keys: u64,
    /// The maximum length of a key, in bytes.
    pub max_key_length: u64,
    /// Where the table is stored: a file's path, or `memory`.
    pub state: String,
    /// The fault of the last commit that could not be stored, if none was stored since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_fault: Option<StoreFault>,
    /// Commits that are reverted unless they are confirmed in time.
    pub pending: Vec<Pending>,
    /// Held keys.
    pub holds: Vec<Hold>,
    /// Commits whose old side still has requests.
    pub draining: Vec<Draining>,
}

/// A fault of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreFault {
    /// The fault.
    pub text: String,
    /// The remedy.
    pub remedy: String,
}

/// A commit whose old side still has requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Draining {
    /// The commit.
    pub revision: u64,
    /// Its last known state.
    pub drain: Drain,
}

/// A commit that is reverted unless it is confirmed in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pending {
    /// The commit.
    pub revision: u64,
    /// Its deadline, in milliseconds since 1970.
    pub confirm_by_ms: u64,
    /// The time left of its window, in milliseconds; the wall clock does not matter.
    pub left_ms: u64,
    /// Why it stays although its window has ended, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<Overdue>,
}

/// A commit that was not confirmed in time and stays, because the side that it would go back to fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Overdue {
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// The last answers of the servers of both sides, one line each.
    pub answers: Vec<String>,
}

/// A held key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// The key.
    pub key: String,
    /// The state of its requests.
    pub state: HoldState,
    /// The maximum number of waiting requests.
    pub max: u64,
    /// The longest time a request waits, in milliseconds.
    pub timeout_ms: u64,
    /// The maximum bytes of buffered bodies in total.
    pub max_bytes: u64,
    /// The number of waiting requests.
    pub waiting: u64,
    /// How many of them wait in another process of this server, which shuts down after an upgrade or a reload.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waiting_elsewhere: u64,
    /// True if another process does not say how many wait there: those are not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// The bytes of their buffered bodies.
    pub waiting_bytes: u64,
    /// The number of requests that got 503: there was no room for them, or they waited too long.
    pub rejected: u64,
    /// When it began, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it ends by itself, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// The handling of its requests after that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<HoldThen>,
    /// True if it belongs to an order that is under way, and ends with it.
    pub of_order: bool,
    /// The actor.
    pub actor: String,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a release: false if it could not be recorded yet, so that a process that begins now would hold the key again.
    pub recorded: bool,
    /// Of a new hold: that the key is perhaps mistyped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The state of a held key's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// They wait.
    Held,
    /// They get 503: the time of the hold is over.
    Refusing,
    /// They proceed one by one; new ones join the queue.
    Releasing,
    /// They proceed.
    Released,
}

/// One page of a switch's keys, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyPage {
    /// The switch.
    pub switch: String,
    /// The table's revision.
    pub revision: u64,
    /// When it was committed, in milliseconds since 1970; only of a table of the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_ms: Option<u64>,
    /// The entries.
    pub keys: Vec<KeyEntry>,
    /// The commits that set them, by revision, if they were requested. One that the history does not have is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commits: BTreeMap<String, CommitNote>,
    /// The `after` of the next page, if there are more keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Who made a commit, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitNote {
    /// The actor.
    pub actor: String,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
}

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyEntry {
    /// The key.
    #[schema(example = "shop.example.com")]
    pub key: String,
    /// Its route: `green`, or a weighted split, `green=10 blue=90`.
    #[schema(example = "green=10 blue=90")]
    pub route: String,
    /// The commit that set it.
    pub revision: u64,
}

/// The route that applies to a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// The switch.
    pub switch: String,
    /// The key in its normalised form.
    pub key: String,
    /// Its route: `green`, or a weighted split, `green=10 blue=90`.
    #[schema(example = "green=10 blue=90")]
    pub route: String,
    /// The entry that applies: the key itself or a wildcard; absent where the default applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The commit that set the entry; 0 for the default.
    pub entry_revision: u64,
    /// The table's revision: which `If-Match` is compared with.
    pub revision: u64,
    /// When it was committed, in milliseconds since 1970; only of a table of the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_ms: Option<u64>,
    /// The hold of its requests, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}
