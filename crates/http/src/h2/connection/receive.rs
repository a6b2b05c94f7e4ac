//! What comes from the peer: each frame is checked against the state of its stream, and changes it.

use super::faults::{CLOSED, ON_ITSELF, WRONG_LENGTH};
use super::received::{ReadContext, ReceiveStep, Received};
use super::send::LAST_PING;
use super::state::{GoingAway, H2Connection, OpeningStage, PartialData, Side};
use super::streams::{Closed, ResponseState};
use crate::h2::error::{ConnectionFault, ErrorCode};
use crate::h2::frame::{
    self, FRAME_HEADER_BYTES, FrameHeader, FrameKind, MAX_PAYLOAD_BYTES, PREFACE, setting,
};
use crate::h2::window::{INITIAL_WINDOW, MAX_WINDOW};

type Result<T> = std::result::Result<T, ConnectionFault>;

const STREAM_OF_CONNECTION: &str = "sent a frame of the connection on a stream";
const IDLE: &str = "sent a frame on a stream that is not open";
const RESET: &str = "reset the stream";

fn step(consumed: usize, received: Received) -> Result<ReceiveStep> {
    Ok(ReceiveStep { consumed, received })
}

impl H2Connection {
    /// Reads one frame, or a part of a DATA frame. After [`Received::Partial`], call again with the bytes that were not
    /// consumed and more behind them.
    ///
    /// # Errors
    /// The connection is over: [`H2Connection::fail`] says so to the peer.
    pub fn receive(&mut self, input: &[u8], cx: &mut ReadContext<'_>) -> Result<ReceiveStep> {
        if self.stage == OpeningStage::Preface {
            return self.receive_preface(input);
        }
        if self.data.is_some() {
            return self.receive_data(input, 0);
        }
        let Some(header) = FrameHeader::parse(input) else { return step(0, Received::Partial) };
        if header.len > MAX_PAYLOAD_BYTES {
            return Err(ConnectionFault::size("sent too large a frame"));
        }
        self.check_order(header)?;
        if header.kind == FrameKind::Data {
            return self.begin_data(header, input, cx.now_ms);
        }
        let end = FRAME_HEADER_BYTES + header.len as usize;
        let Some(payload) = input.get(FRAME_HEADER_BYTES..end) else { return step(0, Received::Partial) };
        let received = match header.kind {
            FrameKind::Headers => self.receive_headers(header, payload, cx)?,
            FrameKind::Continuation => self.receive_continuation(header, payload, cx)?,
            FrameKind::Priority => self.receive_priority(header, payload, cx.now_ms)?,
            FrameKind::RstStream => self.receive_reset(header, payload, cx.now_ms)?,
            FrameKind::Settings => self.receive_settings(header, payload, cx.now_ms)?,
            FrameKind::Ping => self.receive_ping(header, payload, cx.now_ms)?,
            FrameKind::WindowUpdate => self.receive_window_update(header, payload, cx.now_ms)?,
            FrameKind::PushPromise => return Err(ConnectionFault::protocol("sent a PUSH_PROMISE frame")),
            FrameKind::GoAway if header.stream != 0 => {
                return Err(ConnectionFault::protocol(STREAM_OF_CONNECTION));
            }
            FrameKind::GoAway if header.len < 8 => {
                return Err(ConnectionFault::size("sent a GOAWAY frame of a wrong size"));
            }
            FrameKind::GoAway if self.side == Side::Client => {
                let number = |at: usize| frame::number(payload.get(at..at + 4)?);
                let last_stream = number(0).unwrap_or_default() & MAX_WINDOW;
                Received::GoAway { last_stream, code: number(4).unwrap_or_default() }
            }
            FrameKind::GoAway | FrameKind::Unknown(_) => {
                self.count_idle(cx.now_ms)?;
                Received::Nothing
            }
            FrameKind::Data => Received::Nothing,
        };
        self.check_control()?;
        step(end, received)
    }

