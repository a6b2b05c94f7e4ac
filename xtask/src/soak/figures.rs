//! A million requests, and every figure held against those who can count it too: the clients, the servers behind the
//! gateway, and the gateway's own log with its microseconds.

use super::Plan;
use super::client::Connection;
use super::control::{Control, number};
use super::origins::Origins;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const THREADS: u64 = 4;
const CONNECTIONS_PER_THREAD: usize = 64;
/// A quantile may be so far off, as a part of the exact one.
const BOUND: f64 = 0.02;
/// The host that is led to each group.
const HOSTS: [(&str, &str); 2] = [("b.example.com", "blue"), ("g.example.com", "green")];

/// What somebody counted: of a group or a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    ended: u64,
    /// 2xx, 4xx, 5xx.
    statuses: [u64; 3],
    sent: u64,
    received: u64,
}

impl Counted {
    fn status(&mut self, status: u16) -> Result<(), String> {
        let class = match status {
            200..300 => 0,
            400..500 => 1,
            500..600 => 2,
            _ => return Err(format!("a status {status}")),
        };
        self.ended += 1;
        self.statuses[class] += 1;
        Ok(())
    }

    /// What a part of the report says.
    fn of(numbers: &Value) -> Result<Counted, String> {
        let status = |class: &str| number(&numbers["statuses"], class);
        Ok(Counted {
            ended: number(numbers, "ended")?,
            statuses: [status("2xx")?, status("4xx")?, status("5xx")?],
            sent: number(numbers, "sent_bytes")?,
            received: number(numbers, "received_bytes")?,
        })
    }
}

/// Runs it, and gives the figures.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let origins = Origins::start(&plan.program, "figures", None)?;
    let mut control = Control::open(origins.gateway_folder.path())?;
    let green = json!({"target": "green"});
    control.must("PUT", "/v1/switches/live/keys/g.example.com", &green)?;
    let share = plan.requests / THREADS;
    let by_clients = std::thread::scope(|scope| {
        let loads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| load(origins.front, share))).collect();
        let joined = loads.into_iter().map(|load| load.join().map_err(|_| "a load panicked".to_owned())?);
        joined.collect::<Result<Vec<_>, String>>()
    })?;
    let report = Connection::open(origins.front)?.ask("/status?format=json")?;
    let report: Value = serde_json::from_str(&report.body).map_err(|e| format!("{e}: {}", report.body))?;
    let ports = origins.ports;
    let (gateway, servers) = origins.finish()?;
    let upstreams = report["upstreams"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut worst = (0.0, String::new());
    let exact = times(gateway.path())?;
    for (place, (_, name)) in HOSTS.iter().enumerate() {
        let upstream = find(upstreams, name)?;
        let mut clients = Counted::default();
        for counted in by_clients.iter().map(|counted| &counted[place]) {
            clients.ended += counted.ended;
            clients.statuses.iter_mut().zip(counted.statuses).for_each(|(sum, one)| *sum += one);
        }
        let mut all = Counted::default();
        let ports = &ports[place * 2..][..2];
        for port in ports {
            let server = find(
                upstream["servers"].as_array().map(Vec::as_slice).unwrap_or_default(),
                &format!("127.0.0.1:{port}"),
            )?;
            let counted = log_of(servers.path(), *port)?;
            let shown = Counted::of(&server["totals"])?;
            if shown != counted {
                return Err(format!("{port}: the server counted {counted:?}, the gateway shows {shown:?}"));
            }
            all.ended += counted.ended;
            all.sent += counted.sent;
            all.received += counted.received;
            compare(&server["totals"]["response"], exact.get(port), &port.to_string(), &mut worst)?;
        }
        let shown = Counted::of(&upstream["totals"])?;
        let expected = Counted { sent: all.sent, received: all.received, ..clients };
        if shown != expected || all.ended != expected.ended {
            return Err(format!(
                "{name}: clients and servers counted {expected:?}, the gateway shows {shown:?}"
            ));
        }
    }
    if worst.0 > BOUND {
        return Err(format!("{} is off by {:.2} %", worst.1, worst.0 * 100.0));
    }
    Ok(format!(
        "{} requests: requests, statuses and bytes of 2 groups and 4 servers are what clients and servers counted; the quantile \
         that is off most is {}, by {:.2} %",
        share * THREADS,
        worst.1,
        worst.0 * 100.0
    ))
}

