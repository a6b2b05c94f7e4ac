//! Publications while clients send: the world's one key is led from side to side, and a server of each side may be drained or
//! removed.
//!
//! Owns the record of which side and which servers were in force when, against which an origin checks that a request may have come to it. The
//! tables come in by the product's own bus and mailbox.

use super::World;
use super::clients::Asked;
use crate::switching::publish;
use control::{Acknowledgement, DataPlane, Watch};
use engine::Routing;
use sim::{Seeded, holds, tell};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use switch::{Key, KeyKind, Table, Tables};
use tokio::time::{Instant, sleep};
use upstream::{Address, GroupSet, GroupSets};

/// The groups of the two sides; the first is the default.
pub(super) const SIDES: [&str; 2] = ["blue", "green"];

/// Which side was published when.
pub(super) struct Moves(RefCell<Vec<(Instant, usize)>>);

impl Moves {
    pub(super) fn new() -> Moves {
        Moves(RefCell::new(vec![(Instant::now(), 0)]))
    }

    /// Returns true if this side was in force at some time since then.
    fn was_in_force(&self, side: usize, since: Instant) -> bool {
        let moves = self.0.borrow();
        // Of what happened in one millisecond the order is not known.
        let first = moves.iter().rposition(|(at, _)| *at < since).unwrap_or(0);
        moves[first..].iter().any(|(_, published)| *published == side)
    }
}

/// Which servers took no new requests since when: drained or removed. Since the beginning all take them.
#[derive(Default)]
pub(super) struct Drains(RefCell<Vec<(Instant, Vec<Address>)>>);

impl Drains {
    /// Returns true if this server has been out at all times since then, that moment's change included.
    fn is_out_since(&self, address: &Address, since: Instant) -> bool {
        let drains = self.0.borrow();
        let Some(first) = drains.iter().rposition(|(at, _)| *at < since) else { return false };
        drains[first..].iter().all(|(_, out)| out.contains(address))
    }
}

/// Checks that a server to which a connection is made takes requests: it was picked at this moment.
pub(super) fn check_picked(world: &World, address: &Address) {
    let drains = world.drains.0.borrow();
    let is_out = drains.last().is_some_and(|(_, out)| out.contains(address));
    holds!("drained-gets-none", !is_out, "{address} is picked, and takes no new requests");
}

/// Checks that a request that reaches an origin was begun while that took requests.
pub(super) fn check_in_use(world: &World, asked: &Asked, address: &Address) {
    let whole = world.settings.request_buffering || asked.body.is_empty();
    let Some(since) = (if whole { asked.said.get() } else { asked.begun() }).or(asked.begun()) else {
        return;
    };
    holds!(
        "drained-gets-none",
        !world.drains.is_out_since(address, since),
        "{} goes to {address}, which took no requests any more when it was begun",
        asked.id
    );
}

/// Draws servers for the groups: of each side one may be drained, or removed, or all are as the configuration has them.
fn draw_servers(world: &World, seeded: &mut Seeded) -> (GroupSets, Vec<Address>) {
    let mut out = Vec::new();
    let generation = world.harness.thread.generation();
    let changed = generation.config.groups.iter().filter_map(|entry| {
        let mut peers = entry.spec.peers.clone();
        let at = seeded.below(peers.len());
        match seeded.below(3) {
            0 => return None,
            1 => {
                peers[at].drain = true;
                out.push(peers[at].address.clone());
            }
            _ => out.push(peers.remove(at).address),
        }
        Some(GroupSet { spec: Arc::new(entry.spec.with_peers(peers)), like: None })
    });
    let sets = changed.collect();
    (sets, out)
}

/// Returns the side of an origin.
pub(super) fn side(address: &Address) -> usize {
    usize::from(format!("{address:?}").contains("10.0.1."))
}

/// Checks that a request that reaches an origin had its choice of sides while the origin's was in force. It cannot have
/// asked before its client had sent what is read first.
pub(super) fn check_side(world: &World, asked: &Asked, side: usize) {
    let whole = world.settings.request_buffering || asked.body.is_empty();
    let Some(since) = (if whole { asked.said.get() } else { asked.begun() }).or(asked.begun()) else {
        return;
    };
    holds!(
        "undecided-goes-new",
        world.moves.was_in_force(side, since),
        "{} goes to {}, which has got no request since before it could ask",
        asked.id,
        SIDES[side]
    );
}

/// Publishes one side after the other, and observes each drain until the next.
pub(super) async fn move_about(world: Rc<World>, mut seeded: Seeded) {
    let thread = Rc::clone(&world.harness.thread);
    let Ok(key) = Key::parse(KeyKind::Host, b"a.example", 255) else { return };
    let mut before = Arc::new(Table::default());
    let longest_ms = if world.settings.dawdling { 80 } else { 300 };
    for number in 1.. {
        sleep(Duration::from_millis(seeded.within(0..=longest_ms))).await;
        let side = number as usize % 2;
        tell!("{} is published", SIDES[side]);
        let entry = (key.clone(), SIDES[side].parse().expect("a route"), number);
        let after = Arc::new(Table::from_entries(number, [entry]));
        let watch = Watch {
            id: number,
            switch: 0,
            before: Arc::clone(&before),
            after: Arc::clone(&after),
            changes: vec![key.clone()],
        };
        let tables = Tables { tables: [Arc::clone(&after)].into(), holds: Box::default(), number };
        let (sender, acknowledged) = mpsc::channel();
        let reply = Box::new(move |ack: Acknowledgement| {
            let _ = sender.send(ack.in_flight_old);
        });
        let (groups, out) = draw_servers(&world, &mut seeded);
        tell!("{out:?} take no new requests");
        thread.bus.publish(Arc::new(Routing { tables, groups }), Some(Arc::new(watch)), reply);
        publish::run_commands(&thread);
        world.drains.0.borrow_mut().push((Instant::now(), out));
        world.moves.0.borrow_mut().push((Instant::now(), side));
        let mut left = acknowledged.try_recv().expect("the thread acknowledges at once") as u64;
        for _ in 0..seeded.within(0..=20) {
            sleep(Duration::from_millis(seeded.within(1..=20))).await;
            let now_ms = thread.clock.fresh().monotonic_ms();
            let report = thread.in_flight.borrow().report(number, now_ms, &|_| None).expect("it is watched");
            let now = report.in_flight + report.streams;
            holds!(
                "undecided-goes-new",
                now <= left,
                "{now} requests are on the old side, there were {left}"
            );
            left = now;
        }
        thread.in_flight.borrow_mut().forget(number);
        before = after;
    }
}
