//! A million requests, and every statistic compared with independent counts: of the clients, of the servers behind the
//! gateway, and of the gateway's log, which has microseconds.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::Plan;
use crate::client::Client;
use crate::control::{Control, list, number};
use crate::durations::Durations;
use crate::origins::Origins;

const THREADS: u64 = 4;
const CONNECTIONS_PER_THREAD: usize = 64;
/// The largest allowed error of a quantile, as a share of the logged one.
const MAX_ERROR: f64 = 0.02;
/// The hosts that are routed to each group.
const HOSTS: [(&str, &str); 2] = [("b.example.com", "blue"), ("g.example.com", "green")];

/// Counts of a group or a server.
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

    /// Reads the counts in a part of the report.
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

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let origins = Origins::start(&plan.program(), None)?;
    let mut control = Control::open(origins.gateway_dir.prefix())?;
    let green = json!({"target": "green"});
    control.must("PUT", "/v1/switches/live/keys/g.example.com", &green)?;
    let share = plan.requests / THREADS;
    let by_clients = std::thread::scope(|scope| {
        let loads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| load(origins.front, share))).collect();
        let joined = loads.into_iter().map(|load| load.join().map_err(|_| "a load panicked".to_owned())?);
        joined.collect::<Result<Vec<_>, String>>()
    })?;
    let report = Client::connect(origins.front)?.get("/status?format=json")?;
    let report: Value = serde_json::from_str(&report.body).map_err(|e| format!("{e}: {}", report.body))?;
    let ports = origins.ports;
    let (gateway, servers) = origins.finish()?;
    let upstreams = list(&report["upstreams"]);
    let mut worst = (0.0, String::new());
    let logged = response_times(gateway.prefix())?;
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
            let server = find(list(&upstream["servers"]), &format!("127.0.0.1:{port}"))?;
            let counted = count_log(servers.prefix(), *port)?;
            let shown = Counted::of(&server["totals"])?;
            if shown != counted {
                return Err(format!("{port}: the server counted {counted:?}, the gateway shows {shown:?}"));
            }
            all.ended += counted.ended;
            all.sent += counted.sent;
            all.received += counted.received;
            compare(&server["totals"]["response"], logged.get(port), &port.to_string(), &mut worst)?;
        }
        let shown = Counted::of(&upstream["totals"])?;
        let expected = Counted { sent: all.sent, received: all.received, ..clients };
        if shown != expected || all.ended != expected.ended {
            return Err(format!(
                "{name}: clients and servers counted {expected:?}, the gateway shows {shown:?}"
            ));
        }
    }
    if worst.0 > MAX_ERROR {
        return Err(format!("the error of {} is {:.2} %", worst.1, worst.0 * 100.0));
    }
    Ok(format!(
        "{} requests: requests, statuses and bytes of 2 groups and 4 servers equal the counts of clients and servers; the \
         largest error of a quantile is that of {}, {:.2} %",
        share * THREADS,
        worst.1,
        worst.0 * 100.0
    ))
}

/// Sends the requests of one thread; returns the counts of its answers by group.
fn load(front: SocketAddr, requests: u64) -> Result<[Counted; 2], String> {
    let mut connections =
        (0..CONNECTIONS_PER_THREAD).map(|_| Client::connect(front)).collect::<Result<Vec<_>, _>>()?;
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

/// Counts the log of a server: what it received was sent, what it sent was received.
fn count_log(folder: &Path, port: u16) -> Result<Counted, String> {
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

/// Reads the response times of each server from the gateway's log.
fn response_times(folder: &Path) -> Result<BTreeMap<u16, Durations>, String> {
    let mut times: BTreeMap<u16, Durations> = BTreeMap::new();
    for line in read(&folder.join("logs/front.log"))?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let port = fields[0].rsplit(':').next().and_then(|port| port.parse().ok());
        let took_us = fields.last().and_then(|took| took.parse().ok());
        let (Some(port), Some(took_us)) = (port, took_us) else {
            return Err(format!("the gateway's log: {line}"));
        };
        match times.entry(port) {
            Entry::Occupied(mut times) => times.get_mut().record_us(took_us),
            Entry::Vacant(none) => none.insert(Durations::new()?).record_us(took_us),
        }
    }
    Ok(times)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Compares the shown quantiles with the logged ones; `worst` keeps the largest error.
fn compare(
    shown: &Value,
    logged: Option<&Durations>,
    name: &str,
    worst: &mut (f64, String),
) -> Result<(), String> {
    let logged = logged.ok_or_else(|| format!("the gateway's log has no {name}"))?;
    if number(shown, "count")? != logged.count() {
        return Err(format!("{name}: {} times are logged, {shown} is shown", logged.count()));
    }
    for (quantile, field) in
        [(0.5, "p50_us"), (0.9, "p90_us"), (0.99, "p99_us"), (0.999, "p99_9_us"), (1.0, "max_us")]
    {
        let right = logged.quantile_us(quantile).max(1) as f64;
        let error = (number(shown, field)? as f64 - right).abs() / right;
        if error >= worst.0 {
            *worst = (error, format!("{field} of {name}"));
        }
    }
    Ok(())
}
