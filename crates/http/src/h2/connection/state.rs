//! What is so on a connection, and what of it anyone may ask.

use super::streams::{OpenStream, StreamTable};
use crate::h2::error::{ConnectionFault, ErrorCode};
use crate::h2::frame::{self, PREFACE, setting};
use crate::h2::hpack::HpackDecoder;
use crate::h2::limits::{Allowance, H2Limits, MAX_BUFFERED, MAX_CONTROL_BYTES};
use crate::h2::window::{FlowWindow, INITIAL_WINDOW};

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// The progress of a connection's opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpeningStage {
    /// The preface has not come.
    Preface,
    /// The first SETTINGS frame has not come.
    Settings,
    /// Anything may come.
    Open,
}

/// A DATA frame of which a part has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartialData {
    pub(super) stream: u32,
    /// Bytes of the body in it.
    pub(super) left: u32,
    /// Bytes of padding behind them.
    pub(super) padding: u32,
    pub(super) ends: bool,
}

/// A header block whose end has not come.
#[derive(Debug)]
pub(super) struct PartialBlock {
    pub(super) stream: u32,
    pub(super) ends: bool,
    pub(super) depends_on: Option<u32>,
    pub(super) block: Vec<u8>,
    /// CONTINUATION frames so far.
    pub(super) continuations: u8,
}

/// What was said about the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoingAway {
    No,
    /// That no new streams should come; those on their way are served.
    Announced,
    /// Which stream is the last.
    Last(u32),
}

/// One side of a connection.
#[derive(Debug)]
pub struct H2Connection {
    pub(super) side: Side,
    pub(super) stage: OpeningStage,
    pub(super) limits: H2Limits,
    pub(super) decoder: HpackDecoder,
    pub(super) streams: StreamTable,
    /// The highest number of a stream so far.
    pub(super) last_stream: u32,
    pub(super) going_away: GoingAway,
    /// How much may be sent, over all streams.
    pub(super) send: FlowWindow,
    /// How much may come, over all streams.
    pub(super) receive: FlowWindow,
    /// Bytes of bodies that have come and were not taken yet.
    pub(super) held: u32,
    /// What the peer's SETTINGS say.
    pub(super) peer: PeerSettings,
    pub(super) data: Option<PartialData>,
    pub(super) block: Option<Box<PartialBlock>>,
    pub(super) resets: Allowance,
    pub(super) idle_frames: Allowance,
    /// Frames that wait to be sent.
    pub(super) control: Vec<u8>,
}

/// What the peer's SETTINGS say.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerSettings {
    pub(super) initial_window: u32,
    /// It has made its table smaller, which our next header block must acknowledge.
    pub(super) table_shrunk: bool,
    /// It has acknowledged ours: until then it may not know how wide its windows are.
    pub(super) has_ours: bool,
}

impl H2Connection {
    /// Creates the server's side of a connection whose preface is still to come; what it has to say first is in
    /// [`H2Connection::control`].
    pub fn new(limits: H2Limits) -> H2Connection {
        let mut control = Vec::new();
        frame::write_settings(
            &mut control,
            &[
                (setting::MAX_CONCURRENT_STREAMS, limits.max_streams),
                (setting::INITIAL_WINDOW_SIZE, limits.initial_window),
                (setting::MAX_HEADER_LIST_SIZE, u32::try_from(limits.max_list_bytes).unwrap_or(u32::MAX)),
            ],
        );
        H2Connection::begin(Side::Server, OpeningStage::Preface, limits, control)
    }

    /// Creates the client's side of a connection; its preface is in [`H2Connection::control`].
    pub fn client(limits: H2Limits) -> H2Connection {
        let mut control = PREFACE.to_vec();
        frame::write_settings(
            &mut control,
            &[(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, limits.initial_window)],
        );
        H2Connection::begin(Side::Client, OpeningStage::Settings, limits, control)
    }

    fn begin(side: Side, stage: OpeningStage, limits: H2Limits, mut control: Vec<u8>) -> H2Connection {
        frame::write_window_update(&mut control, 0, MAX_BUFFERED - INITIAL_WINDOW);
        H2Connection {
            side,
            stage,
            limits,
            decoder: match side {
                Side::Server => HpackDecoder::default(),
                Side::Client => HpackDecoder::lenient(),
            },
            streams: StreamTable::default(),
            last_stream: 0,
            going_away: GoingAway::No,
            send: FlowWindow::new(INITIAL_WINDOW),
            receive: FlowWindow::new(MAX_BUFFERED),
            held: 0,
            peer: PeerSettings { initial_window: INITIAL_WINDOW, table_shrunk: false, has_ours: false },
            data: None,
            block: None,
            resets: Allowance::of_resets(),
            idle_frames: match side {
                Side::Server => Allowance::of_idle_frames(),
                Side::Client => Allowance::of_an_upstream_s_idle_frames(),
            },
            control,
        }
    }

    /// Returns the frames that wait to be sent. The caller takes them out.
    pub fn control(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    /// Returns how many streams are open.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Returns true if nothing is open, nothing is half read and nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.streams.len() == 0 && self.data.is_none() && self.block.is_none() && self.control.is_empty()
    }

    /// Returns true if no request may begin any more.
    pub fn is_last_named(&self) -> bool {
        matches!(self.going_away, GoingAway::Last(_))
    }

    /// Returns true if the end of the connection was announced.
    pub fn is_going_away(&self) -> bool {
        self.going_away != GoingAway::No
    }

    pub(super) fn stream(&mut self, id: u32) -> Option<&mut OpenStream> {
        self.streams.get(id)
    }

    /// Fails if more waits to be sent than a client may cause.
    pub(super) fn check_control(&self) -> Result<(), ConnectionFault> {
        if self.control.len() > MAX_CONTROL_BYTES {
            return Err(ConnectionFault::flood("does not read the answers to its frames"));
        }
        Ok(())
    }

    /// Counts a frame that carries nothing.
    pub(super) fn count_idle(&mut self, now_ms: u64) -> Result<(), ConnectionFault> {
        match self.idle_frames.take(now_ms) {
            true => Ok(()),
            false => Err(ConnectionFault::flood("sent too many frames that carry nothing")),
        }
    }

    /// Counts a stream that the peer has reset, or that was reset for its fault.
    pub(super) fn count_reset(&mut self, now_ms: u64) -> Result<(), ConnectionFault> {
        match self.resets.take(now_ms) {
            true => Ok(()),
            false => Err(ConnectionFault::flood("reset too many streams")),
        }
    }

    /// Ends the connection for a fault: GOAWAY is the last frame (RFC 9113 §5.4.1).
    pub fn fail(&mut self, code: ErrorCode) {
        self.going_away = GoingAway::Last(self.last_stream);
        // A client names the last stream that the server has begun: there is none.
        let last = if self.side == Side::Server { self.last_stream } else { 0 };
        frame::write_go_away(&mut self.control, last, code);
    }
}
