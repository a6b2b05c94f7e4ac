//! The state of a request in the access phase.

/// The verdicts of the access phase's handlers so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessRecord {
    /// Under `satisfy any`, the status with which one refused the request; 0 if none did.
    pub refused: u16,
    /// A 401 is being held back (`auth_delay`).
    pub delayed: bool,
}
