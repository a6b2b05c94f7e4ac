//! Letting a key's new requests wait, and letting them go on.
//!
//! Owns: which keys are held, and hold → drain → switch → release. Must never: leave requests waiting for a switch that
//! was refused, or let them go before every worker has the new table.

use super::desk::Desk;
use super::now_ms;
use super::room::{PATIENCE, Room, take};
use super::walk::Made;
use crate::event::EventKind;
use crate::order::{HoldOptions, HoldOrder, Wait};
use crate::receipt::{GateResult, Held};
use crate::state::HeldKey;
use crate::traffic::Watch;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::{Code, Hash, Hold, HoldLimits, Key, Order, Plan, Refusal};
use tokio::time::Instant;

/// Most keys that are held at a time: every request is held against each of them.
const MAX_HELD: usize = 64;
/// The first and the longest pause between two looks at what is still under way.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// A hold, and what people want to know of it.
pub(super) struct HeldHere {
    pub(super) hold: Arc<Hold>,
    pub(super) switch: Arc<str>,
    since_ms: u64,
    actor: String,
    reason: Option<String>,
}

impl HeldHere {
    pub(super) fn state(&self) -> HeldKey {
        let limits = self.hold.limits();
        HeldKey {
            switch: self.switch.to_string(),
            key: self.hold.key().clone(),
            waiting: self.hold.waiting(),
            waiting_bytes: self.hold.bytes(),
            max: limits.max,
            max_bytes: limits.max_bytes,
            timeout_ms: limits.timeout_ms,
            since_ms: self.since_ms,
            actor: self.actor.clone(),
            reason: self.reason.clone(),
        }
    }
}

impl Room {
    /// See [`crate::Office::hold`].
    pub(super) async fn hold(self: &Rc<Room>, desk: &Rc<Desk>, order: HoldOrder) -> Result<HeldKey, Refusal> {
        let _door = self.door.read().await;
        desk.in_office()?;
        self.place_hold(desk, order).await
    }

    async fn place_hold(self: &Rc<Room>, desk: &Desk, order: HoldOrder) -> Result<HeldKey, Refusal> {
        let HoldOrder { key, options, actor, reason } = order;
        if self.holds.borrow().len() >= MAX_HELD {
            return Err(Refusal::new(
                Code::Busy,
                format!("{MAX_HELD} keys are held already"),
                "release one of them, or hold a wildcard key instead of many",
            ));
        }
        let HoldOptions { max, timeout_ms, max_bytes, per_second: _ } = options;
        let hold = Hold::new(desk.place().number, key, HoldLimits { max, timeout_ms, max_bytes });
        let held = HeldHere {
            hold: hold.clone(),
            switch: desk.name(),
            since_ms: now_ms(),
            actor: actor.clone(),
            reason: reason.clone(),
        };
        let tables = self.tables().with_hold(hold.clone())?;
        let state = held.state();
        self.holds.borrow_mut().push(held);
        self.traffic().held(self.holds.borrow().len());
        let acknowledgements = self.publish(tables, None);
        let key = hold.key().to_string();
        self.office.announce(&desk.name(), EventKind::Held { key, actor, reason });
        take(acknowledgements, self.traffic().threads()).await;
        Ok(state)
    }

    /// See [`crate::Office::release`].
    pub(super) async fn release(
        self: &Rc<Room>,
        desk: &Rc<Desk>,
        key: &Key,
        per_second: Option<u32>,
        actor: &str,
    ) -> Result<HeldKey, Refusal> {
        let _door = self.door.read().await;
        desk.in_office()?;
        self.lift_hold(desk, key, per_second, actor)
    }

