//! The right to use one peer for one try.
//!
//! Owns: that a try which was begun is also ended. Must never: know the peer's address or the group it came from.

/// A peer picked for one try. It counts as one of the peer's connections until [`crate::Group::finish`] takes it.
///
/// A lease cannot find its way back to its group alone. Whoever holds one across an await must therefore finish it
/// from a guard of their own; a lease that is dropped unfinished is a bug, which debug builds answer with a panic
/// and release builds with a connection that is counted for ever.
#[derive(Debug)]
#[must_use = "a lease counts against its peer until Group::finish takes it"]
pub struct Lease {
    /// Where the peer stood when it was picked; a guess once peers were replaced.
    pub(crate) index: u32,
    /// The peer for certain.
    pub(crate) id: u64,
}

impl Lease {
    /// Ends the lease without the alarm in `drop`.
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

/// How a try ended, as the peer's health sees it.
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
