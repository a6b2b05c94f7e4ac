//! The long run: all traffic and all disturbances at once, with broken origins and clients that misbehave, while memory
//! and descriptors are watched.
//!
//! Owns the plan of the run and its looks at the server. Must never run longer than it was told to by more than the
//! time that the last disturbance takes.

use super::super::Plan;
use super::disturbances::{Amounts, Disturber};
use super::fleet::{Fleet, until};
use super::samples::{self, Sample};
use super::traffic::World;
use super::{
    SWITCH_PAUSE, Stage, Stop, UNDISTURBED, faulty, rough, start_clients, switching, table, unexpected,
    verdict,
};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

const MINUTES: u64 = 20;
const EVERY: Duration = Duration::from_secs(5);
const CONNECTIONS: u64 = 128;
const ROUGH: u64 = 12;
/// So many descriptors more than before the load may be left after it.
const LEFT: u64 = 8;

/// Runs it, and gives the table.
pub(in super::super) fn run(plan: &Plan) -> Result<String, String> {
    let amount = plan.mixed;
    let minutes = amount.minutes.unwrap_or(MINUTES);
    let amounts = Amounts {
        reloads: amount.reloads.unwrap_or(minutes * 6),
        upgrades: amount.upgrades.unwrap_or(minutes.div_ceil(2)),
        kills: amount.kills.unwrap_or(minutes.div_ceil(2)),
    };
    let stage = Stage::make("long", Some(faulty::start()?))?;
    let fleet = Fleet::start(&plan.program, &stage.folder)?;
    let base = fleet.held();
    let mut disturber = Disturber::new(&stage.world, fleet, stage.ports, stage.path());
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let switches = amount.switches.unwrap_or(u64::MAX);
    let (world, folder) = (&stage.world, stage.folder.path());
    let mut looks = Vec::new();
    let (disturbed, switched) = thread::scope(|scope| {
        let stop = Stop(&world.ledger.stop);
        let no_more = AtomicBool::new(false);
        let result = start_clients(scope, world, amount.connections.unwrap_or(CONNECTIONS)).and_then(|()| {
            for number in 0..ROUGH {
                scope.spawn(move || rough::live(world, number));
            }
            thread::sleep(UNDISTURBED);
            thread::scope(|inner| {
                let switching =
                    inner.spawn(|| switching::switch_on(world, folder, switches, SWITCH_PAUSE * 4, &no_more));
                let give_up = Stop(&no_more);
                let disturbed = disturb_until(end, &mut disturber, amounts, world, &mut looks);
                drop(give_up);
                let switched = switching.join().map_err(|_| "the switching thread panicked".to_owned())?;
                Ok((disturbed, switched))
            })
        });
        drop(stop);
        result
    })?;
    let mut switched = switched;
    let mut broken = switched.faults.clone();
    broken.extend(disturbed.err());
    drop(stage.origins);
    broken.extend(disturber.fleet.settle().err());
    let mut left = disturber.fleet.held();
    let back = until("descriptors as before the load", || {
        left = disturber.fleet.held();
        left.descriptors <= base.descriptors + LEFT
    });
    broken.extend(back.err());
    broken.extend(disturber.fleet.finish().err());
    broken.extend(unexpected(&disturber.fleet.log(&["alert", "crit"])));
    let told = table::show(&stage.world.ledger, &mut disturber, &mut switched, &mut broken);
    let judged = samples::judge(&looks, &mut broken);
    let series = crate::root().join("target/xtask/soak-long.txt");
    std::fs::write(&series, samples::table(&looks)).map_err(|e| format!("{}: {e}", series.display()))?;
    let told = format!(
        "{minutes} minutes\n{told}\n  {judged}\n  before the load {} KiB and {} descriptors, after it {} KiB and {}\n  {} looks, \
         all in target/xtask/soak-long.txt; some of them:\n{}",
        base.memory_kib,
        base.descriptors,
        left.memory_kib,
        left.descriptors,
        looks.len(),
        samples::table(&some(&looks))
    );
    verdict("long", stage.folder.path(), told, &broken)
}

/// One disturbance after the other, evenly over the time that is left, with a look every few seconds.
fn disturb_until(
    end: Instant,
    disturber: &mut Disturber<'_>,
    amounts: Amounts,
    world: &World,
    looks: &mut Vec<Sample>,
) -> Result<(), String> {
    let begun = Instant::now();
    let order = amounts.order();
    let all = end.saturating_duration_since(begun);
    let mut next_look = begun;
    let mut given = 0;
    loop {
        let now = Instant::now();
        if now >= next_look {
            let held = disturber.fleet.held();
            looks.push(Sample { at_s: begun.elapsed().as_secs(), held, ended: world.ledger.ended() });
            next_look = now + EVERY;
        }
        if now >= end {
            return Ok(());
        }
        let due = begun + all.mul_f64((given + 1) as f64 / (order.len() + 1) as f64);
        match order.get(given) {
            Some(doing) if now >= due => {
                disturber.disturb(*doing)?;
                given += 1;
            }
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Twelve of them, evenly.
fn some(looks: &[Sample]) -> Vec<Sample> {
    let step = looks.len().div_ceil(12).max(1);
    looks.iter().step_by(step).copied().collect()
}
