//! The rules of RFC 9113 about frames, one by one, and the limits on what a client may cost.

mod bounds;
mod client;

use super::*;
use crate::h2::frame::{
    self, ACK, END_HEADERS, END_STREAM, FRAME_HEADER_BYTES, FrameHeader, FrameKind, PADDED, PREFACE, PRIORITY,
};
use crate::h2::hpack::{HpackDecoder, encode_field};
use crate::h2::{ConnectionFault, ErrorCode, H2Limits};
use crate::{HeadError, HeadLimits, Known, RequestHead};

/// A client and the server's side of its connection.
struct Peer {
    connection: H2Connection,
    head: RequestHead,
    now_ms: u64,
}

/// What the server did in answer to some bytes.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The connection goes on.
    Open,
    /// This stream was reset, and the connection goes on.
    Reset(u32, u32),
    /// The connection is over.
    Over(ErrorCode),
}

impl Peer {
    fn new() -> Peer {
        Peer::with(H2Limits::default())
    }

    /// Returns a peer behind preface and SETTINGS.
    fn with(limits: H2Limits) -> Peer {
        let mut peer =
            Peer { connection: H2Connection::new(limits), head: RequestHead::new(), now_ms: 5_000 };
        let mut start = PREFACE.to_vec();
        frame::write_settings(&mut start, &[]);
        start.extend_from_slice(&raw(FrameKind::Settings, ACK, 0, b""));
        peer.send(&start).unwrap();
        peer.connection.control().clear();
        peer
    }

    /// Sends bytes; returns what was received, data and all.
    fn send(&mut self, bytes: &[u8]) -> Result<Vec<Received>, ConnectionFault> {
        let mut all = Vec::new();
        let mut rest = bytes;
        loop {
            let mut cx = ReadContext {
                heads: HeadSlot::Request { head: &mut self.head, limits: &HeadLimits::default() },
                scratch: &mut Vec::new(),
                now_ms: self.now_ms,
            };
            let step = self.connection.receive(rest, &mut cx)?;
            rest = &rest[step.consumed..];
            match step.received {
                Received::Partial if step.consumed == 0 => return Ok(all),
                Received::Nothing | Received::Partial => {}
                received => all.push(received),
            }
        }
    }

    /// Sends bytes and reads the answer as a client does.
    fn outcome(&mut self, bytes: &[u8]) -> Outcome {
        match self.send(bytes) {
            Err(fault) => Outcome::Over(fault.code),
            Ok(_) => {
                let control = std::mem::take(self.connection.control());
                let reset = frames(&control).find(|(header, _)| header.kind == FrameKind::RstStream);
                reset.map_or(Outcome::Open, |(header, payload)| {
                    Outcome::Reset(header.stream, frame::number(payload).unwrap())
                })
            }
        }
    }
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (FrameHeader, &[u8])> {
    std::iter::from_fn(move || {
        let header = FrameHeader::parse(bytes)?;
        let (whole, rest) = bytes.split_at(FRAME_HEADER_BYTES + header.len as usize);
        bytes = rest;
        Some((header, &whole[FRAME_HEADER_BYTES..]))
    })
}

fn raw(kind: FrameKind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, kind, flags, stream, payload);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        encode_field(&mut out, None, name.as_bytes(), value.as_bytes());
    }
    out
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/")];

fn head(stream: u32, flags: u8) -> Vec<u8> {
    raw(FrameKind::Headers, flags | END_HEADERS, stream, &block(&GET))
}

fn head_with(stream: u32, flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    raw(FrameKind::Headers, flags | END_HEADERS, stream, &block(&[&GET, more].concat()))
}

fn data(stream: u32, flags: u8, len: usize) -> Vec<u8> {
    raw(FrameKind::Data, flags, stream, &vec![b'x'; len])
}

#[test]
fn connection_begins_with_preface_and_settings() {
    let limits = H2Limits { max_streams: 7, initial_window: 1000, ..H2Limits::default() };
    let mut connection = H2Connection::new(limits);
    let said: Vec<_> =
        frames(connection.control()).map(|(header, payload)| (header.kind, payload.to_vec())).collect();
    assert_eq!(said[0].0, FrameKind::Settings);
    assert_eq!(frame::settings(&said[0].1).collect::<Vec<_>>(), [(3, 7), (4, 1000), (6, 32 << 10)]);
    assert_eq!((said[1].0, said.len()), (FrameKind::WindowUpdate, 2));
    for (start, over) in [
        (&b"GET / HTTP/1.1\r\n"[..], true),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", false),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", false),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\x01\0\0\0\0", false),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x08\x06\0\0\0\0\x0012345678", true),
    ] {
        let mut peer = Peer::new();
        peer.connection = H2Connection::new(limits);
        let expected = if over { Outcome::Over(ErrorCode::Protocol) } else { Outcome::Open };
        assert_eq!(peer.outcome(start), expected, "{}", start.escape_ascii());
    }
}

