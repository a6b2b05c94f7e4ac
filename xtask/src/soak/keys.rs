//! A million keys: how long loading and a commit take, and what a request costs beside a table of one key.

use super::Plan;
use super::client::Connection;
use super::control::{Control, quantile};
use super::gateway::{GROUPS, Gateway};
use super::memory;
use crate::server::Server;
use serde_json::{Value, json};
use std::time::Instant;

/// So many in one commit: their text must stay below the API's limit.
const BATCH: u64 = 10_000;
const COMMITS: usize = 200;
const ROUNDS: usize = 11;
const REQUESTS_A_ROUND: u64 = 20_000;
const CONNECTIONS: usize = 64;
/// A request may cost so much more with all the keys than with one.
const BOUND: f64 = 1.05;

/// Where all keys lead, so that the same servers are asked whatever the number of keys.
const GROUP: &str = GROUPS[1];

/// Runs it, and gives the figures.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let few = Gateway::make("one-key")?;
    let few_server = Server::start_in(&plan.program, &few.folder, few.front)?;
    let mut control = Control::open(few.folder.path())?;
    control.must("PUT", "/v1/switches/live/keys/*", &json!({"target": GROUP}))?;

    let many = Gateway::make("many-keys")?;
    let server = Server::start_in(&plan.program, &many.folder, many.front)?;
    let mut control = Control::open(many.folder.path())?;
    let started = Instant::now();
    fill(&mut control, plan.keys)?;
    let filled_s = started.elapsed().as_secs_f64();
    let before = commits(&mut control)?;
    server.finish(&["alert", "emerg", "crit"])?;

    let started = Instant::now();
    let server = Server::start_in(&plan.program, &many.folder, many.front)?;
    let mut control = Control::open(many.folder.path())?;
    check(&mut control, plan.keys)?;
    let restart_s = started.elapsed().as_secs_f64();
    let after = commits(&mut control)?;

    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let one = cost(&few, few_server.pid(), plan.keys, round as u64)?;
        let all = cost(&many, server.pid(), plan.keys, round as u64)?;
        ratios.push(all / one);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let ratio = ratios[ROUNDS / 2];
    let resident_kib = memory::of_tree(server.pid()).resident_kib;
    let few_kib = memory::of_tree(few_server.pid()).resident_kib;
    let told = format!(
        "{} keys in {filled_s:.1} s ({BATCH} a commit); started again in {restart_s:.1} s; a commit of one key in ms: p50 {:.1}, \
         p99 {:.1} before the restart, p50 {:.1}, p99 {:.1} after it; {resident_kib} KiB, with one key {few_kib}; CPU time a request \
         beside one key: median {ratio:.3} of {ROUNDS} pairs ({:.3} to {:.3})",
        plan.keys,
        before.0,
        before.1,
        after.0,
        after.1,
        ratios[0],
        ratios[ROUNDS - 1]
    );
    server.finish(&["alert", "emerg", "crit"])?;
    few_server.finish(&["alert", "emerg", "crit"])?;
    match ratio <= BOUND {
        true => Ok(told),
        false => Err(format!("{told}: it is to be at most {BOUND}")),
    }
}

fn fill(control: &mut Control, keys: u64) -> Result<(), String> {
    let mut next = 0;
    while next < keys {
        let end = (next + BATCH).min(keys);
        let changes: Vec<Value> = (next..end).map(|n| json!({"key": host(n), "target": GROUP})).collect();
        control.must("POST", "/v1/switches/live/commits", &json!({"changes": changes}))?;
        next = end;
    }
    Ok(())
}

fn host(number: u64) -> String {
    format!("k{number}.example.com")
}

fn check(control: &mut Control, keys: u64) -> Result<(), String> {
    for number in [1, keys / 3, keys - 1] {
        let entry = control.get(&format!("/v1/switches/live/keys/{}", host(number)))?;
        if entry["route"] != GROUP {
            return Err(format!("after the restart: {entry}"));
        }
    }
    Ok(())
}

/// The median and the 99th percentile of single commits, in milliseconds.
fn commits(control: &mut Control) -> Result<(f64, f64), String> {
    let mut taken_us = Vec::new();
    for n in 0..COMMITS {
        let body = json!({"target": GROUPS[(n + 1) % 2]});
        let started = Instant::now();
        control.must("PUT", "/v1/switches/live/keys/k0.example.com", &body)?;
        taken_us.push(started.elapsed().as_micros() as u64);
    }
    taken_us.sort_unstable();
    Ok((quantile(&taken_us, 0.5) as f64 / 1000.0, quantile(&taken_us, 0.99) as f64 / 1000.0))
}

/// The CPU time of a request, in ticks: requests of all keys, by turns.
fn cost(gateway: &Gateway, pid: u32, keys: u64, round: u64) -> Result<f64, String> {
    let mut connections =
        (0..CONNECTIONS).map(|_| Connection::open(gateway.front)).collect::<Result<Vec<_>, _>>()?;
    let before = memory::ticks(pid)?;
    let mut number = round * 7919;
    let mut sent = 0;
    while sent < REQUESTS_A_ROUND {
        for connection in &mut connections {
            // A prime step, so that the whole table is walked over.
            number = (number + 611_953) % keys;
            connection.send_to("/", &host(number))?;
        }
        for connection in &mut connections {
            let answer = connection.answer()?;
            if answer.status != 200 {
                return Err(format!("status {}", answer.status));
            }
            sent += 1;
        }
    }
    Ok((memory::ticks(pid)? - before) as f64 / sent as f64)
}
