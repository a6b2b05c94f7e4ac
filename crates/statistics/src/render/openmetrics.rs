//! `metrics`: what a Prometheus scrapes.
//!
//! Owns: which series there are, and the two text forms. Must never: let a series appear twice, or a counter fall.
//!
//! The forms are OpenMetrics 1.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>) and, for scrapers that do
//! not ask for that, Prometheus' older one, 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). They are written here and not by the crate
//! `prometheus-client`, because that has only the first form and keeps the counters itself, as atomics.
//!
//! The number of series is bounded by the configuration: for a group some 80, for a server that was used some 40,
//! for a switch key 4, and no more keys than the layout allows. A counter falls only when its subject was idle
//! for an hour, was dropped and comes back, which scrapers take for a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::metric_defs::*;
use super::readable_key;
use crate::counters::{CLASSES, Failure};
use crate::{Counters, GroupCondition, Histogram, PeerState, Snapshot, Summary};

/// The text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus 0.0.4.
    Prometheus,
}

impl Exposition {
    /// Chooses the form by a request's `Accept`; Prometheus names OpenMetrics if it knows it.
    pub fn asked_for(accept: Option<&[u8]>) -> Exposition {
        let mut types = accept.unwrap_or_default().split(|&byte| byte == b',').map(super::media_type);
        match types.any(|kind| kind == b"application/openmetrics-text") {
            true => Exposition::OpenMetrics,
            false => Exposition::Prometheus,
        }
    }

