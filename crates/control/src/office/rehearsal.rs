//! What an order would do: told without doing it.
//!
//! Owns: what is known of the keys an order would move. Must never: change anything.

use super::desk::Desk;
use super::now_ms;
use super::room::Room;
use crate::gate;
use crate::receipt::{GateResult, KeyChange, Outcome, Receipt};
use crate::traffic::Watch;
use statistics::Window;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use switch::{Hash, Key, Order, Plan, Table};

/// Of how many keys the workers are asked one by one.
const ASKED_FOR: usize = 16;

impl Room {
    /// The receipt of an order that is not carried out.
    pub(super) async fn rehearse(
        self: &Rc<Room>,
        desk: &Desk,
        plan: &Plan,
        order: &Order,
        gate: Vec<GateResult>,
    ) -> Receipt {
        let refused = !order.meta.force && gate.iter().any(|result| !result.passed);
        let commit = plan.commit(Hash::ZERO, now_ms(), Vec::new());
        let after = Arc::new(desk.table().apply(&commit));
        let mut receipt = Receipt::of_commit(&desk.name(), &commit);
        self.add_rates(desk, &after, &mut receipt.changes).await;
        if plan.changes.len() <= ASKED_FOR {
            for (change, told) in plan.changes.iter().zip(&mut receipt.changes) {
                self.add_flights(desk, &after, &change.key, told).await;
            }
        }
        Receipt {
            revision: desk.table().revision(),
            time_ms: 0,
            outcome: if refused { Outcome::WouldRefuse } else { Outcome::WouldCommit },
            refusal: refused.then(|| gate::refusal(&gate).text),
            forced: order.meta.force,
            gate,
            ..receipt
        }
    }

    /// How many requests each key got lately: those whose best entry it would be.
    async fn add_rates(&self, desk: &Desk, after: &Table, changes: &mut [KeyChange]) {
        self.collect().await;
        let name = desk.name();
        let summary = {
            let mut collector = self.traffic().collector().lock().unwrap_or_else(PoisonError::into_inner);
            collector.summary(Window::TenSeconds, self.clock_ms())
        };
        let Some(switch) = summary.switches.iter().find(|one| one.name == name) else { return };
        let table = desk.table();
        for told in changes {
            let requests: u64 = switch
                .keys
                .iter()
                .filter(|seen| {
                    let Some(text) = &seen.key else { return false };
                    // A key that goes back to the default is in the table before, not after.
                    let entry = after.find_key(text).or_else(|| table.find_key(text));
                    entry.is_some_and(|(key, _)| key.as_str() == told.key)
                })
                .map(|seen| seen.window.ended)
                .sum();
            told.requests_per_second = Some(summary.per_second(requests));
        }
    }

    /// How many requests and streams of one key are under way.
    async fn add_flights(&self, desk: &Desk, after: &Arc<Table>, key: &Key, told: &mut KeyChange) {
        let watch = Arc::new(Watch {
            id: self.next_watch(),
            switch: desk.place().number,
            before: desk.table(),
            after: after.clone(),
            changes: vec![key.clone()],
        });
        let reports = self.gather(|traffic, reply| traffic.affected(watch, reply)).await;
        told.in_flight = Some(reports.iter().map(|report| report.in_flight).sum());
        told.streams = Some(reports.iter().map(|report| report.streams).sum());
    }
}
