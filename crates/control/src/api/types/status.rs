//! Traffic statistics: groups, servers, latencies, and comparisons of two groups.
//!
//! Owns the answers of `/v1/status` and `/v1/compare`. Must never give a mean without its percentiles, nor a value without
//! its number of samples.

use super::{ServerLookup, StoreFault, Switch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An overview of the process and its traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// pointsman's version.
    pub version: String,
    /// The worker process; 0 if unknown.
    #[serde(default)]
    pub pid: u32,
    /// Its parent: the master process, unless `master_process` is off.
    #[serde(default)]
    pub parent_pid: u32,
    /// The time of the answer, in milliseconds since 1970.
    pub time_ms: u64,
    /// The number of worker threads.
    pub workers: u64,
    /// The connection counters of `stub_status`.
    pub connections: Connections,
    /// Access log lines lost since the process began, because a disk or a pipe was full.
    #[serde(default)]
    pub log_lines_lost: u64,
    /// The certificates of the configuration, and when they expire.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// The time window of the statistics, except totals: `10s`, `1m`, `5m` or `1h`.
    pub window: String,
    /// The time that the window covers so far, in milliseconds.
    pub span_ms: u64,
    /// The upstream groups.
    pub groups: Vec<Group>,
    /// The fault of the store of what orders say of servers, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_store_fault: Option<StoreFault>,
    /// Where servers are looked up for groups, and that fails or is not believed: the last good sets stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing_lookups: Vec<FailingLookup>,
    /// The switches.
    pub switches: Vec<Switch>,
    /// The busiest keys of the switches.
    pub keys: Vec<KeyTraffic>,
}

/// A place where servers are looked up, and that fails or is not believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailingLookup {
    /// The group.
    pub group: String,
    /// The place.
    pub lookup: ServerLookup,
}

/// A certificate of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Certificate {
    /// Its file.
    pub file: String,
    /// Until when it is valid, in seconds since 1970.
    pub until_s: u64,
}

/// Traffic of a switch's key to one of its targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyTraffic {
    /// The switch.
    pub switch: String,
    /// The key; absent for the sum of all keys that are not counted one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The target.
    pub target: String,
    /// The traffic.
    pub traffic: Traffic,
}

/// The counters of `stub_status` (nginx.org, ngx_http_stub_status_module).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    /// Open ones, waiting ones included.
    pub active: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Handled since the start.
    pub handled: u64,
    /// Requests since the start.
    pub requests: u64,
    /// Reading a request's head.
    pub reading: u64,
    /// Being answered.
    pub writing: u64,
    /// Between requests.
    pub waiting: u64,
}

/// Traffic of a group or a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Requests since the start.
    pub total: u64,
    /// Requests in the window.
    pub requests: u64,
    /// Requests per second in the window.
    pub per_second: f64,
    /// Requests in flight; unknown for keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// Errors in the window: answers of 500 and above, and requests without an answer.
    pub errors: u64,
    /// Answers in the window by class: `2xx` and so on, `none` for no answer.
    pub statuses: BTreeMap<String, u64>,
    /// Failures in the window by kind.
    pub failures: BTreeMap<String, u64>,
    /// Response times until the whole answer had arrived, in the window.
    pub response: Latency,
}

/// Times in microseconds; only `samples` is present without samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// The number of samples.
    pub samples: u64,
    /// The mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_us: Option<f64>,
    /// The median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// The 90th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_us: Option<u64>,
    /// The 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// The 99.9th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p999_us: Option<u64>,
    /// The maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_us: Option<u64>,
}

/// An upstream group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `healthy`, `degraded` (a server gets no requests) or `down` (none does); servers that are `down` in the configuration
    /// do not count.
    #[serde(default)]
    pub state: String,
    /// Its traffic.
    pub traffic: Traffic,
    /// Its servers.
    pub servers: Vec<Peer>,
}

/// A server of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its address, as in the configuration.
    pub address: String,
    /// `up`, `down` (in the configuration), `failed` (`max_fails` failures, for at least one worker), `unhealthy` (its health
    /// checks failed) or `checking` (its first health check has not passed yet).
    pub state: String,
    /// Where it comes from: `file`, `discovered` or `order`; empty if that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Since when its health checks have it so, in milliseconds since 1970; absent if that has never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Its health checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<HealthCheck>,
    /// True if it is used only when no other server is available.
    pub backup: bool,
    /// Its weight.
    pub weight: u64,
    /// Its traffic.
    pub traffic: Traffic,
}

/// A health check of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// The probe: `GET /health`.
    pub check: String,
    /// `up`, `checking` or `unhealthy`, by this check alone.
    pub state: String,
    /// Its last result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastHealthCheck>,
    /// How many have passed since the server is checked.
    #[serde(default)]
    pub passed: u64,
    /// How many have not.
    #[serde(default)]
    pub failed: u64,
}

/// The last result of a health check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LastHealthCheck {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// True if it passed.
    pub passed: bool,
    /// The result: `answered 200`, `connection refused`.
    pub reason: String,
}

/// A comparison of two groups in the same window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// The window: `10s`, `1m`, `5m` or `1h`.
    pub window: String,
    /// The first.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// Which differences are significant.
    pub judged: Vec<Judged>,
    /// The statistical method.
    pub method: String,
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Side {
    /// The group.
    pub group: String,
    /// Requests in the window.
    pub requests: u64,
    /// The number of errors.
    pub errors: u64,
    /// Response times.
    pub response: Latency,
}

/// Whether a difference is significant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There are too few samples to decide.
    TooFew,
    /// The difference is not significant.
    Noise,
    /// The second is better.
    Better,
    /// The second is worse.
    Worse,
}

/// One statistic of both sides, and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Judged {
    /// The statistic: `errors`, `p50`, `p90`, `p99` or `mean`.
    pub figure: String,
    /// The first side's value: a fraction of the requests (0 to 1) for errors, microseconds for times; absent without samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<f64>,
    /// The second side's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
    /// The number of samples that each side needs, where there are too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<u64>,
}