    fn receive_preface(&mut self, input: &[u8]) -> Result<ReceiveStep> {
        let here = input.len().min(PREFACE.len());
        if input[..here] != PREFACE[..here] {
            return Err(ConnectionFault::protocol("sent an invalid connection preface"));
        }
        if here < PREFACE.len() {
            return step(0, Received::Partial);
        }
        self.stage = OpeningStage::Settings;
        step(here, Received::Nothing)
    }

    /// Checks whether a frame may come now at all (RFC 9113 §3.4, §6.10).
    fn check_order(&mut self, header: FrameHeader) -> Result<()> {
        if self.stage == OpeningStage::Settings {
            // As in nginx, the acknowledgement of ours will do.
            if header.kind != FrameKind::Settings {
                return Err(ConnectionFault::protocol("did not begin with a SETTINGS frame"));
            }
            self.stage = OpeningStage::Open;
        }
        let is_continuation = header.kind == FrameKind::Continuation;
        match &self.block {
            Some(block) if !is_continuation || header.stream != block.stream => {
                Err(ConnectionFault::protocol("sent another frame within a header block"))
            }
            None if is_continuation => {
                Err(ConnectionFault::protocol("sent a CONTINUATION frame outside of a header block"))
            }
            _ => Ok(()),
        }
    }

    fn begin_data(&mut self, header: FrameHeader, input: &[u8], now_ms: u64) -> Result<ReceiveStep> {
        if header.stream == 0 {
            return Err(ConnectionFault::protocol("sent a DATA frame on the connection"));
        }
        let mut at = FRAME_HEADER_BYTES;
        let (mut left, mut padding) = (header.len, 0);
        if header.has(frame::PADDED) {
            if left == 0 {
                return Err(ConnectionFault::size("sent a DATA frame without its padding"));
            }
            let Some(&first) = input.get(at) else { return step(0, Received::Partial) };
            at += 1;
            padding = u32::from(first);
            left = (left - 1).checked_sub(padding).ok_or(frame::PADDING)?;
        }
        let ends = header.has(frame::END_STREAM);
        if left == 0 && !ends {
            self.count_idle(now_ms)?;
        }
        // The whole payload counts, padding too (RFC 9113 §6.9.1).
        if !self.receive.take(header.len) {
            return Err(ConnectionFault::new(
                ErrorCode::FlowControl,
                "sent more than the connection's window",
            ));
        }
        let fault = self.check_data(header, left, ends)?;
        let data = PartialData { stream: header.stream, left, padding, ends };
        match fault {
            Some((code, words)) => {
                let received = match self.stream(header.stream) {
                    Some(_) => self.break_stream(header.stream, code, words, now_ms)?,
                    None if code == ErrorCode::NoError => Received::Nothing,
                    None => self.refuse_stream(header.stream, code, now_ms)?,
                };
                // What is still to come of the frame is for no stream.
                self.data = Some(PartialData { stream: 0, ends: false, ..data });
                self.widen();
                self.check_control()?;
                step(at, received)
            }
            None => {
                self.data = Some(data);
                self.receive_data(input, at)
            }
        }
    }

    /// Checks a DATA frame against its stream; returns the error of the stream. Of one that we have reset, what comes is
    /// ignored.
    fn check_data(
        &mut self,
        header: FrameHeader,
        len: u32,
        ends: bool,
    ) -> Result<Option<(ErrorCode, &'static str)>> {
        let last = self.last_stream;
        let Some(stream) = self.streams.get(header.stream) else {
            if header.stream > last {
                return match self.going_away {
                    GoingAway::Last(_) => Ok(Some((ErrorCode::NoError, CLOSED))),
                    _ => Err(ConnectionFault::protocol(IDLE)),
                };
            }
            return Ok(Some(match self.streams.closed(header.stream) {
                Closed::ByUs => (ErrorCode::NoError, CLOSED),
                _ => (ErrorCode::StreamClosed, CLOSED),
            }));
        };
        if stream.has_ended {
            return Ok(Some((ErrorCode::StreamClosed, CLOSED)));
        }
        if stream.response != ResponseState::Begun {
            return Ok(Some((ErrorCode::Protocol, "sent a body before the head")));
        }
        if !stream.receive.take(header.len) {
            return Ok(Some((ErrorCode::FlowControl, "sent more than the stream's window")));
        }
        // Padding is no part of the body: nothing will take it.
        stream.due += header.len - len;
        stream.held += len;
        if let Some(left) = &mut stream.body_left {
            match left.checked_sub(u64::from(len)) {
                Some(rest) if rest == 0 || !ends => *left = rest,
                // RFC 9113 §8.1.1.
                _ => {
                    stream.held -= len;
                    return Ok(Some((ErrorCode::Protocol, WRONG_LENGTH)));
                }
            }
        }
        stream.has_ended = ends;
        self.held += len;
        self.widen();
        Ok(None)
    }

