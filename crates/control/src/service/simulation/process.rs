//! Simulated processes: a control plane with its store and its workers, which begin, run beside each other, and die.

use super::super::clock::now_us;
use super::super::handle::{ControlHandle, Message};
use super::super::hold_take_up::{TakenUp, take_up, with_holds};
use super::super::shared::Shared;
use super::super::startup::{self, Opened};
use super::super::switch_state::{ConfiguredSwitch, Position};
use super::World;
use super::clocks;
use super::disk::Hand;
use super::workers::Workers;
use crate::discovery::Beliefs;
use crate::event::Events;
use crate::store::StoreThread;
use crate::testing::{config, two_groups};
use engine::Config;
use sim::{Seeded, holds, tell};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use switch::{Store, StoreFault, Tables};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::sleep;

/// A process that is alive.
pub(super) struct Process {
    pub(super) number: u64,
    pub(super) control: ControlHandle,
    pub(super) workers: Arc<Workers>,
    /// The newest revision that was reported to be on every worker.
    pub(super) told: Cell<u64>,
    /// Its streams are cut when their switch leads elsewhere.
    pub(super) cuts_streams: bool,
    /// It could not read the holds when it began, has said so, and has not taken one up since.
    pub(super) is_blind: Arc<AtomicBool>,
    /// Everything that runs in it; taken out while it runs.
    tasks: RefCell<Option<Pin<Box<LocalSet>>>>,
}

thread_local! {
    /// The processes of this world that live, and the one that runs now.
    static LIVING: RefCell<(Vec<u64>, Option<u64>)> = RefCell::default();
    static CONFIGS: [Arc<Config>; 2] = ["", "streams close after=300ms;"]
        .map(|words| config(Path::new("/simulated"), &two_groups(words)));
}

/// Returns the name of the simulated process that runs now, if this thread is in a simulation.
pub(in super::super) fn process_name() -> Option<String> {
    LIVING.with_borrow(|(_, running)| running.map(|number| number.to_string()))
}

/// Returns whether a simulated process lives, if this thread is in a simulation.
pub(in super::super) fn is_alive(name: &str) -> Option<bool> {
    LIVING.with_borrow(|(living, running)| {
        running.map(|_| living.iter().any(|number| number.to_string() == name))
    })
}

