//! The definitions of the metrics, one entry each.
//!
//! Owns: names, kinds, units and help, by Prometheus' conventions (<https://prometheus.io/docs/practices/naming/>).
//! Must never: change a name that a dashboard may use.

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    /// Only goes up; its series end in `_total`.
    Counter,
    /// A value right now.
    Gauge,
    /// Its series end in `_bucket`, `_sum` and `_count`.
    Histogram,
    /// Without quantiles: its series end in `_sum` and `_count`.
    Summary,
    /// Always 1, with informative labels; its series ends in `_info`.
    Info,
}

/// The definition of a metric: a family, in the words of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MetricDef {
    /// Without the suffix of its series.
    pub(super) name: &'static str,
    /// Its kind.
    pub(super) kind: MetricKind,
    /// The unit, which the name ends in; empty if it is a plain number.
    pub(super) unit: &'static str,
    /// One sentence.
    pub(super) help: &'static str,
}

const fn metric(name: &'static str, kind: MetricKind, unit: &'static str, help: &'static str) -> MetricDef {
    MetricDef { name, kind, unit, help }
}

pub(super) const BUILD: MetricDef =
    metric("pointsman_build", MetricKind::Info, "", "The version of the program.");
pub(super) const CONNECTIONS: MetricDef =
    metric("pointsman_connections", MetricKind::Gauge, "", "Client connections by what they are doing.");
pub(super) const ACCEPTED: MetricDef =
    metric("pointsman_connections_accepted", MetricKind::Counter, "", "Client connections accepted.");
pub(super) const HANDLED: MetricDef =
    metric("pointsman_connections_handled", MetricKind::Counter, "", "Client connections served.");
pub(super) const LOG_LINES_LOST: MetricDef = metric(
    "pointsman_log_lines_lost",
    MetricKind::Counter,
    "",
    "Lines that access logs have lost, because a disk or a pipe was full.",
);
pub(super) const CERTIFICATE_EXPIRY: MetricDef = metric(
    "pointsman_certificate_expiry_timestamp_seconds",
    MetricKind::Gauge,
    "seconds",
    "Until when a certificate is valid, in seconds since the epoch.",
);
pub(super) const REQUESTS: MetricDef =
    metric("pointsman_requests", MetricKind::Counter, "", "Client requests received.");

pub(super) const UPSTREAM_REQUESTS: MetricDef = metric(
    "pointsman_upstream_requests",
    MetricKind::Counter,
    "",
    "Requests given to an upstream, by the class of the status the client got.",
);
pub(super) const UPSTREAM_IN_FLIGHT: MetricDef = metric(
    "pointsman_upstream_requests_in_flight",
    MetricKind::Gauge,
    "",
    "Requests given to an upstream that have not ended yet.",
);
pub(super) const UPSTREAM_RECEIVED: MetricDef = metric(
    "pointsman_upstream_received_bytes",
    MetricKind::Counter,
    "bytes",
    "Bytes that came from an upstream's servers.",
);
pub(super) const UPSTREAM_SENT: MetricDef = metric(
    "pointsman_upstream_sent_bytes",
    MetricKind::Counter,
    "bytes",
    "Bytes that went to an upstream's servers.",
);
pub(super) const UPSTREAM_RESPONSE: MetricDef = metric(
    "pointsman_upstream_response_seconds",
    MetricKind::Histogram,
    "seconds",
    "Time from giving a request to an upstream to the end of the answer, all tries together.",
);
pub(super) const UPSTREAM_CONNECT: MetricDef = metric(
    "pointsman_upstream_connect_seconds",
    MetricKind::Histogram,
    "seconds",
    "Time to connect to a server of an upstream; connections used again do not count.",
);
pub(super) const UPSTREAM_FIRST_BYTE: MetricDef = metric(
    "pointsman_upstream_first_byte_seconds",
    MetricKind::Histogram,
    "seconds",
    "Time from the beginning of a try to the first byte of the answer.",
);
pub(super) const PEER_TRIES: MetricDef = metric(
    "pointsman_upstream_peer_tries",
    MetricKind::Counter,
    "",
    "Tries with one server of an upstream, by the class of the status it answered with.",
);
pub(super) const PEER_FAILURES: MetricDef = metric(
    "pointsman_upstream_peer_failures",
    MetricKind::Counter,
    "",
    "Tries with one server of an upstream that failed, by the kind of failure.",
);
pub(super) const PEER_RECEIVED: MetricDef = metric(
    "pointsman_upstream_peer_received_bytes",
    MetricKind::Counter,
    "bytes",
    "Bytes that came from one server of an upstream.",
);
pub(super) const PEER_SENT: MetricDef = metric(
    "pointsman_upstream_peer_sent_bytes",
    MetricKind::Counter,
    "bytes",
    "Bytes that went to one server of an upstream.",
);
pub(super) const PEER_RESPONSE: MetricDef = metric(
    "pointsman_upstream_peer_response_seconds",
    MetricKind::Histogram,
    "seconds",
    "Time from the beginning of a try with one server to its end.",
);
pub(super) const PEER_IN_FLIGHT: MetricDef = metric(
    "pointsman_upstream_peer_tries_in_flight",
    MetricKind::Gauge,
    "",
    "Tries with one server of an upstream that have not ended.",
);
pub(super) const PEER_UP: MetricDef = metric(
    "pointsman_upstream_peer_up",
    MetricKind::Gauge,
    "",
    "Whether requests go to a server: 0 if it is down, failed too often, or is not healthy as its health checks have it.",
);
pub(super) const UPSTREAM_STATE: MetricDef = metric(
    "pointsman_upstream_state",
    MetricKind::Gauge,
    "",
    "Whether an upstream is healthy, degraded (a server gets no requests) or down (none does): 1 for the state that it has.",
);
pub(super) const PEER_STATE: MetricDef = metric(
    "pointsman_upstream_peer_state",
    MetricKind::Gauge,
    "",
    "The state of a server: up, failed (max_fails), checking, unhealthy, draining or down. Always 1.",
);
pub(super) const PEER_SINCE: MetricDef = metric(
    "pointsman_upstream_peer_since_timestamp_seconds",
    MetricKind::Gauge,
    "seconds",
    "Since when health checks have a server in its state, in seconds since the epoch; not of one that they never had otherwise.",
);
pub(super) const PEER_SOURCE: MetricDef = metric(
    "pointsman_upstream_peer_source",
    MetricKind::Gauge,
    "",
    "Where a server comes from: file, discovered or order. Always 1.",
);
pub(super) const PEER_CONNECTIONS: MetricDef = metric(
    "pointsman_upstream_peer_connections",
    MetricKind::Gauge,
    "",
    "Tries under way with one server of an upstream as its balancer counts them.",
);
pub(super) const PEER_CHECKS: MetricDef = metric(
    "pointsman_upstream_peer_checks",
    MetricKind::Counter,
    "",
    "Health checks of one server of an upstream, by check and result.",
);
pub(super) const PEER_CHECK_DURATION: MetricDef = metric(
    "pointsman_upstream_peer_check_duration_seconds",
    MetricKind::Gauge,
    "seconds",
    "How long the last health check of one server of an upstream took.",
);

