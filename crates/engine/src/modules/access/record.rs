//! The state of a request in the access phase.

use crate::config::ids::LocationId;

/// The verdicts of the access phase's handlers so far.
#[derive(Clone, Debug, Default)]
pub struct AccessRecord {
    /// Under `satisfy any`, the status with which one refused the request; 0 if none did.
    pub refused: u16,
    /// A 401 is being held back (`auth_delay`).
    pub delayed: bool,
    /// The user whose password `auth_basic` has found right, and the location whose file it is in.
    user: Option<(LocationId, Vec<u8>)>,
}

impl AccessRecord {
    /// Notes the user whose password is right at this location.
    pub fn set_user(&mut self, location: LocationId, user: &[u8]) {
        self.user = Some((location, user.to_vec()));
    }

    /// Returns the user whose password is right at this location; empty if none was asked for there, or if somebody else let the
    /// request in.
    pub fn user_at(&self, location: LocationId) -> &[u8] {
        match &self.user {
            Some((at, user)) if *at == location => user,
            _ => b"",
        }
    }
}
