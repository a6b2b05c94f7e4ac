//! What all recording costs: the same gateway with it and without it, by turns in the same run.

use super::Plan;
use super::client::Connection;
use super::gateway::Gateway;
use super::memory;
use crate::server::Server;

const ROUNDS: usize = 15;
const REQUESTS_A_ROUND: u64 = 40_000;
const CONNECTIONS: usize = 64;
/// The cost may be this part of a request's CPU time.
const BOUND: f64 = 1.03;

/// Runs it, and gives the figures.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let with = Gateway::make("recording-on")?;
    let with_server = Server::start_in(&plan.program, &with.folder, with.front)?;
    let without = Gateway::make("recording-off")?;
    let off = [("POINTSMAN_STATISTICS", "off")];
    let without_server = Server::start_with(&plan.program, &without.folder, without.front, &off)?;
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let on = cost(&with, with_server.pid())?;
        let off = cost(&without, without_server.pid())?;
        // The first round warms both up.
        if round > 0 {
            ratios.push(on / off);
        }
    }
    with_server.finish(&["alert", "emerg", "crit"])?;
    without_server.finish(&["alert", "emerg", "crit"])?;
    ratios.sort_unstable_by(f64::total_cmp);
    let ratio = ratios[ROUNDS / 2];
    let told = format!(
        "CPU time of a request with recording, beside without: median {ratio:.3} of {ROUNDS} pairs of {REQUESTS_A_ROUND} \
         ({:.3} to {:.3})",
        ratios[0],
        ratios[ROUNDS - 1]
    );
    match ratio <= BOUND {
        true => Ok(told),
        false => Err(format!("{told}: it is to be at most {BOUND}")),
    }
}

/// The CPU time of a request, in ticks.
fn cost(gateway: &Gateway, pid: u32) -> Result<f64, String> {
    let mut connections =
        (0..CONNECTIONS).map(|_| Connection::open(gateway.front)).collect::<Result<Vec<_>, _>>()?;
    let before = memory::ticks(pid)?;
    let mut sent = 0;
    while sent < REQUESTS_A_ROUND {
        for connection in &mut connections {
            connection.send("/")?;
        }
        for connection in &mut connections {
            if connection.answer()?.status != 200 {
                return Err("a request failed".to_owned());
            }
            sent += 1;
        }
    }
    Ok((memory::ticks(pid)? - before) as f64 / sent as f64)
}
