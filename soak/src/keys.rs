//! A million keys: how long loading and a commit take, and the cost of a request beside a table with one key.

use std::time::Instant;

use serde_json::{Value, json};
use testkit::proc::Memory;

use crate::Plan;
use crate::control::Control;
use crate::cost::{cpu_ns_per_request, median_ratio};
use crate::durations::Durations;
use crate::gateway::{GROUPS, Gateway};
use crate::server::SEVERE;

/// Keys in one commit: their text must stay below the API's limit.
const BATCH: u64 = 10_000;
const COMMITS: usize = 200;
const ROUNDS: u64 = 11;
const REQUESTS_PER_ROUND: u64 = 20_000;
/// The highest allowed cost of a request, as a ratio to the cost with one key.
const MAX_RATIO: f64 = 1.05;

/// The group that all keys route to, so that the same servers answer whatever the number of keys.
const GROUP: &str = GROUPS[1];

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let few = Gateway::prepare()?;
    let few_server = few.start(&plan.program())?;
    Control::open(few.dir.prefix())?.must("PUT", "/v1/switches/live/keys/*", &json!({"target": GROUP}))?;

    let many = Gateway::prepare()?;
    let server = many.start(&plan.program())?;
    let mut control = Control::open(many.dir.prefix())?;
    let started = Instant::now();
    fill(&mut control, plan.keys)?;
    let filled_s = started.elapsed().as_secs_f64();
    let before = commits(&mut control)?;
    server.finish(&SEVERE)?;

    let started = Instant::now();
    let server = many.start(&plan.program())?;
    let mut control = Control::open(many.dir.prefix())?;
    check(&mut control, plan.keys)?;
    let restart_s = started.elapsed().as_secs_f64();
    let after = commits(&mut control)?;

    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let mut number = round * 7919;
        // A prime step walks over the whole table.
        let mut next_host = || {
            number = (number + 611_953) % plan.keys;
            host(number)
        };
        let one = cpu_ns_per_request(few.front, few_server.pid(), REQUESTS_PER_ROUND, &mut next_host)?;
        let all = cpu_ns_per_request(many.front, server.pid(), REQUESTS_PER_ROUND, &mut next_host)?;
        ratios.push(all / one);
    }
    let (ratio, text) = median_ratio(ratios);
    let summary = format!(
        "{} keys in {filled_s:.1} s ({BATCH} per commit); restarted in {restart_s:.1} s; commits of one key: {before} before \
         the restart, {after} after it; {} KiB in memory, {} KiB with one key; CPU time of a request as a ratio to one key: {text}",
        plan.keys,
        Memory::of(server.pid()).rss_kib,
        Memory::of(few_server.pid()).rss_kib
    );
    server.finish(&SEVERE)?;
    few_server.finish(&SEVERE)?;
    if ratio <= MAX_RATIO { Ok(summary) } else { Err(format!("{summary}: above {MAX_RATIO}")) }
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

/// Commits one key many times; returns how long that took.
fn commits(control: &mut Control) -> Result<String, String> {
    let mut durations = Durations::new()?;
    for n in 0..COMMITS {
        let body = json!({"target": GROUPS[(n + 1) % 2]});
        let started = Instant::now();
        control.must("PUT", "/v1/switches/live/keys/k0.example.com", &body)?;
        durations.record(started.elapsed());
    }
    Ok(durations.in_ms(&[0.5, 0.99]))
}
