//! What was done: the history.
//!
//! Owns how a commit is shown, with the hashes by which anybody can check the chain. Must never be asked how a commit
//! went: its receipt tells.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommitKind {
    /// Keys got routes, or lost them.
    Set,
    /// A whole commit was taken back.
    Undo,
    /// The last change of each of some keys was taken back.
    UndoKeys,
    /// An earlier commit stays.
    Confirm,
    /// An earlier commit was not confirmed in time.
    Revert,
}

/// What a commit did to one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its route before: `blue`, or `green=10 blue=90`; none for the default.
    pub from: Option<String>,
    /// Its route since; none for the default.
    pub to: Option<String>,
    /// The commit whose change of the key was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<u64>,
}

/// A commit, as the history keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Commit {
    /// Its number: one more than the commit before it.
    pub revision: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it is.
    pub kind: CommitKind,
    /// The commit that it undid, confirmed or reverted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Who.
    pub actor: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The key under which a repeated order is known again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// It was forced.
    pub forced: bool,
    /// It goes back by itself then, unless confirmed; in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_by_ms: Option<u64>,
    /// What it changed.
    pub changes: Vec<Change>,
    /// What the gate found, a line for each server.
    pub gate: Vec<String>,
    /// The hash of the commit before it, in hexadecimal.
    pub previous: String,
    /// Its own hash: SHA-256 over all of this.
    pub hash: String,
}

/// Some of a switch's commits, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The switch.
    pub switch: String,
    /// The commits.
    pub commits: Vec<Commit>,
    /// There are older ones: `before` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// What came of checking the whole chain, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// What came of checking a switch's whole chain of commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// Each hash is right and follows from the one before it.
    pub intact: bool,
    /// How many commits were checked.
    pub commits: u64,
    /// The last commit's hash, in hexadecimal: whoever wrote it down can tell later that nothing was put in its place.
    pub hash: String,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}
