//! The gate: probes a target's servers before it gets traffic.
//!
//! Owns: which servers are asked what, and when a health check's result is enough; the asking is the prober's. Must never:
//! decide whether an order is carried out in spite of them.
//!
//! Servers that are `down` or drained are not probed, nor are backups, which get no request while the others are up; if there are
//! no others, the backups are. A server that a worker skips because of `max_fails` is asked as well: if it answers, the failures
//! are forgotten with the commit.

use crate::data_plane::{AskedServer, GroupState};
use crate::receipt::{GateResult, ServerResult};
use engine::Config;
use engine::modules::switch::GateSpec;
use engine::modules::upstream::GroupEntry;
use engine::probe::{CheckSpec, HttpProbe, Probe, ProbeHost};
use prober::{ProbeRequest, Prober};
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::{Code, Refusal};
use tokio::sync::Semaphore;
use upstream::health::Health;
use upstream::{Address, GroupSets, PeerSpec};

/// The maximum number of servers that a gate asks at once.
const AT_ONCE: usize = 64;
/// The name under which a gate asks.
const AGENT: &str = "pointsman-gate";

/// Probes the servers of these targets. `key` is the key that is switched, if it is a single one.
pub async fn ask(
    (config, groups): (&Arc<Config>, &GroupSets),
    prober: &Prober,
    spec: &GateSpec,
    targets: &[Arc<str>],
    key: Option<&str>,
    marks: &[GroupState],
) -> Vec<GateResult> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked: Vec<(GateResult, Vec<tokio::task::JoinHandle<ServerResult>>)> = Vec::new();
    for target in targets {
        let changed = groups.get(target.as_bytes());
        let entry = entry(config, target, changed.and_then(|set| set.like.as_deref()));
        let group = match changed {
            Some(changed) => Some(&changed.spec),
            None => entry.map(|entry| &entry.spec),
        };
        let peers = group.map_or(&[][..], |spec| &spec.peers[..]);
        let mut probes = Vec::new();
        let host = host_of(spec, target, key);
        let has_primaries = peers.iter().any(|peer| peer.is_in_use() && !peer.backup);
        let is_asked = |peer: &PeerSpec| peer.is_in_use() && peer.backup != has_primaries;
        let left_out = peers.iter().filter(|peer| !is_asked(peer)).map(left_out).collect();
        for peer in peers.iter().filter(|peer| is_asked(peer)) {
            let known = entry
                .zip(group)
                .and_then(|(entry, group)| by_checks((entry, &group.name), peer, spec, &host, prober));
            let probe_request = probe_request(config, entry, &peer.address, spec, &host, prober);
            let (address, spec, prober) = (peer.address.clone(), spec.clone(), prober.clone());
            let mark = mark_of(marks, target, &peer.name);
            let name = peer.name.clone();
            let permits = permits.clone();
            probes.push(tokio::task::spawn(async move {
                let result = match known {
                    Some((healthy, reason)) => ServerResult {
                        address: address.to_string(),
                        healthy,
                        reason,
                        ..ServerResult::default()
                    },
                    None => {
                        // The semaphore is never closed.
                        let _permit = permits.acquire().await;
                        ask_one(&address, &spec, &probe_request, &prober).await
                    }
                };
                with_mark(ServerResult { server: name, ..result }, mark)
            }));
        }
        let result = GateResult {
            target: target.to_string(),
            required: spec.required(probes.len()),
            left_out,
            ..GateResult::default()
        };
        asked.push((result, probes));
    }
    let mut results = Vec::with_capacity(asked.len());
    for (mut result, probes) in asked {
        for probe in probes {
            let ended =
                |_| ServerResult { reason: "the probe ended early".to_owned(), ..ServerResult::default() };
            result.servers.push(probe.await.unwrap_or_else(ended));
        }
        result.healthy = result.servers.iter().filter(|server| server.healthy).count();
        result.passed = result.healthy >= result.required;
        results.push(result);
    }
    results
}

/// Returns the group of the configuration that says how a group's servers are asked: itself, or the one that it is like.
pub fn entry<'c>(config: &'c Config, group: &str, like: Option<&str>) -> Option<&'c GroupEntry> {
    let number = config.group(group.as_bytes()).or_else(|| config.group(like?.as_bytes()));
    number.and_then(|number| config.groups.get(number))
}

/// Probes servers that are to get the requests of a group.
pub async fn ask_servers(
    (config, entry): (&Arc<Config>, Option<&GroupEntry>),
    prober: &Prober,
    spec: &GateSpec,
    group: &str,
    addresses: Vec<Address>,
) -> Vec<ServerResult> {
    let host = host_of(spec, group, None);
    let mut results = Vec::with_capacity(addresses.len());
    for address in addresses {
        let probe_request = probe_request(config, entry, &address, spec, &host, prober);
        results.push(ask_one(&address, spec, &probe_request, prober).await);
    }
    results
}

