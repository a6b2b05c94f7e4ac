//! The state of the control thread.
//!
//! Owns: the switches, the published tables, the holds and the drains. Must never: block the thread on a disk or a worker.

use super::answer_owner::WatchedCommit;
use super::clock;
use super::elsewhere::followed::OtherProcesses;
use super::fleet::own_node::FleetService;
use super::heads::Heads;
use super::holds::Holds;
use super::lookups::Discovery;
use super::progress::CommitProgress;
use super::shared::Shared;
use super::switch_state::{Position, SwitchState};
use crate::data_plane::{Acknowledgement, DataPlane, GroupState, Reply, Watch};
use crate::event::EventKind;
use crate::info::{HoldInfo, PendingInfo, SwitchInfo};
use crate::receipt::{Drain, Receipt};
use crate::store::ProcessEntry;
use engine::Routing;
use engine::host::Level;
use engine::modules::switch::{GROUPS_NAME, StatePath};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::{Commit, Refusal, StoreFault, Tables};
use tokio::sync::{RwLock, mpsc};

/// How long workers may take to answer. They need microseconds unless something is badly wrong.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of the control thread.
pub(super) struct ControlState {
    pub(super) shared: Arc<Shared>,
    pub(super) switches: RefCell<Vec<Rc<SwitchState>>>,
    /// The groups, in the place of a switch: what orders say of their servers.
    pub(super) groups: RefCell<Option<Rc<SwitchState>>>,
    /// What is looked up for them.
    pub(super) discovery: RefCell<Discovery>,
    routing: RefCell<Arc<Routing>>,
    /// Read-locked to publish; write-locked by a prepared reload.
    pub(super) reload_lock: Arc<RwLock<()>>,
    pub(super) holds: Holds,
    pub(super) drains: RefCell<Vec<Rc<CommitProgress>>>,
    /// The commits whose answers are told apart, in their order.
    pub(super) commits: RefCell<Vec<WatchedCommit>>,
    /// A task looks at the counters from time to time.
    pub(super) counting: Cell<bool>,
    watches: Cell<u64>,
    pub(super) other_processes: OtherProcesses,
    /// Who is told of the newest commits.
    pub(super) heads: Heads,
    /// The node's side of the fleet, if the configuration has one.
    pub(super) fleet: RefCell<Option<Rc<FleetService>>>,
}

impl ControlState {
    /// Returns a state with this publication and no switches.
    pub(super) fn new(routing: Arc<Routing>, shared: Arc<Shared>) -> Rc<ControlState> {
        shared.set_routing(Arc::clone(&routing));
        Rc::new(ControlState {
            shared,
            switches: RefCell::default(),
            groups: RefCell::default(),
            discovery: RefCell::default(),
            routing: RefCell::new(routing),
            reload_lock: Arc::new(RwLock::new(())),
            holds: Holds::default(),
            drains: RefCell::default(),
            commits: RefCell::default(),
            counting: Cell::new(false),
            watches: Cell::new(0),
            other_processes: OtherProcesses::default(),
            heads: Heads::default(),
            fleet: RefCell::default(),
        })
    }

    /// Returns true if another process with the same state folder lives: one that finishes its requests after an upgrade or
    /// a reload may have some on an old side, and they are not counted here.
    pub(super) fn has_others(&self) -> bool {
        self.announce_process();
        self.shared.process_entry.get().is_some_and(|process_entry| process_entry.has_others())
    }

    /// Lets other processes with the same state folder know of this one, once there is such a folder.
    pub(super) fn announce_process(&self) {
        if self.shared.process_entry.get().is_none() {
            let folder = self.shared.config().prefix.join("state");
            // Without a folder there is no state that another process could share.
            let process_entry = folder.is_dir().then(|| ProcessEntry::announce(&folder).ok()).flatten();
            if let Some(process_entry) = process_entry {
                // Nothing else sets it.
                let _ = self.shared.process_entry.set(Arc::new(process_entry));
            }
        }
    }

    /// Returns true if this many answers are those of all threads that serve here.
    pub(super) fn are_all(&self, answers: usize) -> bool {
        answers >= self.data_plane().threads()
    }

    pub(super) fn data_plane(&self) -> &dyn DataPlane {
        &*self.shared.data_plane
    }

    /// Returns the monotonic time of holds, in milliseconds.
    pub(super) fn clock_ms(&self) -> u64 {
        (self.shared.clock_ms)()
    }

    /// Returns a switch by name.
    pub(super) fn switch(&self, name: &str) -> Result<Rc<SwitchState>, Refusal> {
        if name == GROUPS_NAME
            && let Some(groups) = &*self.groups.borrow()
        {
            return Ok(groups.clone());
        }
        let switches = self.switches.borrow();
        switches.iter().find(|switch| *switch.name() == *name).cloned().ok_or_else(|| {
            let known: Vec<Arc<str>> = switches.iter().map(|switch| switch.name()).collect();
            Refusal::unknown_switch(name, &known)
        })
    }

    pub(super) fn routing(&self) -> Arc<Routing> {
        self.routing.borrow().clone()
    }

    /// Sets what is published without informing the workers: they get it with their new configuration.
    pub(super) fn set_routing(&self, routing: Arc<Routing>) {
        self.shared.set_routing(Arc::clone(&routing));
        *self.routing.borrow_mut() = routing;
    }

    /// Publishes tables; the groups stay. Returns the channel of the acknowledgements.
    pub(super) fn publish(
        &self,
        tables: Tables,
        watch: Option<Arc<Watch>>,
    ) -> mpsc::UnboundedReceiver<Acknowledgement> {
        self.publish_routing(Routing { tables, groups: self.routing().groups.clone() }, watch)
    }

