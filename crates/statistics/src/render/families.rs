//! The metrics there are, one entry each.
//!
//! Owns: names, kinds, units and help, by Prometheus' conventions (<https://prometheus.io/docs/practices/naming/>).
//! Must never: change a name that somebody's dashboard may ask for.

/// What kind of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up; its series end in `_total`.
    Counter,
    /// A value right now.
    Gauge,
    /// Its series end in `_bucket`, `_sum` and `_count`.
    Histogram,
    /// Without quantiles: its series end in `_sum` and `_count`.
    Summary,
    /// Always 1, with labels that tell something; its series ends in `_info`.
    Info,
}

/// A family of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Without the suffix of its series.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The unit, which the name ends in; empty if it is a plain number.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
}

const fn family(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Family {
    Family { name, kind, unit, help }
}

pub(super) const BUILD: Family = family("pointsman_build", Kind::Info, "", "The version of the program.");
pub(super) const CONNECTIONS: Family =
    family("pointsman_connections", Kind::Gauge, "", "Client connections by what they are doing.");
pub(super) const ACCEPTED: Family =
    family("pointsman_connections_accepted", Kind::Counter, "", "Client connections accepted.");
pub(super) const HANDLED: Family =
    family("pointsman_connections_handled", Kind::Counter, "", "Client connections served.");
pub(super) const LOG_LINES_LOST: Family = family(
    "pointsman_log_lines_lost",
    Kind::Counter,
    "",
    "Lines that access logs have lost, because a disk or a pipe was full.",
);
pub(super) const REQUESTS: Family =
    family("pointsman_requests", Kind::Counter, "", "Requests of clients begun.");

pub(super) const UPSTREAM_REQUESTS: Family = family(
    "pointsman_upstream_requests",
    Kind::Counter,
    "",
    "Requests given to an upstream, by the class of the status the client got.",
);
pub(super) const UPSTREAM_IN_FLIGHT: Family = family(
    "pointsman_upstream_requests_in_flight",
    Kind::Gauge,
    "",
    "Requests given to an upstream that have not ended.",
);
pub(super) const UPSTREAM_RECEIVED: Family = family(
    "pointsman_upstream_received_bytes",
    Kind::Counter,
    "bytes",
    "Bytes that came from an upstream's servers.",
);
pub(super) const UPSTREAM_SENT: Family = family(
    "pointsman_upstream_sent_bytes",
    Kind::Counter,
    "bytes",
    "Bytes that went to an upstream's servers.",
);
pub(super) const UPSTREAM_RESPONSE: Family = family(
    "pointsman_upstream_response_seconds",
    Kind::Histogram,
    "seconds",
    "Time from giving a request to an upstream to the end of the answer, all tries together.",
);
pub(super) const UPSTREAM_CONNECT: Family = family(
    "pointsman_upstream_connect_seconds",
    Kind::Histogram,
    "seconds",
    "Time to connect to a server of an upstream; connections used again do not count.",
);
pub(super) const UPSTREAM_FIRST_BYTE: Family = family(
    "pointsman_upstream_first_byte_seconds",
    Kind::Histogram,
    "seconds",
    "Time from the beginning of a try to the first byte of the answer.",
);
pub(super) const PEER_TRIES: Family = family(
    "pointsman_upstream_peer_tries",
    Kind::Counter,
    "",
    "Tries with one server of an upstream, by the class of the status it answered with.",
);
pub(super) const PEER_FAILURES: Family = family(
    "pointsman_upstream_peer_failures",
    Kind::Counter,
    "",
    "Tries with one server of an upstream that failed, by the kind of failure.",
);
pub(super) const PEER_RECEIVED: Family = family(
    "pointsman_upstream_peer_received_bytes",
    Kind::Counter,
    "bytes",
    "Bytes that came from one server of an upstream.",
);
pub(super) const PEER_SENT: Family = family(
    "pointsman_upstream_peer_sent_bytes",
    Kind::Counter,
    "bytes",
    "Bytes that went to one server of an upstream.",
);
pub(super) const PEER_RESPONSE: Family = family(
    "pointsman_upstream_peer_response_seconds",
    Kind::Histogram,
    "seconds",
    "Time from the beginning of a try with one server to its end.",
);
pub(super) const PEER_IN_FLIGHT: Family = family(
    "pointsman_upstream_peer_tries_in_flight",
    Kind::Gauge,
    "",
    "Tries with one server of an upstream that have not ended.",
);
pub(super) const PEER_UP: Family = family(
    "pointsman_upstream_peer_up",
    Kind::Gauge,
    "",
    "Whether requests go to a server: 0 if it is down or failed too often.",
);
pub(super) const PEER_CONNECTIONS: Family = family(
    "pointsman_upstream_peer_connections",
    Kind::Gauge,
    "",
    "Tries under way with one server of an upstream as its balancer counts them.",
);

pub(super) const SWITCH_REVISION: Family =
    family("pointsman_switch_revision", Kind::Gauge, "", "The revision of a switch's table.");
pub(super) const SWITCH_ENTRIES: Family =
    family("pointsman_switch_entries", Kind::Gauge, "", "Keys that a switch's table has entries for.");
pub(super) const SWITCH_PENDING: Family = family(
    "pointsman_switch_pending_commits",
    Kind::Gauge,
    "",
    "Commits of a switch that go back by themselves unless they are confirmed.",
);
pub(super) const SWITCH_REQUESTS: Family = family(
    "pointsman_switch_requests",
    Kind::Counter,
    "",
    "Requests that a switch decided on, by target and the class of the status the client got.",
);
pub(super) const KEY_REQUESTS: Family = family(
    "pointsman_switch_key_requests",
    Kind::Counter,
    "",
    "Requests by a switch's key and target; others=\"true\" is all keys without a place of their own.",
);
pub(super) const KEY_ERRORS: Family = family(
    "pointsman_switch_key_errors",
    Kind::Counter,
    "",
    "Requests by a switch's key and target that were answered with a status of 500 or more.",
);
pub(super) const KEY_RESPONSE: Family = family(
    "pointsman_switch_key_response_seconds",
    Kind::Summary,
    "seconds",
    "Response times by a switch's key and target.",
);

/// All there are, in the order in which they are written.
pub const FAMILIES: &[Family] = &[
    BUILD,
    CONNECTIONS,
    ACCEPTED,
    HANDLED,
    REQUESTS,
    LOG_LINES_LOST,
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
    PEER_UP,
    PEER_CONNECTIONS,
    SWITCH_REVISION,
    SWITCH_ENTRIES,
    SWITCH_PENDING,
    SWITCH_REQUESTS,
    KEY_REQUESTS,
    KEY_ERRORS,
    KEY_RESPONSE,
];
