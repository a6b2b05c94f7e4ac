//! The body of a response over HTTP/2.

use super::wire::{H2Fault, H2Read, H2Upstream};
use http::ResponseHead;
use transport::body_reader::Piece;
use transport::read_buffer::ReadBuffer;

/// Returns the next piece of a body that comes over HTTP/2.
pub(crate) fn next_h2_piece(
    h2: &mut H2Upstream,
    buffer: &mut ReadBuffer,
    now_ms: u64,
) -> Result<Option<Piece>, H2Fault> {
    let range = match h2.has_ended() {
        true => 0..0,
        false => match h2.next(buffer, &mut ResponseHead::new(), now_ms)? {
            H2Read::Partial => return Ok(None),
            H2Read::Data { range, .. } => range,
            // No second head passes the codec.
            H2Read::Head { .. } | H2Read::End => 0..0,
        },
    };
    let done = h2.has_ended();
    if done {
        // Before the client is told that the body is whole.
        h2.check_end(buffer, now_ms)?;
    }
    Ok(Some(Piece { range, done }))
}
