//! What is known of a request in the access phase.

/// What the handlers of the access phase have said so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// Under `satisfy any`, the status with which one refused the request; 0 if none did.
    pub refused: u16,
    /// A 401 is being held back (`auth_delay`).
    pub delayed: bool,
}
