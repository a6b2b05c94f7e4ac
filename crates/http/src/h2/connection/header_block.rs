//! Header blocks: heads of requests, and trailers.

use super::faults::{CLOSED, ON_ITSELF, WRONG_LENGTH};
use super::received::{HeadSlot, ReadContext, Received};
use super::state::{H2Connection, PartialBlock, Side};
use super::streams::{Closed, OpenStream, ResponseState};
use crate::h2::error::{ConnectionFault, ErrorCode};
use crate::h2::frame::{self, FrameHeader};
use crate::h2::hpack::HpackError;
use crate::h2::limits::{MAX_BLOCK_BYTES, MAX_CONTINUATIONS, MAX_RESPONSE_CONTINUATIONS};
use crate::h2::window::{FlowWindow, INITIAL_WINDOW};
use crate::request::{H2Head, H2HeadFault};

type Result<T> = std::result::Result<T, ConnectionFault>;

impl H2Connection {
    pub(super) fn receive_headers(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        cx: &mut ReadContext<'_>,
    ) -> Result<Received> {
        if header.stream == 0 {
            return Err(ConnectionFault::protocol("sent a HEADERS frame on the connection"));
        }
        let contents = frame::headers_payload(header, payload)?;
        let ends = header.has(frame::END_STREAM);
        if header.has(frame::END_HEADERS) {
            return self.take_block(header.stream, contents.block, ends, contents.depends_on, cx);
        }
        self.block = Some(Box::new(PartialBlock {
            stream: header.stream,
            ends,
            depends_on: contents.depends_on,
            block: contents.block.to_vec(),
            continuations: 0,
        }));
        Ok(Received::Nothing)
    }

