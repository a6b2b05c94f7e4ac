//! Publications while clients send: the world's one key is led from side to side.
//!
//! Owns the record of which side was in force when, against which an origin checks that a request may have come to it. The
//! tables come in by the product's own bus and mailbox.

use super::World;
use super::clients::Asked;
use crate::switching::publish;
use control::{Acknowledgement, DataPlane, Watch};
use sim::{Seeded, holds, tell};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use switch::{Key, KeyKind, Table, Tables};
use tokio::time::{Instant, sleep};
use upstream::Address;

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
    for number in 1.. {
        sleep(Duration::from_millis(seeded.within(0..=300))).await;
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
        thread.bus.publish(Arc::new(tables.into()), Some(Arc::new(watch)), reply);
        publish::run_commands(&thread);
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
