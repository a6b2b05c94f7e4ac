//! What a cell's client, servers and runner tell each other: what was reached, and what the servers saw.
//!
//! Owns no socket.

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
    /// All of the body came.
    pub(crate) whole: bool,
    /// What came of the body is what the client sent.
    pub(crate) right: bool,
}

/// How a server's connection ended.
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

/// What is known of a cell at one time.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// A request's head has come to a server.
    pub(crate) head_seen: bool,
    /// The fault has come to the point at which a client may lose patience.
    pub(crate) reached: bool,
    /// The fault is over.
    pub(crate) acted: bool,
    /// The connection is idle now: a fault of an idle connection may happen.
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

    /// Changes something and tells everybody.
    pub(crate) fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.look());
        self.changed.notify_all();
    }

    /// Waits until it is so; `false` if it never is.
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

    /// A new connection; answers its number.
    pub(crate) fn open(&self, role: Role) -> usize {
        let mut state = self.look();
        state.links.push(Link { role, requests: Vec::new(), after_fault: None, end: None });
        state.links.len() - 1
    }
}
