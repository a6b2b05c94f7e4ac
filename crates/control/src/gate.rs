//! The gate: probes a target's servers before it gets traffic.
//!
//! Owns: the probes. Must never: decide whether an order is carried out in spite of them, or send anything but a connection
//! or a GET.
//!
//! Servers that are `down` or `backup` in the configuration are not probed: they get no request while the others are up. A
//! server that a worker skips because of `max_fails` does not count as healthy, whatever it answers.

use crate::data_plane::GroupState;
use crate::receipt::{GateResult, ServerResult};
use engine::Config;
use engine::modules::switch::{GateSpec, HttpProbe, Probe, ProbeHost};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};
use switch::{Code, Refusal};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use upstream::{Address, GroupSets};

/// The maximum number of concurrent probes.
const AT_ONCE: usize = 64;
/// The number of bytes of a body in which a match is looked for.
const MAX_BODY: usize = 64 << 10;
/// The number of characters of a body that are shown.
const SHOWN: usize = 120;
/// How long the beginning of a body that is only shown is waited for.
const SHOW_TIME: Duration = Duration::from_millis(200);

/// Probes the servers of these targets. `key` is the key that is switched, if it is a single one.
pub async fn ask(
    (config, groups): (&Config, &GroupSets),
    spec: &GateSpec,
    targets: &[std::sync::Arc<str>],
    key: Option<&str>,
    marks: &[GroupState],
) -> Vec<GateResult> {
    let permits = std::sync::Arc::new(Semaphore::new(AT_ONCE));
    let mut asked: Vec<(GateResult, Vec<tokio::task::JoinHandle<ServerResult>>)> = Vec::new();
    for target in targets {
        let group = config.group(target.as_bytes()).and_then(|number| config.groups.get(number));
        let group = match groups.get(target.as_bytes()) {
            Some(changed) => Some(&changed.spec),
            None => group.map(|entry| &entry.spec),
        };
        let peers = group.map_or(&[][..], |spec| &spec.peers[..]);
        let mut probes = Vec::new();
        for peer in peers.iter().filter(|peer| !peer.down && !peer.drain && !peer.backup) {
            let (address, spec, host) = (peer.address.clone(), spec.clone(), host_of(spec, target, key));
            let mark = mark_of(marks, target, &address.to_string());
            let permits = permits.clone();
            probes.push(tokio::task::spawn(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                ask_one(&address, &spec, &host, mark).await
            }));
        }
        let result = GateResult {
            target: target.to_string(),
            required: spec.required(probes.len()),
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

/// Probes servers that are to get the requests of a group.
pub async fn ask_servers(spec: &GateSpec, group: &str, addresses: Vec<Address>) -> Vec<ServerResult> {
    let host = host_of(spec, group, None);
    let mut results = Vec::with_capacity(addresses.len());
    for address in addresses {
        results.push(ask_one(&address, spec, &host, None).await);
    }
    results
}

/// Returns the refusal, with every server's reason.
pub fn refusal(results: &[GateResult]) -> Refusal {
    let of = |result: &GateResult| {
        let ill = result.servers.iter().filter(|server| !server.healthy);
        let servers = ill.map(|server| (server.address.clone(), server.reason.clone())).collect();
        Refusal::gate_failed(&result.target, result.healthy, result.required, servers)
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

/// Returns the reason why workers skip a server, if any does.
fn mark_of(marks: &[GroupState], group: &str, address: &str) -> Option<String> {
    let of_group = marks.iter().filter(|state| state.name.eq_ignore_ascii_case(group));
    let peers: Vec<bool> = of_group
        .flat_map(|state| &state.peers)
        .filter(|peer| *peer.address == *address)
        .map(|peer| peer.failed)
        .collect();
    let failed = peers.iter().filter(|&&failed| failed).count();
    (failed > 0).then(|| format!("marked as failed (max_fails) by {failed} of {} workers", peers.len()))
}

/// Returns the `Host` of a target's probes.
fn host_of(spec: &GateSpec, target: &str, key: Option<&str>) -> String {
    match &spec.probe {
        Probe::Http(HttpProbe { host: ProbeHost::Name(name), .. }) => name.to_string(),
        Probe::Http(HttpProbe { host: ProbeHost::Key, .. }) => key.unwrap_or(target).to_owned(),
        _ => target.to_owned(),
    }
}

/// Probes a server as often as it must pass, until it fails.
async fn ask_one(address: &Address, spec: &GateSpec, host: &str, mark: Option<String>) -> ServerResult {
    let began = Instant::now();
    let mut outcome = Err(String::new());
    for pass in 1..=spec.passes {
        if pass > 1 {
            tokio::time::sleep(Duration::from_millis(spec.interval_ms)).await;
        }
        outcome = ask_once(address, &spec.probe, host, Duration::from_millis(spec.timeout_ms)).await;
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
    let (healthy, reason) = match (outcome, mark) {
        (Err(reason), _) => (false, reason),
        (Ok(_), Some(mark)) => (false, mark),
        (Ok(reason), None) => (true, reason),
    };
    let took_us = began.elapsed().as_micros() as u64;
    ServerResult { address: address.to_string(), healthy, reason, took_us }
}

async fn ask_once(address: &Address, probe: &Probe, host: &str, timeout: Duration) -> Result<String, String> {
    #[cfg(test)]
    if let Some(answer) = crate::service::simulated_probe(address).await {
        return answer;
    }
    let answer = tokio::time::timeout(timeout, async {
        match address {
            Address::Inet(address) => match TcpStream::connect(address).await {
                Ok(stream) => converse(stream, probe, host).await,
                Err(error) => Err(not_connected(&error)),
            },
            Address::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => converse(stream, probe, host).await,
                Err(error) => Err(not_connected(&error)),
            },
        }
    });
    answer.await.unwrap_or_else(|_| Err(format!("no answer within {} ms", timeout.as_millis())))
}

fn not_connected(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => format!("connection failed: {error}"),
    }
}

/// Probes a server on a connection. Returns its answer, or fails with the reason.
async fn converse<S>(stream: S, probe: &Probe, host: &str) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Probe::Http(probe) = probe else { return Ok("accepts connections".to_owned()) };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let mut request = Request::builder()
        .uri(&*probe.uri)
        .header("host", host)
        .header("user-agent", "pointsman-gate")
        .header("connection", "close");
    for (name, value) in &probe.headers {
        request = request.header(&**name, &**value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| format!("cannot be asked: {error}"))?;
    let judged = async {
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        judge(probe, answer).await
    };
    let (mut connection, mut judged) = (pin!(connection), pin!(judged));
    tokio::select! {
        verdict = &mut judged => return verdict,
        // Closed by the server: what it has sent is still there to be read.
        _ = &mut connection => {}
    }
    judged.await
}

/// Returns what an answer shows, or fails with what it lacks.
async fn judge(probe: &HttpProbe, answer: Response<Incoming>) -> Result<String, String> {
    let status = answer.status().as_u16();
    let fits = probe.statuses.iter().any(|range| range.contains(&status));
    let mut body = answer.into_body();
    match &probe.body {
        None if fits => Ok(format!("answered {status}")),
        Some(wanted) if fits => {
            let mut read = Vec::new();
            while read.len() < MAX_BODY && more(&mut body, &mut read).await {}
            read.truncate(MAX_BODY);
            if wanted.is_in(&read) {
                return Ok(format!("answered {status}, and its body matches"));
            }
            Err(format!(
                "answered {status}, and its body does not match {:?}{}",
                wanted.pattern(),
                beginning(&read)
            ))
        }
        _ => {
            let mut read = Vec::new();
            let enough = async { while read.len() < SHOWN && more(&mut body, &mut read).await {} };
            // Without the body the status is reason enough.
            let _ = tokio::time::timeout(SHOW_TIME, enough).await;
            Err(format!("answered {status}{}", beginning(&read)))
        }
    }
}

/// Reads a part of a body. Returns false at its end.
async fn more(body: &mut Incoming, read: &mut Vec<u8>) -> bool {
    let Some(Ok(frame)) = body.frame().await else { return false };
    read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    true
}

/// Returns the beginning of a body, on one line.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().take(SHOWN).filter(|c| !c.is_control()).collect();
    match shown.as_str() {
        "" => String::new(),
        shown => format!(": {shown}{}", if words.chars().count() > SHOWN { "…" } else { "" }),
    }
}

fn broken(error: &hyper::Error) -> String {
    if error.is_parse() {
        "the answer is not HTTP".to_owned()
    } else if error.is_incomplete_message() {
        "closed the connection without answering".to_owned()
    } else {
        format!("connection broke: {error}")
    }
}
