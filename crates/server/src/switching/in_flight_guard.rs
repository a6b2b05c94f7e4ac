//! A connection's entries in [`InFlight`](super::in_flight::InFlight): one for each switch that has routed its request.
//!
//! Owns that an entry is left whatever becomes of the connection. Must never look at a table.

use super::in_flight::{Ended, Following, InFlightId, Routed, RoutedClient};
use crate::context::conn_state::ConnState;
use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use engine::Exchange;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    thread: Rc<ThreadContext>,
    connection: Rc<ConnState>,
    /// One for each choice of the exchange that has been tracked here.
    taken: Vec<InFlightId>,
    /// How many of the exchange's choices have been tracked, here or for the request around it.
    tracked: usize,
    /// The request goes on as the one around it: its end is none of what a switch has led.
    is_part: bool,
}

impl InFlightGuard {
    /// Creates the guard of a connection without a request.
    pub(crate) fn new(thread: &Rc<ThreadContext>, connection: &Rc<ConnState>) -> InFlightGuard {
        let (thread, connection) = (Rc::clone(thread), Rc::clone(connection));
        InFlightGuard { thread, connection, taken: Vec::new(), tracked: 0, is_part: false }
    }

    /// Makes it that of a request which is a part of the one around it, whose choices are tracked: it has that one's variables. Its own
    /// entries stay until this guard is dropped, when the request around it has taken its choices over.
    pub(crate) fn make_part(&mut self, exchange: &Exchange) {
        (self.tracked, self.is_part) = (exchange.switches.inherited(), true);
    }

    /// Enters each choice that is not tracked yet. Without a new one it costs a comparison.
    #[inline]
    pub(crate) fn track(&mut self, exchange: &Exchange, generation: &Generation) {
        if exchange.switches.choices().len() > self.tracked {
            self.take(exchange, generation);
        }
    }

    fn take(&mut self, exchange: &Exchange, generation: &Generation) {
        let mut in_flight = self.thread.in_flight.borrow_mut();
        for choice in &exchange.switches.choices()[self.tracked..] {
            let number = usize::from(choice.switch);
            let following = Following {
                switch: generation.switches.get(number).copied().unwrap_or(u32::MAX),
                number: exchange.switches.routing(number).map_or(0, |routing| routing.tables.number),
            };
            let client = RoutedClient { point: choice.client, remote: exchange.connection.remote };
            let routed = Routed {
                following,
                route_revision: choice.route_revision,
                key: &choice.key,
                target: &choice.target,
                client,
                method: exchange.method(),
                path: exchange.request.head.target(),
                began_ms: exchange.timing.start.monotonic_ms(),
            };
            self.taken.push(in_flight.enter(&routed, &self.connection));
        }
        self.tracked = exchange.switches.choices().len();
    }

    /// Notes the server that the request is passed to, by its address.
    #[inline]
    pub(crate) fn pass_to(&self, server: &Arc<str>) {
        if !self.taken.is_empty() {
            let mut in_flight = self.thread.in_flight.borrow_mut();
            self.taken.iter().for_each(|place| in_flight.pass_to(*place, server));
        }
    }

    /// Ends the request.
    #[inline]
    pub(crate) fn leave(&mut self, ended: Ended) {
        if self.tracked > 0 && !self.is_part {
            self.tracked = 0;
            let mut in_flight = self.thread.in_flight.borrow_mut();
            let taken = self.taken.drain(..).enumerate();
            taken.for_each(|(choice, place)| in_flight.leave(place, (choice < ended.led).then_some(ended)));
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let failed = !std::mem::take(&mut self.is_part);
        self.leave(Ended { failed, led: usize::MAX, ..Ended::default() });
    }
}
