//! Reloads that the control plane asks the master for.
//!
//! Owns who waits for which answer, and what the master must know before it puts another process in this one's place.
//! Must never wait itself: the answer comes with the master's other orders.

use crate::process::{Answer, Reporter};
use control::{Reloaded, Reply};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everybody who waits for a reload.
pub(crate) struct Reloads {
    /// The way to the master, if there is one.
    reporter: Option<Reporter>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    replies: HashMap<u64, Reply<Reloaded>>,
}

impl Reloads {
    /// Nobody waits yet.
    pub(crate) fn new(reporter: Option<Reporter>) -> Reloads {
        Reloads { reporter, waiting: Mutex::default() }
    }

    /// Asks for one. Without a master the reply is dropped.
    pub(crate) fn ask(&self, reply: Reply<Reloaded>) {
        let Some(reporter) = &self.reporter else { return };
        let mut waiting = self.waiting();
        waiting.last += 1;
        let ticket = waiting.last;
        waiting.replies.insert(ticket, reply);
        drop(waiting);
        reporter.want_reload(ticket);
    }

    /// Does anybody wait for an answer?
    pub(crate) fn are_awaited(&self) -> bool {
        !self.waiting().replies.is_empty()
    }

    /// The master is to know how many keys are held.
    pub(crate) fn held(&self, keys: usize) {
        if let Some(reporter) = &self.reporter {
            reporter.held(keys as u64);
        }
    }

    /// The master has answered.
    pub(crate) fn answered(&self, answer: Answer) {
        let Answer { ticket, done, findings } = answer;
        if let Some(reply) = self.waiting().replies.remove(&ticket) {
            reply(Reloaded { done, findings });
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