    /// Returns the value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The upper bounds of a histogram's buckets in microseconds, and in seconds as they are written. A duration is sorted
/// by the middle of its finer bucket, so a bound is sharp to [`Histogram::ERROR`].
const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Renders the body. The summary may be one without a window, [`crate::Collector::totals`].
pub fn metrics(summary: &Summary, snapshot: &Snapshot, form: Exposition) -> String {
    let mut writer = Writer { out: String::with_capacity(16_384), form, def: BUILD };
    connections(snapshot, &mut writer);
    upstreams(summary, &mut writer);
    peers(summary, &mut writer);
    peers_now(snapshot, &mut writer);
    switches(summary, snapshot, &mut writer);
    if form == Exposition::OpenMetrics {
        writer.out += "# EOF\n";
    }
    writer.out
}

/// A metric and what it counts.
type Number = (MetricDef, fn(&Counters) -> u64);

type Labels<'a> = &'a [(&'a str, &'a str)];

fn connections(snapshot: &Snapshot, writer: &mut Writer) {
    let now = &snapshot.connections;
    writer.begin(BUILD);
    writer.value(&[("version", &snapshot.version)], 1);
    writer.begin(CONNECTIONS);
    // Active ones are those of the three other states, so the sum over the label is meant.
    for (state, count) in [("reading", now.reading), ("writing", now.writing), ("waiting", now.waiting)] {
        writer.value(&[("state", state)], count);
    }
    let since_begin = [
        (ACCEPTED, now.accepted),
        (HANDLED, now.handled),
        (REQUESTS, now.requests),
        (LOG_LINES_LOST, snapshot.log_lines_lost),
    ];
    for (def, count) in since_begin {
        writer.begin(def);
        writer.value(&[], count);
    }
    writer.begin(CERTIFICATE_EXPIRY);
    for certificate in &snapshot.certificates {
        writer.value(&[("file", &certificate.file)], certificate.until_s);
    }
}

fn upstreams(summary: &Summary, writer: &mut Writer) {
    let groups = &summary.groups;
    writer.begin(UPSTREAM_REQUESTS);
    for group in groups {
        for (class, &count) in CLASSES.iter().zip(&group.totals.statuses) {
            writer.value(&[("upstream", &group.name), ("status", class)], count);
        }
    }
    writer.begin(UPSTREAM_IN_FLIGHT);
    for group in groups {
        writer.value(&[("upstream", &group.name)], group.in_flight);
    }
    let bytes: [Number; 2] =
        [(UPSTREAM_RECEIVED, |counters| counters.received), (UPSTREAM_SENT, |counters| counters.sent)];
    for (def, of) in bytes {
        writer.begin(def);
        for group in groups {
            writer.value(&[("upstream", &group.name)], of(&group.totals));
        }
    }
    writer.begin(UPSTREAM_RESPONSE);
    for group in groups {
        writer.histogram(&[("upstream", &group.name)], &group.totals.response);
    }
    writer.begin(UPSTREAM_CONNECT);
    for group in groups {
        writer.histogram(&[("upstream", &group.name)], &group.tries_totals.connect);
    }
    writer.begin(UPSTREAM_FIRST_BYTE);
    for group in groups {
        writer.histogram(&[("upstream", &group.name)], &group.tries_totals.first_byte);
    }
}

fn peers(summary: &Summary, writer: &mut Writer) {
    let peers = || {
        let all = summary.groups.iter().flat_map(|group| group.peers.iter().map(move |peer| (group, peer)));
        // A server that nothing was tried with has no series, or a large configuration would be all zeros.
        all.filter(|(_, peer)| peer.totals.ended > 0 || peer.in_flight > 0)
            .map(|(group, peer)| ([("upstream", &*group.name), ("peer", &*peer.name)], peer))
    };
    writer.begin(PEER_TRIES);
    for ([upstream, name], peer) in peers() {
        for (class, &count) in CLASSES.iter().zip(&peer.totals.statuses) {
            writer.value(&[upstream, name, ("status", class)], count);
        }
    }
    writer.begin(PEER_FAILURES);
    for ([upstream, name], peer) in peers() {
        for (kind, &count) in Failure::ALL.iter().zip(&peer.totals.failures) {
            writer.value(&[upstream, name, ("kind", kind.name())], count);
        }
    }
    let bytes: [Number; 2] =
        [(PEER_RECEIVED, |counters| counters.received), (PEER_SENT, |counters| counters.sent)];
    for (def, of) in bytes {
        writer.begin(def);
        for (labels, peer) in peers() {
            writer.value(&labels, of(&peer.totals));
        }
    }
    writer.begin(PEER_RESPONSE);
    for (labels, peer) in peers() {
        writer.histogram(&labels, &peer.totals.response);
    }
    writer.begin(PEER_IN_FLIGHT);
    for (labels, peer) in peers() {
        writer.value(&labels, peer.in_flight);
    }
}

fn peers_now(snapshot: &Snapshot, writer: &mut Writer) {
    let mut peers: Vec<_> = snapshot.peers_now().into_iter().collect();
    peers.sort_unstable();
    writer.begin(UPSTREAM_STATE);
    for (upstream, condition) in snapshot.conditions() {
        for state in GroupCondition::ALL {
            let labels = [("upstream", upstream), ("state", state.name())];
            writer.value(&labels, u64::from(state == condition));
        }
    }
    writer.begin(PEER_UP);
    for &((upstream, peer), (state, _)) in &peers {
        writer.value(&[("upstream", upstream), ("peer", peer)], u64::from(state == PeerState::Up));
    }
    writer.begin(PEER_STATE);
    for &((upstream, peer), (state, _)) in &peers {
        writer.value(&[("upstream", upstream), ("peer", peer), ("state", state.name())], 1);
    }
    writer.begin(PEER_SINCE);
    let since = snapshot.peers.iter().filter_map(|peer| Some(((&*peer.group, &*peer.peer), peer.since_s?)));
    for ((upstream, peer), since_s) in since.collect::<BTreeMap<_, _>>() {
        writer.value(&[("upstream", upstream), ("peer", peer)], since_s);
    }
    writer.begin(PEER_SOURCE);
    let named = snapshot.peers.iter().map(|peer| (&*peer.group, &*peer.peer, peer.source));
    for (upstream, peer, source) in named.collect::<BTreeSet<_>>() {
        writer.value(&[("upstream", upstream), ("peer", peer), ("source", source.name())], 1);
    }
    writer.begin(PEER_CONNECTIONS);
    for &((upstream, peer), (_, connections)) in &peers {
        writer.value(&[("upstream", upstream), ("peer", peer)], connections);
    }
    let checks = snapshot.checks_now();
    writer.begin(PEER_CHECKS);
    for ([upstream, peer, check], (passed, failed, _)) in &checks {
        for (result, count) in [("passed", *passed), ("failed", *failed)] {
            let labels = [("upstream", *upstream), ("peer", *peer), ("check", *check), ("result", result)];
            writer.value(&labels, count);
        }
    }
    writer.begin(PEER_CHECK_DURATION);
    for ([upstream, peer, check], (.., took_us)) in &checks {
        let Some(took_us) = took_us else { continue };
        writer.seconds(&[("upstream", *upstream), ("peer", *peer), ("check", *check)], *took_us);
    }
}

fn switches(summary: &Summary, snapshot: &Snapshot, writer: &mut Writer) {
    let now = &snapshot.switches;
    writer.begin(SWITCH_REVISION);
    now.iter().for_each(|now| writer.value(&[("switch", &now.name)], now.revision));
    writer.begin(SWITCH_ENTRIES);
    now.iter().for_each(|now| writer.value(&[("switch", &now.name)], now.keys));
    writer.begin(SWITCH_PENDING);
    now.iter().for_each(|now| writer.value(&[("switch", &now.name)], now.pending));
    writer.begin(SWITCH_OVERDUE);
    now.iter().for_each(|now| writer.value(&[("switch", &now.name)], now.overdue));
    writer.begin(SWITCH_STORE_FAULT);
    now.iter().for_each(|now| writer.value(&[("switch", &now.name)], u64::from(now.store_fault)));
    if snapshot.groups_fault {
        writer.value(&[("switch", "groups")], 1);
    }
    writer.begin(SWITCH_HELD_KEYS);
    now.iter().for_each(|now| writer.value(&[("switch", &now.name)], now.held_keys));
    writer.begin(SWITCH_HELD_REQUESTS);
    now.iter().for_each(|now| writer.value(&[("switch", &now.name)], now.held_requests));
    writer.begin(SWITCH_REFUSED_REQUESTS);
    now.iter().for_each(|now| writer.value(&[("switch", &now.name)], now.refused_requests));
    writer.begin(SWITCH_REQUESTS);
    for switch in &summary.switches {
        for target in &switch.targets {
            for (class, &count) in CLASSES.iter().zip(&target.totals.statuses) {
                let labels = [("switch", &*switch.name), ("target", &*target.target), ("status", *class)];
                writer.value(&labels, count);
            }
        }
    }
    let keys: Vec<_> = summary
        .switches
        .iter()
        .flat_map(|switch| switch.keys.iter().map(move |key| (switch, key)))
        .map(|(switch, key)| (&*switch.name, key.key.as_deref().map(readable_key), key))
        .collect();
    let numbers: [Number; 2] =
        [(KEY_REQUESTS, |counters| counters.ended), (KEY_ERRORS, |counters| counters.errors)];
    for (def, of) in numbers {
        writer.begin(def);
        for (switch, name, key) in &keys {
            writer.value(&key_labels(switch, name, &key.target), of(&key.totals));
        }
    }
    writer.begin(KEY_RESPONSE);
    for (switch, name, key) in &keys {
        writer.sums(&key_labels(switch, name, &key.target), &key.totals.response);
    }
}

/// Returns the label of the keys that are not counted by themselves. It is another one than `key`, because any text may be a
/// key.
fn key_labels<'a>(switch: &'a str, key: &'a Option<String>, target: &'a str) -> [(&'a str, &'a str); 3] {
    let key = key.as_deref().map_or(("others", "true"), |key| ("key", key));
    [("switch", switch), key, ("target", target)]
}

