//! Dry runs: reporting what an order would do.
//!
//! Owns: the statistics of the keys that an order would move. Must never: change anything.

use super::clock;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::data_plane::Watch;
use crate::gate;
use crate::receipt::{GateResult, KeyChange, Outcome, Receipt};
use statistics::Window;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use switch::{Hash, Key, Order, Plan, Table};

/// The maximum number of keys whose requests in flight are counted one by one.
const ASKED_FOR: usize = 16;

impl ControlState {
    /// Returns the receipt of a dry run.
    pub(super) async fn dry_run_receipt(
        self: &Rc<ControlState>,
        switch: &SwitchState,
        plan: &Plan,
        order: &Order,
        gate: Vec<GateResult>,
    ) -> Receipt {
        let refused = !order.meta.force && gate.iter().any(|result| !result.passed);
        let commit = plan.commit(Hash::ZERO, clock::now(), Vec::new());
        let after = Arc::new(switch.table().apply(&commit));
        let mut receipt = Receipt::of_commit(&switch.name(), &commit).over(&switch.rules().groups);
        self.add_rates(switch, &after, &mut receipt.changes).await;
        if plan.changes.len() <= ASKED_FOR {
            for (change, told) in plan.changes.iter().zip(&mut receipt.changes) {
                self.add_flights(switch, &after, &change.key, told).await;
            }
        }
        Receipt {
            revision: switch.table().revision(),
            time_ms: 0,
            outcome: if refused { Outcome::WouldRefuse } else { Outcome::WouldCommit },
            refusal: refused.then(|| gate::refusal(&gate).text),
            forced: order.meta.force,
            gate,
            ..receipt
        }
    }

    /// Adds each key's recent request rate: of requests whose best entry it would be.
    async fn add_rates(&self, switch: &SwitchState, after: &Table, changes: &mut [KeyChange]) {
        self.collect().await;
        let name = switch.name();
        let summary = {
            let mut collector = self.data_plane().collector().lock().unwrap_or_else(PoisonError::into_inner);
            collector.summary(Window::TenSeconds, self.clock_ms())
        };
        let Some(seen_switch) = summary.switches.iter().find(|one| one.name == name) else { return };
        let table = switch.table();
        for told in changes {
            let requests: u64 = seen_switch
                .keys
                .iter()
                .filter(|seen| {
                    let Some(text) = &seen.key else { return false };
                    // A key that is reset to the default is in the table before, not after.
                    let entry = after.find_key(text).or_else(|| table.find_key(text));
                    entry.is_some_and(|(key, _)| key.as_str() == told.key)
                })
                .map(|seen| seen.window.ended)
                .sum();
            told.requests_per_second = Some(summary.per_second(requests));
        }
    }

    /// Adds a key's requests and streams in flight.
    async fn add_flights(&self, switch: &SwitchState, after: &Arc<Table>, key: &Key, told: &mut KeyChange) {
        let watch = Arc::new(Watch {
            id: self.next_watch_id(),
            switch: switch.configured().number,
            before: switch.table(),
            after: after.clone(),
            changes: vec![key.clone()],
        });
        let reports = self.gather(|data_plane, reply| data_plane.affected(watch, reply)).await;
        told.in_flight = Some(reports.iter().map(|report| report.in_flight).sum());
        told.streams = Some(reports.iter().map(|report| report.streams).sum());
    }

    /// Returns the watch that a plan's commit would have.
    pub(super) fn hypothetical_watch(&self, switch: &SwitchState, plan: &Plan) -> Arc<Watch> {
        let before = switch.table();
        // The hash does not matter: it is never stored.
        let after = Arc::new(before.apply(&plan.commit(Hash::ZERO, 0, Vec::new())));
        Arc::new(Watch {
            id: self.next_watch_id(),
            switch: switch.configured().number,
            before,
            after,
            changes: plan.changes.iter().map(|change| change.key.clone()).collect(),
        })
    }
}
