//! The fleet and its nodes.
//!
//! Owns their fields. Must never: name a password.

use super::StoreFault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The fleet, as one node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fleet {
    /// This node's name.
    pub node: String,
    /// The prefix of the fleet's keys in etcd.
    pub prefix: String,
    /// The members of etcd.
    pub etcd: String,
    /// The fleet's id; absent while this node is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The fault of the fleet's store; absent while this node follows the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<StoreFault>,
    /// The member nodes.
    pub nodes: Vec<FleetNode>,
}

/// A node of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetNode {
    /// Its name.
    pub name: String,
    /// True for the node that answers.
    pub own: bool,
    /// Its version.
    pub version: String,
    /// A digest of its configuration's switches in the fleet: nodes that are configured alike have the same.
    pub digest: String,
    /// The revisions that all its workers follow, by switch.
    pub revisions: BTreeMap<String, u64>,
    /// How long ago its last sign of life was seen, in milliseconds; absent if none was yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_ms_ago: Option<u64>,
    /// True if it gives no signs of life: orders are refused until it does, or is removed.
    pub silent: bool,
}

/// An order about the fleet; there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetOrder {}

/// The result of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetRestored {
    /// The number of commits that were written.
    pub commits: u64,
}
