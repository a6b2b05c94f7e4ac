//! What there is: switches, their keys, their holds.
//!
//! Owns how a table is shown. Must never show what no request would get: a key's view says what applies to it, whether
//! it has an entry of its own or not.

use crate::receipt::Drain;
use serde::{Deserialize, Serialize};
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
    /// What its keys are: `host` (case, port and a dot at the end do not matter) or `text`.
    pub keys_are: String,
    /// Where a key without an entry leads.
    pub default: String,
    /// The only names it may take.
    pub targets: Vec<String>,
    /// The table's revision: that of its last commit, 0 before the first.
    pub revision: u64,
    /// How many keys have entries.
    pub keys: u64,
    /// How many may have.
    pub max_keys: u64,
    /// How long a key may be, in bytes.
    pub max_key_length: u64,
    /// Where the table is kept: a file's path, or `memory`.
    pub state: String,
    /// Why the last commit could not be kept, if none was kept since, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_fault: Option<StoreFault>,
    /// Commits that go back by themselves unless they are confirmed.
    pub pending: Vec<Pending>,
    /// Keys whose requests wait.
    pub holds: Vec<Hold>,
    /// Commits whose old side still has requests.
    pub draining: Vec<Draining>,
}

/// Why a commit could not be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreFault {
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

/// A commit whose old side still has requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Draining {
    /// The commit.
    pub revision: u64,
    /// How far it was when last looked at.
    pub drain: Drain,
}

/// A commit that goes back by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pending {
    /// The commit.
    pub revision: u64,
    /// When, in milliseconds since 1970.
    pub confirm_by_ms: u64,
}

/// A key whose requests wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// The key.
    pub key: String,
    /// How many may wait.
    pub max: u64,
    /// How long each may.
    pub timeout_ms: u64,
    /// How much of their bodies may be buffered in all.
    pub max_bytes: u64,
    /// How many do.
    pub waiting: u64,
    /// How many bytes of theirs are buffered.
    pub waiting_bytes: u64,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Who wanted it.
    pub actor: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One page of a switch's keys, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyPage {
    /// The switch.
    pub switch: String,
    /// The table's revision.
    pub revision: u64,
    /// The entries.
    pub keys: Vec<KeyEntry>,
    /// There are more: `after` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyEntry {
    /// The key.
    #[schema(example = "shop.example.com")]
    pub key: String,
    /// Where it leads: `green`, or shares by weight, `green=10 blue=90`.
    #[schema(example = "green=10 blue=90")]
    pub route: String,
    /// The commit that set it.
    pub revision: u64,
}

/// What applies to a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// The switch.
    pub switch: String,
    /// The key, as the table has it.
    pub key: String,
    /// Where its requests go: `green`, or shares by weight, `green=10 blue=90`.
    #[schema(example = "green=10 blue=90")]
    pub route: String,
    /// The entry that says so: the key itself or a wildcard; none where the default applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The commit that set the entry; 0 for the default.
    pub entry_revision: u64,
    /// The table's revision: what `If-Match` is compared with.
    pub revision: u64,
    /// The hold its requests wait in, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}
