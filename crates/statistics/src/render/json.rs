//! `upstream_status` for programs.
//!
//! Owns: the names of the fields, which are stable. Must never: use another unit of time than
//! microseconds in a field that ends in `_us`, or milliseconds in one that ends in `_ms`.

use serde::Serialize;

use super::readable_key;
use crate::counters::{CLASSES, Failure};
use crate::{Counters, Histogram, Snapshot, Summary};

#[derive(Serialize)]
struct Document<'a> {
    version: &'a str,
    window: &'static str,
    span_ms: u64,
    age_ms: u64,
    all: Numbers,
    connections: Connections,
    log_lines_lost: u64,
    upstreams: Vec<Upstream<'a>>,
    switches: Vec<Switch<'a>>,
}

#[derive(Serialize)]
struct Connections {
    active: u64,
    accepted: u64,
    handled: u64,
    requests: u64,
    reading: u64,
    writing: u64,
    waiting: u64,
}

#[derive(Serialize)]
struct Upstream<'a> {
    name: &'a str,
    configured: bool,
    in_flight: u64,
    totals: Numbers,
    window: Numbers,
    tries_totals: Numbers,
    tries_window: Numbers,
    servers: Vec<Server<'a>>,
}

#[derive(Serialize)]
struct Server<'a> {
    name: &'a str,
    configured: bool,
    /// `up`, `failed` or `down`; null if unknown.
    state: Option<&'static str>,
    in_flight: u64,
    totals: Numbers,
    window: Numbers,
}

#[derive(Serialize)]
struct Switch<'a> {
    name: &'a str,
    configured: bool,
    revision: Option<u64>,
    /// Entries of the table.
    entries: Option<u64>,
    /// Commits waiting to be confirmed.
    pending: Option<u64>,
    /// Those of them whose time has run out.
    overdue: Option<u64>,
    /// Keys that are held.
    held_keys: Option<u64>,
    /// Requests that wait for a hold.
    held_requests: Option<u64>,
    /// Requests that holds have turned away.
    refused_requests: Option<u64>,
    targets: Vec<Target<'a>>,
    keys: Vec<Key<'a>>,
}

#[derive(Serialize)]
struct Target<'a> {
    target: &'a str,
    totals: Numbers,
    window: Numbers,
}

#[derive(Serialize)]
struct Key<'a> {
    /// Null for all keys that are not counted by themselves.
    key: Option<String>,
    target: &'a str,
    totals: Numbers,
    window: Numbers,
}

#[derive(Serialize)]
struct Numbers {
    ended: u64,
    errors: u64,
    /// Null where there is no time to divide by.
    per_second: Option<f64>,
    statuses: Statuses,
    #[serde(skip_serializing_if = "Failures::is_empty")]
    failures: Failures,
    received_bytes: u64,
    sent_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<Times>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte: Option<Times>,
    response: Option<Times>,
}

struct Statuses([u64; CLASSES.len()]);

struct Failures([u64; Failure::ALL.len()]);

#[derive(Serialize)]
struct Times {
    count: u64,
    mean_us: f64,
    p50_us: Option<u64>,
    p90_us: Option<u64>,
    p99_us: Option<u64>,
    p99_9_us: Option<u64>,
    max_us: u64,
}

impl Failures {
    fn is_empty(&self) -> bool {
        self.0 == [0; Failure::ALL.len()]
    }
}

impl Serialize for Statuses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(CLASSES.iter().zip(self.0))
    }
}

impl Serialize for Failures {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Failure::ALL.iter().map(|kind| kind.name()).zip(self.0))
    }
}

/// Returns the body as JSON.
pub fn json(summary: &Summary, snapshot: &Snapshot) -> String {
    let document = Document {
        version: &snapshot.version,
        window: summary.window.name(),
        span_ms: summary.span_ms,
        age_ms: summary.age_ms,
        all: numbers(&summary.all, summary.age_ms),
        connections: connections(snapshot),
        log_lines_lost: snapshot.log_lines_lost,
        upstreams: upstreams(summary, snapshot),
        switches: switches(summary, snapshot),
    };
    // Nothing in it can fail to be written: no map has keys that are no strings.
    serde_json::to_string(&document).unwrap_or_else(|_| "null".to_owned())
}

