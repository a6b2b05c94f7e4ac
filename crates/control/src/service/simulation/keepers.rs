//! Holds over the deaths of processes, reboots, clocks that are set, and disks that fail: a world of its own.
//!
//! Owns one person who holds a key, sees whether it is held as long as was said, and releases it.

use super::{World, clocks, in_simulated_time, process};
use crate::options::{HoldEnd, HoldOptions, HoldOrder, HoldThen};
use sim::{Scenario, Seeded, explore, holds, tell};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use switch::{Code, HoldPhase, Key, KeyKind};
use tokio::time::sleep;

const KEY: &str = "k.example";
/// How much later than its time a hold may end where nothing is wrong: holds are looked at once a second, and another
/// process has its own look at the store.
const LATE_MS: u64 = 1_500;

#[test]
fn simulation_holdings() {
    explore(&Scenario {
        name: "holdings",
        invariants: &[
            "held-until-ended",
            "hold-ends-in-time",
            "released-stays",
            "durable-before-acknowledged",
            "revision-never-back",
            "history-is-whole",
            "goes-back-in-time",
        ],
        usual: 150,
        kept: &[1665, 2016],
        run: |seeded| {
            in_simulated_time(live(seeded));
        },
    });
}

async fn live(mut seeded: Seeded) {
    clocks::begin();
    let world = World::of(&mut seeded);
    let crowd = tokio::task::LocalSet::new();
    crowd.spawn_local(keep(world.clone(), seeded.fork()));
    process::drive(&world, crowd, decide(world.clone(), seeded)).await;
}

/// Fate.
async fn decide(world: Rc<World>, mut seeded: Seeded) {
    process::begin(&world, &mut seeded).await;
    for _ in 0..seeded.within(4..=12) {
        sleep(Duration::from_millis(seeded.within(50..=2_500))).await;
        match seeded.below(10) {
            0..4 if world.fate.crashes => {
                process::crash(&world, &mut seeded);
                if world.processes.borrow().is_empty() {
                    sleep(Duration::from_millis(seeded.within(0..=3_000))).await;
                    process::begin(&world, &mut seeded).await;
                }
            }
            4..6 if world.processes.borrow().len() == 1 => process::begin(&world, &mut seeded).await,
            6..8 if world.fate.jumps => {
                let change_ms = seeded.within(0..=7_200_000) as i64 - 3_600_000;
                tell!("the clock on the wall is set by {change_ms} ms");
                clocks::set_wall(change_ms);
            }
            _ => {}
        }
    }
    world.over.set(true);
    world.shared.disk.lock().unwrap().faulty = 0;
}

/// A hold of which its keeper was told.
struct Known {
    /// The process that has taken it.
    process: u64,
    /// Processes that began later have greater numbers.
    newest: u64,
    asked_ms: u64,
    told_ms: u64,
    end: Option<HoldEnd>,
}

/// One person holds the key, looks at it for a while, and releases it.
async fn keep(world: Rc<World>, mut seeded: Seeded) {
    let key = Key::parse(KeyKind::Host, KEY.as_bytes(), 64).unwrap();
    while !world.is_over() {
        sleep(Duration::from_millis(seeded.within(0..=500))).await;
        let Some(process) = world.any_process(&mut seeded) else { continue };
        let then = *seeded.one_of(&[HoldThen::Refuse, HoldThen::Release]);
        let end = seeded.chance(60).then(|| HoldEnd { after_ms: seeded.within(1..=4_000), then });
        let options = HoldOptions::default();
        let order = HoldOrder { key: key.clone(), options, end, actor: "keeper".into(), reason: None };
        let asked_ms = clocks::elapsed_ms();
        let held = process.control.hold("live", order).await.is_ok();
        if held {
            let told_ms = clocks::elapsed_ms();
            tell!("the key is held since {told_ms}: {end:?}");
            let newest = world.ids.get();
            let known = Known { process: process.number, newest, asked_ms, told_ms, end };
            for _ in 0..seeded.below(12) {
                sleep(Duration::from_millis(seeded.within(1..=800))).await;
                check_held(&world, &known);
            }
        }
        drop(process);
        release(&world, &mut seeded, &key).await;
    }
}

