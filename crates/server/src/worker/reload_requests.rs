//! Reloads that the control plane requests from the master.
//!
//! Owns which answer belongs to which request, and what the master must know before it replaces this process. Must never
//! wait itself: the answer comes with the master's other commands.

use control::{Reloaded, Reply};
use process::{ReloadOutcome, Reporter};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The requests that wait for their answers.
pub(crate) struct ReloadRequests {
    /// Reaches the master, if there is one.
    reporter: Option<Reporter>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    /// The master is gone.
    orphaned: bool,
    /// Each with its actor.
    replies: BTreeMap<u64, (String, Reply<Reloaded>)>,
}

impl ReloadRequests {
    /// Creates one without requests.
    pub(crate) fn new(reporter: Option<Reporter>) -> ReloadRequests {
        ReloadRequests { reporter, waiting: Mutex::default() }
    }

    /// Requests a reload. Without a master the reply is dropped.
    pub(crate) fn ask(&self, actor: String, reply: Reply<Reloaded>) {
        let Some(reporter) = &self.reporter else { return };
        let mut waiting = self.waiting();
        if waiting.orphaned {
            return;
        }
        waiting.last += 1;
        let ticket = waiting.last;
        waiting.replies.insert(ticket, (actor, reply));
        drop(waiting);
        reporter.request_reload(ticket);
    }

    /// Returns true if a request waits for its answer.
    pub(crate) fn are_awaited(&self) -> bool {
        !self.waiting().replies.is_empty()
    }

    /// Returns the actor of the request that waits longest.
    pub(crate) fn actor(&self) -> Option<String> {
        self.waiting().replies.values().next().map(|(actor, _)| actor.clone())
    }

    /// Tells the master how many keys are held.
    pub(crate) fn held(&self, keys: usize) {
        if let Some(reporter) = &self.reporter {
            reporter.held(keys as u64);
        }
    }

    /// Drops the replies that no master will send any more, now and later.
    pub(crate) fn orphaned(&self) {
        let mut waiting = self.waiting();
        waiting.orphaned = true;
        waiting.replies.clear();
    }

    /// Passes the master's answer on.
    pub(crate) fn answered(&self, answer: ReloadOutcome) {
        let ReloadOutcome { ticket, done, findings } = answer;
        if let Some((_, reply)) = self.waiting().replies.remove(&ticket) {
            reply(Reloaded { done, findings });
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