/// Begins a process; tries again until the disk lets it.
pub(super) async fn begin(world: &Rc<World>, seeded: &mut Seeded) {
    let cuts_streams = seeded.chance(50);
    let config = CONFIGS.with(|configs| configs[usize::from(cuts_streams)].clone());
    loop {
        let number = world.next_id();
        LIVING.with_borrow_mut(|(living, running)| {
            living.push(number);
            *running = Some(number);
        });
        match open(world, number, &config) {
            Ok((opened, hand)) => {
                let process = move_in(world, number, opened, hand, (config, cuts_streams), seeded);
                tell!("process {number} begins with revision {}", process.workers.lowest());
                process.told.set(process.workers.lowest());
                world.processes.borrow_mut().push(process);
                return;
            }
            Err(fault) => {
                tell!("process {number} cannot begin: {fault}");
                LIVING.with_borrow_mut(|(living, _)| living.retain(|one| *one != number));
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Returns what `opening::open_one` does, with a disk that is not there.
fn open(world: &World, number: u64, config: &Arc<Config>) -> Result<(OpenedOne, Hand), StoreFault> {
    let place = ConfiguredSwitch::new(config.clone(), 0);
    let rules = place.spec().rules.clone();
    let mut hand = Hand { disk: world.shared.disk.clone(), process: number, seen: 0 };
    let mut disk = world.shared.disk.lock().unwrap();
    hand.seen = disk.commits.len();
    disk.began_ms.insert(number, clocks::elapsed_ms());
    drop(disk);
    let loaded = hand.load()?;
    let position =
        Position { table: Arc::new(loaded.table), hash: loaded.last_hash, pending: loaded.pending };
    let fits = startup::fits(&rules, &position.table);
    holds!("history-is-whole", fits.is_ok(), "the table does not fit its own configuration: {fits:?}");
    let could = startup::could_revert(&mut hand, &rules, &position)?;
    holds!("goes-back-in-time", could.is_ok(), "an unconfirmed commit cannot go back: {could:?}");
    let holds = take_up(&mut hand, &rules, 0);
    Ok((OpenedOne { place, position, holds }, hand))
}

struct OpenedOne {
    place: ConfiguredSwitch,
    position: Position,
    holds: TakenUp,
}

/// Does the work of `ControlHandle::start`, without a thread.
fn move_in(
    world: &Rc<World>,
    number: u64,
    opened: OpenedOne,
    hand: Hand,
    (config, cuts_streams): (Arc<Config>, bool),
    seeded: &mut Seeded,
) -> Rc<Process> {
    let OpenedOne { place, position, holds } = opened;
    let tasks = LocalSet::new();
    let inside = tasks.enter();
    let tables = [position.table.clone()].into();
    let tables = Tables { tables, number: 1, ..Tables::default() };
    let tables = Arc::new(with_holds(tables, [&holds].into_iter()));
    let workers = Workers::start(1 + seeded.below(3), &tables, &world.shared, seeded);
    workers.check_kept(&tables);
    let (jobs, mut inbox) = mpsc::unbounded_channel();
    let (began, is_blind) = (world.began, Arc::<AtomicBool>::default());
    let blind = is_blind.clone();
    let shared = Shared::new(
        config,
        workers.clone(),
        Arc::new(move || began.elapsed().as_millis() as u64),
        Arc::new(move |level, text| {
            tell!("process {number} [{}] {text}", level.name());
            match text {
                _ if text.contains("none of its keys is held") => blind.store(true, Ordering::Relaxed),
                _ if text.contains(" is held by ") || text.contains(" is still held") => {
                    blind.store(false, Ordering::Relaxed);
                }
                _ => {}
            }
        }),
        Events::new(now_us()),
        crate::journal::Journal::off(),
    );
    let control =
        ControlHandle { jobs, thread: Arc::default(), calls: Arc::default(), shared: Arc::new(shared) };
    let mut pauses = seeded.fork();
    let store = StoreThread::simulated(Box::new(hand), move || {
        sleep(Duration::from_millis(if pauses.chance(50) { 0 } else { pauses.within(1..=30) }))
    });
    let opened = Opened {
        beliefs: Beliefs::default(),
        routing: Arc::new(Tables::clone(&tables).into()),
        switches: vec![(place, store, position)],
        groups: None,
        conditions: Vec::new(),
        holds: vec![holds],
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
    let tasks = RefCell::new(Some(Box::pin(tasks)));
    Rc::new(Process { number, control, workers, told: Cell::new(0), cuts_streams, is_blind, tasks })
}

/// Kills a process, wherever its tasks are.
pub(super) fn crash(world: &World, seeded: &mut Seeded) {
    let mut processes = world.processes.borrow_mut();
    let place = seeded.below(processes.len());
    let process = processes.swap_remove(place);
    tell!("process {} dies", process.number);
    LIVING.with_borrow_mut(|(living, _)| living.retain(|one| *one != process.number));
    // Its number decides, so that no other choice of a seed moves.
    if processes.is_empty() && process.number.is_multiple_of(3) {
        tell!("the machine reboots");
        clocks::reboot();
        if world.fate.jumps {
            // Its clock on the wall has no battery.
            clocks::set_wall(-20_000);
        }
    }
    drop(processes);
    let tasks = process.tasks.borrow_mut().take();
    drop(tasks);
}

/// Lets everything run until fate has said its last word.
pub(super) async fn drive(world: &Rc<World>, crowd: LocalSet, fate: impl Future<Output = ()>) {
    let mut fate = pin!(fate);
    let mut crowd = Box::pin(crowd);
    poll_fn(|cx| {
        let processes: Vec<Rc<Process>> = world.processes.borrow().clone();
        for process in processes {
            let tasks = process.tasks.borrow_mut().take();
            if let Some(mut tasks) = tasks {
                LIVING.with_borrow_mut(|(_, running)| *running = Some(process.number));
                // A process has always something to do.
                let _ = tasks.as_mut().poll(cx);
                *process.tasks.borrow_mut() = Some(tasks);
            }
        }
        let _ = crowd.as_mut().poll(cx);
        let count = world.processes.borrow().len();
        let said = fate.as_mut().poll(cx);
        if said.is_pending() && world.processes.borrow().len() > count {
            // Who has just begun must be looked at before he can wake anybody.
            cx.waker().wake_by_ref();
        }
        said
    })
    .await;
    world.processes.borrow_mut().clear();
    LIVING.take();
}
