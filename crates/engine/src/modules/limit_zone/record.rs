//! What the limits made of a request.

use crate::modules::limit_conn::counts::Seat;

/// What a kind of limits made of a request: `$limit_req_status`, `$limit_conn_status`. `limit_conn` delays none.
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
    /// nginx's word for it.
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

/// What the limits made of a request. It outlasts internal redirects: no request is judged twice.
#[derive(Debug, Default)]
pub struct Record {
    /// What `limit_req` said.
    pub requests: Option<Outcome>,
    /// What `limit_conn` said.
    pub connections: Option<Outcome>,
    /// Where `limit_conn` counts the request while it lasts.
    pub seats: Vec<Seat>,
}

impl Record {
    /// Forgets it, and gives the places back.
    pub fn reset(&mut self) {
        self.requests = None;
        self.connections = None;
        self.seats.clear();
    }
}
