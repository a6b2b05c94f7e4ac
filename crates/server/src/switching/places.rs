//! A connection's places in the roster: one for each switch that has led its request somewhere.
//!
//! Owns that a place is left whatever becomes of the connection. Must never look at a table.

use super::roster::{Ended, Following, Place};
use crate::generation::Generation;
use crate::registry::Seat;
use crate::worker::Worker;
use engine::Exchange;
use std::rc::Rc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Places {
    worker: Rc<Worker>,
    connection: Rc<Seat>,
    /// One for each choice of the exchange, as far as they have been seen.
    taken: Vec<Place>,
    /// While the request waits before any switch was asked.
    undecided: Option<Place>,
}

impl Places {
    /// Those of a connection that has none yet.
    pub(crate) fn new(worker: &Rc<Worker>, connection: &Rc<Seat>) -> Places {
        let (worker, connection) = (Rc::clone(worker), Rc::clone(connection));
        Places { worker, connection, taken: Vec::new(), undecided: None }
    }

    /// Takes a place for each choice that has none yet. Without a new one it costs a comparison.
    #[inline]
    pub(crate) fn keep_up(&mut self, exchange: &Exchange, generation: &Generation) {
        if exchange.switches.choices().len() > self.taken.len() {
            self.take(exchange, generation);
        }
    }

    fn take(&mut self, exchange: &Exchange, generation: &Generation) {
        let number = exchange.switches.tables().map_or(0, |tables| tables.number);
        let mut roster = self.worker.roster.borrow_mut();
        for choice in &exchange.switches.choices()[self.taken.len()..] {
            let switch = generation.switches.get(usize::from(choice.switch)).copied();
            let following = Following { switch, number };
            self.taken.push(roster.enter(following, (&choice.key, &choice.target), &self.connection));
        }
    }

    /// The request is about to wait. If no switch was asked yet, one still may be, in the tables it has pinned: a
    /// drain must not overlook it.
    pub(crate) fn wait_undecided(&mut self, exchange: &Exchange) {
        let Some(tables) = exchange.switches.tables() else { return };
        if self.taken.is_empty() && !exchange.output.head_written() {
            let following = Following { switch: None, number: tables.number };
            let mut roster = self.worker.roster.borrow_mut();
            self.undecided = Some(roster.enter(following, (b"", ""), &self.connection));
        }
    }

    /// The wait is over.
    pub(crate) fn waited(&mut self) {
        if let Some(place) = self.undecided.take() {
            self.worker.roster.borrow_mut().leave(place, Ended::Undecided);
        }
    }

    /// The request has ended.
    #[inline]
    pub(crate) fn leave(&mut self, ended: Ended) {
        self.waited();
        if !self.taken.is_empty() {
            let mut roster = self.worker.roster.borrow_mut();
            self.taken.drain(..).for_each(|place| roster.leave(place, ended));
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.leave(Ended::Failed);
    }
}
