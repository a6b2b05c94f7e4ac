//! The journal.
//!
//! Owns how an entry is shown, with the hashes that verify the chain.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened and changed no table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalItem {
    /// Its number in the journal: one more than the entry before it.
    pub sequence: u64,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Its kind: `hold`, `release`, `reload`, `start`, `upgrade`, `refused` or `lost`; or another name, of a newer version.
    pub kind: String,
    /// The switch, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
    /// The key of a hold or release, the code of a refusal, `done` or `refused` of a reload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The actor; `signal` if a reload was not ordered through the API.
    pub actor: String,
    /// Why, or what exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many times: refusals of an actor with one code are one entry for each minute. Of a release, the requests that
    /// waited; of `lost`, the entries.
    pub count: u64,
    /// The hash of the entry before, in hexadecimal.
    pub previous: String,
    /// Its own hash.
    pub hash: String,
}

/// A page of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Journal {
    /// The entries, newest first.
    pub entries: Vec<JournalItem>,
    /// If there are more: the `before` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// How many entries were lost since the process began: the disk failed, or more came than it could write.
    pub lost: u64,
    /// The result of a verification, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerifiedJournal>,
}

/// The result of verifying the journal's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifiedJournal {
    /// True if each hash is right and follows from the one before it.
    pub intact: bool,
    /// The number of entries that were checked.
    pub entries: u64,
    /// The number of older entries that were pruned. The first one that was checked follows from the last of them.
    pub pruned: u64,
    /// The last entry's hash, in hexadecimal. A copy kept elsewhere proves later that the journal was not replaced.
    pub hash: String,
    /// The first fault, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}
