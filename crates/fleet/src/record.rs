//! The values below the prefix, and their keys.
//!
//! Owns: the layout. Must never: change the meaning of a field; a new form has another number.
//!
//! | key | value |
//! |---|---|
//! | `fleet` | [`Identity`]: written once, by `fleet init` |
//! | `members` | [`Members`]: the names of all nodes that count |
//! | `nodes/NODE` | [`Statement`]: what a node says of itself, rewritten at start, reload, and after a proposal whose outcome was unknown |
//! | `head/SWITCH` | [`Head`]: the newest commit of a switch |
//! | `c/SWITCH/REVISION` | a commit |
//! | `ack/SWITCH/NODE` | [`Acknowledgement`]: how far a node's workers are |
//! | `beat/NODE` | [`Beat`]: written every second by each node |

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use switch::{Commit, Hash};

use crate::fault::FleetFault;
use crate::keyspace::Entry;

/// The form of all values that this version writes.
pub(crate) const FORM: u32 = 1;

/// Which fleet it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The form of the layout.
    pub form: u32,
    /// A random text.
    pub id: String,
}

/// All nodes that count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Their names, in order.
    pub nodes: Vec<String>,
}

/// The newest commit of a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The fleet.
    pub fleet: String,
    /// The revision.
    pub revision: u64,
    /// The commit's hash.
    pub hash: String,
    /// The hash before it.
    pub previous: String,
}

impl Head {
    /// Returns the head that a commit makes.
    pub(crate) fn of(fleet: &str, commit: &Commit) -> Head {
        Head {
            fleet: fleet.to_owned(),
            revision: commit.revision,
            hash: commit.hash.to_string(),
            previous: commit.previous.to_string(),
        }
    }
}

/// Where a node is in a switch's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The revision; 0 before the first.
    pub revision: u64,
    /// The hash of its commit.
    pub hash: Hash,
}

/// A switch as a node's configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedSwitch {
    /// The kind of its keys: `host` or `text`.
    pub keys: String,
    /// Its targets.
    pub targets: Vec<String>,
}

/// A node's description of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// pointsman's version.
    pub version: String,
    /// A digest of its fleet's switches as its configuration has them.
    pub digest: String,
    /// Its switches in the fleet.
    pub switches: BTreeMap<String, StatedSwitch>,
    /// Another one each time that it is written.
    pub nonce: String,
}

/// A node's sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Goes up with each.
    pub count: u64,
    /// The process that writes it.
    pub process: String,
    /// The revisions of its tables.
    pub revisions: BTreeMap<String, u64>,
}

/// How far a node's workers are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The revision that all of them have.
    pub revision: u64,
    /// Its hash.
    pub hash: String,
    /// How many they are.
    pub workers: usize,
    /// From the moment at which the node had the commit to the last of its workers, in microseconds.
    pub took_us: u64,
}

/// The keys.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Ends with '/'.
    pub(crate) prefix: String,
}

impl Layout {
    pub(crate) fn new(prefix: &str) -> Layout {
        Layout { prefix: format!("{}/", prefix.trim_end_matches('/')) }
    }

    pub(crate) fn identity(&self) -> String {
        format!("{}fleet", self.prefix)
    }

    pub(crate) fn members(&self) -> String {
        format!("{}members", self.prefix)
    }

    pub(crate) fn of(&self, folder: &str, name: &str) -> String {
        format!("{}{folder}/{name}", self.prefix)
    }

    pub(crate) fn folder(&self, folder: &str) -> String {
        format!("{}{folder}/", self.prefix)
    }

    pub(crate) fn node(&self, node: &str) -> String {
        self.of("nodes", node)
    }

    pub(crate) fn head(&self, switch: &str) -> String {
        self.of("head", switch)
    }

    /// Returns the key of a commit, which sorts as the revisions do.
    pub(crate) fn commit(&self, switch: &str, revision: u64) -> String {
        format!("{}c/{switch}/{revision:020}", self.prefix)
    }

    pub(crate) fn beat(&self, node: &str) -> String {
        self.of("beat", node)
    }

    pub(crate) fn acknowledgement(&self, switch: &str, node: &str) -> String {
        format!("{}ack/{switch}/{node}", self.prefix)
    }

    /// Returns the kind and the name of a key below the prefix.
    pub(crate) fn split<'k>(&self, key: &'k str) -> Option<(&'k str, &'k str)> {
        let rest = key.strip_prefix(&*self.prefix)?;
        Some(rest.split_once('/').unwrap_or((rest, "")))
    }
}

/// Returns the bytes of a value.
pub(crate) fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    // Texts, numbers and maps of them have a JSON.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Reads a value.
pub(crate) fn value<T: DeserializeOwned>(entry: &Entry) -> Result<T, FleetFault> {
    serde_json::from_slice(&entry.value).map_err(|error| FleetFault::damaged(&entry.key, error))
}

/// Returns a random text of 128 bits.
pub fn random() -> String {
    let mut bytes = [0; 16];
    // Without the system's randomness nothing that is to be unique can be made; the time is what is left.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = now.as_nanos().to_le_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
