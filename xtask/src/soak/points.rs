//! A thousand native switches under load: nobody fails, everybody is answered by the right group, and every worker
//! takes a switch over within milliseconds.

use super::Plan;
use super::control::{Control, number, quantile};
use super::gateway::{GROUPS, Gateway};
use super::load::Load;
use crate::server::Server;
use serde_json::json;
use std::process::{Command, Stdio};

const SWITCHES: u64 = 1000;
/// From the commit to the last worker's acknowledgement, for 99 of 100 switches.
const BOUND_US: u64 = 5000;

/// Lowers this process's priority, and with it that of the threads it starts from now on.
fn yield_to_the_server() -> Result<(), String> {
    let own = std::process::id().to_string();
    let done = Command::new("renice").args(["-n", "10", "-p", &own]).stdout(Stdio::null()).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("renice: {status}")),
        Err(error) => Err(format!("renice: {error}")),
    }
}

/// Runs it, and gives the figures.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let gateway = Gateway::make("points")?;
    let server = Server::start_in(&plan.program, &gateway.folder, gateway.front)?;
    let mut control = Control::open(gateway.folder.path())?;
    let load = Load {
        front: gateway.front,
        groups: gateway.groups,
        requests: plan.requests,
        switches: SWITCHES,
        // A thousand receipts and commits, and an hour's windows that fill.
        waves_kib: 8 << 10,
        pid: server.pid(),
    };
    // The clients are elsewhere in life; here they must not take the processors away from whom they measure.
    yield_to_the_server()?;
    let mut delays_us = Vec::new();
    let figures = load.run(&mut |group| {
        let body = json!({"target": GROUPS[group], "reason": "the points are thrown"});
        let receipt = control.must("PUT", "/v1/switches/live/keys/127.0.0.1", &body)?;
        let workers = receipt["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
        if workers.is_empty() || workers.len() as u64 != number(&receipt, "workers_asked")? {
            return Err(format!("not every worker has acknowledged: {receipt}"));
        }
        let after: Result<Vec<u64>, String> = workers.iter().map(|ack| number(ack, "after_us")).collect();
        delays_us.extend(after?.into_iter().max());
        Ok(())
    })?;
    let history = control.get("/v1/switches/live/history?limit=1&verify=true")?;
    if history["verified"]["intact"] != json!(true) {
        return Err(format!("the history is not intact: {history}"));
    }
    if let Some(line) = server.finish(&["alert", "emerg", "crit"])?.first() {
        return Err(format!("its error log says: {line}"));
    }
    delays_us.sort_unstable();
    let at = |share| quantile(&delays_us, share);
    let told = format!(
        "from commit to the last worker, µs: p50 {}, p90 {}, p99 {}, max {}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    match at(0.99) < BOUND_US {
        true => Ok(format!("{figures}; {told}")),
        false => Err(format!("{told}: p99 is to be below {BOUND_US}; {figures}")),
    }
}