/// One thread's requests, and what it was answered by each group.
fn load(front: std::net::SocketAddr, requests: u64) -> Result<[Counted; 2], String> {
    let mut connections =
        (0..CONNECTIONS_PER_THREAD).map(|_| Connection::open(front)).collect::<Result<Vec<_>, _>>()?;
    let mut counted = <[Counted; 2]>::default();
    let mut sent = 0;
    while sent < requests {
        let round = (requests - sent).min(connections.len() as u64);
        for (number, connection) in (sent..sent + round).zip(&mut connections) {
            let target = match number % 100 {
                0 => "/missing",
                1 => "/fail",
                2..5 => "/late",
                _ => "/",
            };
            connection.send_to(target, HOSTS[(number / 3 % 2) as usize].0)?;
        }
        for (number, connection) in (sent..sent + round).zip(&mut connections) {
            let answer = connection.answer()?;
            counted[(number / 3 % 2) as usize].status(answer.status)?;
        }
        sent += round;
    }
    Ok(counted)
}

fn find<'a>(list: &'a [Value], name: &str) -> Result<&'a Value, String> {
    list.iter().find(|one| one["name"] == name).ok_or_else(|| format!("the report has no {name}"))
}

/// What a server counted itself: what it got was sent, what it sent was received.
fn log_of(folder: &Path, port: u16) -> Result<Counted, String> {
    let mut counted = Counted::default();
    for line in read(&folder.join(format!("logs/{port}.log")))?.lines() {
        let fields: Vec<u64> = line.split(' ').filter_map(|field| field.parse().ok()).collect();
        let [status, got, gave] = fields[..] else { return Err(format!("{port}: {line}")) };
        counted.status(status as u16)?;
        counted.sent += got;
        counted.received += gave;
    }
    Ok(counted)
}

/// The gateway's log: the response times of each server, sorted, in microseconds.
fn times(folder: &Path) -> Result<BTreeMap<u16, Vec<u64>>, String> {
    let mut times: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    for line in read(&folder.join("logs/front.log"))?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let port = fields[0].rsplit(':').next().and_then(|port| port.parse().ok());
        let took = fields.last().and_then(|took| took.parse().ok());
        let (Some(port), Some(took)) = (port, took) else { return Err(format!("the gateway's log: {line}")) };
        times.entry(port).or_default().push(took);
    }
    times.values_mut().for_each(|times| times.sort_unstable());
    Ok(times)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Holds the shown quantiles against the exact ones; `worst` keeps the one that is off most.
fn compare(
    shown: &Value,
    exact: Option<&Vec<u64>>,
    name: &str,
    worst: &mut (f64, String),
) -> Result<(), String> {
    let exact = exact.ok_or_else(|| format!("the gateway's log has no {name}"))?;
    if number(shown, "count")? != exact.len() as u64 {
        return Err(format!("{name}: {} times are logged, {shown} is shown", exact.len()));
    }
    for (quantile, field) in
        [(0.5, "p50_us"), (0.9, "p90_us"), (0.99, "p99_us"), (0.999, "p99_9_us"), (1.0, "max_us")]
    {
        let right = super::control::quantile(exact, quantile).max(1) as f64;
        let off = (number(shown, field)? as f64 - right).abs() / right;
        if off >= worst.0 {
            *worst = (off, format!("{field} of {name}"));
        }
    }
    Ok(())
}