    /// Lets the waiting requests go; they find the tables that are published.
    fn lift_hold(
        self: &Rc<Room>,
        desk: &Desk,
        key: &Key,
        per_second: Option<u32>,
        actor: &str,
    ) -> Result<HeldKey, Refusal> {
        let (tables, hold) = self.tables().without_hold(desk.place().number, key)?;
        let place = self.holds.borrow().iter().position(|held| Arc::ptr_eq(&held.hold, &hold));
        // There is one for each hold that is published.
        let held =
            place.map(|place| self.holds.borrow_mut().remove(place)).ok_or_else(|| Refusal::not_held(key))?;
        self.traffic().held(self.holds.borrow().len());
        let state = held.state();
        hold.release(self.clock_ms(), per_second);
        drop(self.publish(tables, None));
        let (key, actor, waiting) = (key.to_string(), actor.to_owned(), state.waiting);
        self.office.announce(&desk.name(), EventKind::Released { key, actor, waiting });
        Ok(state)
    }

    /// Hold, drain, switch, release. Keys that somebody holds already stay held.
    pub(super) async fn hold_and_commit(
        self: &Rc<Room>,
        desk: &Rc<Desk>,
        order: &Order,
        plan: &Plan,
        gate: &[GateResult],
        options: &HoldOptions,
        timeout: Duration,
    ) -> Result<Made, Refusal> {
        let began = Instant::now();
        let mut own: Vec<Key> = Vec::new();
        let mut result = Ok(());
        for change in &plan.changes {
            if self.tables().hold(desk.place().number, &change.key).is_some() {
                continue;
            }
            let (actor, reason) = (order.meta.actor.clone(), order.meta.reason.clone());
            let hold = HoldOrder { key: change.key.clone(), options: options.clone(), actor, reason };
            result = self.hold(desk, hold).await.map(drop);
            if result.is_err() {
                break;
            }
            own.push(change.key.clone());
        }
        // Who waits longer than this is turned away; then the hold has lost its purpose.
        let patience = timeout.min(Duration::from_millis(options.timeout_ms));
        let mut drained = Duration::ZERO;
        let made = match result {
            Ok(()) => match self.empty_old_side(desk, plan, patience).await {
                Ok(took) => {
                    drained = took;
                    self.commit(desk, order, gate).await
                }
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        if let Ok(Made::Committed(following)) = &made {
            // A worker that has the old table still would send those it lets go to the old side.
            following.wait(Wait::Published, PATIENCE).await;
        }
        let _door = self.door.read().await;
        let lifted: Vec<HeldKey> = own
            .iter()
            .filter_map(|key| self.lift_hold(desk, key, options.per_second, &order.meta.actor).ok())
            .collect();
        if let Ok(Made::Committed(following)) = &made {
            following.set_hold(Held {
                waiting: lifted.iter().map(|held| held.waiting).sum(),
                held_us: began.elapsed().as_micros() as u64,
                drained_us: drained.as_micros() as u64,
            });
        }
        made
    }

    /// Waits until no request is under way that the plan would move. Streams are not waited for: they have a policy.
    async fn empty_old_side(
        self: &Rc<Room>,
        desk: &Desk,
        plan: &Plan,
        patience: Duration,
    ) -> Result<Duration, Refusal> {
        let began = Instant::now();
        let watch = self.imagine(desk, plan);
        let workers = self.traffic().threads();
        let mut pause = PAUSES.0;
        loop {
            let watch = watch.clone();
            let reports = self.gather(|traffic, reply| traffic.affected(watch, reply)).await;
            let in_flight: u64 = reports.iter().map(|report| report.in_flight).sum();
            if reports.len() >= workers && in_flight == 0 {
                return Ok(began.elapsed());
            }
            if began.elapsed() >= patience {
                return Err(Refusal::new(
                    Code::NotDrained,
                    format!("{in_flight} requests were still under way after {} ms", patience.as_millis()),
                    "repeat the order with more time (timeout, and the hold's own), or without a hold",
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// The watch that a plan's commit would have.
    pub(super) fn imagine(&self, desk: &Desk, plan: &Plan) -> Arc<Watch> {
        let before = desk.table();
        // The hash is of no matter: it is never kept.
        let after = Arc::new(before.apply(&plan.commit(Hash::ZERO, 0, Vec::new())));
        Arc::new(Watch {
            id: self.next_watch(),
            switch: desk.place().number,
            before,
            after,
            changes: plan.changes.iter().map(|change| change.key.clone()).collect(),
        })
    }
}