    /// Takes what is there of the DATA frame under way.
    fn receive_data(&mut self, input: &[u8], at: usize) -> Result<ReceiveStep> {
        let Some(mut data) = self.data.take() else { return step(at, Received::Nothing) };
        let available = (input.len() - at).min(u32::MAX as usize) as u32;
        let body = data.left.min(available);
        let padding = data.padding.min(available - body);
        data.left -= body;
        data.padding -= padding;
        let consumed = at + body as usize + padding as usize;
        let is_whole = data.left == 0 && data.padding == 0;
        if !is_whole {
            self.data = Some(data);
        }
        if data.stream == 0 || body == 0 && !(is_whole && data.ends) {
            let received = if is_whole { Received::Nothing } else { Received::Partial };
            return step(consumed, received);
        }
        let range = at..at + body as usize;
        step(consumed, Received::Data { stream: data.stream, range, ends: is_whole && data.ends })
    }

    fn receive_priority(&mut self, header: FrameHeader, payload: &[u8], now_ms: u64) -> Result<Received> {
        self.count_idle(now_ms)?;
        if header.stream == 0 {
            return Err(ConnectionFault::protocol("sent a PRIORITY frame on the connection"));
        }
        let fault = match frame::number(payload.get(..4).unwrap_or_default()) {
            Some(depends_on) if payload.len() == 5 => {
                (depends_on & MAX_WINDOW == header.stream).then_some((ErrorCode::Protocol, ON_ITSELF))
            }
            _ => Some((ErrorCode::FrameSize, "sent a PRIORITY frame of a wrong size")),
        };
        match fault {
            None => Ok(Received::Nothing),
            Some((code, words)) if self.streams.get(header.stream).is_some() => {
                self.break_stream(header.stream, code, words, now_ms)
            }
            // There is no stream that could be reset.
            Some((code, words)) if header.stream > self.last_stream => Err(ConnectionFault::new(code, words)),
            Some((code, _)) => self.refuse_stream(header.stream, code, now_ms),
        }
    }

    fn receive_reset(&mut self, header: FrameHeader, payload: &[u8], now_ms: u64) -> Result<Received> {
        if payload.len() != 4 {
            return Err(ConnectionFault::size("sent a RST_STREAM frame of a wrong size"));
        }
        if header.stream == 0 || header.stream > self.last_stream && !self.is_last_named() {
            return Err(ConnectionFault::protocol(IDLE));
        }
        self.count_reset(now_ms)?;
        if self.streams.get(header.stream).is_none() {
            return Ok(Received::Nothing);
        }
        self.close(header.stream, Closed::ByPeer);
        Ok(Received::Gone { stream: header.stream, words: RESET, code: frame::number(payload) })
    }

