//! Streams at servers that orders take out of their groups.
//!
//! Owns that they end as those on the old side of a switch do: by the policy of the switch that led them there. Streams that no
//! switch has led, and those at servers that are only no longer looked up, stay.

use super::cut_evenly::cut_evenly;
use super::in_flight::{AtServers, InFlightId, RECHECK};
use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::proxy::groups;
use engine::modules::switch::StreamsPolicy;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};
use upstream::{GroupSets, GroupSpec, PeerSource};

/// Servers that have got requests and get no new ones.
#[derive(Clone, Debug)]
struct Drained {
    group: Box<[u8]>,
    /// Their addresses.
    servers: Vec<Box<str>>,
}

/// Ends the streams at servers that a publication has taken out of their groups; `before` are the groups before it.
pub(super) fn close_streams(thread: &Rc<ThreadContext>, generation: &Generation, before: &GroupSets) {
    let policies = generation.config.switches.iter().zip(&generation.switches);
    let policies: Vec<(u32, StreamsPolicy)> = policies
        .filter(|(spec, _)| spec.streams != StreamsPolicy::Keep)
        .map(|(spec, switch)| (*switch, spec.streams))
        .collect();
    if policies.is_empty() {
        return;
    }
    let routing = generation.routing();
    for (group, _) in routing.groups.changes_since(before) {
        let (old, new) = (servers(generation, before, group), servers(generation, &routing.groups, group));
        let servers = drained(old.as_deref(), new.as_deref());
        for (switch, policy) in policies.iter().filter(|_| !servers.is_empty()) {
            let drained = Drained { group: group.into(), servers: servers.clone() };
            spawn_local(close(Rc::clone(thread), *switch, drained, *policy));
        }
    }
}

/// Returns the servers of a group.
fn servers(generation: &Generation, sets: &GroupSets, group: &[u8]) -> Option<Arc<GroupSpec>> {
    match generation.config.group(group) {
        Some(number) => Some(Arc::clone(groups::servers(generation.config.groups.get(number)?, sets))),
        None => sets.get(group).map(|set| Arc::clone(&set.spec)),
    }
}

/// Returns the addresses of servers that have got requests and get none any more.
fn drained(old: Option<&GroupSpec>, new: Option<&GroupSpec>) -> Vec<Box<str>> {
    let peers = |spec: Option<&GroupSpec>| spec.map(|spec| spec.peers.clone()).unwrap_or_default();
    let new = peers(new);
    let is_in_use = |down: bool, drain: bool| !down && !drain;
    let mut found: Vec<Box<str>> = Vec::new();
    for peer in peers(old).iter().filter(|peer| is_in_use(peer.down, peer.drain)) {
        let mut now = new.iter().filter(|other| other.address == peer.address).peekable();
        let is_gone = now.peek().is_none();
        let is_left = match is_gone {
            true => peer.source != PeerSource::Discovered,
            false => now.all(|other| !is_in_use(other.down, other.drain)),
        };
        if is_left {
            found.push(peer.address.to_string().into());
        }
    }
    found
}

/// Ends the streams that a switch has led to drained servers, and the requests there that become streams.
async fn close(thread: Rc<ThreadContext>, switch: u32, drained: Drained, policy: StreamsPolicy) {
    let began = Instant::now();
    let (after_ms, spread_ms) = match policy {
        StreamsPolicy::Keep => return,
        StreamsPolicy::CloseAfter { ms } => (ms, 0),
        StreamsPolicy::CloseSpread { ms } => (0, ms),
    };
    sleep_until(began + Duration::from_millis(after_ms)).await;
    let (streams, mut rest) = thread.in_flight.borrow().at_servers(&drained.at(switch), thread.now_ms());
    let cut = |place| drained.cut(&thread, switch, place);
    rest.extend(cut_evenly(streams, Duration::from_millis(spread_ms), cut).await);
    while !rest.is_empty() {
        sleep(RECHECK).await;
        rest.retain(|place| !cut(*place));
    }
}

impl Drained {
    fn at(&self, switch: u32) -> AtServers<'_> {
        AtServers { switch, group: &self.group, servers: &self.servers }
    }

    /// Cuts a stream at one of the servers that are not back. Returns false if a request is there that is not a stream yet.
    fn cut(&self, thread: &ThreadContext, switch: u32, place: InFlightId) -> bool {
        let generation = thread.generation();
        let now = servers(&generation, &generation.routing().groups, &self.group);
        let is_back = |server: &str| {
            let mut peers = now.iter().flat_map(|spec| &spec.peers);
            peers.any(|peer| !peer.down && !peer.drain && peer.address.to_string() == server)
        };
        let left = self.servers.iter().filter(|server| !is_back(server)).cloned().collect();
        let left = Drained { group: self.group.clone(), servers: left };
        thread.in_flight.borrow().cut_at(place, &left.at(switch), thread.now_ms())
    }
}
