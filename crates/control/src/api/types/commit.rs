//! The history.
//!
//! Owns how a commit is shown, with the hashes that verify the chain. How a commit was carried out is in its receipt.

use crate::receipt::MovedTraffic;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A commit's change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its route before: `blue`, or `green=10 blue=90`; absent for the default.
    pub from: Option<String>,
    /// Its route after; absent for the default.
    pub to: Option<String>,
    /// The commit whose change of the key was undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<u64>,
}

/// A commit's change of something that is no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subject {
    /// The kind of subject: `default`, `hold`, `server`, `group`, `adopt`, or another of a newer version.
    pub subject: String,
    /// Its name.
    pub name: String,
    /// Its value before; absent if there was none.
    pub from: Option<String>,
    /// Its value after; absent if there is none.
    pub to: Option<String>,
    /// The change of a server, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A commit of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Commit {
    /// Its number: one more than the commit before it.
    pub revision: u64,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Its kind: `set`, `undo`, `undo_keys`, `confirm`, `revert`, `default`, `hold`, `release`, `server`, `group`, `adopt`
    /// or `restore`; or another name, of a newer version.
    pub kind: String,
    /// The commit that it undid, confirmed or reverted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// The actor.
    pub actor: String,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The idempotency key of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// True if it was forced.
    pub forced: bool,
    /// It is reverted at this time unless confirmed; in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_by_ms: Option<u64>,
    /// Its changes of keys.
    pub changes: Vec<Change>,
    /// Its changes of other things.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<Subject>,
    /// Further fields of it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
    /// A note about it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The gate's result, a line per server.
    pub gate: Vec<String>,
    /// The hash of the commit before it, in hexadecimal.
    pub previous: String,
    /// Its own hash: SHA-256 over all of this, without the traffic.
    pub hash: String,
    /// The traffic that it has moved, if it was requested and the receipt knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<MovedTraffic>,
}

/// The differences between the tables of two revisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// The switch.
    pub switch: String,
    /// The revision of the one table; 0 is before the first commit.
    pub from: u64,
    /// The revision of the other table.
    pub to: u64,
    /// The keys whose routes differ, in their order.
    pub keys: Vec<DiffKey>,
    /// Differences that are not of keys; on the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<Subject>,
    /// The `after` of the next page, if there are more keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A key whose route differs between two tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffKey {
    /// The key.
    pub key: String,
    /// Its route in the one table; absent for the default.
    pub from: Option<String>,
    /// Its route in the other; absent for the default.
    pub to: Option<String>,
}

/// A page of a switch's history, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The switch.
    pub switch: String,
    /// The commits.
    pub commits: Vec<Commit>,
    /// The `before` of the next page, if there are older commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// The result of verifying the whole chain, if it was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// The result of verifying a switch's chain of commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// True if each hash is right and follows from the one before it.
    pub intact: bool,
    /// The number of commits that were checked.
    pub commits: u64,
    /// The last commit's hash, in hexadecimal. A copy kept elsewhere proves later that the history was not replaced.
    pub hash: String,
    /// The first fault, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}
