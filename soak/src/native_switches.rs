//! A thousand native switches under load: no request fails, each is answered by the right group, and every worker
//! applies a switch within milliseconds.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use crate::Plan;
use crate::control::{Control, list, number};
use crate::durations::Durations;
use crate::gateway::{GROUPS, Gateway};
use crate::load::Load;
use crate::server::SEVERE;

const SWITCHES: u64 = 1000;
/// The longest time from the commit to the last worker's acknowledgement, for 99 of 100 switches.
const MAX_P99_US: u64 = 5000;

/// Lowers the priority of this process, and of the threads that it starts from now on.
fn yield_to_the_server() -> Result<(), String> {
    let own = std::process::id().to_string();
    match Command::new("renice").args(["-n", "10", "-p", &own]).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("renice: {status}")),
        Err(error) => Err(format!("renice: {error}")),
    }
}

/// A file beside the store, to which a record is written and synced after each switch: what the disk alone costs.
struct Disk(File);

impl Disk {
    fn prepare(gateway: &Gateway) -> Result<Disk, String> {
        let path = gateway.dir.prefix().join("synced");
        let made = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; 1 << 20])?;
            file.sync_all()?;
            std::io::Seek::rewind(&mut file)?;
            Ok(Disk(file))
        });
        made.map_err(|e| format!("{}: {e}", path.display()))
    }

    fn sync(&mut self) -> Result<(), String> {
        self.0.write_all(&[1; 400]).and_then(|()| self.0.sync_data()).map_err(|e| format!("fdatasync: {e}"))
    }
}

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let gateway = Gateway::prepare()?;
    let server = gateway.start(&plan.program())?;
    let mut control = Control::open(gateway.dir.prefix())?;
    let load = Load {
        front: gateway.front,
        groups: gateway.groups,
        requests: plan.requests,
        switches: SWITCHES,
        // A thousand receipts and commits, and windows that fill for an hour.
        allowed_growth_kib: 8 << 10,
        pid: server.pid(),
    };
    // In production clients run elsewhere; here they must not take the cores away from the server.
    yield_to_the_server()?;
    let (mut delays, mut orders, mut syncs) = (Durations::new()?, Durations::new()?, Durations::new()?);
    let mut disk = Disk::prepare(&gateway)?;
    let results = load.run(&mut |group| {
        let body = json!({"target": GROUPS[group], "reason": "soak test"});
        let begun = Instant::now();
        let receipt = control.must("PUT", "/v1/switches/live/keys/127.0.0.1", &body)?;
        orders.record(begun.elapsed());
        let begun = Instant::now();
        disk.sync()?;
        syncs.record(begun.elapsed());
        let workers = list(&receipt["workers"]);
        if workers.is_empty() || workers.len() as u64 != number(&receipt, "workers_asked")? {
            return Err(format!("not every worker has acknowledged: {receipt}"));
        }
        let after: Result<Vec<u64>, String> = workers.iter().map(|ack| number(ack, "after_us")).collect();
        after?.into_iter().max().into_iter().for_each(|us| delays.record_us(us));
        Ok(())
    })?;
    control.check_history()?;
    server.finish(&SEVERE)?;
    const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 1.0];
    let summary = format!(
        "{results}; from commit to the last worker: {}; from the order to its answer: {}; one fdatasync between two orders: {}",
        delays.in_ms(&SHARES),
        orders.in_ms(&SHARES),
        syncs.in_ms(&SHARES)
    );
    match delays.quantile_us(0.99) < MAX_P99_US {
        true => Ok(summary),
        false => Err(format!("{summary}: p99 is not below {MAX_P99_US} µs")),
    }
}
