//! The holds that are in force in this process.
//!
//! Owns their list, and which kept holds are this process's own affair. Must never publish.

use super::clock;
use super::elsewhere::report::Elsewhere;
use crate::info::{HoldEnd, HoldInfo};
use crate::store::KeptHold;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use switch::{Hold, HoldLimits, HoldPhase, Key};
use tokio::sync::Notify;

/// A hold and its origin.
pub(super) struct ActiveHold {
    pub(super) hold: Arc<Hold>,
    pub(super) kept: KeptHold,
    /// The process that carried out its order is gone, and it is not known whether that was committed.
    pub(super) is_unsettled: bool,
    /// The turn since which it is in force.
    pub(super) turn: u64,
    /// When it was last spoken of, in ms of the clock of holds.
    pub(super) said_ms: u64,
}

impl ActiveHold {
    /// Returns a hold of a switch (by its number) that is kept.
    pub(super) fn new(number: usize, key: Key, kept: KeptHold) -> ActiveHold {
        let limits = HoldLimits { max: kept.max, timeout_ms: kept.timeout_ms, max_bytes: kept.max_bytes };
        let hold = Hold::new(number, key, limits);
        if kept.refusing {
            hold.refuse();
        }
        ActiveHold { hold, kept, is_unsettled: false, turn: 0, said_ms: 0 }
    }

    /// Returns true if requests wait or are turned away.
    pub(super) fn is_on(&self) -> bool {
        matches!(self.hold.phase(), HoldPhase::Held | HoldPhase::Refusing)
    }

    /// Returns it as it is now, with the requests that wait in other processes.
    pub(super) fn info(&self, switch: &str, elsewhere: Elsewhere) -> HoldInfo {
        let (limits, end) = (self.hold.limits(), self.kept.end.as_ref());
        let now = clock::now();
        HoldInfo {
            switch: switch.to_owned(),
            key: self.hold.key().clone(),
            phase: self.hold.phase(),
            waiting: self.hold.waiting() + elsewhere.in_flight as usize,
            waiting_elsewhere: elsewhere.in_flight as usize,
            is_partial: elsewhere.is_unknown,
            waiting_bytes: self.hold.bytes(),
            rejected: self.hold.rejected(),
            max: limits.max,
            max_bytes: limits.max_bytes,
            timeout_ms: limits.timeout_ms,
            since_ms: self.kept.since_ms,
            end: end.map(|end| HoldEnd {
                at_ms: now.wall_ms.saturating_add(end.left_ms(now)),
                releases: end.releases,
            }),
            of_order: self.kept.order.is_some(),
            actor: self.kept.actor.clone(),
            reason: self.kept.reason.clone(),
            recorded: true,
            notes: Vec::new(),
        }
    }
}

/// The holds in force, of all switches.
#[derive(Default)]
pub(super) struct Holds {
    active: RefCell<Vec<ActiveHold>>,
    ids: Cell<u64>,
    /// Notified when a hold begins.
    pub(super) began: Notify,
}

impl Holds {
    /// Returns the number of holds.
    pub(super) fn len(&self) -> usize {
        self.active.borrow().len()
    }

    /// Returns an id that no other hold has.
    pub(super) fn next_id(&self, owner: &str, now_ms: u64) -> String {
        self.ids.set(self.ids.get() + 1);
        format!("{owner}/{now_ms}/{}", self.ids.get())
    }

    /// Adds a hold that is in force.
    pub(super) fn add(&self, held: ActiveHold) {
        self.active.borrow_mut().push(held);
        self.began.notify_one();
    }

    /// Takes a hold of a switch out.
    pub(super) fn remove(&self, hold: &Arc<Hold>, of: &OwnHolds) -> Option<ActiveHold> {
        let mut active = self.active.borrow_mut();
        let place = active.iter().position(|held| Arc::ptr_eq(&held.hold, hold))?;
        of.refused.set(of.refused.get() + hold.rejected());
        Some(active.remove(place))
    }

    /// Returns what a function makes of a hold.
    pub(super) fn with<T>(&self, hold: &Arc<Hold>, make: impl FnOnce(&mut ActiveHold) -> T) -> Option<T> {
        let mut active = self.active.borrow_mut();
        active.iter_mut().find(|held| Arc::ptr_eq(&held.hold, hold)).map(make)
    }

    /// Returns what a function makes of each hold for which it makes something.
    pub(super) fn filter_map<T>(&self, make: impl FnMut(&mut ActiveHold) -> Option<T>) -> Vec<T> {
        self.active.borrow_mut().iter_mut().filter_map(make).collect()
    }
}

/// Kept holds of a switch that no look at the store decides about: those that this process is placing, and those that it
/// has ended and that may still be kept.
#[derive(Default)]
pub(super) struct OwnHolds {
    /// By their ids; each that has ended with the turn of its end.
    ids: RefCell<HashMap<String, Option<u64>>>,
    /// Goes up with each hold that begins or ends.
    turn: Cell<u64>,
    /// The requests that holds of this process turned away which are in force no more.
    refused: Cell<u64>,
}

impl OwnHolds {
    /// Returns the present turn: a look at the store that begins now finds every hold that began before.
    pub(super) fn turn(&self) -> u64 {
        self.turn.get()
    }

    /// Returns how many requests were turned away by holds that are in force no more.
    pub(super) fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Notes that a hold is being placed.
    pub(super) fn begin(&self, id: &str) {
        self.ids.borrow_mut().insert(id.to_owned(), None);
    }

    /// Returns a hold that was being placed is none, or in force. Returns the turn of that.
    pub(super) fn settle(&self, id: &str) -> u64 {
        self.ids.borrow_mut().remove(id);
        self.turn.set(self.turn.get() + 1);
        self.turn.get()
    }

    /// Notes that a kept hold has ended.
    pub(super) fn end(&self, id: &str) {
        self.turn.set(self.turn.get() + 1);
        self.ids.borrow_mut().insert(id.to_owned(), Some(self.turn.get()));
    }

    /// Returns the ids of holds that have ended and may still be kept.
    pub(super) fn ended(&self) -> Vec<String> {
        self.ids.borrow().iter().filter(|(_, turn)| turn.is_some()).map(|(id, _)| id.clone()).collect()
    }

    /// Returns which holds of those found in the store are for this process to take up: they are none of its own, and not in
    /// force here. The look at the store began in this turn.
    pub(super) fn new_ones(&self, found: &[KeptHold], known: &[String], turn: u64) -> Vec<KeptHold> {
        let mut own = self.ids.borrow_mut();
        let is_new = |kept: &&KeptHold| !known.contains(&kept.id) && !own.contains_key(&kept.id);
        let new = found.iter().filter(is_new).cloned().collect();
        let is_there = |id: &String| found.iter().any(|kept| kept.id == *id);
        own.retain(|id, ended| is_there(id) || ended.is_none_or(|ended| ended > turn));
        new
    }
}
