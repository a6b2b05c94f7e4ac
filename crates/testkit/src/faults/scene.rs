//! The shared state of a cell's client, servers and runner: the progress of the fault, and what the servers saw.
//!
//! It owns no socket.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::conf::Role;
use crate::connection::PATIENCE;

/// A request as a server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// Bytes of the body, its framing undone.
    pub(crate) body: usize,
    /// The body is complete.
    pub(crate) whole: bool,
    /// The body has the bytes that the client sent.
    pub(crate) right: bool,
}

/// The end of a server's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The proxy ended it.
    Proxy,
    /// The server itself did.
    Own,
    /// Neither did.
    Never,
}

/// A connection as a server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) role: Role,
    pub(crate) requests: Vec<Request>,
    /// Requests on it after the one that met the fault.
    pub(crate) after_fault: Option<usize>,
    pub(crate) end: Option<End>,
}

/// The state of a cell.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The head of a request has reached a server.
    pub(crate) head_seen: bool,
    /// The fault has reached the point at which a client may leave.
    pub(crate) reached: bool,
    /// The fault is over.
    pub(crate) acted: bool,
    /// The connection is idle now: a fault of an idle connection may begin.
    pub(crate) idle: bool,
    pub(crate) links: Vec<Link>,
    /// The cell is over.
    pub(crate) over: bool,
}

/// A running cell.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    state: Mutex<State>,
    changed: Condvar,
}

impl Scene {
    pub(crate) fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes all waiting threads.
    pub(crate) fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.look());
        self.changed.notify_all();
    }

    /// Waits until a condition holds; returns false on timeout.
    pub(crate) fn wait(&self, mut is_so: impl FnMut(&State) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.look();
        while !is_so(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Adds a connection; returns its number.
    pub(crate) fn open(&self, role: Role) -> usize {
        let mut state = self.look();
        state.links.push(Link { role, requests: Vec::new(), after_fault: None, end: None });
        state.links.len() - 1
    }
}