    pub(super) fn receive_continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        cx: &mut ReadContext<'_>,
    ) -> Result<Received> {
        let Some(mut partial) = self.block.take() else { return Ok(Received::Nothing) };
        partial.continuations += 1;
        let most = if self.side == Side::Server { MAX_CONTINUATIONS } else { MAX_RESPONSE_CONTINUATIONS };
        if partial.continuations > most || partial.block.len() + payload.len() > MAX_BLOCK_BYTES {
            return Err(ConnectionFault::flood("sent too many CONTINUATION frames"));
        }
        partial.block.extend_from_slice(payload);
        if header.has(frame::END_HEADERS) {
            let PartialBlock { stream, ends, depends_on, block, .. } = *partial;
            return self.take_block(stream, &block, ends, depends_on, cx);
        }
        self.block = Some(partial);
        Ok(Received::Nothing)
    }

    /// Takes a whole header block: the head of a request, or trailers. Whatever becomes of it, it is decoded, because the
    /// tables of both sides must stay equal (RFC 9113 §4.3).
    fn take_block(
        &mut self,
        id: u32,
        block: &[u8],
        ends: bool,
        depends_on: Option<u32>,
        cx: &mut ReadContext<'_>,
    ) -> Result<Received> {
        if self.side == Side::Client {
            return self.take_response_block(id, block, ends, cx);
        }
        if self.streams.get(id).is_some() {
            return self.take_trailers(id, block, ends, cx);
        }
        if id <= self.last_stream {
            let fault = self.decode_trailers(block, cx)?;
            return match (self.streams.closed(id), fault) {
                // What was sent before the client knew is ignored, if it is what could have come.
                (Closed::ByUs, None) => Ok(Received::Ignored),
                (Closed::ByUs, Some(_)) => self.refuse_stream(id, ErrorCode::Protocol, cx.now_ms),
                (Closed::ByPeer, _) => Err(ConnectionFault::new(ErrorCode::StreamClosed, CLOSED)),
                (Closed::Unknown, _) => {
                    Err(ConnectionFault::protocol("opened a stream with a lower number than one before it"))
                }
            };
        }
        if id.is_multiple_of(2) {
            return Err(ConnectionFault::protocol("opened a stream with an even number"));
        }
        if self.is_last_named() {
            self.decoder.decode(block, cx.scratch, |_, _| {}).map_err(undecodable)?;
            return Ok(Received::Ignored);
        }
        self.last_stream = id;
        let HeadSlot::Request { head, limits } = &mut cx.heads else {
            return Err(ConnectionFault::new(
                ErrorCode::Internal,
                "opened a stream on a client's connection",
            ));
        };
        let mut head = H2Head::new(head, limits, self.limits.max_list_bytes);
        let decoded = self.decoder.decode(block, cx.scratch, |name, value| head.take(name, value));
        decoded.map_err(undecodable)?;
        if self.streams.len() >= self.limits.max_streams as usize {
            return self.refuse_stream(id, ErrorCode::RefusedStream, cx.now_ms);
        }
        let result = head.finish(block.len(), ends);
        let (body_left, refused) = match result {
            Ok(body_left) => (body_left, None),
            Err(H2HeadFault::Refused(error)) => (None, Some(error)),
            Err(H2HeadFault::Malformed(words)) => {
                self.refuse_stream(id, ErrorCode::Protocol, cx.now_ms)?;
                return Ok(Received::Gone { stream: id, words, code: None });
            }
        };
        if depends_on == Some(id) {
            self.refuse_stream(id, ErrorCode::Protocol, cx.now_ms)?;
            return Ok(Received::Gone { stream: id, words: ON_ITSELF, code: None });
        }
        self.streams.open(OpenStream {
            id,
            send: FlowWindow::new(self.peer.initial_window),
            receive: self.first_window(),
            held: 0,
            due: 0,
            body_left,
            has_ended: ends,
            response: ResponseState::Begun,
        });
        self.idle_frames.grant(4);
        Ok(Received::Request { stream: id, ends, refused })
    }

    /// Returns how much may come on a new stream: until the peer knows our settings, it takes the window for the usual one.
    pub(super) fn first_window(&self) -> FlowWindow {
        FlowWindow::new(match self.peer.has_ours {
            true => self.limits.initial_window,
            false => self.limits.initial_window.max(INITIAL_WINDOW),
        })
    }

    /// Takes the fields behind a body (RFC 9113 §8.1); a request's are not kept.
    pub(super) fn take_trailers(
        &mut self,
        id: u32,
        block: &[u8],
        ends: bool,
        cx: &mut ReadContext<'_>,
    ) -> Result<Received> {
        let fault = self.decode_trailers(block, cx)?;
        let Some(stream) = self.streams.get(id) else { return Ok(Received::Nothing) };
        if stream.has_ended {
            return self.break_stream(id, ErrorCode::StreamClosed, CLOSED, cx.now_ms);
        }
        let fault = fault.or(match stream.body_left {
            _ if !ends => Some("sent a second head on a stream"),
            Some(1..) => Some(WRONG_LENGTH),
            _ => None,
        });
        if let Some(words) = fault {
            return self.break_stream(id, ErrorCode::Protocol, words, cx.now_ms);
        }
        stream.has_ended = true;
        Ok(match self.side {
            Side::Server => Received::Data { stream: id, range: 0..0, ends: true },
            Side::Client => Received::Trailers { stream: id },
        })
    }

    /// Decodes trailers; returns what is wrong with them.
    pub(super) fn decode_trailers(
        &mut self,
        block: &[u8],
        cx: &mut ReadContext<'_>,
    ) -> Result<Option<&'static str>> {
        let mut fault = None;
        let mut size = 0;
        let max_bytes = self.limits.max_list_bytes;
        let mut kept = match &mut cx.heads {
            HeadSlot::Request { .. } => None,
            HeadSlot::Response { trailers, .. } => {
                trailers.clear();
                Some(trailers)
            }
        };
        let decoded = self.decoder.decode(block, cx.scratch, |name, value| {
            size += name.len() + value.len() + 32;
            fault = fault.or_else(|| match name {
                _ if size > max_bytes => Some("sent too many trailers"),
                [b':', ..] => Some("sent trailers with a pseudo-header"),
                _ => H2Head::check_field(name, value).err(),
            });
            if let (Some(kept), None) = (&mut kept, fault) {
                kept.push(name, value);
            }
        });
        decoded.map_err(undecodable)?;
        Ok(fault)
    }
}

pub(super) fn undecodable(error: HpackError) -> ConnectionFault {
    match error {
        HpackError::TooLong => {
            ConnectionFault::new(ErrorCode::EnhanceYourCalm, "sent a header block that is too long")
        }
        _ => ConnectionFault::new(ErrorCode::Compression, "sent a header block that cannot be decoded"),
    }
}
