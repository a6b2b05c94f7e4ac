//! Figures and states of a thousand groups of ten servers, whose servers are changed one by one: what a server costs in memory, that
//! a request costs as much as before, and that a change costs as much with ten thousand changes as with none.

use serde_json::json;
use testkit::proc::Memory;

use crate::Plan;
use crate::control::{Control, list, number};
use crate::cost::{Median, Requests, cpu_ns_per_request};
use crate::durations::Durations;
use crate::server::{SEVERE, Server, SharedDir, address, prepare};

const GATEWAY: &str = include_str!("groups.conf");
const SERVERS: &str = include_str!("grouped.conf");

const GROUPS: usize = 1000;
const PER_GROUP: usize = 10;
/// The CPU time of a request with changed groups may be so many times that with unchanged ones.
const MAX_REQUEST: f64 = 1.01;
/// The publication of one of the last changes may take so many times that of one of the first, at the median.
const MAX_CHANGE: f64 = 1.5;
/// What a server may cost in memory, in bytes: changed, served from by all threads, and its figures shown.
const MAX_BYTES: u64 = 32 << 10;
/// The groups whose requests are timed.
const MEASURED: usize = 50;
/// Slices of requests to one server and the other in turn, before the changes and after them: short ones, so that what else
/// the machine does takes from both.
const PAIRS: usize = 600;
const REQUESTS: u64 = 640;
/// The widest half of an interval that can tell so little.
const MAX_HALF: f64 = 0.01;

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let servers_dir = prepare(SERVERS)?;
    let port = servers_dir.port("a")?;
    let servers = Server::start(&plan.program(), &servers_dir, address(&servers_dir, "a")?)?;
    let (one_dir, one) = gateway(plan, port, 1)?;
    let (same_dir, same) = gateway(plan, port, GROUPS)?;
    let (dir, changed) = gateway(plan, port, GROUPS)?;
    let mut sides = [
        Requests::connect(address(&dir, "front")?, changed.pid())?,
        Requests::connect(address(&same_dir, "front")?, same.pid())?,
    ];
    let before = compare(&mut sides)?;
    let mut control = Control::open(dir.prefix())?;
    let changes = plan.switches.unwrap_or((GROUPS * PER_GROUP) as u64);
    let changing = change_all(&mut control, changes)?;

    // Each group is asked by each thread, and its figures are read.
    for (dir, server, groups) in [(&one_dir, &one, 1), (&same_dir, &same, GROUPS), (&dir, &changed, GROUPS)] {
        let mut host = hosts(groups);
        cpu_ns_per_request(address(dir, "front")?, server.pid(), (GROUPS * PER_GROUP * 4) as u64, &mut host)?;
        Control::open(dir.prefix())?.get("/v1/status?window=1m")?;
    }
    let kib = |server: &Server| Memory::of(server.pid()).pss_kib;
    let (few, unchanged, all) = (kib(&one), kib(&same), kib(&changed));
    let count = (GROUPS * PER_GROUP) as u64;
    let per_server = |kib: u64| kib.saturating_sub(few) * 1024 / count;
    let memory = format!(
        "a server of {count} costs {} bytes, a changed one {} (Pss: {few} KiB with ten of them, {unchanged} and {all} KiB)",
        per_server(unchanged),
        per_server(all)
    );

    // Two processes never cost quite the same: it counts how far apart they are now and were before.
    let after = compare(&mut sides)?;
    drop(sides);
    let ratio = after.relative_to(&before);
    check(&mut control, changes)?;
    for server in [one, same, changed, servers] {
        server.finish(&SEVERE)?;
    }
    let summary = format!(
        "{changes} changes one by one: {}; {memory}; CPU time of a request with them as a ratio to without: {ratio}; beside an unchanged server {before} before and {after} after",
        changing.text
    );
    match () {
        () if ratio.value > MAX_REQUEST => Err(format!("{summary}: above {MAX_REQUEST}")),
        () if ratio.high - ratio.value > MAX_HALF => {
            Err(format!("{summary}: too wide to tell {MAX_REQUEST}"))
        }
        () if changing.ratio > MAX_CHANGE => {
            Err(format!("{summary}: a late change takes more than {MAX_CHANGE} times an early one"))
        }
        () if per_server(all) > MAX_BYTES => Err(format!("{summary}: more than {MAX_BYTES} bytes")),
        () => Ok(summary),
    }
}

