//! How a thread runs the control plane's commands.
//!
//! Owns the moment at which a publication takes effect on this thread: from then on each request that begins pins the new
//! tables, whatever connection it comes on.

use super::cut_evenly::cut_evenly;
use super::drained_servers;
use super::in_flight::{InFlightId, RECHECK, TrackedChange};
use super::worker_bus::{Command, Publication};
use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::proxy::groups::Rest;
use crate::proxy::pool::ThreadGroup;
use control::{Acknowledgement, GroupState, WatchReport};
use engine::Routing;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::Table;
use tokio::task::spawn_local;

/// Runs the commands that have come since the last time. Called with each request that begins: without a command it
/// costs the look at a flag.
#[inline]
pub(crate) fn check_mailbox(thread: &Rc<ThreadContext>) {
    if thread.mailbox.has_commands() {
        run_commands(thread);
    }
}

/// Runs the commands that have come since the last time.
pub(crate) fn run_commands(thread: &Rc<ThreadContext>) {
    for command in thread.mailbox.take() {
        run(thread, command);
    }
}

fn run(thread: &Rc<ThreadContext>, command: Command) {
    match command {
        Command::Publish(publication) => publish(thread, publication),
        Command::Watched(watch, reply) => {
            let in_force = |switch| in_force(thread, switch);
            let report = thread.in_flight.borrow().report(watch, thread.now_ms(), &in_force);
            let report = report.unwrap_or_default();
            reply(WatchReport { worker: thread.number(), ..report });
        }
        Command::Affected(watch, reply) => {
            let generation = thread.generation();
            let mut report = WatchReport { worker: thread.number(), ..WatchReport::default() };
            let number = generation.routing().tables.number;
            if let Some(change) = change(&generation, watch, number) {
                (report.in_flight, report.streams) =
                    thread.in_flight.borrow().affected(&change, thread.now_ms());
            }
            reply(report);
        }
        Command::CloseStreams(watch, spread_ms) => {
            let old = thread.in_flight.borrow().old_side(watch, thread.now_ms());
            spawn_local(close_streams(Rc::clone(thread), watch, old, Duration::from_millis(spread_ms)));
        }
        Command::CloseAffected(watch, spread_ms) => {
            if let Some(change) = change(&thread.generation(), watch, 0) {
                let streams = thread.in_flight.borrow().affected_streams(&change, thread.now_ms());
                if spread_ms > 0 {
                    let thread = Rc::clone(thread);
                    spawn_local(async move {
                        close_evenly(&thread, streams, Duration::from_millis(spread_ms)).await;
                    });
                } else {
                    let in_flight = thread.in_flight.borrow();
                    for place in streams {
                        in_flight.cut(place, thread.now_ms(), &|_| None);
                    }
                }
            }
        }
        Command::Forget(watch) => thread.in_flight.borrow_mut().forget(watch),
        Command::Forgive(servers) => {
            let now_ms = thread.now_ms();
            for (name, group) in all_groups(thread) {
                for asked in servers.iter().filter(|asked| asked.group.eq_ignore_ascii_case(&name)) {
                    group.forgive(&asked.server, now_ms);
                }
            }
        }
        Command::Peers(names, reply) => reply(peers(thread, names.as_deref())),
        Command::Collect(countdown) => {
            thread.collect_metrics();
            drop(countdown);
        }
    }
}

fn publish(thread: &Rc<ThreadContext>, publication: Publication) {
    let Publication { routing, watch, acknowledged } = publication;
    let generation = thread.generation();
    let mut rest = Vec::new();
    for older in thread.older_generations() {
        rest.extend(older.publish(carried_over(&routing, &generation, &older)));
    }
    let change = watch.and_then(|watch| change(&generation, watch, routing.tables.number));
    let before = generation.routing().groups.clone();
    rest.extend(generation.publish(Routing::clone(&routing)));
    let at = Instant::now();
    let in_flight_old = change.map_or(0, |change| {
        suspect_groups(&generation, change.watch.switch, thread.now_ms());
        thread.in_flight.borrow_mut().watch(change)
    });
    acknowledged(Acknowledgement { worker: thread.number(), at, in_flight_old });
    // What follows need not be waited for, but no request is served before.
    rest.into_iter().for_each(Rest::finish);
    thread.waiting.wake_all();
    drained_servers::close_streams(thread, &generation, &before);
    if thread.number() == 0 {
        generation.arrange_changes(&before);
    }
}

/// Returns a watch with what [`crate::switching::in_flight`] needs beside it.
fn change(generation: &Generation, watch: Arc<control::Watch>, number: u64) -> Option<TrackedChange> {
    let switch = *generation.switches.get(watch.switch)?;
    let configured = &generation.config.switches.get(watch.switch)?.rules.default;
    let default = Arc::clone(watch.after.default_target(configured));
    Some(TrackedChange { watch, switch, number, default })
}

