//! Mixed traffic while the server is reloaded, upgraded, switched and killed: nothing is dropped.
//!
//! Every request knows which disturbances overlapped it. None may fail but those that overlapped a kill and lost their
//! connection. No connection is ever refused, and every answer comes from the group that was active. [`traffic`] has the
//! clients, [`disturbances`] and [`switching`] what is done to the server, [`ledger`] the counts. [`long`] is the same
//! for minutes, with broken origins and hostile clients.

mod broken_origin;
mod conf;
mod disturbances;
mod ledger;
pub(super) mod long;
mod misbehaving;
mod origin;
mod samples;
mod servers;
mod setup;
mod switching;
mod table;
mod traffic;
mod verdicts;

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use crate::Plan;
use disturbances::{Amounts, Disturber};
use servers::Servers;
use setup::{SWITCH_PAUSE, Setup, UNDISTURBED, start_clients, unexpected, verdict};
use switching::{Switched, switch_until};
use testkit::StopAtEnd;

/// The pause between two disturbances, on average.
const PAUSE_MS: u64 = 500;
/// More than all disturbances take.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// Runs the test; returns the report.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let amounts = Amounts {
        reloads: plan.reloads.unwrap_or(100),
        upgrades: plan.upgrades.unwrap_or(20),
        kills: plan.kills.unwrap_or(20),
    };
    let switches = plan.switches.unwrap_or(1000);
    let connections = plan.connections.unwrap_or(256);
    let setup = Setup::make(None)?;
    let servers = Servers::start(&plan.program(), &setup.dir)?;
    let mut disturber = Disturber::new(&setup.run, servers, setup.origin_ports, &setup.dir)?;
    let started = Instant::now();
    let (mut violations, switched) = thread::scope(|scope| {
        let _stop_clients = StopAtEnd(&setup.run.ledger.stop);
        start_clients(scope, &setup.run, connections)?;
        thread::sleep(UNDISTURBED);
        let result = disturb(&setup, &mut disturber, amounts, switches);
        thread::sleep(UNDISTURBED);
        result
    })?;
    let seconds = started.elapsed().as_secs_f64();
    if violations.is_empty() && switched.done < switches {
        violations.push(format!("{} of {switches} switches were carried out", switched.done));
    }
    drop(setup.origins);
    violations.extend(disturber.servers.settle().err());
    violations.extend(disturber.servers.finish().err());
    violations.extend(unexpected(&disturber.servers.log(&["alert", "crit"])));
    let report = table::show(&setup.run.ledger, &disturber, &switched, &mut violations);
    verdict(
        "mixed",
        setup.dir.prefix(),
        format!("{connections} connections for {seconds:.0} s\n{report}"),
        &violations,
    )
}

/// Disturbs and switches; returns the violations and the results of the switches.
fn disturb(
    setup: &Setup,
    disturber: &mut Disturber<'_>,
    amounts: Amounts,
    switches: u64,
) -> Result<(Vec<String>, Switched), String> {
    let (run, prefix, end) = (&setup.run, setup.dir.prefix(), AtomicBool::new(false));
    thread::scope(|scope| {
        let switching = scope.spawn(|| switch_until(run, prefix, switches, SWITCH_PAUSE, &end));
        let stop_switching = StopAtEnd(&end);
        let started = Instant::now();
        let disturbed = amounts.order().into_iter().try_for_each(|disturbance| {
            disturber.pause(PAUSE_MS);
            disturber.disturb(disturbance)
        });
        while disturbed.is_ok() && !switching.is_finished() && started.elapsed() < TIMEOUT {
            thread::sleep(Duration::from_millis(20));
        }
        drop(stop_switching);
        let switched = switching.join().map_err(|_| "the switching thread panicked".to_owned())??;
        let mut violations = switched.faults.clone();
        violations.extend(disturbed.err());
        Ok((violations, switched))
    })
}
