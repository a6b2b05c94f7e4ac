//! Kept responses.
//!
//! Owns the fields of zones and of purges.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All zones of kept responses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caches {
    /// The zones, in the order of the configuration.
    pub caches: Vec<Cache>,
}

/// A zone of kept responses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cache {
    /// Its name.
    pub name: String,
    /// The family of directives that it is for: `proxy`, `fastcgi`, `uwsgi` or `scgi`.
    pub family: String,
    /// Its folder.
    pub path: String,
    /// How many responses it knows.
    pub entries: u64,
    /// How many it can know.
    pub max_entries: u64,
    /// How many bytes their files have.
    pub bytes: u64,
    /// How many they may have; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// Purges kept responses: those of some keys, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeOrder {
    /// The keys, as `proxy_cache_key` makes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// All responses of the zone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// A purge that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgedCache {
    /// The zone.
    pub name: String,
    /// How many responses there were, those of each variant and target counted.
    pub responses: u64,
}