/// Returns the refusal, with every server's reason.
pub fn refusal(results: &[GateResult]) -> Refusal {
    let of = |result: &GateResult| {
        let ill = result.servers.iter().filter(|server| !server.healthy);
        let servers = ill.map(|server| (server.address.clone(), server.reason.clone())).collect();
        let refusal = Refusal::gate_failed(&result.target, result.healthy, result.required, servers);
        match &result.left_out[..] {
            [] => refusal,
            left_out => {
                let text = format!("{}; not asked: {}", refusal.text, left_out.join(", "));
                let remedy = match result.servers.is_empty() {
                    true => format!(
                        "bring one of its servers up (pointsman server {} up SERVER), or repeat the order with force",
                        result.target
                    ),
                    false => refusal.remedy.clone(),
                };
                Refusal { text, remedy, ..refusal }
            }
        }
    };
    let mut refusals = results.iter().filter(|result| !result.passed).map(of);
    let Some(mut first) = refusals.next() else {
        // Not called for a gate that passed.
        return Refusal::new(Code::GateFailed, "the gate found nothing wrong", "repeat the order");
    };
    for more in refusals {
        first.text = format!("{}; {}", first.text, more.text);
        if let (switch::Details::Servers(servers), switch::Details::Servers(others)) =
            (&mut first.details, more.details)
        {
            servers.extend(others);
        }
    }
    first
}

/// Returns the lines for the commit, one per server.
pub fn notes(result: &GateResult) -> Vec<String> {
    let note = |server: &ServerResult| {
        let word = if server.healthy { "healthy" } else { "unhealthy" };
        format!("{} {} {word}: {}", result.target, server.address, server.reason)
    };
    result.servers.iter().map(note).collect()
}

/// Returns why a server is not asked.
fn left_out(peer: &PeerSpec) -> String {
    let why = match peer {
        _ if peer.down => "down",
        _ if peer.drain => "drained",
        _ => "a backup, and others are in use",
    };
    format!("{} ({why})", peer.name)
}

/// Returns which servers of results answer: their failures are forgotten.
pub fn healthy(results: &[GateResult]) -> Vec<AskedServer> {
    let of = |result: &GateResult| {
        let group = result.target.clone();
        let healthy = result.servers.iter().filter(|server| server.healthy && !server.server.is_empty());
        healthy
            .map(move |server| AskedServer { group: group.clone(), server: server.server.clone() })
            .collect::<Vec<_>>()
    };
    results.iter().flat_map(of).collect()
}

/// Returns that workers skip a server, if any does.
fn mark_of(marks: &[GroupState], group: &str, name: &str) -> Option<String> {
    let of_group = marks.iter().filter(|state| state.name.eq_ignore_ascii_case(group));
    let peers: Vec<bool> = of_group
        .flat_map(|state| &state.peers)
        .filter(|peer| *peer.name == *name)
        .map(|peer| peer.failed)
        .collect();
    let failed = peers.iter().filter(|&&failed| failed).count();
    (failed > 0).then(|| format!("{failed} of {} workers had it marked as failed (max_fails)", peers.len()))
}

/// Returns the `Host` of a target's probes.
fn host_of(spec: &GateSpec, target: &str, key: Option<&str>) -> String {
    match spec.probe.host() {
        Some(ProbeHost::Name(name)) => name.to_string(),
        Some(ProbeHost::Key) => key.unwrap_or(target).to_owned(),
        Some(ProbeHost::Target) | None => target.to_owned(),
    }
}

/// Returns the probe to a server.
fn probe_request(
    config: &Arc<Config>,
    entry: Option<&GroupEntry>,
    address: &Address,
    spec: &GateSpec,
    host: &str,
    prober: &Prober,
) -> Result<ProbeRequest, String> {
    let probe = entry.map_or_else(|| spec.probe.clone(), |entry| probe_of(spec, entry));
    let tls = match entry.and_then(|entry| entry.tls.of(spec.scheme)) {
        Some(tls) => Some((prober.context(config, &tls, probe.is_over_http2())?, tls.name)),
        None => None,
    };
    Ok(ProbeRequest {
        address: address.clone(),
        probe: Arc::new(probe),
        host: host.into(),
        agent: AGENT,
        tls,
        connect: None,
        total: Duration::from_millis(spec.timeout_ms),
        keepalive: Duration::ZERO,
    })
}

/// Returns the probe of a group's servers: over HTTP/2 if the locations that lead there speak that.
fn probe_of(spec: &GateSpec, entry: &GroupEntry) -> Probe {
    let mut probe = spec.probe.clone();
    if let Probe::Http(http) = &mut probe {
        http.over_http2 = entry.tls.http2;
    }
    probe
}

