//! Behind the counter: everything the control thread has in its hands.
//!
//! Owns: the desks, what is published, and who asks the traffic. Must never: wait for a disk or a worker in a way that
//! keeps the others waiting.

use super::desk::{Desk, Position};
use super::opening::Opened;
use super::{Office, hold::HeldHere};
use crate::event::EventKind;
use crate::state::{HeldKey, PendingState, SwitchState};
use crate::traffic::{Acknowledgement, GroupState, Reply, Traffic, Watch};
use engine::host::Level;
use engine::modules::switch::StatePath;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::{Refusal, StoreFault, Tables};
use tokio::sync::{RwLock, mpsc};

/// How long the workers are waited for. They answer within microseconds unless something is badly wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Everything the control thread has.
pub(super) struct Room {
    pub(super) office: Office,
    pub(super) desks: RefCell<Vec<Rc<Desk>>>,
    tables: RefCell<Arc<Tables>>,
    /// Whoever publishes goes through it; an admission shuts it.
    pub(super) door: Arc<RwLock<()>>,
    pub(super) holds: RefCell<Vec<HeldHere>>,
    pub(super) drains: RefCell<Vec<Rc<super::drain::Following>>>,
    watches: Cell<u64>,
}

impl Room {
    /// Moves in, with what was opened.
    pub(super) fn furnish(opened: Opened, office: Office) -> Rc<Room> {
        let room = Rc::new(Room {
            office,
            desks: RefCell::default(),
            tables: RefCell::new(opened.tables),
            door: Arc::new(RwLock::new(())),
            holds: RefCell::default(),
            drains: RefCell::default(),
            watches: Cell::new(0),
        });
        for (switch, commit) in &opened.reverted {
            room.announce_commit(switch, commit);
        }
        for (place, store, position) in opened.desks {
            room.open_desk(Rc::new(Desk::new(place, store, position)));
        }
        room
    }

    /// A desk more, with those who look after it.
    pub(super) fn open_desk(self: &Rc<Room>, desk: Rc<Desk>) {
        self.desks.borrow_mut().push(desk.clone());
        tokio::task::spawn_local(super::confirm::look_after(Rc::downgrade(self), Rc::downgrade(&desk)));
        if matches!(desk.place().spec().state, StatePath::File(_)) {
            tokio::task::spawn_local(super::walk::follow_others(Rc::downgrade(self), Rc::downgrade(&desk)));
        }
    }

    pub(super) fn traffic(&self) -> &dyn Traffic {
        &*self.office.counter.traffic
    }

    /// The time by which held requests wait.
    pub(super) fn clock_ms(&self) -> u64 {
        self.office.clock_ms()
    }

    /// The desk of a switch.
    pub(super) fn desk(&self, name: &str) -> Result<Rc<Desk>, Refusal> {
        let desks = self.desks.borrow();
        desks.iter().find(|desk| *desk.name() == *name).cloned().ok_or_else(|| {
            let known: Vec<Arc<str>> = desks.iter().map(|desk| desk.name()).collect();
            Refusal::unknown_switch(name, &known)
        })
    }

    pub(super) fn tables(&self) -> Arc<Tables> {
        self.tables.borrow().clone()
    }

    /// What is published from now on, without telling the workers: they get it with their new configuration.
    pub(super) fn set_tables(&self, tables: Arc<Tables>) {
        *self.tables.borrow_mut() = tables;
    }

    /// Publishes tables. The acknowledgements come through the channel.
    pub(super) fn publish(
        &self,
        tables: Tables,
        watch: Option<Arc<Watch>>,
    ) -> mpsc::UnboundedReceiver<Acknowledgement> {
        let tables = Arc::new(tables);
        self.set_tables(tables.clone());
        let (sender, acknowledgements) = mpsc::unbounded_channel();
        self.traffic().publish(tables, watch, reply_into(sender));
        acknowledgements
    }

    pub(super) fn next_watch(&self) -> u64 {
        self.watches.set(self.watches.get() + 1);
        self.watches.get()
    }

    /// One answer of each worker, or of as many as answer in time.
    pub(super) async fn gather<T: Send + 'static>(&self, ask: impl FnOnce(&dyn Traffic, Reply<T>)) -> Vec<T> {
        let (sender, answers) = mpsc::unbounded_channel();
        ask(self.traffic(), reply_into(sender));
        take(answers, self.traffic().threads()).await
    }

    pub(super) async fn peers(&self) -> Vec<GroupState> {
        self.gather(|traffic, reply| traffic.peers(reply)).await.into_iter().flatten().collect()
    }

    pub(super) async fn collect(&self) {
        let (sender, answers) = mpsc::unbounded_channel();
        self.traffic().collect(reply_into(sender));
        take(answers, 1).await;
    }

    /// A store could not do what it should: told in the log, to listeners, and by the switch's state.
    pub(super) fn store_failed(&self, desk: &Desk, fault: &StoreFault) {
        self.office.log(Level::Crit, &format!("switch \"{}\": {fault}", desk.name()));
        let kind = EventKind::StoreFailed { text: fault.text.clone(), remedy: fault.remedy.clone() };
        self.office.announce(&desk.name(), kind);
        *desk.fault.borrow_mut() = Some(fault.clone());
    }

    pub(super) fn states(&self) -> Vec<SwitchState> {
        self.desks.borrow().iter().map(|desk| self.state(desk)).collect()
    }

    pub(super) fn state(&self, desk: &Desk) -> SwitchState {
        let place = desk.place();
        let spec = place.spec();
        let Position { table, pending, .. } = desk.position();
        let state = |pending: &switch::Pending| PendingState {
            revision: pending.revision,
            confirm_by_ms: pending.confirm_by_ms,
        };
        SwitchState {
            name: spec.rules.name.to_string(),
            number: place.number,
            rules: spec.rules.clone(),
            file: match &spec.state {
                StatePath::File(path) => Some(path.clone()),
                StatePath::Memory => None,
            },
            revision: table.revision(),
            keys: table.len(),
            pending: pending.iter().map(state).collect(),
            holds: self.held_keys(desk),
            store_fault: desk.fault.borrow().as_ref().map(|fault| (fault.text.clone(), fault.remedy.clone())),
            draining: self.draining(desk),
        }
    }

    fn held_keys(&self, desk: &Desk) -> Vec<HeldKey> {
        let name = desk.name();
        self.holds.borrow().iter().filter(|held| held.switch == name).map(HeldHere::state).collect()
    }
}

/// A reply that puts answers into a channel.
pub(super) fn reply_into<T: Send + 'static>(sender: mpsc::UnboundedSender<T>) -> Reply<T> {
    Box::new(move |answer| {
        // Whoever asked has stopped waiting.
        let _ = sender.send(answer);
    })
}

/// So many answers, or as many as come in time.
pub(super) async fn take<T>(mut answers: mpsc::UnboundedReceiver<T>, count: usize) -> Vec<T> {
    let mut taken = Vec::with_capacity(count);
    let all = async {
        while taken.len() < count
            && let Some(answer) = answers.recv().await
        {
            taken.push(answer);
        }
    };
    // What has come by then is what there is.
    let _ = tokio::time::timeout(PATIENCE, all).await;
    taken
}
