//! The client's body on its way to a peer, whatever is spoken there: its pieces, and what may be wrong with them.

use super::fault::UpstreamFault;
use crate::request::client::Client;
use std::io;
use transport::body_reader::Piece;

/// Why an upload stopped.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The peer's side failed.
    Peer(io::Error),
    /// The client went away before its body was whole.
    ClientGone,
    /// The client's body is malformed.
    BadBody,
    /// The chunks are larger than a body may be: the bytes before the present one, and its own.
    TooLarge(u64, u64),
}

impl From<UploadError> for UpstreamFault {
    fn from(error: UploadError) -> UpstreamFault {
        match error {
            UploadError::Peer(error) => UpstreamFault::Write(error),
            UploadError::ClientGone => UpstreamFault::ClientClosed,
            UploadError::BadBody => UpstreamFault::BadBody,
            UploadError::TooLarge(before, chunk) => UpstreamFault::BodyTooLarge(before, chunk),
        }
    }
}

/// Returns the next piece of the client's body, after a check of the limit (`client_max_body_size`).
pub(super) fn next_piece(
    client: &mut Client,
    taken: &mut u64,
    max_body: u64,
) -> Result<Option<Piece>, UploadError> {
    let piece = client.body.next(&mut client.read_buffer).map_err(|_| UploadError::BadBody)?;
    if let Some(piece) = &piece {
        let chunk = piece.range.len() as u64 + client.body.chunk_left();
        if max_body > 0 && *taken + chunk > max_body {
            return Err(UploadError::TooLarge(*taken, chunk));
        }
        *taken += piece.range.len() as u64;
    }
    Ok(piece)
}
