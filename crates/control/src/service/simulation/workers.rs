//! The worker threads of a simulated process, as the control plane sees them, and the requests they serve.
//!
//! Each worker takes publications over in their order, after a while of its own; one may be stuck for longer than the
//! control plane waits. Requests pin the tables that their worker has, wait where a hold says so, and stay for as long as they
//! like. Whatever is published is held against the disk: it must lie there already.

use super::World;
use super::answers::Answers;
use crate::data_plane::{Acknowledgement, AskedServer, DataPlane, GroupState, Reply, Watch, WatchReport};
use engine::Routing;
use engine::host::Counters;
use sim::{Seeded, holds, tell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;
use switch::{Hold, HoldPhase, HoldState, Key, Route, Table, Tables, Ticket};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// A request under way.
pub(super) struct Flight {
    id: u64,
    key: &'static str,
    pinned: Arc<Tables>,
    target: String,
    /// Where its client is in a split.
    point: u64,
    stream: bool,
}

#[derive(Default)]
pub(super) struct Worker {
    pub(super) tables: Arc<Tables>,
    flights: Vec<Flight>,
    watches: HashMap<u64, (Arc<Watch>, u64)>,
}

enum Command {
    Publish(Arc<Tables>, Option<Arc<Watch>>, Arc<Reply<Acknowledgement>>),
    Watched(u64, Arc<Reply<WatchReport>>),
    Affected(Arc<Watch>, Arc<Reply<WatchReport>>),
    CloseStreams(u64),
    CloseAffected(Arc<Watch>),
    Forget(u64),
}

/// The workers of one process.
pub(super) struct Workers {
    pub(super) all: Mutex<Vec<Worker>>,
    inboxes: Vec<mpsc::UnboundedSender<Command>>,
    pub(super) answers: Answers,
    world: Arc<super::Shared>,
    /// Never asked: the simulation has its own answers.
    prober: prober::Prober,
    last: Mutex<Arc<Tables>>,
    /// The change that each commit was published with, by its revision.
    changes: Mutex<HashMap<u64, (Arc<Watch>, u64)>>,
    /// Holds that were lifted, each with the publication that its own order made before; 0 if that made none.
    lifted: Mutex<Vec<(Arc<Hold>, u64)>>,
}

/// Where requests without an entry go.
const DEFAULT: &str = "blue";

fn route<'t>(table: &'t Table, key: &[u8]) -> Option<&'t Route> {
    table.find(key).map(|entry| &entry.route)
}

/// Is a request where this change does not lead its client any more?
fn is_old(flight: &Flight, watch: &Watch, number: u64) -> bool {
    let key = flight.key.as_bytes();
    let target = route(&watch.after, key).map_or(DEFAULT, |route| route.pick(flight.point));
    flight.pinned.number < number
        && route(&watch.before, key) != route(&watch.after, key)
        && *target != *flight.target
}

impl Workers {
    /// Returns so many workers with these tables; their tasks run where the caller's do.
    pub(super) fn start(
        count: usize,
        tables: &Arc<Tables>,
        world: &Arc<super::Shared>,
        seeded: &mut Seeded,
    ) -> Arc<Workers> {
        let (mut inboxes, mut outlets, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let (inbox, outlet) = mpsc::unbounded_channel();
            inboxes.push(inbox);
            outlets.push(outlet);
            all.push(Worker { tables: tables.clone(), ..Worker::default() });
        }
        let workers = Arc::new(Workers {
            all: Mutex::new(all),
            inboxes,
            answers: Answers::new(),
            world: world.clone(),
            prober: prober::Prober::new(std::time::Instant::now()),
            last: Mutex::new(tables.clone()),
            changes: Mutex::default(),
            lifted: Mutex::default(),
        });
        for (number, mut outlet) in outlets.into_iter().enumerate() {
            let (workers, mut seeded) = (Arc::downgrade(&workers), seeded.fork());
            let stuck = world.stuck;
            tokio::task::spawn_local(async move {
                while let Some(question) = outlet.recv().await {
                    let pause_ms = match seeded.below(100) {
                        0..60 => 0,
                        60..97 => seeded.within(1..=20),
                        _ if stuck => seeded.within(100..=7_000),
                        _ => seeded.within(20..=60),
                    };
                    sleep(Duration::from_millis(pause_ms)).await;
                    let Some(workers) = workers.upgrade() else { return };
                    workers.answer(number, question);
                }
            });
        }
        workers
    }

