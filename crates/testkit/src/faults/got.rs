//! What a client of a cell got, whatever it speaks.

/// The result of a client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// A complete answer: status and body.
    Whole(u16, Vec<u8>),
    /// A visibly incomplete answer.
    Cut(u16, Vec<u8>),
    /// The connection ended before any answer.
    Nothing,
    /// The client did not wait.
    Left,
    /// An impossible result: no HTTP, or no bytes before the timeout.
    Wrong(String),
}
