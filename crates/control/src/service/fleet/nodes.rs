//! The nodes of the fleet, and orders about it.
//!
//! Owns: what a receipt says of each node, what is shown of the fleet, and who is in it. Must never: say that a node has applied what it has not
//! acknowledged.

use super::{FleetService, refusal};
use crate::receipt::{FleetReceipt, NodeReceipt};
use crate::service::handle::ControlHandle;
use crate::service::progress::CommitProgress;
use crate::service::state::ControlState;
use crate::store::StoreBackend;
use engine::host::Level;
use fleet::{FaultKind, FleetFault, Membership, NodeView};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use switch::{Refusal, StoreFault};
use tokio::time::Instant;

/// How long the nodes are waited for.
const NODES_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of commits that are restored at a time.
const PAGE: usize = 64;

/// The fleet as this node knows it.
#[derive(Clone, Debug)]
pub struct FleetInfo {
    /// This node's name.
    pub node: String,
    /// The prefix of the fleet's keys.
    pub prefix: String,
    /// The members of etcd.
    pub etcd: String,
    /// The fleet's id, if this node is in one.
    pub id: Option<String>,
    /// The present fault, with the remedy.
    pub trouble: Option<(String, String)>,
    /// Its nodes, as this one knows them.
    pub nodes: Vec<NodeView>,
}

impl FleetService {
    /// Waits until all member nodes follow a commit, and keeps its receipt up to date.
    pub(in crate::service) async fn nodes_follow(&self, following: &CommitProgress) {
        let deadline = Instant::now() + NODES_TIMEOUT;
        let mut seen: BTreeMap<String, NodeReceipt> = BTreeMap::new();
        loop {
            let after_us = following.committed.elapsed().as_micros() as u64;
            let mut is_complete = true;
            let done = self.fleet.applied(&following.switch, following.revision);
            let members = self.fleet.members();
            for name in &members {
                let one = seen.entry(name.clone()).or_insert_with(|| NodeReceipt::named(name));
                match done.get(name) {
                    Some(done) if !one.applied => {
                        let exact = done.revision == following.revision;
                        one.applied = true;
                        one.after_us = Some(after_us);
                        one.workers = done.workers;
                        one.took_us = exact.then_some(done.took_us);
                    }
                    Some(_) => {}
                    None => is_complete &= one.applied,
                }
            }
            seen.retain(|name, _| members.contains(name));
            let nodes: Vec<NodeReceipt> = seen.values().cloned().collect();
            let applied_us = match is_complete {
                true => nodes.iter().filter_map(|one| one.after_us).max(),
                false => None,
            };
            following.modify_receipt(|receipt| receipt.fleet = Some(FleetReceipt { nodes, applied_us }));
            if is_complete || Instant::now() >= deadline {
                return;
            }
            self.fleet.changed(deadline).await;
        }
    }

    async fn save(&self, member: Membership) -> Result<(), FleetFault> {
        let (path, kept) = (self.folder.join("fleet.json"), member.clone());
        let saved = tokio::task::spawn_blocking(move || kept.save(&path)).await;
        let why = match saved {
            Ok(Ok(())) => {
                self.fleet.set_member(member);
                self.renew();
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(FleetFault::new(
            FaultKind::Refused,
            format!("this node is in the fleet now, and {} cannot be written: {why}", self.folder.display()),
            format!(
                "allow the worker's user to write there; then: pointsman fleet remove {} on another node, and join \
                 again",
                self.fleet.node()
            ),
        ))
    }
}

impl ControlState {
    fn fleet_info(&self) -> Result<FleetInfo, Refusal> {
        let service = self.fleet_service()?;
        Ok(FleetInfo {
            node: service.fleet.node().to_owned(),
            prefix: service.fleet.prefix().to_owned(),
            etcd: service.fleet.place(),
            id: service.fleet.member().map(|member| member.fleet),
            trouble: service.trouble().map(|fault| (fault.text, fault.remedy)),
            nodes: service.fleet.nodes(),
        })
    }

    /// Writes to etcd what the copies have and it has not.
    async fn restore_fleet(self: &Rc<ControlState>, actor: &str) -> Result<u64, Refusal> {
        let service = self.fleet_service()?;
        let switches = self.fleet_switches();
        let kinds: Vec<_> = switches.iter().map(|one| (one.name().to_string(), one.rules().kind)).collect();
        let after = |name: String, revision: u64| {
            let switch = switches.iter().find(|one| *one.name() == *name).cloned();
            async move {
                let Some(switch) = switch else { return Ok(Vec::new()) };
                let read = move |store: &mut dyn StoreBackend| store.page(revision, PAGE);
                switch.store.with(read).await.map_err(|fault: StoreFault| {
                    FleetFault::new(FaultKind::Damaged, fault.text, fault.remedy)
                })
            }
        };
        let written = service.fleet.restore(&kinds, after).await.map_err(refusal)?;
        self.shared.log(
            Level::Warn,
            &format!("fleet: {actor} wrote {written} commits of this node's copies to etcd"),
        );
        service.renew();
        Ok(written)
    }
}

impl ControlHandle {
    /// Returns what is known of the fleet.
    ///
    /// # Errors
    /// The configuration has none.
    pub async fn fleet(&self) -> Result<FleetInfo, Refusal> {
        self.ask(|state| async move { state.fleet_info() }).await
    }

    /// Makes the fleet, with this node in it.
    ///
    /// # Errors
    /// There is one, or etcd does not take it.
    pub async fn init_fleet(&self, actor: String) -> Result<FleetInfo, Refusal> {
        self.ask(|state| async move {
            state.shared.takes_orders()?;
            let service = state.fleet_service()?;
            let member = service.fleet.init().await.map_err(refusal)?;
            state.shared.log(Level::Notice, &format!("fleet: {actor} made the fleet {}", member.fleet));
            service.save(member).await.map_err(refusal)?;
            state.fleet_info()
        })
        .await
    }

    /// Has this node join the fleet.
    ///
    /// # Errors
    /// There is none, the node's name is taken, or etcd does not take it.
    pub async fn join_fleet(&self, actor: String) -> Result<FleetInfo, Refusal> {
        self.ask(|state| async move {
            state.shared.takes_orders()?;
            let service = state.fleet_service()?;
            let member = service.fleet.join().await.map_err(refusal)?;
            state
                .shared
                .log(Level::Notice, &format!("fleet: {actor} had this node join the fleet {}", member.fleet));
            service.save(member).await.map_err(refusal)?;
            state.fleet_info()
        })
        .await
    }

    /// Takes a node out of the fleet.
    ///
    /// # Errors
    /// There is no such node, or etcd does not take it.
    pub async fn remove_node(&self, node: String, actor: String) -> Result<FleetInfo, Refusal> {
        self.ask(move |state| async move {
            state.shared.takes_orders()?;
            let service = state.fleet_service()?;
            service.fleet.remove(&node).await.map_err(refusal)?;
            state.shared.log(Level::Notice, &format!("fleet: {actor} removed the node {node}"));
            state.fleet_info()
        })
        .await
    }

    /// Writes to etcd what this node's copies have and it has not, and returns how many commits that were.
    ///
    /// # Errors
    /// etcd has another fleet or another history, or does not take it.
    pub async fn restore_fleet(&self, actor: String) -> Result<u64, Refusal> {
        self.ask(move |state| async move {
            state.shared.takes_orders()?;
            state.restore_fleet(&actor).await
        })
        .await
    }
}
