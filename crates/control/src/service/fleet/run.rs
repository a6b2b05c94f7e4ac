//! The tasks that follow the fleet.
//!
//! Owns: connecting, again and again; signs of life; taking over what others have committed. Must never: run before this
//! process speaks for its node.

use super::{FleetService, statement};
use crate::service::state::ControlState;
use fleet::{FaultKind, FleetFault};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two signs of life, as [`fleet::FleetTimes`] has it.
const BEAT: Duration = Duration::from_secs(1);
/// How long another process of the same name keeps this one from following.
const TWIN: Duration = Duration::from_secs(10);

/// Starts the tasks.
pub(in crate::service) fn start(state: &Rc<ControlState>, service: &Rc<FleetService>) {
    tokio::task::spawn_local(keep_connected(Rc::downgrade(state), service.clone()));
    tokio::task::spawn_local(beat(Rc::downgrade(state), service.clone()));
    tokio::task::spawn_local(take_over(Rc::downgrade(state), service.clone()));
}

async fn keep_connected(state: Weak<ControlState>, service: Rc<FleetService>) {
    while !service.left.get() {
        let Some(known) = state.upgrade() else { return };
        service.fleet.set_statement(statement(&known.shared.config()));
        drop(known);
        let ended = tokio::select! {
            fault = connected(&state, &service) => Some(fault),
            () = service.renew.notified() => None,
        };
        service.fleet.disconnect();
        let Some(fault) = ended else { continue };
        if let Some(known) = state.upgrade() {
            known.note_fleet(&service, Some(fault));
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = service.renew.notified() => {}
        }
    }
}

/// Follows the fleet until that fails, and returns why.
async fn connected(state: &Weak<ControlState>, service: &Rc<FleetService>) -> FleetFault {
    match follow(state, service).await {
        Ok(()) => FleetFault::new(FaultKind::Unreachable, "the process ends", ""),
        Err(fault) => fault,
    }
}

async fn follow(state: &Weak<ControlState>, service: &Rc<FleetService>) -> Result<(), FleetFault> {
    service.take_voice()?;
    if let Some((fault, seen)) = &*service.twin.borrow()
        && seen.elapsed() < TWIN
    {
        return Err(fault.clone());
    }
    let connected = service.fleet.connect().await?;
    let Some(known) = state.upgrade() else { return Ok(()) };
    for switch in known.fleet_switches() {
        // It is all that this process has published.
        let position = switch.position();
        let (revision, hash) = (position.table.revision(), position.hash.to_string());
        let workers = known.data_plane().threads();
        let done = service.applied.borrow().get(&*switch.name()).cloned();
        if let Some(done) = done {
            service.fleet.acknowledge(&switch.name(), &done).await?;
        } else {
            service.all_follow(&switch.name(), &hash, revision, workers, tokio::time::Instant::now()).await;
        }
        known.pull_copy(service, &switch).await?;
        service.note_behind(&switch.name());
    }
    let mut follower = service.fleet.follow(connected).await?;
    known.note_fleet(service, None);
    drop(known);
    loop {
        for switch in follower.next().await? {
            service.note_behind(&switch);
        }
        if let Some(fault) = service.trouble() {
            return Err(fault);
        }
    }
}

impl FleetService {
    /// Returns what all workers follow, by switch.
    fn revisions(&self) -> BTreeMap<String, u64> {
        self.applied.borrow().iter().map(|(name, done)| (name.clone(), done.revision)).collect()
    }

    fn note_behind(&self, switch: &str) {
        self.behind.borrow_mut().insert(switch.to_owned());
        self.is_behind.notify_one();
    }
}

/// Takes over what others have committed.
async fn take_over(state: Weak<ControlState>, service: Rc<FleetService>) {
    while !service.left.get() {
        let next = service.behind.borrow_mut().pop_first();
        let Some(name) = next else {
            service.is_behind.notified().await;
            continue;
        };
        let Some(state) = state.upgrade() else { return };
        // Another node may have a switch that this one has not.
        let Ok(switch) = state.switch(&name) else { continue };
        if switch.is_in_fleet() && state.catch_up(&switch).await.is_err() {
            // The next look finds it: a foreign store is noted, and one that cannot be reached ends the connection.
            tokio::time::sleep(PAUSE).await;
            if service.fleet.is_connected() && service.trouble().is_none() {
                service.note_behind(&name);
            }
        }
    }
}

/// Gives signs of life.
async fn beat(state: Weak<ControlState>, service: Rc<FleetService>) {
    while !service.left.get() {
        let began = tokio::time::Instant::now();
        if service.fleet.is_connected() {
            let revisions = service.revisions();
            let Some(state) = state.upgrade() else { return };
            if let Err(fault) = service.fleet.beat(revisions).await
                && fault.kind != FaultKind::Unreachable
                && !service.left.get()
            {
                if fault.kind == FaultKind::Taken {
                    *service.twin.borrow_mut() = Some((fault.clone(), tokio::time::Instant::now()));
                }
                state.note_fleet(&service, Some(fault));
                service.renew();
            }
        }
        tokio::time::sleep_until(began + BEAT).await;
    }
}