/// Each rule of RFC 9113 about a frame, beside what a client gets that breaks it.
#[test]
fn frames_that_may_not_come_end_stream_or_connection() {
    use ErrorCode::{Compression, FlowControl, FrameSize, Protocol, StreamClosed};
    use FrameKind::{Continuation, GoAway, Headers, Ping, PushPromise, RstStream, Settings, WindowUpdate};
    let closed = [head(1, END_STREAM), raw(RstStream, 0, 1, &[0, 0, 0, 8])].concat();
    let get = block(&GET);
    let reset = |stream, code: ErrorCode| Outcome::Reset(stream, code as u32);
    let over = Outcome::Over;
    let table: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("§4.2 a frame of 16,385 bytes", raw(Ping, 0, 0, &[0; 16_385]), over(FrameSize)),
        ("§4.1 an unknown type", raw(FrameKind::Unknown(0xee), 0xff, 9, b"x"), Outcome::Open),
        ("§4.3 an undecodable block", raw(Headers, END_HEADERS, 1, b"\x80"), over(Compression)),
        ("§5.1 DATA on an idle stream", data(1, 0, 1), over(Protocol)),
        ("§5.1 RST_STREAM on an idle stream", raw(RstStream, 0, 1, &[0; 4]), over(Protocol)),
        ("§5.1 WINDOW_UPDATE on an idle stream", raw(WindowUpdate, 0, 1, &[0, 0, 0, 1]), over(Protocol)),
        ("§5.1 CONTINUATION on an idle stream", raw(Continuation, END_HEADERS, 1, &get), over(Protocol)),
        (
            "§5.1 DATA behind END_STREAM",
            [head(1, END_STREAM), data(1, 0, 1)].concat(),
            reset(1, StreamClosed),
        ),
        (
            "§5.1 HEADERS behind END_STREAM",
            [head(1, END_STREAM), head(1, END_STREAM)].concat(),
            reset(1, StreamClosed),
        ),
        ("§5.1 DATA behind RST_STREAM", [closed.clone(), data(1, 0, 1)].concat(), reset(1, StreamClosed)),
        (
            "§5.1 HEADERS behind RST_STREAM",
            [closed.clone(), head(1, END_STREAM)].concat(),
            over(StreamClosed),
        ),
        (
            "§5.1 WINDOW_UPDATE behind RST_STREAM",
            [closed.clone(), raw(WindowUpdate, 0, 1, &[0, 0, 0, 1])].concat(),
            Outcome::Open,
        ),
        (
            "§6.9 no bytes on a stream that is closed",
            [closed.clone(), raw(WindowUpdate, 0, 1, &[0; 4])].concat(),
            reset(1, Protocol),
        ),
        ("§5.1.1 an even number", head(2, END_STREAM), over(Protocol)),
        ("§5.1.1 a lower number", [head(5, END_STREAM), head(3, END_STREAM)].concat(), over(Protocol)),
        (
            "§5.3 a stream that depends on itself",
            {
                let payload = [&[0, 0, 0, 1, 16][..], &get].concat();
                raw(Headers, END_HEADERS | END_STREAM | PRIORITY, 1, &payload)
            },
            reset(1, Protocol),
        ),
        ("§6.1 DATA on the connection", data(0, 0, 1), over(Protocol)),
        (
            "§6.1 padding that is too long",
            [head(1, 0), raw(FrameKind::Data, PADDED, 1, b"\x05abcd")].concat(),
            over(Protocol),
        ),
        (
            "§6.1 padding that fills the frame",
            [head(1, 0), raw(FrameKind::Data, PADDED, 1, b"\x04abcd")].concat(),
            Outcome::Open,
        ),
        ("§6.2 HEADERS on the connection", head(0, END_STREAM), over(Protocol)),
        ("§6.2 padding that is too long", raw(Headers, PADDED | END_HEADERS, 1, b"\x05abcd"), over(Protocol)),
        (
            "§6.2 another frame within a block",
            [raw(Headers, 0, 1, &get), raw(Ping, 0, 0, &[0; 8])].concat(),
            over(Protocol),
        ),
        (
            "§6.2 another stream within a block",
            [raw(Headers, 0, 1, &get), raw(Continuation, 4, 3, b"")].concat(),
            over(Protocol),
        ),
        ("§6.3 PRIORITY on the connection", raw(FrameKind::Priority, 0, 0, &[0; 5]), over(Protocol)),
        (
            "§6.3 PRIORITY of a wrong size",
            [head(1, 0), raw(FrameKind::Priority, 0, 1, &[0; 4])].concat(),
            reset(1, FrameSize),
        ),
        ("§6.3 PRIORITY on an idle stream", raw(FrameKind::Priority, 0, 7, &[0; 5]), Outcome::Open),
        ("§6.4 RST_STREAM on the connection", raw(RstStream, 0, 0, &[0; 4]), over(Protocol)),
        (
            "§6.4 RST_STREAM of a wrong size",
            [head(1, 0), raw(RstStream, 0, 1, &[0; 3])].concat(),
            over(FrameSize),
        ),
        ("§6.5 SETTINGS on a stream", raw(Settings, 0, 1, &[]), over(Protocol)),
        ("§6.5 an acknowledgement with a payload", raw(Settings, ACK, 0, &[0; 6]), over(FrameSize)),
        ("§6.5 SETTINGS of a wrong size", raw(Settings, 0, 0, &[0; 5]), over(FrameSize)),
        ("§6.5.2 ENABLE_PUSH of 2", raw(Settings, 0, 0, &[0, 2, 0, 0, 0, 2]), over(Protocol)),
        ("§6.5.2 a window of 2^31", raw(Settings, 0, 0, &[0, 4, 0x80, 0, 0, 0]), over(FlowControl)),
        ("§6.5.2 frames of 16,383 bytes", raw(Settings, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff]), over(Protocol)),
        ("§6.5.2 frames of 2^24 bytes", raw(Settings, 0, 0, &[0, 5, 1, 0, 0, 0]), over(Protocol)),
        ("§6.5.2 an unknown setting", raw(Settings, 0, 0, &[0xee, 0xee, 1, 2, 3, 4]), Outcome::Open),
        ("§6.6 PUSH_PROMISE", raw(PushPromise, END_HEADERS, 1, &[0; 4]), over(Protocol)),
        ("§6.7 PING on a stream", raw(Ping, 0, 1, &[0; 8]), over(Protocol)),
        ("§6.7 PING of a wrong size", raw(Ping, 0, 0, &[0; 7]), over(FrameSize)),
        ("§6.8 GOAWAY on a stream", raw(GoAway, 0, 1, &[0; 8]), over(Protocol)),
        ("§6.8 GOAWAY of a wrong size", raw(GoAway, 0, 0, &[0; 7]), over(FrameSize)),
        ("§6.9 no bytes on the connection", raw(WindowUpdate, 0, 0, &[0; 4]), over(Protocol)),
        (
            "§6.9 no bytes on a stream",
            [head(1, 0), raw(WindowUpdate, 0, 1, &[0; 4])].concat(),
            reset(1, Protocol),
        ),
        ("§6.9 WINDOW_UPDATE of a wrong size", raw(WindowUpdate, 0, 0, &[0; 3]), over(FrameSize)),
        (
            "§6.9.1 too wide a connection",
            raw(WindowUpdate, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            over(FlowControl),
        ),
        (
            "§6.9.1 too wide a stream",
            [head(1, 0), raw(WindowUpdate, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat(),
            reset(1, FlowControl),
        ),
        (
            "§6.9.2 too wide a stream by SETTINGS",
            [
                head(1, 0),
                raw(WindowUpdate, 0, 1, &[0x7f, 0xff, 0, 0]),
                raw(Settings, 0, 0, &[0, 4, 0, 1, 0xff, 0xff]),
            ]
            .concat(),
            over(FlowControl),
        ),
        (
            "§6.10 CONTINUATION behind a whole block",
            [head(1, 0), raw(Continuation, 4, 1, b"")].concat(),
            over(Protocol),
        ),
        (
            "§6.10 CONTINUATION on the connection",
            [raw(Headers, 0, 1, &get), raw(Continuation, 4, 0, b"")].concat(),
            over(Protocol),
        ),
        ("§8.1 a second head", [head(1, 0), head(1, 0)].concat(), reset(1, Protocol)),
        (
            "§8.1 trailers with a pseudo-header",
            [head(1, 0), head(1, END_STREAM)].concat(),
            reset(1, Protocol),
        ),
        (
            "§8.1.1 a body that is too short",
            { [head_with(1, 0, &[("content-length", "3")]), data(1, END_STREAM, 2)].concat() },
            reset(1, Protocol),
        ),
        (
            "§8.1.1 a body that is too long",
            { [head_with(1, 0, &[("content-length", "3")]), data(1, 0, 4)].concat() },
            reset(1, Protocol),
        ),
        (
            "§8.1.1 trailers behind too short a body",
            {
                let trailers = raw(Headers, END_HEADERS | END_STREAM, 1, &block(&[("x", "y")]));
                [head_with(1, 0, &[("content-length", "3")]), data(1, 0, 2), trailers].concat()
            },
            reset(1, Protocol),
        ),
        (
            "§8.2 a name in upper case",
            { raw(Headers, END_HEADERS | END_STREAM, 1, &[&get[..], b"\0\x01X\x01y"].concat()) },
            reset(1, Protocol),
        ),
        (
            "§8.2.2 a field for connections",
            head_with(1, END_STREAM, &[("connection", "close")]),
            reset(1, Protocol),
        ),
        ("§8.3.1 no path", raw(Headers, END_HEADERS | END_STREAM, 1, &block(&GET[..3])), reset(1, Protocol)),
    ];
    for (rule, bytes, expected) in table {
        assert_eq!(Peer::new().outcome(&bytes), expected, "{rule}");
        // A frame means the same in whatever pieces it comes.
        let mut peer = Peer::new();
        let mut pieces = Vec::new();
        let mut result = Ok(());
        for byte in &bytes {
            pieces.push(*byte);
            let mut cx = ReadContext {
                heads: HeadSlot::Request { head: &mut peer.head, limits: &HeadLimits::default() },
                scratch: &mut Vec::new(),
                now_ms: 0,
            };
            while result.is_ok() {
                match peer.connection.receive(&pieces, &mut cx) {
                    Ok(step) => {
                        pieces.drain(..step.consumed);
                        if step.consumed == 0 {
                            break;
                        }
                    }
                    Err(fault) => result = Err(fault),
                }
            }
        }
        match expected {
            Outcome::Over(code) => assert_eq!(result.unwrap_err().code, code, "{rule}, in pieces"),
            _ => assert_eq!(result, Ok(()), "{rule}, in pieces"),
        }
    }
}

#[test]
fn request_with_body_and_trailers_is_received() {
    let mut peer = Peer::new();
    let trailers = raw(FrameKind::Headers, END_HEADERS | END_STREAM, 1, &block(&[("x-sum", "1")]));
    let received =
        peer.send(&[head_with(1, 0, &[("content-length", "5")]), data(1, 0, 5), trailers].concat());
    assert_eq!(
        received.unwrap(),
        [
            Received::Request { stream: 1, ends: false, refused: None },
            Received::Data { stream: 1, range: 9..14, ends: false },
            Received::Data { stream: 1, range: 0..0, ends: true },
        ]
    );
    assert_eq!(peer.head.target(), b"/");
    let mut out = Vec::new();
    peer.connection.write_head(1, b"\x88", false, &mut out);
    peer.connection.write_data(1, b"hello", true, &mut out);
    peer.connection.finish(1);
    assert!(peer.connection.control().is_empty(), "both sides had ended it");
    assert!(peer.connection.is_idle());
    let answer: Vec<_> = frames(&out).map(|(header, payload)| (header.kind, header.flags, payload)).collect();
    assert_eq!(
        answer,
        [(FrameKind::Headers, END_HEADERS, &b"\x88"[..]), (FrameKind::Data, END_STREAM, b"hello")]
    );
}

#[test]
fn refused_head_is_answered_on_its_stream() {
    let mut peer = Peer::new();
    let fields = [(":method", "get"), (":scheme", "http"), (":authority", "h"), (":path", "/")];
    let received = peer.send(&raw(FrameKind::Headers, END_HEADERS | END_STREAM, 1, &block(&fields))).unwrap();
    let refused = Some(HeadError::InvalidMethod);
    assert_eq!(received, [Received::Request { stream: 1, ends: true, refused }]);
}

#[test]
fn answer_that_is_whole_tells_client_to_stop() {
    let mut peer = Peer::new();
    peer.send(&[head(1, 0), data(1, 0, 5)].concat()).unwrap();
    peer.connection.finish(1);
    assert_eq!(peer.outcome(b""), Outcome::Reset(1, ErrorCode::NoError as u32));
    assert_eq!(peer.outcome(&data(1, 0, 500)), Outcome::Open, "sent before the client knew");
    let trailers = raw(FrameKind::Headers, END_HEADERS | END_STREAM, 1, &block(&[("x-sum", "1")]));
    assert_eq!(peer.outcome(&trailers), Outcome::Open);
    let pseudo = head(1, END_STREAM);
    assert_eq!(
        peer.outcome(&pseudo),
        Outcome::Reset(1, ErrorCode::Protocol as u32),
        "no trailers of any time"
    );
    assert_eq!(peer.outcome(&head(3, END_STREAM)), Outcome::Open);
    assert_eq!(peer.head.headers.get(Known::Host), Some(&b"h"[..]));
}
