//! The right to use one peer for one try.
//!
//! Owns: that every try that was begun is ended. Must never: know the peer's address or the group it came from.

/// A peer picked for one try. It counts as one of the peer's connections until [`crate::Group::finish`] takes it.
///
/// A lease does not know its group. Code that holds one across an await must therefore finish it from a guard of its
/// own. A lease that is dropped unfinished is a bug: debug builds panic, and in release builds its connection is
/// counted until the group is dropped.
#[derive(Debug)]
#[must_use = "a lease counts against its peer until Group::finish takes it"]
pub struct Lease {
    /// The peer's index when it was picked; a guess once peers were replaced.
    pub(crate) index: u32,
    /// The peer's identity.
    pub(crate) id: u64,
}

impl Lease {
    /// Ends the lease without the check in `drop`.
    pub(crate) fn close(self) {
        std::mem::forget(self);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A second panic while unwinding would abort the process and hide the first.
        debug_assert!(std::thread::panicking(), "a lease on peer {} was dropped unfinished", self.id);
    }
}

/// The outcome of a try for the peer's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryOutcome {
    /// The peer answered, and its answer goes to the client — a 500 too, when it is not a reason for another try.
    Success,
    /// The try failed in a way that counts against the peer: see [`crate::retry::TryFailure::outcome`].
    Failed,
    /// The try ended without blame: a 403 or 404 that moves on to the next peer, or a client that went away.
    /// nginx records this as it records a success: it ends the probe of a peer that was unavailable.
    Neutral,
}