/// Returns the publication for an older generation, whose requests may still read their heads or wait for a hold: the
/// tables of its switches, and the groups, by name. A switch that may route to groups that the older generation lacks keeps its table. No
/// new holds apply there.
fn carried_over(routing: &Routing, newest: &Generation, older: &Generation) -> Routing {
    let mut mapped = older.routing().tables.clone();
    mapped.number = routing.tables.number;
    mapped.holds = Box::default();
    for (place, spec) in mapped.tables.iter_mut().zip(&older.config.switches) {
        let known = || newest.config.switches.iter().zip(&routing.tables.tables);
        // One that has another name since (`from=`) goes before one that has taken the old name.
        let renamed = known().find(|(new, _)| new.from.as_deref() == Some(&*spec.rules.name));
        let same = || known().find(|(new, _)| new.rules.name == spec.rules.name);
        let Some((new, table)) = renamed.or_else(same) else { continue };
        if new.rules.targets.iter().all(|target| spec.rules.target(target).is_some()) {
            *place = Arc::clone(table);
        }
    }
    Routing { tables: mapped, groups: routing.groups.clone() }
}

/// Idle connections to a target that no key routes to are of no use, and keep the old side's servers from stopping. The
/// table would have to be read whole to tell which targets those are; the requests show it in a moment.
fn suspect_groups(generation: &Generation, switch: usize, now_ms: u64) {
    let Some(spec) = generation.config.switches.get(switch) else { return };
    for target in &spec.rules.targets {
        if let Some(group) = generation.config.group(target.as_bytes()) {
            generation.groups.get(group).suspect(now_ms);
        }
    }
    generation.groups.all_made().iter().for_each(|group| group.suspect(now_ms));
}

/// Returns the table that is in force for a switch, and its default.
fn in_force(thread: &ThreadContext, switch: u32) -> Option<(Arc<Table>, Arc<str>)> {
    let generation = thread.generation();
    let number = generation.switches.iter().position(|known| *known == switch)?;
    let table = Arc::clone(generation.routing().tables.tables.get(number)?);
    let configured = &generation.config.switches.get(number)?.rules.default;
    let default = Arc::clone(table.default_target(configured));
    Some((table, default))
}

/// Cuts the streams on a watch's old side, evenly over this time; requests that become streams meanwhile are cut after
/// that, as soon as they are. What is on a side that is in force again when its turn comes stays.
async fn close_streams(
    thread: Rc<ThreadContext>,
    watch: u64,
    (streams, mut rest): (Vec<InFlightId>, Vec<InFlightId>),
    spread: Duration,
) {
    let began = tokio::time::Instant::now();
    rest.extend(close_evenly(&thread, streams, spread).await);
    tokio::time::sleep_until(began + spread).await;
    let in_force = |switch| in_force(&thread, switch);
    while !rest.is_empty() || thread.in_flight.borrow().knows(watch) {
        tokio::time::sleep(RECHECK).await;
        let now_ms = thread.clock.fresh().monotonic_ms();
        let in_flight = thread.in_flight.borrow();
        let (streams, requests) = in_flight.old_side(watch, now_ms);
        rest.extend(streams.into_iter().chain(requests));
        rest.sort_unstable();
        rest.dedup();
        rest.retain(|place| !in_flight.cut(*place, now_ms, &in_force));
    }
}

/// Cuts streams of an old side evenly over this time. Returns those that are none.
async fn close_evenly(
    thread: &Rc<ThreadContext>,
    streams: Vec<InFlightId>,
    spread: Duration,
) -> Vec<InFlightId> {
    let in_force = |switch| in_force(thread, switch);
    let cut = |place| thread.in_flight.borrow().cut(place, thread.now_ms(), &in_force);
    cut_evenly(streams, spread, cut).await
}

/// Returns the groups of the newest configuration and those made at run time.
fn all_groups(thread: &ThreadContext) -> Vec<(Arc<str>, Rc<ThreadGroup>)> {
    let generation = thread.generation();
    let groups = generation.layout.groups.iter().zip(&generation.config.groups).enumerate();
    let configured =
        groups.map(|(number, (layout, _))| (Arc::clone(&layout.name), generation.groups.get(number).clone()));
    let made = generation.groups.all_made().into_iter().map(|group| (Arc::from(group.name()), group));
    // What all threads share is of one of them.
    configured.chain(made).filter(|(_, group)| group.is_own() || thread.number() == 0).collect()
}

fn peers(thread: &ThreadContext, names: Option<&[Arc<str>]>) -> Vec<GroupState> {
    let now_ms = thread.now_ms();
    let is_meant = |(name, _): &(Arc<str>, Rc<ThreadGroup>)| {
        names.is_none_or(|names| names.iter().any(|one| one.eq_ignore_ascii_case(name)))
    };
    let state = |(name, group): (Arc<str>, Rc<ThreadGroup>)| GroupState {
        worker: thread.number(),
        name,
        peers: group.peers(now_ms),
    };
    all_groups(thread).into_iter().filter(is_meant).map(state).collect()
}
