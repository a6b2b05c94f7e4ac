//! A commit of a switch that is in the fleet.
//!
//! Owns: that it is proposed before it is kept here, and that the copy gets what the fleet has. Must never: keep what the fleet
//! has not.

use super::{FleetService, refusal};
use crate::data_plane::Acknowledgement as WorkerAcknowledgement;
use crate::options::Options;
use crate::service::state::{ControlState, collect_replies};
use crate::service::switch_state::SwitchState;
use crate::store::StoreBackend;
use fleet::record::{Acknowledgement, Position};
use fleet::{Commitment, FaultKind, FleetFault, Proposal};
use std::rc::Rc;
use switch::{Action, Code, Commit, Order, Refusal, StoreFault, StoreFaultKind};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Refuses what a switch of a fleet does not take.
pub(in crate::service) fn check(
    switch: &SwitchState,
    order: &Order,
    options: &Options,
) -> Result<(), Refusal> {
    if !switch.is_in_fleet() {
        return Ok(());
    }
    let bad = |text: &str, remedy: &str| Err(Refusal::new(Code::BadOrder, text, remedy));
    if options.hold.is_some() {
        return bad(
            "a switch of a fleet cannot be switched with a hold: the other nodes would not hold",
            "leave the hold out; each node switches within milliseconds of the commit",
        );
    }
    if order.meta.confirm_within_ms.is_some()
        || matches!(order.action, Action::Confirm(_) | Action::Revert(_))
    {
        return bad(
            "a commit of a fleet cannot wait for a confirmation",
            "leave it out, and undo the commit if it is not right: pointsman undo",
        );
    }
    Ok(())
}

/// Gives an order on a switch of a fleet a name, if it has none: by it the outcome is found when that was unknown.
pub(in crate::service) fn named(switch: &SwitchState, mut order: Order, options: &Options) -> Order {
    if switch.is_in_fleet() && !options.dry_run && order.meta.idempotency.is_none() {
        order.meta.idempotency = Some(fleet::record::random());
    }
    order
}

impl SwitchState {
    /// Returns true if its table is that of a fleet.
    pub(in crate::service) fn is_in_fleet(&self) -> bool {
        self.configured().spec().in_fleet
    }

    fn fleet_position(&self) -> Position {
        let position = self.position();
        Position { revision: position.table.revision(), hash: position.hash }
    }

    /// Refuses to hold a key of a switch in a fleet.
    pub(in crate::service) fn may_hold(&self) -> Result<(), Refusal> {
        if !self.is_in_fleet() {
            return Ok(());
        }
        Err(Refusal::new(
            Code::BadOrder,
            format!(
                "keys of switch \"{}\" cannot be held: it is in a fleet, and the other nodes would not hold",
                self.name()
            ),
            "route the key to a group whose answers say so, or stop the clients",
        ))
    }
}

impl ControlState {
    /// Brings the copy of a switch up to what the fleet has. Publishing it is another step.
    pub(in crate::service) async fn pull(&self, switch: &SwitchState) -> Result<(), Refusal> {
        if !switch.is_in_fleet() {
            return Ok(());
        }
        let service = self.fleet_service()?;
        if let Some(fault) = service.trouble().filter(|fault| fault.kind == FaultKind::NotMember) {
            return Err(refusal(fault));
        }
        self.pull_copy(&service, switch).await.map_err(refusal)
    }