    fn answer(&self, number: usize, question: Command) {
        let mut all = self.all.lock().unwrap();
        let worker = &mut all[number];
        match question {
            Command::Publish(tables, watch, reply) => {
                tell!("worker {number} takes publication {} over", tables.number);
                let mut in_flight_old = 0;
                if let Some(watch) = watch {
                    in_flight_old =
                        worker.flights.iter().filter(|one| is_old(one, &watch, tables.number)).count();
                    worker.watches.insert(watch.id, (watch, tables.number));
                }
                worker.tables = tables;
                reply(Acknowledgement { worker: number, at: Instant::now().into_std(), in_flight_old });
            }
            Command::Watched(id, reply) => {
                let known = worker.watches.get(&id);
                let report = known.map(|(watch, since)| worker.report(watch, *since)).unwrap_or_default();
                reply(WatchReport { worker: number, ..report });
            }
            Command::Affected(watch, reply) => {
                let report = worker.report(&watch, u64::MAX);
                reply(WatchReport { worker: number, ..report });
            }
            Command::CloseStreams(id) => {
                let Some((watch, since)) = worker.watches.get(&id).cloned() else { return };
                worker.flights.retain(|one| !(one.stream && is_old(one, &watch, since)));
            }
            Command::CloseAffected(watch) => {
                worker.flights.retain(|one| !(one.stream && is_old(one, &watch, u64::MAX)));
            }
            Command::Forget(id) => drop(worker.watches.remove(&id)),
        }
    }

    fn ask(&self, question: impl Fn() -> Command) {
        for inbox in &self.inboxes {
            // A process that is gone answers nothing.
            let _ = inbox.send(question());
        }
    }

    /// Returns the lowest revision that a worker has.
    pub(super) fn lowest(&self) -> u64 {
        self.all.lock().unwrap().iter().map(|one| one.tables.tables[0].revision()).min().unwrap_or(0)
    }

    /// Returns the last publication.
    pub(super) fn published(&self) -> Arc<Tables> {
        self.last.lock().unwrap().clone()
    }

    /// Counts requests that a commit's drain should have waited for, or not, as the policy for streams says.
    pub(super) fn left_behind(&self, revision: u64, streams: bool) -> usize {
        let Some((watch, number)) = self.changes.lock().unwrap().get(&revision).cloned() else { return 0 };
        let all = self.all.lock().unwrap();
        let flights = all.iter().flat_map(|worker| &worker.flights);
        flights.filter(|one| is_old(one, &watch, number) && (streams || !one.stream)).count()
    }

    /// Returns the newest publication by which the one who holds this key has switched it.
    fn made_under(&self, hold: &Hold) -> u64 {
        let disk = self.world.disk.lock().unwrap();
        let changes = self.changes.lock().unwrap();
        let own = changes.iter().filter(|(revision, (watch, _))| {
            let by = &disk.commits[**revision as usize - 1].actor;
            by == super::HOLDER && watch.changes.contains(hold.key())
        });
        own.map(|(_, (_, number))| *number).max().unwrap_or(0)
    }

    /// Checks that everything that is published is on the disk, as it is.
    pub(super) fn check_kept(&self, tables: &Tables) {
        let table = &tables.tables[0];
        let disk = self.world.disk.lock().unwrap();
        let (revision, newest) = (table.revision(), disk.commits.len() as u64);
        holds!(
            "durable-before-acknowledged",
            revision <= newest,
            "revision {revision} is published, {newest} is kept"
        );
        let kept = &disk.tables[revision as usize];
        let same = kept.len() == table.len() && table.iter().all(|(key, entry)| kept.get(key) == Some(entry));
        holds!(
            "durable-before-acknowledged",
            same,
            "revision {revision} is published otherwise than it is kept"
        );
    }
}

impl Worker {
    fn report(&self, watch: &Watch, since: u64) -> WatchReport {
        let old = || self.flights.iter().filter(|one| is_old(one, watch, since));
        WatchReport {
            in_flight: old().filter(|one| !one.stream).count() as u64,
            streams: old().filter(|one| one.stream).count() as u64,
            first_new: self
                .flights
                .iter()
                .any(|one| one.pinned.number >= since)
                .then(|| Instant::now().into_std()),
            ..WatchReport::default()
        }
    }
}

impl DataPlane for Workers {
    fn publish(
        &self,
        routing: Arc<Routing>,
        watch: Option<Arc<Watch>>,
        acknowledged: Reply<Acknowledgement>,
    ) {
        let tables = Arc::new(routing.tables.clone());
        self.check_kept(&tables);
        let before = std::mem::replace(&mut *self.last.lock().unwrap(), tables.clone());
        let (was, is) = (before.tables[0].revision(), tables.tables[0].revision());
        holds!("revision-never-back", is >= was, "revision {is} is published after {was}");
        let (old, new) = (before.number, tables.number);
        holds!("revision-never-back", new > old, "publication {new} comes after {old}");
        if let Some(watch) = &watch {
            let revision = watch.after.revision();
            self.changes.lock().unwrap().insert(revision, (watch.clone(), tables.number));
        }
        for hold in
            before.holds.iter().filter(|one| !tables.holds.iter().any(|other| Arc::ptr_eq(one, other)))
        {
            let made = self.made_under(hold);
            self.lifted.lock().unwrap().push((hold.clone(), made));
        }
        let acknowledged = Arc::new(acknowledged);
        self.ask(|| Command::Publish(tables.clone(), watch.clone(), acknowledged.clone()));
    }
    fn watched(&self, watch: u64, reply: Reply<WatchReport>) {
        let reply = Arc::new(reply);
        self.ask(|| Command::Watched(watch, reply.clone()));
    }
    fn affected(&self, watch: Arc<Watch>, reply: Reply<WatchReport>) {
        let reply = Arc::new(reply);
        self.ask(|| Command::Affected(watch.clone(), reply.clone()));
    }
    fn close_streams(&self, watch: u64, _: u64) {
        self.ask(|| Command::CloseStreams(watch));
    }
    fn close_affected(&self, watch: Arc<Watch>, _: u64) {
        self.ask(|| Command::CloseAffected(watch.clone()));
    }
    fn forget_watch(&self, watch: u64) {
        self.ask(|| Command::Forget(watch));
    }
    fn forgive(&self, _: Vec<AskedServer>) {}
    fn prober(&self) -> &prober::Prober {
        &self.prober
    }

