//! The long run: all traffic and all disturbances at once, with broken origins and misbehaving clients, while memory and
//! descriptors are sampled.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::disturbances::{Amounts, Disturber};
use super::samples::{self, Sample};
use super::servers::{Servers, until};
use super::setup::{SWITCH_PAUSE, Setup, UNDISTURBED, start_clients, unexpected, verdict};
use super::switching::switch_until;
use super::traffic::Run;
use super::{broken_origin, misbehaving, table};
use crate::Plan;
use testkit::StopAtEnd;

const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
const CONNECTIONS: u64 = 128;
const MISBEHAVING: u64 = 12;
/// How many more descriptors than before the load may be open after it.
const MAX_LEFT: u64 = 8;

/// Runs the test; returns the report.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let minutes = plan.minutes;
    let amounts = Amounts {
        reloads: plan.reloads.unwrap_or(minutes * 6),
        upgrades: plan.upgrades.unwrap_or(minutes.div_ceil(2)),
        kills: plan.kills.unwrap_or(minutes.div_ceil(2)),
    };
    let setup = Setup::make(Some(broken_origin::start()?))?;
    let servers = Servers::start(&plan.program(), &setup.dir)?;
    let base = servers.resources();
    let mut disturber = Disturber::new(&setup.run, servers, setup.origin_ports, &setup.dir)?;
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let switches = plan.switches.unwrap_or(u64::MAX);
    let (run, prefix, no_more) = (&setup.run, setup.dir.prefix(), AtomicBool::new(false));
    let mut samples = Vec::new();
    let (disturbed, switched) = thread::scope(|scope| {
        let _stop_clients = StopAtEnd(&run.ledger.stop);
        start_clients(scope, run, plan.connections.unwrap_or(CONNECTIONS))?;
        for number in 0..MISBEHAVING {
            scope.spawn(move || misbehaving::run_client(run, number));
        }
        thread::sleep(UNDISTURBED);
        let switching = scope.spawn(|| switch_until(run, prefix, switches, SWITCH_PAUSE * 4, &no_more));
        let stop_switching = StopAtEnd(&no_more);
        let disturbed = disturb_until(end, &mut disturber, amounts, run, &mut samples);
        drop(stop_switching);
        let switched = switching.join().map_err(|_| "the switching thread panicked".to_owned())??;
        Ok::<_, String>((disturbed, switched))
    })?;
    let mut violations = switched.faults.clone();
    violations.extend(disturbed.err());
    drop(setup.origins);
    violations.extend(disturber.servers.settle().err());
    let mut left = disturber.servers.resources();
    let back = until("descriptors as before the load", || {
        left = disturber.servers.resources();
        left.descriptors <= base.descriptors + MAX_LEFT
    });
    violations.extend(back.err());
    violations.extend(disturber.servers.finish().err());
    violations.extend(unexpected(&disturber.servers.log(&["alert", "crit"])));
    let report = table::show(&run.ledger, &disturber, &switched, &mut violations);
    let growth = samples::judge(&samples, &mut violations);
    let series = crate::root().join("target/soak/long.txt");
    std::fs::write(&series, samples::table(&samples)).map_err(|e| format!("{}: {e}", series.display()))?;
    let report = format!(
        "{minutes} minutes\n{report}\n  {growth}\n  before the load {} KiB and {} descriptors, after it {} KiB and {}\n  {} \
         samples, all in target/soak/long.txt; some of them:\n{}",
        base.memory_kib,
        base.descriptors,
        left.memory_kib,
        left.descriptors,
        samples.len(),
        samples::table(&twelve_of(&samples))
    );
    verdict("long", prefix, report, &violations)
}

/// Disturbs evenly over the time that is left, and samples the resources at intervals.
fn disturb_until(
    end: Instant,
    disturber: &mut Disturber<'_>,
    amounts: Amounts,
    run: &Run,
    samples: &mut Vec<Sample>,
) -> Result<(), String> {
    let begun = Instant::now();
    let order = amounts.order();
    let all = end.saturating_duration_since(begun);
    let mut next_sample = begun;
    let mut given = 0;
    loop {
        let now = Instant::now();
        if now >= next_sample {
            let resources = disturber.servers.resources();
            samples.push(Sample { at_s: begun.elapsed().as_secs(), resources, ended: run.ledger.ended() });
            next_sample = now + SAMPLE_INTERVAL;
        }
        if now >= end {
            return Ok(());
        }
        let due = begun + all.mul_f64((given + 1) as f64 / (order.len() + 1) as f64);
        match order.get(given) {
            Some(disturbance) if now >= due => {
                disturber.disturb(*disturbance)?;
                given += 1;
            }
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn twelve_of(samples: &[Sample]) -> Vec<Sample> {
    let step = samples.len().div_ceil(12).max(1);
    samples.iter().step_by(step).copied().collect()
}
