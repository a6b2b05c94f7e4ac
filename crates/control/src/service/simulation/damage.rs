//! A world in which the files of a store are damaged: real files, under a process that has them open, and between two
//! processes.
//!
//! Owns: what was acknowledged, which every table that is served is held against. One of the two files that vouch for each
//! other is damaged in a world, never both: two that both lose their ends look like two of an earlier time.

use super::super::damage::{self, Condition};
use super::super::handle::{ControlHandle, Message};
use super::super::shared::Shared;
use super::super::startup::{self, Opened};
use super::super::switch_state::ConfiguredSwitch;
use super::{clocks, in_simulated_time};
use crate::event::Events;
use crate::journal::Journal;
use crate::options::Options;
use crate::receipt::Outcome;
use crate::store::{FileStore, StoreThread};
use crate::testing::{FakeDataPlane, config, two_groups};
use sim::{Scenario, Seeded, explore, holds, tell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use switch::{Action, Key, KeyKind, Meta, Order, Route, Store, Table, Tables};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::sleep;

/// The files of a store. The first two are one of the two that vouch for each other.
const FILES: [&str; 3] = ["live.db", "live.db-wal", "live.db-anchor"];
const KEYS: [&str; 3] = ["a.example", "b.example", "*.example"];

/// Routes by key.
type Routes = BTreeMap<String, String>;

#[test]
fn simulation_damage() {
    explore(&Scenario {
        name: "damage",
        invariants: &[
            "start-never-fails",
            "never-earlier-in-silence",
            "damage-is-said",
            "damaged-takes-no-orders",
            "untrusted-says-so",
        ],
        usual: 20,
        kept: &[],
        run: |seeded| {
            in_simulated_time(live(seeded));
        },
    });
}

/// A process with the store open.
struct Process {
    control: ControlHandle,
    /// Everything that runs in it.
    tasks: LocalSet,
    folder: PathBuf,
    /// Its start has found damage.
    is_damaged: bool,
}

fn routes(table: &Table) -> Routes {
    table.iter().map(|(key, entry)| (key.to_string(), entry.route.to_string())).collect()
}

async fn live(mut seeded: Seeded) {
    clocks::begin();
    let folder = tempfile::tempdir().unwrap();
    let next = |number: usize| folder.path().join(number.to_string());
    fs::create_dir_all(next(0).join("state")).unwrap();
    let which = match seeded.below(10) {
        0..4 => Which::Second,
        4..8 => Which::Store,
        _ => Which::Both,
    };
    // The routes of each revision.
    let mut acknowledged = vec![Routes::new()];
    let mut process = begin(next(0));
    for number in 1..=seeded.within(8..=20) as usize {
        let Some(is_said) = look(&process, &acknowledged, which).await else { return };
        match seeded.below(10) {
            0..5 => {
                let (key, to) = (*seeded.one_of(&KEYS), *seeded.one_of(&["blue", "green", "green=1 blue=9"]));
                let mut after = acknowledged[acknowledged.len() - 1].clone();
                after.insert(key.to_owned(), Route::parse(to).unwrap().to_string());
                let is_kept = order(&process, key, to, number).await;
                tell!("{key} to {to}: {is_kept}");
                holds!("damaged-takes-no-orders", !(is_said && is_kept), "{key} is switched all the same");
                if is_kept {
                    acknowledged.push(after);
                }
            }
            5 => within(&process, sleep(Duration::from_secs(seeded.within(1..=20)))).await,
            6 => idle(&process).await,
            7 | 8 => hurt(&mut seeded, &process.folder.join("state"), which),
            _ => {
                tell!("the process dies");
                copy(&process.folder, &next(number));
                drop(process);
                if seeded.chance(50) {
                    hurt(&mut seeded, &next(number).join("state"), which);
                }
                process = begin(next(number));
            }
        }
    }
    look(&process, &acknowledged, which).await;
}

/// Does the work of `ControlHandle::start`, without a thread.
fn begin(folder: PathBuf) -> Process {
    let config = config(&folder, &two_groups(""));
    let place = ConfiguredSwitch::new(config.clone(), 0);
    let opened = FileStore::open(&folder.join("state/live.db"), KeyKind::Host);
    holds!("start-never-fails", opened.is_ok(), "the store cannot be opened");
    let mut store = opened.unwrap();
    let condition = Condition::of(&mut store);
    let position = damage::load(&mut store);
    holds!("start-never-fails", position.is_ok(), "there is no table to serve");
    let position = position.unwrap();
    let is_damaged = condition.damage.is_some();
    let is_there = condition.damage.is_none() || store.load().is_ok();
    tell!("a process begins: damaged {}, revision {}", condition.damage.is_some(), position.table.revision());
    holds!(
        "untrusted-says-so",
        position.table.is_trusted() == is_there,
        "an empty table is served as if it were one"
    );
    let tables = Tables { tables: [position.table.clone()].into(), number: 1, ..Tables::default() };
    let tasks = LocalSet::new();
    let inside = tasks.enter();
    let (jobs, mut inbox) = mpsc::unbounded_channel();
    let (clock, log) = (Arc::new(|| 0), Arc::new(|_, _: &str| {}));
    let shared = Shared::new(config, FakeDataPlane::new(), clock, log, Events::new(0), Journal::off());
    let control =
        ControlHandle { jobs, thread: Arc::default(), calls: Arc::default(), shared: Arc::new(shared) };
    let store = StoreThread::simulated(Box::new(store), || std::future::ready(()));
    let opened = Opened {
        beliefs: crate::discovery::Beliefs::default(),
        routing: Arc::new(tables.into()),
        switches: vec![(place, store, position)],
        groups: None,
        conditions: vec![condition],
        holds: Vec::new(),
        member: None,
        defaults: Vec::new(),
    };
    let state = startup::control_state(opened, control.shared.clone());
    tokio::task::spawn_local(async move {
        while let Some(Message::Job(job)) = inbox.recv().await {
            job(&state);
        }
    });
    drop(inside);
    Process { control, tasks, folder, is_damaged }
}

async fn within<T>(process: &Process, work: impl Future<Output = T>) -> T {
    process.tasks.run_until(work).await
}

/// Holds what a process serves against what was acknowledged. Returns whether it says that something is wrong; `None` if
/// both files end alike too early, which looks like an earlier time.
async fn look(process: &Process, acknowledged: &[Routes], which: Which) -> Option<bool> {
    let control = &process.control;
    let (info, table) =
        within(process, async { (control.show("live").await, control.table("live").await) }).await;
    let (is_said, table) = (info.unwrap().store_fault.is_some(), table.unwrap());
    let (revision, served) = (table.revision() as usize, routes(&table));
    holds!("damage-is-said", is_said || !process.is_damaged, "what the start found is not said");
    let is_newest = revision + 1 == acknowledged.len();
    if which == Which::Both && !is_newest && !is_said {
        return None;
    }
    holds!(
        "never-earlier-in-silence",
        is_newest || is_said,
        "revision {revision} of {} in silence",
        acknowledged.len() - 1
    );
    let is_one = acknowledged.get(revision) == Some(&served);
    holds!(
        "never-earlier-in-silence",
        is_one || !table.is_trusted(),
        "revision {revision} is not what was committed"
    );
    Some(is_said)
}

/// Gives an order. Returns true if it was acknowledged.
async fn order(process: &Process, key: &str, to: &str, number: usize) -> bool {
    let key = Key::parse(KeyKind::Host, key.as_bytes(), 255).unwrap();
    let set = vec![(key, Some(Route::parse(to).unwrap()))];
    let meta = Meta { actor: "tester".into(), reason: Some("x".repeat(number)), ..Meta::default() };
    let given = process.control.order("live", Order { action: Action::Set(set), meta }, Options::default());
    within(process, given).await.is_ok_and(|receipt| receipt.outcome == Outcome::Committed)
}

/// The store has time for its chores.
async fn idle(process: &Process) {
    let (done, awaited) = tokio::sync::oneshot::channel();
    let chores = move |state: &std::rc::Rc<super::super::state::ControlState>| {
        let switch = state.switches.borrow()[0].clone();
        switch.store.tell(move |store| {
            store.idle();
            let _ = done.send(());
        });
    };
    let _ = process.control.jobs.send(Message::Job(Box::new(chores)));
    let _ = within(process, awaited).await;
    // Long enough for damage that was found to be noticed.
    within(process, sleep(Duration::from_secs(2))).await;
}

/// Copies the files as a crash leaves them.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("state")).unwrap();
    for name in FILES {
        let _ = fs::copy(from.join("state").join(name), to.join("state").join(name));
    }
}

/// Which files are damaged in a world.
#[derive(Clone, Copy, PartialEq)]
enum Which {
    Store,
    Second,
    Both,
}

/// Damages a file in place.
fn hurt(seeded: &mut Seeded, folder: &Path, which: Which) {
    let is_second = which == Which::Second || which == Which::Both && seeded.chance(50);
    let name = if is_second { FILES[2] } else { FILES[seeded.below(2)] };
    let (what, at, bit) = (seeded.below(4), seeded.within(0..=u64::MAX / 2), seeded.below(8));
    tell!("{name} is damaged: {what}");
    let Ok(file) = fs::OpenOptions::new().read(true).write(true).open(folder.join(name)) else { return };
    // Where there is something.
    let bytes = fs::read(folder.join(name)).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last as u64 + 1);
    let at = at % used;
    match what {
        0 | 1 => {
            let byte = bytes.get(at as usize).map_or(0, |byte| byte ^ (1 << bit));
            file.write_all_at(&[byte], at).unwrap();
        }
        2 => {
            let count = 4096.min(bytes.len() as u64 - at.min(bytes.len() as u64)) as usize;
            file.write_all_at(&vec![0; count], at).unwrap();
        }
        _ => file.set_len(at).unwrap(),
    }
}