    fn peers(&self, reply: Reply<Vec<GroupState>>) {
        self.inboxes.iter().for_each(|_| reply(Vec::new()));
    }
    fn peers_of(&self, _: Arc<[Arc<str>]>, reply: Reply<Vec<GroupState>>) {
        self.peers(reply);
    }
    fn collect(&self, reply: Reply<()>) {
        self.answers.collect(0);
        reply(());
    }
    fn collector(&self) -> &Mutex<statistics::Collector> {
        &self.answers.collector
    }
    fn threads(&self) -> usize {
        self.inboxes.len()
    }
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// Sends requests, one after another, to whichever process and worker takes them.
pub(super) async fn visit(world: Rc<World>, mut seeded: Seeded) {
    while !world.is_over() {
        sleep(Duration::from_millis(seeded.within(0..=400))).await;
        let Some(process) = world.any_process(&mut seeded) else { continue };
        let workers = process.workers.clone();
        let number = seeded.below(workers.inboxes.len());
        let key = *seeded.one_of(&super::KEYS);
        let told = process.told.get();
        let mut pinned = workers.all.lock().unwrap()[number].tables.clone();
        let has = pinned.tables[0].revision();
        holds!(
            "acknowledged-everywhere",
            has >= told,
            "a request follows {has}, and {told} was reported to be everywhere"
        );
        if let Some(held) = pinned.held(0, key.as_bytes()) {
            let hold = pinned.holds[held].clone();
            let Some(ticket) = hold.admit(10, world.clock_ms()) else { continue };
            if !wait(&world, &hold, ticket, process.number).await {
                continue;
            }
            pinned = workers.all.lock().unwrap()[number].tables.clone();
            check_released(&world, &workers, &hold, &pinned);
        }
        let leads = route(&pinned.tables[0], key.as_bytes());
        let point = seeded.draw();
        let target = leads.map_or_else(|| DEFAULT.to_owned(), |route| route.pick(point).to_string());
        let id = world.next_id();
        let stream = seeded.chance(15);
        tell!("request {id} for {key} goes to {target} under publication {}", pinned.number);
        workers.all.lock().unwrap()[number].flights.push(Flight { id, key, pinned, target, point, stream });
        let stay_ms = if stream { seeded.within(500..=8_000) } else { seeded.within(0..=700) };
        sleep(Duration::from_millis(stay_ms)).await;
        let mut all = workers.all.lock().unwrap();
        let flights = &mut all[number].flights;
        // A stream may have been cut.
        if let Some(place) = flights.iter().position(|one| one.id == id) {
            let flight = flights.swap_remove(place);
            let table = &flight.pinned.tables[0];
            workers.answers.count(id, key, &flight.target, table, flight.stream);
        }
    }
}

/// Waits for the release. `false` if the time is over, or the process gone.
async fn wait(world: &World, hold: &Hold, mut ticket: Ticket, process: u64) -> bool {
    loop {
        match ticket.poll(world.clock_ms(), Waker::noop()) {
            HoldState::Go => return true,
            HoldState::TimedOut => {
                // One whose order cannot be settled refuses.
                let may = world.clock_ms() >= ticket.deadline_ms() || hold.phase() == HoldPhase::Refusing;
                holds!("hold-times-out", may, "it times out before {}", ticket.deadline_ms());
                return false;
            }
            HoldState::Wait | HoldState::WaitUntil(_) => sleep(Duration::from_millis(5)).await,
        }
        if !world.is_alive(process) {
            return false;
        }
    }
}

/// Who was held while its key was switched follows that switch, whichever worker it waits on, or one that came later:
/// somebody else may have taken it back meanwhile, and that is on its way to the workers as to everybody.
fn check_released(world: &World, workers: &Workers, hold: &Arc<Hold>, pinned: &Tables) {
    let lifted = workers.lifted.lock().unwrap();
    let Some((_, made)) = lifted.iter().find(|(one, _)| Arc::ptr_eq(one, hold)) else { return };
    let key: &Key = hold.key();
    if key.as_str() != super::HELD_BY_ORDERS || world.shared.stuck {
        return;
    }
    let has = pinned.number;
    holds!("held-go-new", has >= *made, "{key} goes on under publication {has}, its switch is {made}");
}
