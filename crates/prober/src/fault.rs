//! A fault of a connection, before it is known whether it had been kept for too long.

/// See the module.
#[derive(Debug)]
pub(crate) enum ProbeFault {
    /// It ended before the first byte of an answer.
    Unanswered(String),
    /// Anything else.
    Other(String),
}