    fn receive_settings(&mut self, header: FrameHeader, payload: &[u8], now_ms: u64) -> Result<Received> {
        if header.stream != 0 {
            return Err(ConnectionFault::protocol(STREAM_OF_CONNECTION));
        }
        let is_ack = header.has(frame::ACK);
        if !payload.len().is_multiple_of(6) || is_ack && !payload.is_empty() {
            return Err(ConnectionFault::size("sent a SETTINGS frame of a wrong size"));
        }
        self.count_idle(now_ms)?;
        if is_ack {
            if !std::mem::replace(&mut self.peer.has_ours, true) {
                // Now that it knows our windows, those of open streams become as wide.
                let by =
                    i64::from(self.limits.initial_window.min(INITIAL_WINDOW)) - i64::from(INITIAL_WINDOW);
                for stream in self.streams.iter_mut() {
                    // They do not become wider.
                    let _ = stream.receive.shift(by);
                }
            }
            return Ok(Received::Nothing);
        }
        let mut has_room = false;
        for (id, value) in frame::settings(payload) {
            match id {
                setting::HEADER_TABLE_SIZE => self.peer.table_shrunk |= value < 4096,
                setting::ENABLE_PUSH if value > 1 => {
                    return Err(ConnectionFault::protocol("sent an invalid SETTINGS_ENABLE_PUSH"));
                }
                setting::INITIAL_WINDOW_SIZE => {
                    self.change_windows(value)?;
                    has_room = true;
                }
                // Larger frames than those that any client takes would keep other streams waiting.
                setting::MAX_FRAME_SIZE if !(MAX_PAYLOAD_BYTES..1 << 24).contains(&value) => {
                    return Err(ConnectionFault::protocol("sent an invalid SETTINGS_MAX_FRAME_SIZE"));
                }
                _ => {}
            }
        }
        self.acknowledge(FrameKind::Settings, b"");
        Ok(if has_room { Received::Room } else { Received::Nothing })
    }

    /// Changes the windows of all streams by as much as that of new ones changes (RFC 9113 §6.9.2).
    fn change_windows(&mut self, initial: u32) -> Result<()> {
        const FAULT: ConnectionFault =
            ConnectionFault::new(ErrorCode::FlowControl, "sent an invalid SETTINGS_INITIAL_WINDOW_SIZE");
        if initial > MAX_WINDOW {
            return Err(FAULT);
        }
        let by = i64::from(initial) - i64::from(self.peer.initial_window);
        self.peer.initial_window = initial;
        self.streams.iter_mut().try_for_each(|stream| stream.send.shift(by).map_err(|_| FAULT))
    }

    fn receive_ping(&mut self, header: FrameHeader, payload: &[u8], now_ms: u64) -> Result<Received> {
        if header.stream != 0 {
            return Err(ConnectionFault::protocol(STREAM_OF_CONNECTION));
        }
        if payload.len() != 8 {
            return Err(ConnectionFault::size("sent a PING frame of a wrong size"));
        }
        self.count_idle(now_ms)?;
        match header.has(frame::ACK) {
            false => self.acknowledge(FrameKind::Ping, payload),
            true if self.going_away == GoingAway::Announced && payload == LAST_PING => self.name_last(),
            true => {}
        }
        Ok(Received::Nothing)
    }

    fn receive_window_update(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Received> {
        const OVERFLOW: &str = "made a window larger than 2^31-1";
        const NOTHING: &str = "sent a WINDOW_UPDATE frame of no bytes";
        let Some(by) = frame::number(payload) else {
            return Err(ConnectionFault::size("sent a WINDOW_UPDATE frame of a wrong size"));
        };
        self.count_idle(now_ms)?;
        let by = by & MAX_WINDOW;
        if header.stream == 0 {
            if by == 0 {
                return Err(ConnectionFault::protocol(NOTHING));
            }
            return match self.send.open(by) {
                Ok(()) => Ok(Received::Room),
                Err(_) => Err(ConnectionFault::new(ErrorCode::FlowControl, OVERFLOW)),
            };
        }
        let Some(stream) = self.streams.get(header.stream) else {
            return match header.stream > self.last_stream && !self.is_last_named() {
                true => Err(ConnectionFault::protocol(IDLE)),
                false if by == 0 => self.refuse_stream(header.stream, ErrorCode::Protocol, now_ms),
                // It may have been sent before the client knew that the stream is closed.
                false => Ok(Received::Nothing),
            };
        };
        if by == 0 {
            return self.break_stream(header.stream, ErrorCode::Protocol, NOTHING, now_ms);
        }
        match stream.send.open(by) {
            Ok(()) => Ok(Received::Room),
            Err(_) => self.break_stream(header.stream, ErrorCode::FlowControl, OVERFLOW, now_ms),
        }
    }
}
