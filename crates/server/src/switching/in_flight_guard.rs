//! A connection's entries in [`InFlight`](super::in_flight::InFlight): one for each switch that has routed its request.
//!
//! Owns that an entry is left whatever becomes of the connection. Must never look at a table.

use super::in_flight::{Ended, Following, InFlightId};
use crate::context::conn_state::ConnState;
use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use engine::Exchange;
use std::rc::Rc;

/// See the module.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    thread: Rc<ThreadContext>,
    connection: Rc<ConnState>,
    /// One for each choice of the exchange that has been tracked.
    taken: Vec<InFlightId>,
    /// While the request waits before it has asked any switch.
    undecided: Option<InFlightId>,
}

impl InFlightGuard {
    /// Creates the guard of a connection without a request.
    pub(crate) fn new(thread: &Rc<ThreadContext>, connection: &Rc<ConnState>) -> InFlightGuard {
        let (thread, connection) = (Rc::clone(thread), Rc::clone(connection));
        InFlightGuard { thread, connection, taken: Vec::new(), undecided: None }
    }

    /// Enters each choice that is not tracked yet. Without a new one it costs a comparison.
    #[inline]
    pub(crate) fn track(&mut self, exchange: &Exchange, generation: &Generation) {
        if exchange.switches.choices().len() > self.taken.len() {
            self.take(exchange, generation);
        }
    }

    fn take(&mut self, exchange: &Exchange, generation: &Generation) {
        let number = exchange.switches.tables().map_or(0, |tables| tables.number);
        let mut in_flight = self.thread.in_flight.borrow_mut();
        for choice in &exchange.switches.choices()[self.taken.len()..] {
            let switch = generation.switches.get(usize::from(choice.switch)).copied();
            let following = Following { switch, number };
            self.taken.push(in_flight.enter(following, &choice.key, &choice.target, &self.connection));
        }
    }

    /// Enters a request that is about to wait, if it has asked no switch yet: it still may, in the tables it has pinned, and
    /// a drain must not overlook it.
    pub(crate) fn enter_undecided(&mut self, exchange: &Exchange) {
        let Some(tables) = exchange.switches.tables() else { return };
        if self.taken.is_empty() && !exchange.output.head_written() {
            let following = Following { switch: None, number: tables.number };
            let mut in_flight = self.thread.in_flight.borrow_mut();
            self.undecided = Some(in_flight.enter(following, b"", "", &self.connection));
        }
    }

    /// Ends the wait.
    pub(crate) fn leave_undecided(&mut self) {
        if let Some(place) = self.undecided.take() {
            self.thread.in_flight.borrow_mut().leave(place, Ended::Undecided);
        }
    }

    /// Ends the request.
    #[inline]
    pub(crate) fn leave(&mut self, ended: Ended) {
        self.leave_undecided();
        if !self.taken.is_empty() {
            let mut in_flight = self.thread.in_flight.borrow_mut();
            self.taken.drain(..).for_each(|place| in_flight.leave(place, ended));
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.leave(Ended::Failed);
    }
}