    pub(super) async fn pull_copy(
        &self,
        service: &FleetService,
        switch: &SwitchState,
    ) -> Result<(), FleetFault> {
        let name = switch.name();
        let mut position = switch.fleet_position();
        loop {
            let known = match service.fleet.since(&name, position).await {
                Ok(known) => known,
                Err(fault) => {
                    if fault.kind == FaultKind::Foreign {
                        self.note_fleet(service, Some(fault.clone()));
                    }
                    return Err(fault);
                }
            };
            let Some(last) = known.commits.last() else { return Ok(()) };
            position = Position { revision: last.revision, hash: last.hash };
            let work =
                move |store: &mut dyn StoreBackend| known.commits.iter().try_for_each(|one| copy(store, one));
            if let Err(fault) = switch.store.with(work).await {
                self.store_failed(switch, &fault);
                switch.is_behind.set(true);
                return Err(FleetFault::new(
                    FaultKind::Refused,
                    format!("this node's copy cannot be written: {}", fault.text),
                    fault.remedy,
                ));
            }
            if known.newest == position.revision {
                return Ok(());
            }
        }
    }

    /// Proposes a commit to the fleet. Returns false if another one came first.
    pub(in crate::service) async fn propose(
        &self,
        switch: &SwitchState,
        commit: &Commit,
    ) -> Result<bool, Refusal> {
        let service = self.fleet_service()?;
        if let Some(fault) = service.trouble() {
            return Err(refusal(fault));
        }
        let name = switch.name();
        let proposed = Commitment {
            switch: &name,
            kind: switch.rules().kind,
            position: switch.fleet_position(),
            commit,
        };
        match service.fleet.propose(proposed).await {
            Proposal::Committed => Ok(true),
            Proposal::Conflict => {
                self.pull_copy(&service, switch).await.map_err(refusal)?;
                Ok(false)
            }
            Proposal::Refused(fault) => Err(refusal(fault)),
            Proposal::Unknown(fault) => {
                switch.is_behind.set(true);
                let id = commit.idempotency.as_deref().unwrap_or_default();
                Err(Refusal::new(
                    Code::OutcomeUnknown,
                    format!(
                        "whether revision {} of switch \"{name}\" is committed is unknown: {}",
                        commit.revision, fault.text
                    ),
                    format!(
                        "when etcd answers again: pointsman receipt --id {id} says what came of it; to repeat the order with \
                         the idempotency key {id} is safe"
                    ),
                ))
            }
        }
    }

    /// Says to the fleet that all workers follow a commit, once they do.
    pub(in crate::service) fn acknowledge_taken(
        self: &Rc<ControlState>,
        taken: Vec<(Rc<SwitchState>, Commit)>,
        acknowledgements: mpsc::UnboundedReceiver<WorkerAcknowledgement>,
    ) {
        let Ok(service) = self.fleet_service() else { return };
        let (state, began) = (self.clone(), Instant::now());
        tokio::task::spawn_local(async move {
            let workers = state.data_plane().threads();
            let answers = collect_replies(acknowledgements, workers).await;
            if answers.len() < workers {
                return;
            }
            for (switch, commit) in taken {
                service
                    .all_follow(&switch.name(), &commit.hash.to_string(), commit.revision, workers, began)
                    .await;
            }
        });
    }
}

impl FleetService {
    /// Says to the fleet that all workers follow a commit since now.
    pub(in crate::service) async fn all_follow(
        &self,
        switch: &str,
        hash: &str,
        revision: u64,
        workers: usize,
        began: Instant,
    ) {
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let done = Acknowledgement { revision, hash: hash.to_owned(), workers, took_us };
        {
            let mut applied = self.applied.borrow_mut();
            if applied.get(switch).is_some_and(|known| known.revision >= revision) {
                return;
            }
            applied.insert(switch.to_owned(), done.clone());
        }
        // What does not get through is in the next sign of life.
        let _ = self.fleet.acknowledge(switch, &done).await;
    }
}

/// Keeps a commit of the fleet in the copy, unless it is there.
fn copy(store: &mut dyn StoreBackend, commit: &Commit) -> Result<(), StoreFault> {
    match store.commit(commit) {
        Err(fault) if fault.kind == StoreFaultKind::Conflict => {
            let known = switch::commit_at(store, commit.revision)?;
            if known.is_some_and(|known| known.hash == commit.hash) { Ok(()) } else { Err(fault) }
        }
        kept => kept,
    }
}