/// Releases the key until no process has anything to release, and looks whether it stays so.
async fn release(world: &Rc<World>, seeded: &mut Seeded, key: &Key) {
    loop {
        let Some(process) = world.any_process(seeded) else {
            sleep(Duration::from_millis(50)).await;
            if world.is_over() {
                return;
            }
            continue;
        };
        let released = process.control.release("live", key.clone(), None, "keeper".into(), None).await;
        // No other process was ever there.
        let is_alone = world.ids.get() == 1;
        if released.as_ref().is_ok_and(|info| info.recorded || is_alone) {
            // Recorded or not, the process that was asked holds it no more; but while the disk fails it does not learn that
            // another one has ended that hold, and placed a newer one.
            let phase = phases(world).into_iter().find(|(number, _)| *number == process.number);
            let is_off = phase.is_none_or(|(_, phase)| phase.is_none());
            holds!("released-stays", is_off, "process {} has released it: {phase:?}", process.number);
        }
        match released {
            Ok(info) if info.recorded => break,
            Err(refusal) if refusal.code == Code::NotHeld && !is_kept(world) => break,
            _ if world.is_over() => return,
            // Another process has it still to take up, or its end is not recorded: it may come back.
            _ => sleep(Duration::from_millis(seeded.within(10..=300))).await,
        }
    }
    if world.is_calm() {
        sleep(Duration::from_millis(LATE_MS)).await;
        let on = phases(world).into_iter().find(|(_, phase)| phase.is_some());
        holds!("released-stays", on.is_none() && !is_kept(world), "it was released and recorded: {on:?}");
    }
}

fn is_kept(world: &World) -> bool {
    !world.shared.disk.lock().unwrap().holds.is_empty()
}

/// Returns what each process does with the key that has been able to read the holds: one that has not says so, and holds
/// none.
fn phases(world: &World) -> Vec<(u64, Option<HoldPhase>)> {
    let processes = world.processes.borrow();
    let processes = processes.iter().filter(|process| !process.is_blind.load(Ordering::Relaxed));
    let of = |process: &Rc<process::Process>| {
        let tables = process.workers.published();
        let held = tables.held(0, KEY.as_bytes()).map(|place| tables.holds[place].phase());
        (process.number, held)
    };
    processes.map(of).collect()
}

fn check_held(world: &World, known: &Known) {
    let now_ms = clocks::elapsed_ms();
    let boot_ms = clocks::boot_of_ms(now_ms);
    let rebooted = boot_ms > known.asked_ms;
    for (number, phase) in phases(world) {
        // One that was there before looks at the store once a second, if the disk lets it.
        let has_looked = world.is_calm() && now_ms > known.told_ms + LATE_MS;
        if number != known.process && number <= known.newest && !has_looked {
            continue;
        }
        let is_on = matches!(phase, Some(HoldPhase::Held | HoldPhase::Refusing));
        let Some(end) = known.end else {
            let held = phase == Some(HoldPhase::Held);
            holds!("held-until-ended", held, "process {number}: {phase:?}, and no one has released it");
            continue;
        };
        // After a reboot the clock on the wall says how long it was off.
        let is_early = now_ms < known.asked_ms + end.after_ms;
        if is_early && !(rebooted && world.fate.jumps) {
            let held = phase == Some(HoldPhase::Held);
            holds!("held-until-ended", held, "process {number}: {phase:?} at {now_ms}, before its end");
        }
        if end.then == HoldThen::Refuse {
            holds!("held-until-ended", is_on, "process {number}: {phase:?}, and it is to refuse");
        }
        let last_ms = known.told_ms.max(if rebooted { boot_ms } else { 0 }) + end.after_ms + LATE_MS;
        if now_ms > last_ms && world.is_calm() {
            let may = phase != Some(HoldPhase::Held);
            holds!("hold-ends-in-time", may, "process {number} holds at {now_ms}, after {last_ms}");
        }
    }
}
