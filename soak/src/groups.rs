//! Figures and states of a thousand groups of ten servers, whose servers are changed one by one: what a server costs in memory, that
//! a request costs as much as before, and that a change costs as much with ten thousand changes as with none.

use serde_json::json;
use testkit::proc::Memory;

use crate::Plan;
use crate::control::{Control, list, number};
use crate::cost::cpu_ns_per_request;
use crate::durations::Durations;
use crate::instructions::{self, Counter};
use crate::server::{SEVERE, Server, SharedDir, address, prepare};

const GATEWAY: &str = include_str!("groups.conf");
const SERVERS: &str = include_str!("grouped.conf");

const GROUPS: usize = 1000;
const PER_GROUP: usize = 10;
/// A request to changed groups may run so many times the instructions of one to unchanged ones.
const MAX_REQUEST: f64 = 1.01;
/// The publication of one of the last changes may take so many times that of one of the first, at the median.
const MAX_CHANGE: f64 = 1.5;
/// What a server may cost in memory, in bytes: changed, served from by all threads, and its figures shown.
const MAX_BYTES: u64 = 32 << 10;
/// The groups whose requests are counted.
const MEASURED: usize = 50;

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let servers_dir = prepare(SERVERS)?;
    let port = servers_dir.port("a")?;
    let servers = Server::start(&plan.program(), &servers_dir, address(&servers_dir, "a")?)?;
    let (one_dir, one) = gateway(plan, port, 1)?;
    let (same_dir, same) = gateway(plan, port, GROUPS)?;
    let (dir, changed) = gateway(plan, port, GROUPS)?;
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

    check(&mut control, changes)?;
    for server in [one, same, changed] {
        server.finish(&SEVERE)?;
    }
    let counted = instructions(plan, port)?;
    servers.finish(&SEVERE)?;
    let ratio = counted.map_or(1.0, |[before, after]| after / before);
    let cost = match counted {
        Some([before, after]) => {
            format!(
                "a request runs {before:.0} instructions before the changes and {after:.0} after: {ratio:.4} times"
            )
        }
        None => "skipped: valgrind is not installed, which counts the instructions of a request".to_owned(),
    };
    let summary = format!("{changes} changes one by one: {}; {memory}; {cost}", changing.text);
    match () {
        () if ratio > MAX_REQUEST => Err(format!("{summary}: above {MAX_REQUEST}")),
        () if changing.ratio > MAX_CHANGE => {
            Err(format!("{summary}: a late change takes more than {MAX_CHANGE} times an early one"))
        }
        () if per_server(all) > MAX_BYTES => Err(format!("{summary}: more than {MAX_BYTES} bytes")),
        () => Ok(summary),
    }
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
    let dir = prepare(&configuration(GATEWAY, port, groups))?;
    let server = Server::start(&plan.program(), &dir, address(&dir, "front")?)?;
    Ok((dir, server))
}

fn configuration(gateway: &str, port: u16, groups: usize) -> String {
    let servers: String = (0..PER_GROUP).map(|n| format!(" server {};", server(n, port))).collect();
    // Idle connections to all servers would be what is measured.
    let kept = |n| if n < MEASURED { 2 * PER_GROUP } else { 1 };
    let block = |n| format!("    upstream {0} {{ keepalive {1};{servers} }}\n", group(n), kept(n));
    let text = gateway.replace("{groups}", &(0..groups).map(block).collect::<String>());
    let map = |n| format!("        {0}.example.com {0};\n", group(n));
    text.replace("{names}", &(0..groups).map(map).collect::<String>())
}

/// Returns the instructions of a request before and after all servers are changed, a group by an order; `None` without
/// callgrind.
fn instructions(plan: &Plan, port: u16) -> Result<Option<[f64; 2]>, String> {
    if !instructions::is_there() {
        return Ok(None);
    }
    let alone = GATEWAY.replace("worker_processes  auto;", "worker_processes 1; master_process off;");
    let dir = prepare(&configuration(&alone, port, GROUPS))?;
    let front = address(&dir, "front")?;
    let counted = Server::start(&instructions::counted(&plan.program(), &dir)?, &dir, front)?;
    let mut counter = Counter::connect(&dir, front, counted.pid())?;
    let before = counter.per_request(hosts(MEASURED))?;
    let mut control = Control::open(dir.prefix())?;
    for of in 0..GROUPS {
        let change = |n| json!({"do": "set", "server": server(n, port), "params": {"weight": 2}});
        let body = json!({"changes": (0..PER_GROUP).map(change).collect::<Vec<_>>(), "reason": "soak test"});
        control.must("POST", &format!("/v1/groups/{}/servers", group(of)), &body)?;
    }
    let after = counter.per_request(hosts(MEASURED))?;
    drop(counter);
    counted.finish(&SEVERE)?;
    Ok(Some([before, after]))
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
