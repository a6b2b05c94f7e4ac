//! Status, comparison and metrics.
//!
//! Owns the handlers of `/v1/status`, `/v1/compare` and `/v1/metrics`. Must never count anything: the collector does.

use super::context::Api;
use super::error::{ApiError, QueryErrors};
use super::request::QueryParams;
use super::types::{self, Connections, Group, Judged, KeyTraffic, Latency, Peer, Side, Traffic};
use super::view;
use crate::checks_now::checks_now;
use crate::service::{ControlHandle, now_ms};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use engine::Config;
use engine::modules::ssl::CertificateExpiry;
use prober::Prober;
use serde::Deserialize;
use statistics::compare::{Compared, Difference, compare as compared};
use statistics::render::{Exposition, metrics as rendered};
use statistics::{
    CLASSES, CertificateNow, Collector, Counters, Failure, GroupCondition, GroupSummary, KeySummary, PeerNow,
    PeerSource, PeerState, PeerSummary, Snapshot, Summary, SwitchNow, Window,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use switch::{Code, Refusal};
use upstream::health::{CheckView, ServerView};
use upstream::{GroupSets, PeerSpec};
use utoipa::IntoParams;

/// The number of busiest keys in the status.
const KEYS: usize = 20;
/// A summary of the method; see crates/statistics/src/compare/mod.rs.
const METHOD: &str = "each figure by itself at 1 %: errors by Fisher's exact test or the two-proportion z-test, \
                      percentiles by intervals of order statistics, the mean by Welch's test";

/// A time window.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct WindowQuery {
    /// `10s`, `1m`, `5m` or `1h`. Default 1m.
    #[param(pattern = "^(10s|1m|5m|1h)$")]
    pub(super) window: Option<String>,
}

/// Shows the status
#[utoipa::path(get, path = "/v1/status", tag = "figures", params(WindowQuery),
    responses((status = 200, description = "Groups, servers, switches.", body = types::Status), QueryErrors))]
pub(super) async fn status(
    State(api): State<Api>,
    QueryParams(asked): QueryParams<WindowQuery>,
) -> Result<Json<types::Status>, ApiError> {
    let window = window(asked.window)?;
    let control = &api.control;
    let snapshot = snapshot(control).await?;
    let switches = control.list().await?;
    let groups_fault = control.groups_fault().await?;
    let failing = control.failing_sources().await?;
    let summary = collected(control, move |collector, now_ms| collector.summary(window, now_ms)).await?;
    let (connections, config, routing) = (snapshot.connections, control.config(), control.routing());
    let used = |key: &&KeySummary| key.window.ended > 0;
    let mut keys: Vec<(&str, &KeySummary)> = summary
        .switches
        .iter()
        .flat_map(|switch| switch.keys.iter().filter(used).map(|key| (&*switch.name, key)))
        .collect();
    keys.sort_by_key(|(_, key)| std::cmp::Reverse(key.window.ended));
    keys.truncate(KEYS);
    Ok(Json(types::Status {
        version: snapshot.version.clone(),
        pid: std::process::id(),
        parent_pid: std::os::unix::process::parent_id(),
        time_ms: now_ms(),
        workers: control.data_plane().threads() as u64,
        connections: Connections {
            active: connections.active,
            accepted: connections.accepted,
            handled: connections.handled,
            requests: connections.requests,
            reading: connections.reading,
            writing: connections.writing,
            waiting: connections.waiting,
        },
        log_lines_lost: snapshot.log_lines_lost,
        certificates: certificates(&snapshot),
        window: window.name().into(),
        span_ms: summary.span_ms,
        groups: groups((&config, &routing.groups), &summary, &snapshot, control.data_plane().prober()),
        groups_store_fault: groups_fault.map(|(text, remedy)| types::StoreFault { text, remedy }),
        failing_lookups: failing
            .into_iter()
            .map(|(group, source)| types::FailingLookup { group, lookup: view::lookup(&source) })
            .collect(),
        switches: switches.into_iter().map(view::switch).collect(),
        keys: keys.into_iter().map(|(switch, key)| key_traffic(&summary, switch, key)).collect(),
    }))
}

