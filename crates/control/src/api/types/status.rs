//! How the traffic is: groups, servers, times; and two groups side by side.
//!
//! Owns what `/v1/status` and `/v1/compare` say. Must never give a mean without its percentiles, nor a figure without
//! the number of samples behind it.

use super::Switch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Everything at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// pointsman's version.
    pub version: String,
    /// The process that serves, 0 if it does not say.
    #[serde(default)]
    pub pid: u32,
    /// The process that has started it: the master process, unless `master_process` is off.
    #[serde(default)]
    pub parent_pid: u32,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// How many worker threads serve.
    pub workers: u64,
    /// What `stub_status` counts.
    pub connections: Connections,
    /// Lines that access logs have lost since the process began, because a disk or a pipe was full.
    #[serde(default)]
    pub log_lines_lost: u64,
    /// What the figures below are about, unless they say "total": `10s`, `1m`, `5m` or `1h`.
    pub window: String,
    /// How much time the window covers, in milliseconds.
    pub span_ms: u64,
    /// The upstream groups.
    pub groups: Vec<Group>,
    /// The switches.
    pub switches: Vec<Switch>,
    /// The busiest keys of the switches.
    pub keys: Vec<KeyTraffic>,
}

/// What went through a key of a switch to one of its targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyTraffic {
    /// The switch.
    pub switch: String,
    /// The key; none for all keys together that are not counted one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The target.
    pub target: String,
    /// What went through.
    pub traffic: Traffic,
}

/// What `stub_status` counts (nginx.org, ngx_http_stub_status_module).
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

/// What went through a group or a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Since the start.
    pub total: u64,
    /// In the window.
    pub requests: u64,
    /// Each second of the window.
    pub per_second: f64,
    /// Not ended yet; not known of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// In the window: answers of 500 and above, and requests without an answer.
    pub errors: u64,
    /// In the window, by class: `2xx` and so on, `none` for no answer.
    pub statuses: BTreeMap<String, u64>,
    /// In the window, by kind: what a server did instead of answering.
    pub failures: BTreeMap<String, u64>,
    /// Times until the whole answer was there, in the window.
    pub response: Latency,
}

/// Times in microseconds; nothing but `samples` is said where there are none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// How many were measured.
    pub samples: u64,
    /// The mean, which hides what the others show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_us: Option<f64>,
    /// Half were faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 90 % were faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_us: Option<u64>,
    /// 99 % were faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// 99.9 % were faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p999_us: Option<u64>,
    /// None was slower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_us: Option<u64>,
}

/// An upstream group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What went through it.
    pub traffic: Traffic,
    /// Its servers.
    pub servers: Vec<Peer>,
}

/// A server of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its address, as in the configuration.
    pub address: String,
    /// `up`, `down` (in the configuration), or `failed` (too often of late, in the eyes of at least one worker).
    pub state: String,
    /// Asked only when no other can be.
    pub backup: bool,
    /// Its weight.
    pub weight: u64,
    /// What went through it.
    pub traffic: Traffic,
}

/// Two groups in the same window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// The window: `10s`, `1m`, `5m` or `1h`.
    pub window: String,
    /// The first.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// What of it is more than noise.
    pub judged: Vec<Judged>,
    /// How that was decided.
    pub method: String,
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Side {
    /// The group.
    pub group: String,
    /// Requests in the window.
    pub requests: u64,
    /// How many of them were errors.
    pub errors: u64,
    /// Response times.
    pub response: Latency,
}

/// Whether a difference is more than noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There are too few samples to say.
    TooFew,
    /// Noise can explain it.
    Noise,
    /// The second is better.
    Better,
    /// The second is worse.
    Worse,
}

/// One figure of both sides, and what is to be made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Judged {
    /// Which figure: `errors`, `p50`, `p90`, `p99` or `mean`.
    pub figure: String,
    /// The first side's: a part of the requests (0 to 1) for errors, microseconds for times; nothing without samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<f64>,
    /// The second side's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
    /// How many samples each side must have, where there are too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<u64>,
}
