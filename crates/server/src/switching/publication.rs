//! What a thread does with the control plane's questions.
//!
//! Owns the moment at which a publication holds for this thread: from then on each request that begins pins the new
//! tables, whatever connection it comes on.

use super::crossing::{Publication, Question};
use super::roster::{Change, Place};
use crate::generation::Generation;
use crate::recording;
use crate::worker::Worker;
use control::{Acknowledgement, GroupState, WatchReport};
use statistics::GroupLayout;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::Tables;
use tokio::task::spawn_local;

/// How often is looked whether a request that is to be cut has become a stream.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Answers a question, or does what it tells.
pub(crate) fn answer(worker: &Rc<Worker>, question: Question) {
    match question {
        Question::Publish(publication) => publish(worker, publication),
        Question::Watched(watch, reply) => {
            let report = worker.roster.borrow().report(watch, now_ms(worker)).unwrap_or_default();
            reply(WatchReport { worker: worker.number(), ..report });
        }
        Question::Affected(watch, reply) => {
            let generation = worker.generation();
            let mut report = WatchReport { worker: worker.number(), ..WatchReport::default() };
            let number = generation.tables().map_or(0, |tables| tables.number);
            if let Some(change) = change(&generation, watch, number) {
                (report.in_flight, report.streams) = worker.roster.borrow().affected(&change, now_ms(worker));
            }
            reply(report);
        }
        Question::CloseStreams(watch, spread_ms) => {
            spawn_local(close_streams(Rc::clone(worker), watch, Duration::from_millis(spread_ms)));
        }
        Question::Forget(watch) => worker.roster.borrow_mut().forget(watch),
        Question::Peers(reply) => reply(peers(worker)),
        Question::Collect(countdown) => {
            recording::collect(worker);
            drop(countdown);
        }
    }
}

fn now_ms(worker: &Worker) -> u64 {
    worker.clock.now().monotonic_ms()
}

fn publish(worker: &Rc<Worker>, publication: Publication) {
    let Publication { tables, watch, acknowledged } = publication;
    let generation = worker.generation();
    for older in worker.older_generations() {
        if let Some(tables) = carried_over(&tables, &generation, &older) {
            older.publish(tables);
        }
    }
    let change = watch.and_then(|watch| change(&generation, watch, tables.number));
    generation.publish(Tables::clone(&tables));
    let at = Instant::now();
    let in_flight_old = change.map_or(0, |change| {
        doubt_groups(&generation, change.watch.switch, now_ms(worker));
        worker.roster.borrow_mut().watch(change)
    });
    acknowledged(Acknowledgement { worker: worker.number(), at, in_flight_old });
    worker.waiting.wake_all();
}

/// A watch with what the roster must know beside it.
fn change(generation: &Generation, watch: Arc<control::Watch>, number: u64) -> Option<Change> {
    let switch = *generation.switches.get(watch.switch)?;
    let default = Arc::clone(&generation.config.switches.get(watch.switch)?.rules.default);
    Some(Change { watch, switch, number, default })
}

/// The same publication for an older generation, whose requests may still read their heads or wait for a hold: the
/// tables of its switches by their names. A switch that may lead to groups the older generation does not have keeps
/// its table. Nothing is held anew there.
fn carried_over(tables: &Tables, newest: &Generation, older: &Generation) -> Option<Tables> {
    let mut mapped = Tables::clone(older.tables()?.as_ref());
    mapped.number = tables.number;
    mapped.holds = Box::default();
    for (place, spec) in mapped.tables.iter_mut().zip(&older.config.switches) {
        let mut known = newest.config.switches.iter().zip(&tables.tables);
        let Some((new, table)) = known.find(|(new, _)| new.rules.name == spec.rules.name) else { continue };
        if new.rules.targets.iter().all(|target| spec.rules.target(target).is_some()) {
            *place = Arc::clone(table);
        }
    }
    Some(mapped)
}

/// Idle connections to a target that nobody asks for any more are of no use to anyone, and hold the old side's servers
/// up. Which targets those are the table could only tell by being read whole; the requests tell it in a moment.
fn doubt_groups(generation: &Generation, switch: usize, now_ms: u64) {
    let Some(spec) = generation.config.switches.get(switch) else { return };
    for target in &spec.rules.targets {
        if let Some(group) = generation.config.group(target.as_bytes()) {
            generation.groups.get(group).doubt(now_ms);
        }
    }
}

/// Cuts the streams that a watch's old side has left. What is no stream when its turn comes is cut as soon as it is one.
async fn close_streams(worker: Rc<Worker>, watch: u64, spread: Duration) {
    let began = tokio::time::Instant::now();
    let places = worker.roster.borrow().old_side(watch, now_ms(&worker));
    let count = places.len().max(1) as u32;
    let mut rest: Vec<Place> = Vec::new();
    for (turn, place) in places.into_iter().enumerate() {
        let due = began + spread * turn as u32 / count;
        if due > tokio::time::Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        if !worker.roster.borrow().cut(place, now_ms(&worker)) {
            rest.push(place);
        }
    }
    // Requests that had pinned the old tables may still come to the old side.
    while !rest.is_empty() || worker.roster.borrow().knows(watch) {
        tokio::time::sleep(LOOK_AGAIN).await;
        let now_ms = worker.clock.fresh().monotonic_ms();
        let roster = worker.roster.borrow();
        rest.extend(roster.old_side(watch, now_ms));
        rest.sort_unstable();
        rest.dedup();
        rest.retain(|place| !roster.cut(*place, now_ms));
    }
}

fn peers(worker: &Worker) -> Vec<GroupState> {
    let generation = worker.generation();
    let now_ms = now_ms(worker);
    let groups = generation.layout.groups.iter().zip(&generation.config.groups).enumerate();
    // What all threads share is told by one of them.
    let groups = groups.filter(|(_, (_, entry))| !entry.shared || worker.number() == 0);
    let state = |(number, (layout, _)): (usize, (&GroupLayout, _))| GroupState {
        worker: worker.number(),
        name: Arc::clone(&layout.name),
        peers: generation.groups.get(number).peers(&layout.peers, now_ms),
    };
    groups.map(state).collect()
}