fn connections(snapshot: &Snapshot) -> Connections {
    let crate::Connections { active, accepted, handled, requests, reading, writing, waiting } =
        snapshot.connections;
    Connections { active, accepted, handled, requests, reading, writing, waiting }
}

fn upstreams<'a>(summary: &'a Summary, snapshot: &Snapshot) -> Vec<Upstream<'a>> {
    let (span_ms, age_ms) = (summary.span_ms, summary.age_ms);
    let now = snapshot.peers_now();
    let groups = summary.groups.iter().map(|group| Upstream {
        name: &group.name,
        configured: group.configured,
        in_flight: group.in_flight,
        totals: numbers(&group.totals, age_ms),
        window: numbers(&group.window, span_ms),
        tries_totals: numbers(&group.tries_totals, age_ms),
        tries_window: numbers(&group.tries_window, span_ms),
        servers: group
            .peers
            .iter()
            .map(|peer| Server {
                name: &peer.name,
                configured: peer.configured,
                state: now.get(&(&*group.name, &*peer.name)).map(|(state, _)| state.name()),
                in_flight: peer.in_flight,
                totals: numbers(&peer.totals, age_ms),
                window: numbers(&peer.window, span_ms),
            })
            .collect(),
    });
    groups.collect()
}

fn switches<'a>(summary: &'a Summary, snapshot: &Snapshot) -> Vec<Switch<'a>> {
    let (span_ms, age_ms) = (summary.span_ms, summary.age_ms);
    let switches = summary.switches.iter().map(|switch| {
        let now = snapshot.switches.iter().find(|now| now.name == switch.name);
        let targets = switch.targets.iter().map(|target| Target {
            target: &target.target,
            totals: numbers(&target.totals, age_ms),
            window: numbers(&target.window, span_ms),
        });
        let keys = switch.keys.iter().map(|key| Key {
            key: key.key.as_deref().map(readable_key),
            target: &key.target,
            totals: numbers(&key.totals, age_ms),
            window: numbers(&key.window, span_ms),
        });
        Switch {
            name: &switch.name,
            configured: switch.configured,
            revision: now.map(|now| now.revision),
            entries: now.map(|now| now.keys),
            pending: now.map(|now| now.pending),
            overdue: now.map(|now| now.overdue),
            held_keys: now.map(|now| now.held_keys),
            held_requests: now.map(|now| now.held_requests),
            refused_requests: now.map(|now| now.refused_requests),
            targets: targets.collect(),
            keys: keys.collect(),
        }
    });
    switches.collect()
}

fn numbers(counters: &Counters, span_ms: u64) -> Numbers {
    let rate = counters.ended as f64 * 1_000.0 / span_ms as f64;
    Numbers {
        ended: counters.ended,
        errors: counters.errors,
        per_second: (span_ms > 0).then(|| (rate * 1_000.0).round() / 1_000.0),
        statuses: Statuses(counters.statuses),
        failures: Failures(counters.failures),
        received_bytes: counters.received,
        sent_bytes: counters.sent,
        connect: times(&counters.connect),
        first_byte: times(&counters.first_byte),
        response: times(&counters.response),
    }
}

fn times(histogram: &Histogram) -> Option<Times> {
    let mean_us = histogram.mean_us()?;
    Some(Times {
        count: histogram.count(),
        mean_us: (mean_us * 1_000.0).round() / 1_000.0,
        p50_us: histogram.quantile(0.5),
        p90_us: histogram.quantile(0.9),
        p99_us: histogram.quantile(0.99),
        p99_9_us: histogram.quantile(0.999),
        max_us: histogram.max_us(),
    })
}
