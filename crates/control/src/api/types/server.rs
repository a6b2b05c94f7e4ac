//! The servers of groups: what they are, and orders on them.
//!
//! Owns their fields. A parameter that an order leaves out stays as it is. Must never have a default other than that.

use super::object;
use super::order::{HoldTerms, Terms, Wait, order};
use super::status::{HealthCheck, Traffic};
use super::table::StoreFault;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Groups {
    /// The revision of what orders say of groups: that of the switch `groups`.
    pub revision: u64,
    /// The window of the figures: `10s`, `1m`, `5m` or `1h`.
    pub window: String,
    /// Its length so far, in milliseconds.
    pub span_ms: u64,
    /// The groups, in the order of the configuration, then those made at run time by name.
    pub groups: Vec<ServerGroup>,
    /// The fault of the store of what orders say of servers, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_fault: Option<StoreFault>,
}

/// A group with its servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerGroup {
    /// Its name.
    pub name: String,
    /// Where it comes from: `order` if it was made at run time, or orders alone say something of it.
    pub source: ServerOrigin,
    /// The group of the configuration whose settings it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    /// Who made it at run time; also if the configuration has taken it over since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<SaidOfServer>,
    /// `healthy`, `degraded` or `down`; `gone` if the configuration no longer has it, and what orders say of its servers
    /// (`dormant`) has no effect.
    pub state: String,
    /// Its servers.
    pub servers: Vec<Server>,
    /// The servers that an order has removed and the configuration has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<SaidOfServer>,
    /// Orders on servers that the configuration no longer has. They have an effect when those are back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dormant: Vec<SaidOfServer>,
    /// The switches and locations that send requests to it.
    pub used_by: Vec<String>,
    /// Its traffic in the window; absent without metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Where more servers are looked up for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<ServerLookup>,
    /// The commit that has pinned it: what is looked up does not count, and its servers of then are there by orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<SaidOfServer>,
}

/// Where servers are looked up for a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerLookup {
    /// As the configuration has it written.
    #[schema(example = "app.example.com:8080 resolve")]
    pub lookup: String,
    /// Its line in the configuration, with all parameters.
    #[serde(default)]
    #[schema(example = "server app.example.com:8080 resolve weight=2;")]
    pub line: String,
    /// How many servers the group has from there.
    pub servers: u64,
    /// How long ago it was last seen, in milliseconds. Missing if it was not since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Why it cannot be looked up now. The last good set stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Since when, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since_ms: Option<u64>,
    /// Why what was found last is not believed. The last good set stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_believed: Option<String>,
}

/// A server of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Server {
    /// As the configuration has it written, or its address.
    pub server: String,
    /// Where it comes from.
    pub source: ServerOrigin,
    /// Its parameters, where they are not nginx's defaults: those of the configuration, and the orders' over them.
    pub params: ServerSettings,
    /// The orders on it, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<SaidOfServer>,
    /// `up`, `failed`, `checking`, `unhealthy`, `draining` or `down`.
    pub state: String,
    /// Since when a health check has it so, or an order has it drained or down, in milliseconds since 1970; absent if it was never
    /// otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Its health checks, each with its last result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<HealthCheck>,
    /// Requests there now.
    pub in_flight: u64,
    /// The number of workers that skip it because it failed.
    pub failed: u64,
    /// Its traffic in the window; absent without metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

/// Where a server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerOrigin {
    /// The configuration has it.
    File,
    /// It was looked up where the configuration says.
    Discovered,
    /// An order has added it.
    Order,
}

/// The effect of orders on a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SaidOfServer {
    /// The server.
    pub server: String,
    /// The effect as text: `added weight=3 drain`, `removed`.
    pub says: String,
    /// The commit that said it last.
    pub revision: u64,
    /// Its actor; empty if the history does not have it.
    pub actor: String,
    /// Its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Of a removed server, where it would come from: the file has it, or it is still looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ServerOrigin>,
}

/// Parameters of a server, as in a `server` line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Its share of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub weight: Option<u32>,
    /// Most connections at a time; 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_conns: Option<u32>,
    /// Failures that make it unavailable; 0 counts none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fails: Option<u32>,
    /// The time in which they count, and for which it is left alone then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
    pub fail_timeout: Option<String>,
    /// The time in which it gets its full weight after it has recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "30s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
    pub slow_start: Option<String>,
    /// Used only if no other server is available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<bool>,
    /// It gets no new clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<bool>,
    /// It gets no request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<bool>,
}

/// An action on a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerAct {
    /// It joins the group.
    #[default]
    Add,
    /// Parameters are set, the others stay.
    Set,
    /// It gets no new clients.
    Drain,
    /// It gets no request.
    Down,
    /// It gets requests again.
    Up,
    /// It leaves the group.
    Remove,
    /// It is as in the configuration again; without a server, all of the group are.
    Reset,
    /// The servers that were looked up are those of the group, whatever is found later. Without a server.
    Pin,
}

/// A change of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerChange {
    /// The action.
    #[serde(rename = "do")]
    pub act: ServerAct,
    /// The server: an address, or as the configuration has it written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "10.0.0.1:8081")]
    pub server: String,
    /// Its parameters, of `add` and `set`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::one")]
    pub params: Option<ServerSettings>,
}

order! {
    /// Adds a server, or sets parameters of one.
    pub struct ServerParamsOrder {
        /// Its parameters; those that are left out stay, or are nginx's defaults.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::one")]
        pub params: Option<ServerSettings>,
        /// Asks the server even if no switch with a gate leads to its group.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub gate: bool,
    }
}

order! {
    /// Changes servers of a group in one commit: all or none.
    pub struct ServersOrder {
        /// At least one; each server once.
        #[serde(deserialize_with = "object::each")]
        #[schema(min_items = 1)]
        pub changes: Vec<ServerChange>,
        /// Asks the servers even if no switch with a gate leads to their group.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub gate: bool,
    }
}

/// A server of a new group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewServer {
    /// Its address.
    #[schema(example = "10.0.0.1:8081")]
    pub server: String,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::one")]
    pub params: Option<ServerSettings>,
}

order! {
    /// Makes a group.
    pub struct GroupMakeOrder {
        /// The group whose settings it has (balancer, keepalive, health checks …); without it, those of a block that has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "blue")]
        pub like: Option<String>,
        /// Its servers; each once.
        #[serde(default, deserialize_with = "object::each")]
        pub servers: Vec<NewServer>,
        /// Asks the servers even if no switch with a gate admits groups made at run time.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub gate: bool,
    }
}