    /// Publishes tables and groups. Returns the channel of the acknowledgements.
    pub(super) fn publish_routing(
        &self,
        routing: Routing,
        watch: Option<Arc<Watch>>,
    ) -> mpsc::UnboundedReceiver<Acknowledgement> {
        let routing = Arc::new(routing);
        self.set_routing(routing.clone());
        let (sender, acknowledgements) = mpsc::unbounded_channel();
        self.data_plane().publish(routing, watch, reply_into(sender));
        acknowledgements
    }

    pub(super) fn next_watch_id(&self) -> u64 {
        self.watches.set(self.watches.get() + 1);
        self.watches.get()
    }

    /// Collects one answer per worker, from as many as answer in time.
    pub(super) async fn gather<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn DataPlane, Reply<T>),
    ) -> Vec<T> {
        let (sender, answers) = mpsc::unbounded_channel();
        ask(self.data_plane(), reply_into(sender));
        collect_replies(answers, self.data_plane().threads()).await
    }

    pub(super) async fn peers(&self) -> Vec<GroupState> {
        self.gather(|data_plane, reply| data_plane.peers(reply)).await.into_iter().flatten().collect()
    }

    pub(super) async fn collect(&self) {
        let (sender, answers) = mpsc::unbounded_channel();
        self.data_plane().collect(reply_into(sender));
        collect_replies(answers, 1).await;
    }

    /// Reports a fault of a store: in the log, as an event, and in the switch's state.
    pub(super) fn store_failed(&self, switch: &SwitchState, fault: &StoreFault) {
        self.shared.log(Level::Crit, &format!("switch \"{}\": {fault}", switch.name()));
        let kind = EventKind::StoreFailed { text: fault.text.clone(), remedy: fault.remedy.clone() };
        self.shared.announce(&switch.name(), kind);
        *switch.fault.borrow_mut() = Some(fault.clone());
    }

    pub(super) fn switch_infos(&self) -> Vec<SwitchInfo> {
        self.switches.borrow().iter().map(|switch| self.switch_info(switch)).collect()
    }

    pub(super) fn switch_info(&self, switch: &SwitchState) -> SwitchInfo {
        let place = switch.configured();
        let spec = place.spec();
        let Position { table, pending, .. } = switch.position();
        let (now, windows) = (clock::now(), switch.windows.borrow());
        let state = |pending: &switch::Pending| PendingInfo {
            revision: pending.revision,
            confirm_by_ms: pending.confirm_by_ms,
            left_ms: pending.left_ms(now),
            overdue: windows.overdue(pending.revision),
        };
        SwitchInfo {
            name: spec.rules.name.to_string(),
            number: place.number,
            rules: switch.rules(),
            file: match &spec.state {
                StatePath::File(path) => Some(path.clone()),
                StatePath::Memory => None,
            },
            own_default: table.own_default().map(|(own, revision)| (own.to_owned(), revision)),
            revision: table.revision(),
            keys: table.len(),
            pending: pending.iter().map(state).collect(),
            holds: self.held_keys(switch),
            refused_before: switch.own_holds.refused(),
            store_fault: switch.fault_text(),
            ends_without_master_ms: self.shared.ends_without_master_ms(),
            draining: self.draining(switch),
        }
    }

    /// Returns the unfinished drains of a switch.
    pub(super) fn draining(&self, switch: &SwitchState) -> Vec<(u64, Drain)> {
        let name = switch.name();
        let drains = self.drains.borrow();
        let of_desk = drains.iter().filter(|one| one.switch == name && !one.is_drained());
        of_desk.filter_map(|one| Some((one.revision, one.receipt().drain?))).collect()
    }

    /// Reports a commit in the log and as an event.
    pub(super) fn announce_commit(&self, switch: &Arc<str>, commit: &Commit) {
        let receipt = Receipt::of_commit(switch, commit);
        self.shared.log(Level::Notice, &receipt.line());
        let kind = EventKind::Committed {
            revision: commit.revision,
            kind: commit.kind.name().to_owned(),
            actor: commit.actor.clone(),
            reason: commit.reason.clone(),
            changes: receipt.changes,
            servers: receipt.servers,
            confirm_by_ms: commit.confirm_by_ms,
        };
        self.shared.announce(switch, kind);
    }

    fn held_keys(&self, switch: &SwitchState) -> Vec<HoldInfo> {
        let (name, number) = (switch.name(), switch.configured().number);
        self.holds.filter_map(|held| {
            (held.hold.switch() == number)
                .then(|| held.info(&name, self.waiting_elsewhere(switch, &held.kept.id)))
        })
    }
}

/// Returns a reply that sends answers into a channel.
pub(super) fn reply_into<T: Send + 'static>(sender: mpsc::UnboundedSender<T>) -> Reply<T> {
    Box::new(move |answer| {
        // Fails if the receiver has stopped waiting.
        let _ = sender.send(answer);
    })
}

/// Collects `count` answers, or as many as come in time.
pub(super) async fn collect_replies<T>(mut answers: mpsc::UnboundedReceiver<T>, count: usize) -> Vec<T> {
    let mut taken = Vec::with_capacity(count);
    let all = async {
        while taken.len() < count
            && let Some(answer) = answers.recv().await
        {
            taken.push(answer);
        }
    };
    // After the timeout, the answers so far are returned.
    let _ = tokio::time::timeout(ACK_TIMEOUT, all).await;
    taken
}
