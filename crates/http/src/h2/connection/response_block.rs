//! Header blocks that come to a client: heads of responses, and trailers.

use super::faults::CLOSED;
use super::header_block::undecodable;
use super::received::{HeadSlot, ReadContext, Received};
use super::state::H2Connection;
use super::streams::{Closed, ResponseState};
use crate::framing;
use crate::h2::error::{ConnectionFault, ErrorCode};
use crate::response::H2ResponseHead;

type Result<T> = std::result::Result<T, ConnectionFault>;

impl H2Connection {
    /// Takes a whole header block of a response. Whatever becomes of it, it is decoded, because the tables of both sides
    /// must stay equal (RFC 9113 §4.3).
    pub(super) fn take_response_block(
        &mut self,
        id: u32,
        block: &[u8],
        ends: bool,
        cx: &mut ReadContext<'_>,
    ) -> Result<Received> {
        let Some(stream) = self.streams.get(id) else {
            self.decoder.decode(block, cx.scratch, |_, _| {}).map_err(undecodable)?;
            return match self.streams.closed(id) {
                // What was sent before the server knew is ignored.
                Closed::ByUs => Ok(Received::Ignored),
                Closed::ByPeer => Err(ConnectionFault::new(ErrorCode::StreamClosed, CLOSED)),
                Closed::Unknown => Err(ConnectionFault::protocol("sent a head on a stream that is not open")),
            };
        };
        let ResponseState::Awaited { is_bodiless } = stream.response else {
            return self.take_trailers(id, block, ends, cx);
        };
        let HeadSlot::Response { head, .. } = &mut cx.heads else {
            return Err(ConnectionFault::new(ErrorCode::Internal, "sent a response to a server"));
        };
        let mut fields = H2ResponseHead::new(head, self.limits.max_list_bytes);
        let decoded = self.decoder.decode(block, cx.scratch, |name, value| fields.take(name, value));
        decoded.map_err(undecodable)?;
        let fault = match fields.finish() {
            Err(words) => Some(words),
            Ok(()) if head.is_interim() && ends => Some("ended a stream with an interim response"),
            Ok(()) => None,
        };
        if let Some(words) = fault {
            return self.break_stream(id, ErrorCode::Protocol, words, cx.now_ms);
        }
        if !head.is_interim() {
            let length = match is_bodiless || matches!(head.status, 204 | 304) {
                true => Some(0),
                // That it can be read, the head has checked.
                false => framing::content_length(&head.headers).ok().flatten(),
            };
            if ends && !is_bodiless && length.is_some_and(|length| length > 0) {
                return self.break_stream(id, ErrorCode::Protocol, super::faults::WRONG_LENGTH, cx.now_ms);
            }
            if let Some(stream) = self.streams.get(id) {
                stream.response = ResponseState::Begun;
                stream.body_left = length;
                stream.has_ended = ends;
            }
        }
        self.idle_frames.grant(4);
        Ok(Received::Response { stream: id, ends, block_bytes: block.len() })
    }
}
