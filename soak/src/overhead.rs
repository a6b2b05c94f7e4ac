//! The CPU cost of keeping statistics: the same gateway with and without them, by turns in the same run.

use crate::Plan;
use crate::cost::{cpu_ns_per_request, median_ratio};
use crate::gateway::Gateway;
use crate::server::{SEVERE, Server};

const ROUNDS: usize = 15;
const REQUESTS_PER_ROUND: u64 = 40_000;
/// The highest allowed cost of a request, as a ratio to the cost without statistics.
const MAX_RATIO: f64 = 1.03;

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let with = Gateway::prepare()?;
    let with_server = with.start(&plan.program())?;
    let without = Gateway::prepare()?;
    let off = [("POINTSMAN_STATISTICS", "off")];
    let without_server = Server::start_with(&plan.program(), &without.dir, without.front, &off)?;
    let host = || "127.0.0.1".to_owned();
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let on = cpu_ns_per_request(with.front, with_server.pid(), REQUESTS_PER_ROUND, host)?;
        let off = cpu_ns_per_request(without.front, without_server.pid(), REQUESTS_PER_ROUND, host)?;
        // The first round warms both up.
        if round > 0 {
            ratios.push(on / off);
        }
    }
    with_server.finish(&SEVERE)?;
    without_server.finish(&SEVERE)?;
    let (ratio, text) = median_ratio(ratios);
    let summary = format!("CPU time of a request with statistics as a ratio to without: {text}");
    if ratio <= MAX_RATIO { Ok(summary) } else { Err(format!("{summary}: above {MAX_RATIO}")) }
}