pub(super) const SWITCH_REVISION: MetricDef =
    metric("pointsman_switch_revision", MetricKind::Gauge, "", "The revision of a switch's table.");
pub(super) const SWITCH_ENTRIES: MetricDef =
    metric("pointsman_switch_entries", MetricKind::Gauge, "", "Keys that a switch's table has entries for.");
pub(super) const SWITCH_PENDING: MetricDef = metric(
    "pointsman_switch_pending_commits",
    MetricKind::Gauge,
    "",
    "Commits of a switch that are reverted unless they are confirmed in time.",
);
pub(super) const SWITCH_OVERDUE: MetricDef = metric(
    "pointsman_switch_overdue_commits",
    MetricKind::Gauge,
    "",
    "Commits of a switch that were not confirmed in time and stay, because the side they would go back to fails.",
);
pub(super) const SWITCH_STORE_FAULT: MetricDef = metric(
    "pointsman_switch_store_fault",
    MetricKind::Gauge,
    "",
    "1 if a switch's store is damaged, or did not take the last commit.",
);
pub(super) const SWITCH_HELD_KEYS: MetricDef = metric(
    "pointsman_switch_held_keys",
    MetricKind::Gauge,
    "",
    "Keys of a switch whose requests wait, or are refused after a hold.",
);
pub(super) const SWITCH_HELD_REQUESTS: MetricDef = metric(
    "pointsman_switch_held_requests",
    MetricKind::Gauge,
    "",
    "Requests that wait for a key of a switch to be released.",
);
pub(super) const SWITCH_REFUSED_REQUESTS: MetricDef = metric(
    "pointsman_switch_refused_requests",
    MetricKind::Counter,
    "",
    "Requests that holds of a switch have turned away: they had waited too long, there was no room, or the hold refuses.",
);
pub(super) const SWITCH_REQUESTS: MetricDef = metric(
    "pointsman_switch_requests",
    MetricKind::Counter,
    "",
    "Requests that a switch decided on, by target and the class of the status the client got.",
);
pub(super) const KEY_REQUESTS: MetricDef = metric(
    "pointsman_switch_key_requests",
    MetricKind::Counter,
    "",
    "Requests by a switch's key and target; others=\"true\" is all keys that are not counted by themselves.",
);
pub(super) const KEY_ERRORS: MetricDef = metric(
    "pointsman_switch_key_errors",
    MetricKind::Counter,
    "",
    "Requests by a switch's key and target that were answered with a status of 500 or more.",
);
pub(super) const KEY_RESPONSE: MetricDef = metric(
    "pointsman_switch_key_response_seconds",
    MetricKind::Summary,
    "seconds",
    "Response times by a switch's key and target.",
);

/// All metrics, in the order in which they are written.
#[cfg(test)]
pub(super) const METRIC_DEFS: &[MetricDef] = &[
    BUILD,
    CONNECTIONS,
    ACCEPTED,
    HANDLED,
    REQUESTS,
    LOG_LINES_LOST,
    CERTIFICATE_EXPIRY,
    UPSTREAM_REQUESTS,
    UPSTREAM_IN_FLIGHT,
    UPSTREAM_RECEIVED,
    UPSTREAM_SENT,
    UPSTREAM_RESPONSE,
    UPSTREAM_CONNECT,
    UPSTREAM_FIRST_BYTE,
    PEER_TRIES,
    PEER_FAILURES,
    PEER_RECEIVED,
    PEER_SENT,
    PEER_RESPONSE,
    PEER_IN_FLIGHT,
    UPSTREAM_STATE,
    PEER_UP,
    PEER_STATE,
    PEER_SINCE,
    PEER_SOURCE,
    PEER_CONNECTIONS,
    PEER_CHECKS,
    PEER_CHECK_DURATION,
    SWITCH_REVISION,
    SWITCH_ENTRIES,
    SWITCH_PENDING,
    SWITCH_OVERDUE,
    SWITCH_STORE_FAULT,
    SWITCH_HELD_KEYS,
    SWITCH_HELD_REQUESTS,
    SWITCH_REFUSED_REQUESTS,
    SWITCH_REQUESTS,
    KEY_REQUESTS,
    KEY_ERRORS,
    KEY_RESPONSE,
];
