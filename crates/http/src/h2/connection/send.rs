//! What goes to the peer: messages in frames, as its windows allow, and the end of streams and of the connection.

use super::state::{GoingAway, H2Connection, Side};
use super::streams::{Closed, OpenStream, ResponseState};
use crate::h2::error::ErrorCode;
use crate::h2::frame::{self, ACK, END_STREAM, FrameHeader, FrameKind, MAX_PAYLOAD_BYTES};
use crate::h2::hpack::FORGET_TABLE;
use crate::h2::limits::MAX_BUFFERED;
use crate::h2::window::{FlowWindow, MAX_WINDOW};

/// How wide a stream's window is once something reads its body.
const READING_WINDOW: u32 = 64 << 10;

/// The payload of the PING that follows an announced end.
pub(super) const LAST_PING: [u8; 8] = *b"the end.";

impl H2Connection {
    /// Returns how many bytes of DATA may be sent on a stream now.
    pub fn send_room(&mut self, stream: u32) -> usize {
        let connection = self.send.bytes();
        self.stream(stream).map_or(0, |stream| stream.send.bytes().min(connection) as usize)
    }

    /// Returns true if the connection's window lets something be sent.
    pub fn has_send_room(&self) -> bool {
        self.send.bytes() > 0
    }

    /// Begins a request with this header block; returns its stream. `is_bodiless` is so for HEAD: whatever the response's
    /// head says, no body follows. `None` if the connection takes no more requests.
    pub fn request(&mut self, block: &[u8], ends: bool, is_bodiless: bool, out: &mut Vec<u8>) -> Option<u32> {
        let id = if self.last_stream == 0 { 1 } else { self.last_stream + 2 };
        if self.side == Side::Server || self.is_going_away() || id > MAX_WINDOW {
            return None;
        }
        self.last_stream = id;
        self.streams.open(OpenStream {
            id,
            send: FlowWindow::new(self.peer.initial_window),
            receive: self.first_window(),
            held: 0,
            due: 0,
            body_left: None,
            has_ended: false,
            response: ResponseState::Awaited { is_bodiless },
        });
        self.idle_frames.grant(4);
        self.write_head(id, block, ends, out);
        Some(id)
    }

    /// Frames a header block: the head of a message, or its trailers, which end it.
    pub fn write_head(&mut self, stream: u32, block: &[u8], ends: bool, out: &mut Vec<u8>) {
        let max_payload = MAX_PAYLOAD_BYTES as usize;
        if std::mem::take(&mut self.peer.table_shrunk) {
            let block = [&[FORGET_TABLE], block].concat();
            frame::write_block(out, stream, &block, ends, max_payload);
        } else {
            frame::write_block(out, stream, block, ends, max_payload);
        }
    }

    /// Frames a part of a body, which must not be larger than [`H2Connection::send_room`].
    pub fn write_data(&mut self, stream: u32, data: &[u8], ends: bool, out: &mut Vec<u8>) {
        let taken = data.len() as u32;
        let has_room = self.stream(stream).is_some_and(|stream| stream.send.take(taken));
        if !has_room || !self.send.take(taken) {
            debug_assert!(false, "more than the windows allow");
            return;
        }
        // A peer answers to data with a frame or two.
        self.idle_frames.grant(2 + taken / 4096);
        let mut rest = data;
        loop {
            let (part, after) = rest.split_at(rest.len().min(MAX_PAYLOAD_BYTES as usize));
            let flags = if ends && after.is_empty() { END_STREAM } else { 0 };
            frame::write(out, FrameKind::Data, flags, stream, part);
            if after.is_empty() {
                return;
            }
            rest = after;
        }
    }

    /// Closes a stream on which our message is sent to its end. A client that is still sending is told that it need not
    /// (RFC 9113 §8.1).
    pub fn finish(&mut self, stream: u32) {
        match self.stream(stream) {
            Some(open) if open.has_ended => self.close(stream, Closed::ByPeer),
            Some(_) => self.reset(stream, ErrorCode::NoError),
            None => {}
        }
    }

    /// Resets a stream that is open.
    pub fn reset(&mut self, stream: u32, code: ErrorCode) {
        let Some(open) = self.stream(stream) else { return };
        let by = if open.has_ended { Closed::ByPeer } else { Closed::ByUs };
        self.close(stream, by);
        frame::write_reset(&mut self.control, stream, code);
    }

    /// Forgets an open stream, and what it holds of the connection's window.
    pub(super) fn close(&mut self, stream: u32, by: Closed) {
        if let Some(closed) = self.streams.close(stream, by) {
            self.held -= closed.held;
            self.widen();
        }
    }

    /// Notes that so many bytes of a stream's body were taken: as many more may come.
    pub fn taken(&mut self, stream: u32, bytes: u32) {
        let initial = self.limits.initial_window.max(READING_WINDOW);
        let Some(open) = self.stream(stream) else { return };
        let bytes = bytes.min(open.held);
        open.held -= bytes;
        open.due += bytes;
        let due = open.due;
        // Half a window at a time, so that not each frame is answered with another.
        if due >= initial / 2 && !open.has_ended && open.receive.open(due).is_ok() {
            open.due = 0;
            frame::write_window_update(&mut self.control, stream, due);
        }
        self.held -= bytes;
        self.widen();
    }

    /// Notes that a stream's body is wanted: at least a usual window of it may come.
    pub fn wanted(&mut self, stream: u32) {
        let Some(open) = self.stream(stream) else { return };
        let more = READING_WINDOW.saturating_sub(open.receive.bytes() + open.due + open.held);
        if more > 0 && !open.has_ended && open.receive.open(more + open.due).is_ok() {
            let by = more + std::mem::take(&mut open.due);
            frame::write_window_update(&mut self.control, stream, by);
        }
    }

    /// Widens the connection's window to what may be held in all: bodies that nothing takes have windows of their own, and
    /// must not keep the others waiting.
    pub(super) fn widen(&mut self) {
        let by = MAX_BUFFERED.saturating_sub(self.held + self.receive.bytes());
        if by >= MAX_BUFFERED / 4 && self.receive.open(by).is_ok() {
            frame::write_window_update(&mut self.control, 0, by);
        }
    }

    /// Announces the end: the client is to open no more streams, and a PING finds out when it knows (RFC 9113 §6.8).
    pub fn announce_end(&mut self) {
        if self.going_away == GoingAway::No {
            self.going_away = GoingAway::Announced;
            frame::write_go_away(&mut self.control, MAX_WINDOW, ErrorCode::NoError);
            frame::write(&mut self.control, FrameKind::Ping, 0, 0, &LAST_PING);
        }
    }

    /// Names the last stream that is served: later ones are ignored.
    pub fn name_last(&mut self) {
        if !self.is_last_named() {
            self.going_away = GoingAway::Last(self.last_stream);
            frame::write_go_away(&mut self.control, self.last_stream, ErrorCode::NoError);
        }
    }

    /// Answers a PING or SETTINGS frame.
    pub(super) fn acknowledge(&mut self, kind: FrameKind, payload: &[u8]) {
        FrameHeader { len: payload.len() as u32, kind, flags: ACK, stream: 0 }.write(&mut self.control);
        self.control.extend_from_slice(payload);
    }
}
