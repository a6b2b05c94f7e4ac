//! The outcome of the limits for a request.

use crate::modules::limit_conn::counts::CountGuard;

/// The outcome of a kind of limits for a request: `$limit_req_status`, `$limit_conn_status`. `limit_conn` delays none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went on at once.
    Passed,
    /// It had to wait.
    Delayed,
    /// It was refused.
    Rejected,
    /// It would have had to wait.
    DelayedDryRun,
    /// It would have been refused.
    RejectedDryRun,
}

impl Outcome {
    /// Returns nginx's word for it.
    pub fn word(self) -> &'static [u8] {
        match self {
            Outcome::Passed => b"PASSED",
            Outcome::Delayed => b"DELAYED",
            Outcome::Rejected => b"REJECTED",
            Outcome::DelayedDryRun => b"DELAYED_DRY_RUN",
            Outcome::RejectedDryRun => b"REJECTED_DRY_RUN",
        }
    }
}

/// The outcome of the limits for a request. It outlasts internal redirects: no request is limited twice.
#[derive(Debug, Default)]
pub struct LimitsRecord {
    /// The outcome of `limit_req`.
    pub requests: Option<Outcome>,
    /// The outcome of `limit_conn`.
    pub connections: Option<Outcome>,
    /// The places in `limit_conn`'s counts that the request has while it lasts.
    pub seats: Vec<CountGuard>,
}

impl LimitsRecord {
    /// Takes over what was counted for a request inside this one.
    pub(crate) fn join(&mut self, inner: &mut LimitsRecord) {
        self.requests = self.requests.or(inner.requests);
        self.connections = self.connections.or(inner.connections);
        self.seats.append(&mut inner.seats);
    }

    /// Forgets it, and gives the places back.
    pub fn reset(&mut self) {
        self.requests = None;
        self.connections = None;
        self.seats.clear();
    }
}
