//! Holding a key's new requests, and releasing them.
//!
//! Owns: holds, and the sequence hold, drain, switch, release. Must never: leave requests waiting for a switch that was
//! refused, or release them before every worker has the new table.

use super::clock::now_ms;
use super::commit::CommitOutcome;
use super::state::{ACK_TIMEOUT, ActiveHold, ControlState, collect_replies};
use super::switch_state::SwitchState;
use crate::event::EventKind;
use crate::info::HoldInfo;
use crate::options::{HoldOptions, HoldOrder, Wait};
use crate::receipt::{GateResult, Held};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::{Code, Hold, HoldLimits, Key, Order, Plan, Refusal};
use tokio::time::Instant;

/// The maximum number of held keys: every request is compared with each of them.
const MAX_HELD: usize = 64;
/// The first and the longest pause between two checks for requests in flight.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

impl ControlState {
    /// See [`crate::ControlHandle::hold`].
    pub(super) async fn hold(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: HoldOrder,
    ) -> Result<HoldInfo, Refusal> {
        self.shared.takes_orders()?;
        let _reload_lock = self.reload_lock.read().await;
        switch.ensure_configured()?;
        self.place_hold(switch, order).await
    }

    async fn place_hold(
        self: &Rc<ControlState>,
        switch: &SwitchState,
        order: HoldOrder,
    ) -> Result<HoldInfo, Refusal> {
        let HoldOrder { key, options, actor, reason } = order;
        if self.holds.borrow().len() >= MAX_HELD {
            return Err(Refusal::new(
                Code::Busy,
                format!("too many keys are held: at most {MAX_HELD}"),
                "release one of them, or hold one wildcard key instead of many",
            ));
        }
        let HoldOptions { max, timeout_ms, max_bytes, per_second: _ } = options;
        let hold = Hold::new(switch.configured().number, key, HoldLimits { max, timeout_ms, max_bytes });
        let held = ActiveHold {
            hold: hold.clone(),
            switch: switch.name(),
            since_ms: now_ms(),
            actor: actor.clone(),
            reason: reason.clone(),
        };
        let tables = self.tables().with_hold(hold.clone())?;
        let info = held.info();
        self.holds.borrow_mut().push(held);
        self.data_plane().held(self.holds.borrow().len());
        let acknowledgements = self.publish(tables, None);
        let key = hold.key().to_string();
        self.shared.announce(&switch.name(), EventKind::Held { key, actor, reason });
        collect_replies(acknowledgements, self.data_plane().threads()).await;
        Ok(info)
    }

    /// See [`crate::ControlHandle::release`].
    pub(super) async fn release(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        key: &Key,
        per_second: Option<u32>,
        actor: &str,
    ) -> Result<HoldInfo, Refusal> {
        let _reload_lock = self.reload_lock.read().await;
        switch.ensure_configured()?;
        self.lift_hold(switch, key, per_second, actor)
    }

    /// Releases the waiting requests; they use the published tables.
    fn lift_hold(
        self: &Rc<ControlState>,
        switch: &SwitchState,
        key: &Key,
        per_second: Option<u32>,
        actor: &str,
    ) -> Result<HoldInfo, Refusal> {
        let (tables, hold) = self.tables().without_hold(switch.configured().number, key)?;
        let place = self.holds.borrow().iter().position(|held| Arc::ptr_eq(&held.hold, &hold));
        // Each published hold has one.
        let held =
            place.map(|place| self.holds.borrow_mut().remove(place)).ok_or_else(|| Refusal::not_held(key))?;
        self.data_plane().held(self.holds.borrow().len());
        let info = held.info();
        hold.release(self.clock_ms(), per_second);
        drop(self.publish(tables, None));
        let (key, actor, waiting) = (key.to_string(), actor.to_owned(), info.waiting);
        self.shared.announce(&switch.name(), EventKind::Released { key, actor, waiting });
        Ok(info)
    }

    /// Holds, drains, switches, releases. Keys that are held already stay held.
    pub(super) async fn hold_and_commit(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: &Order,
        plan: &Plan,
        gate: &[GateResult],
        options: &HoldOptions,
        timeout: Duration,
    ) -> Result<CommitOutcome, Refusal> {
        let began = Instant::now();
        let mut own: Vec<Key> = Vec::new();
        let mut result = Ok(());
        for change in &plan.changes {
            if self.tables().hold(switch.configured().number, &change.key).is_some() {
                continue;
            }
            let (actor, reason) = (order.meta.actor.clone(), order.meta.reason.clone());
            let hold = HoldOrder { key: change.key.clone(), options: options.clone(), actor, reason };
            result = self.hold(switch, hold).await.map(drop);
            if result.is_err() {
                break;
            }
            own.push(change.key.clone());
        }
        // Requests that wait longer are refused; then the hold has lost its purpose.
        let patience = timeout.min(Duration::from_millis(options.timeout_ms));
        let mut drained = Duration::ZERO;
        let made = match result {
            Ok(()) => match self.wait_until_drained(switch, plan, patience).await {
                Ok(took) => {
                    drained = took;
                    self.commit(switch, order, gate).await
                }
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        if let Ok(CommitOutcome::Committed(following)) = &made {
            // A worker that still has the old table would send released requests to the old side.
            following.wait(Wait::Published, ACK_TIMEOUT).await;
        }
        let _reload_lock = self.reload_lock.read().await;
        let lifted: Vec<HoldInfo> = own
            .iter()
            .filter_map(|key| self.lift_hold(switch, key, options.per_second, &order.meta.actor).ok())
            .collect();
        if let Ok(CommitOutcome::Committed(following)) = &made {
            following.set_hold(Held {
                waiting: lifted.iter().map(|held| held.waiting).sum(),
                held_us: began.elapsed().as_micros() as u64,
                drained_us: drained.as_micros() as u64,
            });
        }
        made
    }

    /// Waits until no request is in flight that the plan would move. Streams have their own policy.
    async fn wait_until_drained(
        self: &Rc<ControlState>,
        switch: &SwitchState,
        plan: &Plan,
        patience: Duration,
    ) -> Result<Duration, Refusal> {
        let began = Instant::now();
        let watch = self.hypothetical_watch(switch, plan);
        let workers = self.data_plane().threads();
        let mut pause = PAUSES.0;
        loop {
            let watch = watch.clone();
            let reports = self.gather(|data_plane, reply| data_plane.affected(watch, reply)).await;
            let in_flight: u64 = reports.iter().map(|report| report.in_flight).sum();
            if reports.len() >= workers && in_flight == 0 {
                return Ok(began.elapsed());
            }
            if began.elapsed() >= patience {
                return Err(Refusal::new(
                    Code::NotDrained,
                    format!("{in_flight} requests were still in flight after {} ms", patience.as_millis()),
                    "repeat the order with a longer timeout (the order's and the hold's), or without a hold",
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}