struct Writer {
    out: String,
    form: Exposition,
    def: MetricDef,
}

impl Writer {
    /// Begins a metric: the samples that follow belong to it.
    fn begin(&mut self, def: MetricDef) {
        self.def = def;
        let MetricDef { name, kind, unit, help } = def;
        // Which kind it is called, and whether the suffix of the series belongs to the name, is where the forms differ.
        let (suffix, kind) = match (self.form, kind) {
            (Exposition::OpenMetrics, MetricKind::Counter) => ("", "counter"),
            (Exposition::OpenMetrics, MetricKind::Info) => ("", "info"),
            (Exposition::Prometheus, MetricKind::Counter) => ("_total", "counter"),
            (Exposition::Prometheus, MetricKind::Info) => ("_info", "gauge"),
            (_, MetricKind::Gauge) => ("", "gauge"),
            (_, MetricKind::Histogram) => ("", "histogram"),
            (_, MetricKind::Summary) => ("", "summary"),
        };
        let out = &mut self.out;
        // Writing to a String does not fail.
        let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
        if self.form == Exposition::OpenMetrics && !unit.is_empty() {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
        let _ = write!(out, "# HELP {name}{suffix} ");
        escape(help, self.form == Exposition::OpenMetrics, out);
        out.push('\n');
    }

    /// Writes the one series of a counter, gauge or info with these labels.
    fn value(&mut self, labels: Labels<'_>, value: u64) {
        let suffix = match self.def.kind {
            MetricKind::Counter => "_total",
            MetricKind::Info => "_info",
            MetricKind::Gauge | MetricKind::Histogram | MetricKind::Summary => "",
        };
        self.series(suffix, labels, None);
        let _ = writeln!(self.out, " {value}");
    }

    /// Writes the one series of a gauge with these labels: a time.
    fn seconds(&mut self, labels: Labels<'_>, us: u64) {
        self.series("", labels, None);
        let _ = writeln!(self.out, " {}.{:06}", us / 1_000_000, us % 1_000_000);
    }

    /// Writes buckets, sum and count; nothing without measurements.
    fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        if histogram.count() == 0 {
            return;
        }
        for (bound, count) in BOUNDS_US.iter().zip(histogram.cumulative(&BOUNDS_US)) {
            self.series("_bucket", labels, Some(&format!("{:?}", *bound as f64 / 1e6)));
            let _ = writeln!(self.out, " {count}");
        }
        self.series("_bucket", labels, Some("+Inf"));
        let _ = writeln!(self.out, " {}", histogram.count());
        self.sums(labels, histogram);
    }

    fn sums(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let (count, sum_us) = (histogram.count(), histogram.sum_us());
        self.series("_count", labels, None);
        let _ = writeln!(self.out, " {count}");
        self.series("_sum", labels, None);
        let _ = writeln!(self.out, " {}.{:06}", sum_us / 1_000_000, sum_us % 1_000_000);
    }

    fn series(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>) {
        let out = &mut self.out;
        *out += self.def.name;
        *out += suffix;
        let mut mark = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            out.push(mark);
            mark = ',';
            *out += name;
            *out += "=\"";
            escape(value, true, out);
            out.push('"');
        }
        if mark == ',' {
            out.push('}');
        }
    }
}

/// Escapes a label's value, or help, where the older form leaves quotes alone.
fn escape(text: &str, quotes: bool, out: &mut String) {
    for char in text.chars() {
        match char {
            '\\' => *out += "\\\\",
            '\n' => *out += "\\n",
            '"' if quotes => *out += "\\\"",
            char => out.push(char),
        }
    }
}