fn certificates(snapshot: &Snapshot) -> Vec<types::Certificate> {
    let now = snapshot.certificates.iter();
    now.map(|known| types::Certificate { file: known.file.to_string(), until_s: known.until_s }).collect()
}

/// Two groups and a time window.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ComparisonQuery {
    /// The first group.
    a: String,
    /// The second group.
    b: String,
    /// `10s`, `1m`, `5m` or `1h`. Default 1m.
    #[param(pattern = "^(10s|1m|5m|1h)$")]
    window: Option<String>,
}

/// Compares two groups in the same window
#[utoipa::path(get, path = "/v1/compare", tag = "figures", params(ComparisonQuery),
    responses((status = 200, description = "Both sides, and which differences are significant.", body = types::Comparison),
        QueryErrors))]
pub(super) async fn compare(
    State(api): State<Api>,
    QueryParams(asked): QueryParams<ComparisonQuery>,
) -> Result<Json<types::Comparison>, ApiError> {
    let window = window(asked.window)?;
    api.control.collect().await?;
    let summary = collected(&api.control, move |collector, now_ms| collector.summary(window, now_ms)).await?;
    let (a, b) = (group(&summary, &asked.a)?, group(&summary, &asked.b)?);
    let compared = compared(&a.window, &b.window);
    let judged = vec![
        judged("errors", &compared.error_rate),
        judged("p50", &compared.p50_us),
        judged("p90", &compared.p90_us),
        judged("p99", &compared.p99_us),
        judged("mean", &compared.mean_us),
    ];
    let (a, b) = (side(a), side(b));
    Ok(Json(types::Comparison { window: window.name().into(), a, b, judged, method: METHOD.into() }))
}

/// Exports all metrics in the text format of OpenMetrics or Prometheus
#[utoipa::path(get, path = "/v1/metrics", tag = "figures",
    responses((status = 200, description = "The metrics, in the format that `Accept` asks for.",
        content((String = "text/plain"), (String = "application/openmetrics-text"))), QueryErrors))]
pub(super) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Result<Response, ApiError> {
    let snapshot = snapshot(&api.control).await?;
    let form = Exposition::asked_for(headers.get(header::ACCEPT).map(|accept| accept.as_bytes()));
    let summary = collected(&api.control, Collector::totals).await?;
    let text = tokio::task::spawn_blocking(move || rendered(&summary, &snapshot, form));
    let text = text.await.map_err(|_| stopping())?;
    Ok(([(header::CONTENT_TYPE, form.content_type())], text).into_response())
}