/// Returns the CPU time of a request to the first server as a ratio to that of one to the second.
fn compare(sides: &mut [Requests; 2]) -> Result<Median, String> {
    let mut host = hosts(MEASURED);
    let mut ratios = Vec::with_capacity(PAIRS);
    // The first pairs warm both up: each group is asked by each thread.
    for pair in 0..PAIRS + PAIRS / 10 {
        // Which comes first changes from pair to pair.
        let mut ns = [0.0; 2];
        for which in [pair % 2, 1 - pair % 2] {
            ns[which] = sides[which].cpu_ns_each(REQUESTS, &mut host)?;
        }
        if pair >= PAIRS / 10 {
            ratios.push(ns[0] / ns[1]);
        }
    }
    Ok(Median::of(ratios))
}

fn group(number: usize) -> String {
    format!("g{number}")
}

fn server(number: usize, port: u16) -> String {
    format!("127.0.0.{}:{port}", number + 1)
}

/// Returns the hosts of so many groups, in turn.
fn hosts(groups: usize) -> impl FnMut() -> String {
    let mut next = 0;
    move || {
        next += 1;
        format!("{}.example.com", group(next % groups))
    }
}

fn gateway(plan: &Plan, port: u16, groups: usize) -> Result<(SharedDir, Server), String> {
    let servers: String = (0..PER_GROUP).map(|n| format!(" server {};", server(n, port))).collect();
    // Idle connections to all servers would be what is measured.
    let kept = |n| if n < MEASURED { 2 * PER_GROUP } else { 1 };
    let block = |n| format!("    upstream {0} {{ keepalive {1};{servers} }}\n", group(n), kept(n));
    let text = GATEWAY.replace("{groups}", &(0..groups).map(block).collect::<String>());
    let map = |n| format!("        {0}.example.com {0};\n", group(n));
    let text = text.replace("{names}", &(0..groups).map(map).collect::<String>());
    let dir = prepare(&text)?;
    let server = Server::start(&plan.program(), &dir, address(&dir, "front")?)?;
    Ok((dir, server))
}

/// What the changes took.
struct Changing {
    text: String,
    /// A late one against an early one.
    ratio: f64,
}

/// Gives each server another weight, by an order of its own.
fn change_all(control: &mut Control, changes: u64) -> Result<Changing, String> {
    let edge = (changes / 10).max(1);
    let [mut first, mut last] = [Durations::new()?, Durations::new()?];
    let listed = control.get(&format!("/v1/groups/{}/servers", group(0)))?;
    let names: Vec<String> =
        list(&listed["servers"]).iter().filter_map(|one| one["server"].as_str().map(str::to_owned)).collect();
    if names.len() != PER_GROUP {
        return Err(format!("group {} has {names:?}", group(0)));
    }
    for number in 0..changes {
        let (of, which) = (number as usize % GROUPS, number as usize / GROUPS % PER_GROUP);
        let change = json!({"do": "set", "server": names[which], "params": {"weight": 2 + number / 10_000}});
        let body = json!({"changes": [change], "reason": "soak test"});
        let receipt = control.must("POST", &format!("/v1/groups/{}/servers", group(of)), &body)?;
        let us = published_us(&receipt)?;
        if number < edge {
            first.record_us(us);
        }
        if number + edge >= changes {
            last.record_us(us);
        }
    }
    let ratio = last.quantile_us(0.5) as f64 / first.quantile_us(0.5).max(1) as f64;
    let shares = [0.5, 0.9];
    let text = format!(
        "from commit to the last worker {} at the beginning, {} at the end",
        first.in_ms(&shares),
        last.in_ms(&shares)
    );
    Ok(Changing { text, ratio })
}

/// Returns the time from the commit to the last worker's acknowledgement.
fn published_us(receipt: &serde_json::Value) -> Result<u64, String> {
    let after = list(&receipt["workers"]).iter().map(|one| number(one, "after_us"));
    Ok(after.collect::<Result<Vec<_>, String>>()?.into_iter().max().unwrap_or_default())
}

/// Checks that all changes are in the history, and that the last one shows.
fn check(control: &mut Control, changes: u64) -> Result<(), String> {
    control.check_history_of("groups")?;
    let of = group((changes as usize - 1) % GROUPS);
    let found = control.get(&format!("/v1/groups/{of}/servers"))?;
    let weights = list(&found["servers"]).iter().filter(|one| one["params"]["weight"].as_u64() > Some(1));
    match weights.count() {
        0 => Err(format!("no server of {of} has another weight: {found}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_host_and_every_server_an_address() {
        let mut host = hosts(2);
        assert_eq!(
            [host(), host(), host()].map(|host| host),
            ["g1", "g0", "g1"].map(|name| format!("{name}.example.com"))
        );
        assert_eq!((server(0, 80), server(9, 80)), ("127.0.0.1:80".to_owned(), "127.0.0.10:80".to_owned()));
    }
}
