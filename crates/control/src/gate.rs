//! The gate: probes a target's servers before it gets traffic.
//!
//! Owns: the probes. Must never: decide whether an order is carried out in spite of them, or send anything but a connection
//! or one GET. Answers are read with the codec of the data plane, so that the gate takes for HTTP what a request would.
//!
//! Servers that are `down` or `backup` in the configuration are not probed: they get no request while the others are up. A
//! server that a worker skips because of `max_fails` does not count as healthy, whatever it answers.

use crate::data_plane::GroupState;
use crate::receipt::{GateResult, ServerResult};
use engine::Config;
use engine::modules::switch::{GateSpec, Probe};
use http::{Progress, ResponseHead};
use std::io;
use std::time::{Duration, Instant};
use switch::{Code, Refusal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use upstream::Address;

/// The maximum number of concurrent probes.
const AT_ONCE: usize = 64;
/// The maximum size of an answer's head, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Probes the servers of these targets.
pub async fn ask(
    config: &Config,
    spec: &GateSpec,
    targets: &[std::sync::Arc<str>],
    marks: &[GroupState],
) -> Vec<GateResult> {
    let permits = std::sync::Arc::new(Semaphore::new(AT_ONCE));
    let mut asked: Vec<(GateResult, Vec<tokio::task::JoinHandle<ServerResult>>)> = Vec::new();
    for target in targets {
        let group = config.group(target.as_bytes()).and_then(|number| config.groups.get(number));
        let peers = group.map_or(&[][..], |entry| &entry.spec.peers[..]);
        let mut probes = Vec::new();
        for peer in peers.iter().filter(|peer| !peer.down && !peer.backup) {
            let (address, probe, host) = (peer.address.clone(), spec.probe.clone(), target.clone());
            let mark = mark_of(marks, target, &address.to_string());
            let (permits, timeout) = (permits.clone(), Duration::from_millis(spec.timeout_ms));
            probes.push(tokio::task::spawn(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                ask_one(&address, &probe, &host, timeout, mark).await
            }));
        }
        let result = GateResult {
            target: target.to_string(),
            required: spec.healthy.min(probes.len()).max(1),
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

async fn ask_one(
    address: &Address,
    probe: &Probe,
    host: &str,
    timeout: Duration,
    mark: Option<String>,
) -> ServerResult {
    let began = Instant::now();
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
    let answer = answer.await.unwrap_or_else(|_| Err(format!("no answer within {} ms", timeout.as_millis())));
    let (healthy, reason) = match (answer, mark) {
        (Err(reason), _) => (false, reason),
        (Ok(_), Some(mark)) => (false, mark),
        (Ok(reason), None) => (true, reason),
    };
    let took_us = began.elapsed().as_micros() as u64;
    ServerResult { address: address.to_string(), healthy, reason, took_us }
}

fn not_connected(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => format!("connection failed: {error}"),
    }
}

/// Probes a server on a connection. Returns its answer, or fails with the reason.
async fn converse<S>(mut stream: S, probe: &Probe, host: &str) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Probe::Http { uri, statuses } = probe else { return Ok("accepts connections".to_owned()) };
    // HTTP/1.0, as nginx speaks to upstreams by default: the answer ends with the connection.
    let request = format!(
        "GET {uri} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: pointsman-gate\r\nConnection: close\r\n\r\n"
    );
    let failed = |error: io::Error| format!("connection broke: {error}");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = ResponseHead::new();
    let mut input = Vec::with_capacity(1024);
    loop {
        let count = stream.read_buf(&mut input).await.map_err(failed)?;
        match head.decode(&input, MAX_HEAD) {
            Ok(Progress::Complete { .. }) => break,
            Ok(_) if count == 0 => return Err("closed the connection without answering".to_owned()),
            Ok(_) => {}
            Err(_) => return Err("the answer is not HTTP".to_owned()),
        }
    }
    let status = head.status;
    if statuses.iter().any(|range| range.contains(&status)) {
        Ok(format!("answered {status}"))
    } else {
        Err(format!("answered {status}"))
    }
}