/// Returns what accompanies the statistics: the servers' states, the tables' revisions, the connections. Empties the
/// threads' recorders first, so that a summary read next is current.
///
/// # Errors
/// The control plane is stopping.
async fn snapshot(control: &ControlHandle) -> Result<Snapshot, Refusal> {
    control.collect().await?;
    let config = control.config();
    let clock_ms = control.data_plane().prober().now_ms();
    let mut peers = Vec::new();
    for told in control.peers().await? {
        for peer in told.peers {
            if peer.departed {
                continue;
            }
            let (state, source, since_s) = (peer.state(), peer.origin(), peer.since_s(clock_ms, now_ms()));
            let connections = u64::from(peer.connections);
            let (group, peer) = (told.name.clone(), peer.name);
            peers.push(PeerNow { group, peer, state, connections, source, since_s });
        }
    }
    let now = |state: &crate::SwitchInfo| SwitchNow {
        name: Arc::from(&*state.name),
        revision: state.revision,
        keys: state.keys as u64,
        pending: state.pending.len() as u64,
        overdue: state.overdue(),
        store_fault: state.store_fault.is_some(),
        held_keys: state.held_keys(),
        held_requests: state.held_requests(),
        refused_requests: state.refused_requests(),
    };
    let certificate = |known: CertificateExpiry| CertificateNow { file: known.file, until_s: known.until_s };
    let counters = control.data_plane().counters();
    Ok(Snapshot {
        peers,
        checks: checks_now(control.data_plane().prober().health()),
        switches: control.list().await?.iter().map(now).collect(),
        groups_fault: control.groups_fault().await?.is_some(),
        connections: statistics::Connections {
            active: counters.active,
            accepted: counters.accepted,
            handled: counters.handled,
            requests: counters.requests,
            reading: counters.reading,
            writing: counters.writing,
            waiting: counters.waiting,
        },
        log_lines_lost: counters.log_lines_lost,
        certificates: config.http.expiries().into_iter().map(certificate).collect(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

/// Reads the collector off the control thread: it may hold much.
pub(super) async fn collected<T: Send + 'static>(
    control: &ControlHandle,
    read: impl FnOnce(&mut Collector, u64) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let (data_plane, now_ms) = (control.data_plane().clone(), control.clock_ms());
    let reading = tokio::task::spawn_blocking(move || {
        // A thread that panicked while it counted leaves numbers that are a little short.
        let mut collector = data_plane.collector().lock().unwrap_or_else(PoisonError::into_inner);
        read(&mut collector, now_ms)
    });
    reading.await.map_err(|_| stopping())
}

fn stopping() -> ApiError {
    ApiError(Refusal::new(Code::Stopping, "the statistics could not be read", "retry in a moment"))
}

pub(super) fn window(asked: Option<String>) -> Result<Window, ApiError> {
    let Some(name) = asked else { return Ok(Window::default()) };
    Window::parse(&name).ok_or_else(|| {
        let known: Vec<&str> = Window::ALL.iter().map(|window| window.name()).collect();
        ApiError::bad_request(format!("unknown window {name:?}"), format!("use one of {}", known.join(", ")))
    })
}

fn group<'a>(summary: &'a Summary, name: &str) -> Result<&'a GroupSummary, ApiError> {
    summary.group(name).ok_or_else(|| {
        let known: Vec<&str> = summary.groups.iter().map(|group| &*group.name).collect();
        let remedy = if known.is_empty() {
            "the configuration has none".into()
        } else {
            format!("use one of {}", known.join(", "))
        };
        ApiError(Refusal::new(Code::NotFound, format!("unknown upstream group {name:?}"), remedy))
    })
}

/// Returns the servers by group and name; of one that has several addresses, one of them.
fn specs<'a>(config: &'a Config, changed: &'a GroupSets) -> HashMap<(&'a str, &'a str), &'a PeerSpec> {
    // Those of a later one count.
    let groups = config.groups.iter().map(|entry| &entry.spec).chain(changed.iter().map(|set| &set.spec));
    groups.flat_map(|group| group.peers.iter().map(|peer| ((&*group.name, &*peer.name), peer))).collect()
}

fn groups(
    (config, changed): (&Config, &GroupSets),
    summary: &Summary,
    snapshot: &Snapshot,
    prober: &Prober,
) -> Vec<Group> {
    let (specs, conditions) = (specs(config, changed), snapshot.conditions());
    let mut states: HashMap<(&str, &str), (PeerState, PeerSource)> = HashMap::new();
    for now in &snapshot.peers {
        let (state, _) = states.entry((&*now.group, &*now.peer)).or_insert((now.state, now.source));
        *state = now.state.max(*state);
    }
    let server = |group: &str, peer: &PeerSummary| {
        let entry = prober.health().find(group).and_then(|entries| entries.named(&peer.name));
        let health = entry.map(|entry| entry.view());
        let spec = specs.get(&(group, &*peer.name));
        let now = states.get(&(group, &*peer.name)).copied();
        let (state, source) = now.unwrap_or((PeerState::Up, PeerSource::File));
        Peer {
            address: peer.name.to_string(),
            state: state.name().into(),
            source: source.name().into(),
            since_ms: health
                .as_ref()
                .filter(|_| !matches!(state, PeerState::Down | PeerState::Draining))
                .and_then(|view| at_epoch(view.since_ms, prober)),
            checks: health.map_or_else(Vec::new, |view| checks(view, prober)),
            backup: spec.is_some_and(|spec| spec.backup),
            weight: spec.map_or(1, |spec| u64::from(spec.weight)),
            traffic: traffic(summary, &peer.totals, &peer.window, Some(peer.in_flight)),
        }
    };
    let group = |group: &GroupSummary| Group {
        name: group.name.to_string(),
        state: match conditions.get(&*group.name) {
            Some(condition) => condition.name().into(),
            // Without servers no request is answered.
            None if !group.peers.iter().any(|peer| peer.configured) => GroupCondition::Down.name().into(),
            None => String::new(),
        },
        traffic: traffic(summary, &group.totals, &group.window, Some(group.in_flight)),
        servers: group
            .peers
            .iter()
            .filter(|peer| peer.configured)
            .map(|peer| server(&group.name, peer))
            .collect(),
    };
    summary.groups.iter().filter(|group| group.configured).map(group).collect()
}

/// Returns a time of the entries of health checks in milliseconds since 1970; none of the beginning.
pub(super) fn at_epoch(ms: u64, prober: &Prober) -> Option<u64> {
    (ms > 0).then(|| now_ms().saturating_sub(prober.now_ms().saturating_sub(ms)))
}

pub(super) fn checks(view: ServerView, prober: &Prober) -> Vec<types::HealthCheck> {
    let check = |known: CheckView| types::HealthCheck {
        check: known.check.to_string(),
        state: known.progress.health().name().into(),
        last: known.last.map(|last| types::LastHealthCheck {
            at_ms: at_epoch(last.at_ms, prober).unwrap_or_else(now_ms),
            took_us: last.took_us,
            passed: last.passed,
            reason: last.reason.to_string(),
        }),
        passed: known.passed,
        failed: known.failed,
    };
    view.checks.into_iter().map(check).collect()
}

fn key_traffic(summary: &Summary, switch: &str, key: &KeySummary) -> KeyTraffic {
    KeyTraffic {
        switch: switch.into(),
        key: key.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()),
        target: key.target.to_string(),
        traffic: traffic(summary, &key.totals, &key.window, None),
    }
}

