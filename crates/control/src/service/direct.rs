//! What the handle answers without the control thread: the journal, events, long calls, which processes there are.
//!
//! Must never wait for the journal, queries apart.

use super::clock::now_ms;
use super::handle::ControlHandle;
use super::long_calls::LongCall;
use crate::dashboard::Logins;
use crate::event::Subscription;
use crate::journal::{JournalEntry, JournalQuery, JournalVerification, Occurrence};
use std::sync::Arc;
use switch::{Code, Refusal};

impl ControlHandle {
    /// Returns true if another process of this server has this number.
    pub(crate) fn is_of_another_process(&self, pid: u32) -> bool {
        self.shared.is_of_another_process(pid)
    }

    /// Returns entries of the journal, newest first, and how many were lost since the process began.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn journal(&self, query: JournalQuery) -> Result<(Vec<JournalEntry>, u64), Refusal> {
        Ok((self.shared.journal.read(query).await?, self.shared.journal.lost()))
    }

    /// Verifies the chain of the journal.
    ///
    /// # Errors
    /// The journal cannot be read. A broken chain is not an error but a result.
    pub async fn verify_journal(&self) -> Result<JournalVerification, Refusal> {
        self.shared.journal.verify().await
    }

    /// Keeps in the journal that an authenticated caller was refused.
    pub(crate) fn note_refusal(&self, actor: &str, code: Code, text: &str) {
        self.shared.journal.refused(now_ms(), actor, code, text);
    }

    /// Keeps the outcome of a reload in the journal: the configuration's number, or why it was refused.
    pub fn note_reload(&self, actor: &str, outcome: Result<u64, &str>) {
        let (subject, reason) = match outcome {
            Ok(generation) => match self.shared.forced_over() {
                faults if faults.is_empty() => ("done", format!("configuration {generation}")),
                faults => ("done", format!("configuration {generation}, forced: {}", faults.join("; "))),
            },
            Err(fault) => ("refused", fault.to_owned()),
        };
        self.shared.journal.append(Occurrence {
            time_ms: now_ms(),
            kind: "reload".into(),
            switch: None,
            subject: Some(subject.into()),
            actor: actor.into(),
            reason: Some(reason),
            count: 1,
        });
    }

    /// Returns what would have refused the last reload, had it not been forced.
    pub(crate) fn forced_over(&self) -> Vec<String> {
        self.shared.forced_over()
    }

    /// Keeps in the journal that kept responses were purged: of which zone, which keys, and how many there were.
    pub(crate) fn note_purge(&self, actor: &str, zone: &str, what: String, count: u64) {
        self.shared.journal.append(Occurrence {
            time_ms: now_ms(),
            kind: "purge".into(),
            switch: None,
            subject: Some(zone.into()),
            actor: actor.into(),
            reason: Some(what),
            count,
        });
    }

    /// Keeps in the journal that a certificate was revoked, and why.
    pub(crate) fn note_revocation(&self, actor: &str, name: &str, reason: String) {
        self.shared.journal.append(Occurrence {
            time_ms: now_ms(),
            kind: "revoke".into(),
            switch: None,
            subject: Some(name.into()),
            actor: actor.into(),
            reason: Some(reason),
            count: 1,
        });
    }

    /// Begins a call that may stay open for long, until the value is dropped.
    ///
    /// # Errors
    /// The caller, or all callers together, have too many of them.
    pub(crate) fn long_call(&self, caller: &str) -> Result<LongCall, Refusal> {
        self.shared.long_calls.begin(caller)
    }

    /// Returns who is logged in at dashboards.
    pub(crate) fn logins(&self) -> Arc<Logins> {
        Arc::clone(&self.shared.logins)
    }

    /// Subscribes to events from now on, with the buffered ones after this number.
    pub fn events(&self, after: Option<u64>) -> Subscription {
        self.shared.events.subscribe(after)
    }
}
