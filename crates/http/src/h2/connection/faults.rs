//! Streams that end for a fault of the peer.

use super::received::Received;
use super::state::H2Connection;
use super::streams::Closed;
use crate::h2::error::{ConnectionFault, ErrorCode};
use crate::h2::frame;

pub(super) const CLOSED: &str = "sent a frame on a stream that is closed";
pub(super) const WRONG_LENGTH: &str = "sent a body whose length is not its Content-Length";
pub(super) const ON_ITSELF: &str = "made a stream depend on itself";

impl H2Connection {
    /// Ends an open stream for a fault of the peer (RFC 9113 §5.4.2).
    pub(super) fn break_stream(
        &mut self,
        stream: u32,
        code: ErrorCode,
        words: &'static str,
        now_ms: u64,
    ) -> Result<Received, ConnectionFault> {
        self.count_reset(now_ms)?;
        self.reset(stream, code);
        Ok(Received::Gone { stream, words, code: None })
    }

    /// Resets a stream that was never opened, or is closed.
    pub(super) fn refuse_stream(
        &mut self,
        stream: u32,
        code: ErrorCode,
        now_ms: u64,
    ) -> Result<Received, ConnectionFault> {
        self.count_reset(now_ms)?;
        self.streams.note(stream, Closed::ByUs);
        frame::write_reset(&mut self.control, stream, code);
        Ok(Received::Nothing)
    }
}
