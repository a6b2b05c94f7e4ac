//! Switching inside a hold: hold, drain, commit, release.
//!
//! Owns that sequence. Must never: leave requests waiting for a switch that was refused, or release them before every
//! worker has the new table.

use super::commit::CommitOutcome;
use super::elsewhere::report::Elsewhere;
use super::hold::Ending;
use super::owner;
use super::state::{ACK_TIMEOUT, ControlState};
use super::switch_state::SwitchState;
use crate::data_plane::Watch;
use crate::info::HoldInfo;
use crate::options::{HoldOptions, HoldOrder, HoldStreams, Wait};
use crate::receipt::{GateResult, Held};
use crate::store::KeptOrder;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::{Code, Hold, HoldPhase, Key, Order, Plan, Refusal, Route};
use tokio::time::Instant;

/// The first and the longest pause between two checks for requests in flight.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

impl ControlState {
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
        // Requests that wait longer are refused; then the hold has lost its purpose.
        let patience = timeout.min(Duration::from_millis(options.timeout_ms));
        let mut own = OrderHold::new(switch, plan);
        let mut result = Ok(());
        for change in &plan.changes {
            match self.others_hold(switch, &change.key).await {
                Ok(None) => {}
                Ok(Some(hold)) => {
                    own.others.push(hold);
                    continue;
                }
                Err(refusal) => {
                    result = Err(refusal);
                    break;
                }
            }
            let (actor, reason) = (order.meta.actor.clone(), order.meta.reason.clone());
            let of = KeptOrder {
                owner: owner::own(),
                idempotency: order.meta.idempotency.clone(),
                revision: switch.table().revision(),
                targets: change
                    .after
                    .iter()
                    .flat_map(|route| route.targets())
                    .map(ToString::to_string)
                    .collect(),
                route: Some(change.after.as_ref().map_or_else(|| "default".to_owned(), Route::to_string)),
                closes_streams: options.streams == HoldStreams::Close,
            };
            let (key, options) = (change.key.clone(), options.clone());
            let hold = HoldOrder { key, options, end: None, actor, reason };
            match self.hold_for(switch, hold, Some(of)).await {
                Ok((_, hold)) => own.holds.push(hold),
                Err(refusal) => {
                    result = Err(refusal);
                    break;
                }
            }
        }
        let watch = self.hypothetical_watch(switch, plan);
        let mut drained = Duration::ZERO;
        let made = match result {
            Ok(()) => match self.wait_until_drained(switch, &watch, patience, options.streams, &own).await {
                Ok(took) => {
                    drained = took;
                    // Another process may have released it.
                    let _ = self.follow_holds(switch).await;
                    self.commit_if(switch, order, gate, &|| own.check(self, switch)).await
                }
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        if let Ok(CommitOutcome::Committed(following)) = &made {
            // A worker that still has the old table would send released requests to the old side.
            following.wait(Wait::Published, ACK_TIMEOUT).await;
            // A script can ask for its target while the key is held. What it took before the new table was there ends first.
            let left = patience.saturating_sub(began.elapsed());
            let _ = self.wait_for_requests(switch, (&watch, following.revision), left).await;
        }
        let _reload_lock = self.reload_lock.read().await;
        let ending =
            || Ending::Released { actor: order.meta.actor.clone(), reason: order.meta.reason.clone() };
        let lifted: Vec<HoldInfo> = own
            .holds
            .iter()
            .filter(|hold| own.is_there(self, switch, hold))
            .filter_map(|hold| self.lift_hold(switch, hold.key(), options.per_second, ending()).ok())
            .map(|(info, _)| info)
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

    /// Returns the hold that somebody has placed on a key.
    ///
    /// # Errors
    /// It is another order's, which ends with that.
    async fn others_hold(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        key: &Key,
    ) -> Result<Option<Arc<Hold>>, Refusal> {
        let _reload_lock = self.reload_lock.read().await;
        let find = || self.routing().tables.hold(switch.configured().number, key).cloned();
        let Some(hold) = find() else { return Ok(None) };
        if self.holds.with(&hold, |held| held.may_be_settled()) == Some(true) {
            self.settle(switch, &hold).await;
        }
        match find() {
            Some(hold) if self.holds.with(&hold, |held| held.kept.order.is_some()) == Some(true) => {
                Err(self.held_already(&hold))
            }
            found => Ok(found),
        }
    }

    /// Waits until nothing is in flight that the plan would move, streams as the order says.
    async fn wait_until_drained(
        self: &Rc<ControlState>,
        switch: &SwitchState,
        watch: &Arc<Watch>,
        patience: Duration,
        streams: HoldStreams,
        own: &OrderHold,
    ) -> Result<Duration, Refusal> {
        let began = Instant::now();
        let mut pause = PAUSES.0;
        loop {
            own.check(self, switch)?;
            let asked = watch.clone();
            let reports = self.gather(|data_plane, reply| data_plane.affected(asked, reply)).await;
            let elsewhere = self.left_elsewhere(switch, own);
            let own_requests: u64 = reports.iter().map(|report| report.in_flight).sum();
            let own_open: u64 = reports.iter().map(|report| report.streams).sum();
            let (requests, open) = (own_requests + elsewhere.in_flight, own_open + elsewhere.streams);
            match streams {
                HoldStreams::Refuse if open > 0 => {
                    return Err(Refusal::new(
                        Code::NotDrained,
                        match open {
                            1 => "1 stream is open on the old side, whose client would stay there".to_owned(),
                            _ => format!(
                                "{open} streams are open on the old side, whose clients would stay there"
                            ),
                        },
                        "say what becomes of them: --hold-streams close, or --hold-streams wait",
                    ));
                }
                // Another process closes its own.
                HoldStreams::Close if own_open > 0 && requests == 0 => {
                    self.data_plane().close_affected(watch.clone(), 0);
                }
                _ => {}
            }
            if self.are_all(reports.len()) && requests + open == 0 && !elsewhere.is_unknown {
                return Ok(began.elapsed());
            }
            if began.elapsed() >= patience {
                if requests + open == 0 && elsewhere.is_unknown {
                    return Err(Refusal::new(
                        Code::NotDrained,
                        "another process of this server still finishes requests, which may be on the old side",
                        "repeat the order when that process has ended, or without a hold",
                    ));
                }
                return Err(not_drained(requests, open, elsewhere, patience));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Returns what other processes have left that an order would leave behind, of all its keys.
    fn left_elsewhere(&self, switch: &SwitchState, own: &OrderHold) -> Elsewhere {
        let mut left = Elsewhere::default();
        for hold in own.holds.iter().chain(&own.others) {
            let id = self.holds.with(hold, |held| held.kept.id.clone()).unwrap_or_default();
            let of_key = self.held_elsewhere(switch, &id);
            left.in_flight += of_key.in_flight;
            left.streams += of_key.streams;
            left.is_unknown |= of_key.is_unknown;
        }
        left
    }

    /// Waits until no request is on the old side of a commit, at most for so long. Returns false if some are left.
    async fn wait_for_requests(
        &self,
        switch: &SwitchState,
        (watch, revision): (&Arc<Watch>, u64),
        patience: Duration,
    ) -> bool {
        let began = Instant::now();
        loop {
            let asked = watch.clone();
            let reports = self.gather(|data_plane, reply| data_plane.affected(asked, reply)).await;
            let elsewhere = self.old_side_elsewhere(switch, revision);
            let is_known = self.are_all(reports.len()) && !elsewhere.is_unknown;
            if is_known && elsewhere.in_flight == 0 && reports.iter().all(|report| report.in_flight == 0) {
                return true;
            }
            if began.elapsed() >= patience {
                return false;
            }
            tokio::time::sleep(PAUSES.0).await;
        }
    }
}

/// Returns the refusal of an order whose time is over.
fn not_drained(requests: u64, open: u64, elsewhere: Elsewhere, patience: Duration) -> Refusal {
    let count = |number: u64, what: &str, verb: &str| {
        (number > 0).then(|| format!("{number} {what}{} {verb}", if number == 1 { "" } else { "s" }))
    };
    let left = [count(requests, "request", "still in flight"), count(open, "stream", "still open")];
    let left = left.into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let others = elsewhere.in_flight + elsewhere.streams;
    let there = if others > 0 {
        format!(", {others} of them in another process of this server")
    } else {
        String::new()
    };
    let remedy = match requests {
        0 => {
            "close them (--hold-streams close), or repeat the order with a longer timeout (the order's and the hold's)"
        }
        _ => "repeat the order with a longer timeout (the order's and the hold's), or without a hold",
    };
    Refusal::new(Code::NotDrained, format!("{left} after {} ms{there}", patience.as_millis()), remedy)
}

/// What an order that waits with a hold must find again when it has waited.
struct OrderHold {
    holds: Vec<Arc<Hold>>,
    /// Holds of its keys that somebody had placed before.
    others: Vec<Arc<Hold>>,
    /// Its keys, each with the revision of its entry when the order began.
    keys: Vec<(Key, Option<u64>)>,
}

impl OrderHold {
    fn new(switch: &SwitchState, plan: &Plan) -> OrderHold {
        let keys = plan.changes.iter().map(|change| (change.key.clone(), revision_of(switch, &change.key)));
        OrderHold { holds: Vec::new(), others: Vec::new(), keys: keys.collect() }
    }

    fn is_there(&self, state: &ControlState, switch: &SwitchState, hold: &Arc<Hold>) -> bool {
        let routing = state.routing();
        let tables = &routing.tables;
        tables.hold(switch.configured().number, hold.key()).is_some_and(|there| Arc::ptr_eq(there, hold))
    }

    /// Fails if the hold is gone or a key has changed.
    fn check(&self, state: &ControlState, switch: &SwitchState) -> Result<(), Refusal> {
        let remedy = "check the key (pointsman show), and repeat the order if it is still wanted";
        if let Some(gone) = self
            .holds
            .iter()
            .chain(&self.others)
            .find(|hold| !self.is_there(state, switch, hold) || hold.phase() == HoldPhase::Releasing)
        {
            let text = format!("the hold on \"{}\" was released while this order waited", gone.key());
            return Err(Refusal::new(Code::Overtaken, text, remedy));
        }
        if let Some((key, _)) = self.keys.iter().find(|(key, at)| revision_of(switch, key) != *at) {
            let text = format!("a newer order changed \"{key}\" while this one waited");
            return Err(Refusal::new(Code::Overtaken, text, remedy));
        }
        Ok(())
    }
}

/// Returns the revision of the last change of a key's own entry.
fn revision_of(switch: &SwitchState, key: &Key) -> Option<u64> {
    switch.table().get(key).map(|entry| entry.revision)
}