pub(super) fn traffic(
    summary: &Summary,
    totals: &Counters,
    window: &Counters,
    in_flight: Option<u64>,
) -> Traffic {
    let counted = |names: &mut dyn Iterator<Item = (&str, u64)>| -> BTreeMap<String, u64> {
        names.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
    };
    let failures = Failure::ALL.iter().map(|failure| failure.name());
    Traffic {
        total: totals.ended,
        requests: window.ended,
        per_second: summary.per_second(window.ended),
        in_flight,
        errors: window.errors,
        statuses: counted(&mut CLASSES.into_iter().zip(window.statuses)),
        failures: counted(&mut failures.zip(window.failures)),
        response: latency(window),
    }
}

fn latency(counters: &Counters) -> Latency {
    let times = &counters.response;
    if times.count() == 0 {
        return Latency::default();
    }
    Latency {
        samples: times.count(),
        mean_us: times.mean_us(),
        p50_us: times.quantile(0.5),
        p90_us: times.quantile(0.9),
        p99_us: times.quantile(0.99),
        p999_us: times.quantile(0.999),
        max_us: Some(times.max_us()),
    }
}

fn side(group: &GroupSummary) -> Side {
    Side {
        group: group.name.to_string(),
        requests: group.window.ended,
        errors: group.window.errors,
        response: latency(&group.window),
    }
}

fn judged(figure: &str, compared: &Compared) -> Judged {
    let (verdict, needed) = match compared.difference {
        Difference::TooFew { needed } => (types::Verdict::TooFew, Some(needed)),
        Difference::Noise => (types::Verdict::Noise, None),
        // Of errors and of times less is better.
        Difference::Lower => (types::Verdict::Better, None),
        Difference::Higher => (types::Verdict::Worse, None),
    };
    Judged { figure: figure.into(), a: compared.first, b: compared.second, verdict, needed }
}
