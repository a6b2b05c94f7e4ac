//! How groups did over time.
//!
//! Owns the form in which it is shown. A slot without requests is left out: it is one of zeros.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the groups did in the slots of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficSeries {
    /// The window: `10s`, `1m`, `5m` or `1h`.
    pub window: String,
    /// The length of a slot, in milliseconds: a twelfth of the window or so.
    pub slot_ms: u64,
    /// The number of the oldest slot that was counted from its beginning.
    pub first: u64,
    /// The number of the newest slot, which is under way. Numbers rise as long as the process runs.
    pub last: u64,
    /// When the newest slot began, in milliseconds since 1970.
    pub last_ms: u64,
    /// The groups of the configuration.
    pub groups: Vec<GroupSeries>,
}

/// How a group did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupSeries {
    /// The group.
    pub name: String,
    /// Its slots in which a request ended, oldest first.
    pub points: Vec<SeriesPoint>,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeriesPoint {
    /// Its number.
    pub slot: u64,
    /// Requests that ended in it.
    pub requests: u64,
    /// Errors: answers of 500 and above, and requests without an answer.
    pub errors: u64,
    /// The median of the response times, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// The 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}