/// Returns what health checks know of a server, if that is enough: it is unhealthy, or its last check is fresh, has passed
/// and has asked what the gate would.
fn by_checks(
    (entry, group): (&GroupEntry, &str),
    peer: &PeerSpec,
    spec: &GateSpec,
    host: &str,
    prober: &Prober,
) -> Option<(bool, String)> {
    let view = prober.health().find(group)?.known(peer)?.view();
    let now_ms = prober.now_ms();
    let words = |check: &upstream::health::CheckView| {
        let last = check.last.as_ref()?;
        let ago = now_ms.saturating_sub(last.at_ms) as f64 / 1000.0;
        Some(format!("{} (health check {}, {ago:.1} s ago)", last.reason, check.check))
    };
    if view.health != Health::Healthy {
        let worst = view.checks.iter().max_by_key(|check| check.progress.health())?;
        let found = match worst.last.as_ref().map(|last| last.passed) {
            None => None,
            Some(false) => words(worst),
            // Its last answer alone would not say why.
            Some(true) => {
                let rules =
                    entry.checks.iter().find(|check| check.text == worst.check).map(|check| check.rules);
                let (row, needed) = (worst.progress.row(), rules.map_or(1, |rules| rules.passes));
                words(worst).map(|last| {
                    format!("unhealthy: it has passed {row} of {needed} checks in a row that it needs; the last: {last}")
                })
            }
        };
        return Some((
            false,
            found.unwrap_or_else(|| "its first health check has not passed yet".to_owned()),
        ));
    }
    // A server that must pass more than once is asked: a check knows one answer.
    let asks_the_same = |check: &&CheckSpec| spec.passes == 1 && is_same(check, spec, host, entry);
    let asked = entry.checks.iter().find(asks_the_same)?;
    let check = view.checks.iter().find(|check| check.check == asked.text)?;
    let last = check.last.as_ref().filter(|last| last.passed)?;
    let times = asked.times;
    let is_fresh = now_ms.saturating_sub(last.at_ms) <= times.interval + times.jitter + times.total;
    is_fresh.then(|| Some((true, words(check)?)))?
}

/// Returns true if a check asks at least what a gate does.
fn is_same(check: &CheckSpec, spec: &GateSpec, host: &str, entry: &GroupEntry) -> bool {
    if check.port.is_some() || check.tls != entry.tls.of(spec.scheme) {
        return false;
    }
    match (&probe_of(spec, entry), &check.probe) {
        (Probe::Connect, _) => true,
        (Probe::Http(gate), Probe::Http(known)) => {
            let without_host = |probe: &HttpProbe| HttpProbe { host: ProbeHost::Target, ..probe.clone() };
            *check.host == *host && without_host(gate) == without_host(known)
        }
        (Probe::Grpc(gate), Probe::Grpc(known)) => {
            *check.host == *host && (&gate.service, gate.status) == (&known.service, known.status)
        }
        (Probe::Http(_) | Probe::Grpc(_), _) => false,
    }
}

fn with_mark(mut result: ServerResult, mark: Option<String>) -> ServerResult {
    if let Some(mark) = mark.filter(|_| result.healthy) {
        result.reason.push_str(&format!("; {mark}"));
    }
    result
}

/// Probes a server as often as it must pass, until it fails.
async fn ask_one(
    address: &Address,
    spec: &GateSpec,
    probe_request: &Result<ProbeRequest, String>,
    prober: &Prober,
) -> ServerResult {
    let began = Instant::now();
    let mut outcome = Err(String::new());
    for pass in 1..=spec.passes {
        if pass > 1 {
            tokio::time::sleep(Duration::from_millis(spec.interval_ms)).await;
        }
        outcome = ask_once(probe_request, prober).await;
        match &mut outcome {
            Err(reason) if pass > 1 => {
                reason.push_str(&format!(" (after it had passed {} of {})", pass - 1, spec.passes))
            }
            Ok(reason) if pass > 1 && pass == spec.passes => reason.push_str(&format!(", {pass} times")),
            _ => {}
        }
        if outcome.is_err() {
            break;
        }
    }
    let (healthy, reason) = match outcome {
        Ok(reason) => (true, reason),
        Err(reason) => (false, reason),
    };
    let took_us = began.elapsed().as_micros() as u64;
    ServerResult { address: address.to_string(), healthy, reason, took_us, ..ServerResult::default() }
}

async fn ask_once(probe_request: &Result<ProbeRequest, String>, prober: &Prober) -> Result<String, String> {
    let probe_request = probe_request.clone()?;
    #[cfg(test)]
    if let Some(answer) = crate::service::simulated_probe(&probe_request.address).await {
        return answer;
    }
    match prober.ask(probe_request).await {
        Ok(answer) => answer.outcome,
        Err(_) => Err("the thread that asks has ended".to_owned()),
    }
}
