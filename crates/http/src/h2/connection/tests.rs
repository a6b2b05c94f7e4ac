//! The rules of RFC 9113 about frames, one by one, and the limits on what a client may cost.

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

    /// A peer behind preface and SETTINGS.
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
                head: &mut self.head,
                head_limits: &HeadLimits::default(),
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
                head: &mut peer.head,
                head_limits: &HeadLimits::default(),
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

#[test]
fn windows_bound_what_is_sent() {
    let mut peer = Peer::new();
    peer.send(&[head(1, END_STREAM), head(3, END_STREAM)].concat()).unwrap();
    assert_eq!(peer.connection.send_room(1), 65_535);
    let mut out = Vec::new();
    peer.connection.write_data(1, &vec![0; 40_000], false, &mut out);
    let sizes: Vec<_> = frames(&out).map(|(header, _)| header.len).collect();
    assert_eq!(sizes, [16_384, 16_384, 7_232]);
    assert_eq!((peer.connection.send_room(1), peer.connection.send_room(3)), (25_535, 25_535));
    let smaller = raw(FrameKind::Settings, 0, 0, &[0, 4, 0, 0, 0, 100]);
    assert_eq!(peer.send(&smaller).unwrap(), [Received::Room]);
    assert_eq!((peer.connection.send_room(1), peer.connection.send_room(3)), (0, 100), "one is below zero");
    peer.send(&raw(FrameKind::WindowUpdate, 0, 1, &[0, 0, 0xa0, 0])).unwrap();
    assert_eq!(peer.connection.send_room(1), 40_960 + 100 - 40_000);
    assert_eq!(peer.connection.send_room(5), 0, "no such stream");
}

#[test]
fn client_may_send_again_what_was_taken() {
    let mut peer = Peer::with(H2Limits { initial_window: 1000, ..H2Limits::default() });
    peer.send(&[head(1, 0), data(1, 0, 1000)].concat()).unwrap();
    assert_eq!(peer.outcome(&data(1, 0, 1)), Outcome::Reset(1, ErrorCode::FlowControl as u32));
    let mut peer = Peer::with(H2Limits { initial_window: 0, ..H2Limits::default() });
    peer.send(&head(1, 0)).unwrap();
    peer.connection.wanted(1);
    let control = std::mem::take(peer.connection.control());
    let (header, payload) = frames(&control).next().unwrap();
    assert_eq!((header.stream, frame::number(payload)), (1, Some(65_536)));
    peer.connection.wanted(1);
    assert!(peer.connection.control().is_empty(), "once is enough");
    let mut sent = 0;
    for _ in 0..100 {
        // Nothing would come of a window that is not opened again.
        assert_eq!(peer.outcome(&data(1, 0, 16_000)), Outcome::Open);
        peer.connection.taken(1, 16_000);
        sent += 16_000;
    }
    assert!(sent > 1 << 20, "past the connection's window as well");
}

#[test]
fn client_that_does_not_know_our_windows_may_use_the_usual_ones() {
    let mut peer = Peer::with(H2Limits::default());
    peer.connection = H2Connection::new(H2Limits { initial_window: 1000, ..H2Limits::default() });
    let start =
        [&PREFACE[..], &raw(FrameKind::Settings, 0, 0, b""), &head(1, 0), &data(1, 0, 16_384)].concat();
    assert_eq!(peer.outcome(&start), Outcome::Open);
    peer.connection.taken(1, 16_384);
    let acknowledged = [raw(FrameKind::Settings, ACK, 0, b""), data(1, 0, 1)].concat();
    assert_eq!(peer.outcome(&acknowledged), Outcome::Reset(1, ErrorCode::FlowControl as u32));
}

#[test]
fn bodies_that_are_not_taken_are_bounded_over_all_streams() {
    let mut peer = Peer::new();
    let mut total = 0;
    let mut outcome = Outcome::Open;
    for stream in (1..200).step_by(2) {
        peer.send(&head(stream, 0)).unwrap();
        for _ in 0..4 {
            outcome = peer.outcome(&data(stream, 0, 16_384));
            total += 16_384;
            if outcome != Outcome::Open {
                break;
            }
        }
        if outcome != Outcome::Open {
            break;
        }
    }
    assert_eq!(outcome, Outcome::Over(ErrorCode::FlowControl));
    assert!((900_000..=(1 << 20) + 16_384).contains(&total), "{total}");
    let mut peer = Peer::new();
    peer.send(&[head(1, 0), data(1, 0, 16_384), data(1, 0, 16_384)].concat()).unwrap();
    for stream in (3..2000).step_by(2) {
        // One stream that nothing reads does not keep the others waiting.
        peer.send(&[head(stream, 0), data(stream, END_STREAM, 16_384)].concat()).unwrap();
        peer.connection.taken(stream, 16_384);
        peer.connection.finish(stream);
        peer.connection.control().clear();
    }
}

#[test]
fn table_that_client_makes_smaller_is_acknowledged() {
    let mut peer = Peer::new();
    peer.send(&[raw(FrameKind::Settings, 0, 0, &[0, 1, 0, 0, 0, 0]), head(1, END_STREAM)].concat()).unwrap();
    let mut out = Vec::new();
    peer.connection.write_head(1, b"\x88", true, &mut out);
    assert_eq!(frames(&out).next().unwrap().1, b"\x20\x88");
    HpackDecoder::default()
        .decode(b"\x20\x88", &mut Vec::new(), |_, value| assert_eq!(value, b"200"))
        .unwrap();
    out.clear();
    peer.connection.write_head(1, b"\x88", true, &mut out);
    assert_eq!(frames(&out).next().unwrap().1, b"\x88", "once");
}

#[test]
fn end_is_announced_and_then_named() {
    let mut peer = Peer::new();
    peer.send(&head(1, 0)).unwrap();
    peer.connection.announce_end();
    peer.connection.announce_end();
    let control = std::mem::take(peer.connection.control());
    let said: Vec<_> = frames(&control).map(|(header, payload)| (header.kind, payload.to_vec())).collect();
    assert_eq!(said[0], (FrameKind::GoAway, vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    assert_eq!((said[1].0, said.len()), (FrameKind::Ping, 2));
    // A request on its way is served still.
    assert_eq!(peer.send(&head(3, END_STREAM)).unwrap().len(), 1);
    assert!(!peer.connection.is_last_named());
    peer.send(&raw(FrameKind::Ping, ACK, 0, &said[1].1)).unwrap();
    assert!(peer.connection.is_last_named());
    let control = std::mem::take(peer.connection.control());
    assert_eq!(frames(&control).next().unwrap().1, [0, 0, 0, 3, 0, 0, 0, 0]);
    let late = [
        head(5, 0),
        data(5, 0, 10),
        raw(FrameKind::WindowUpdate, 0, 5, &[0, 0, 0, 1]),
        data(1, END_STREAM, 1),
    ];
    let received = peer.send(&late.concat()).unwrap();
    assert_eq!(received[0], Received::Ignored);
    assert_eq!(received[1..], [Received::Data { stream: 1, range: 9..10, ends: true }]);
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let mut peer = Peer::with(H2Limits { max_streams: 2, ..H2Limits::default() });
    peer.send(&[head(1, END_STREAM), head(3, END_STREAM)].concat()).unwrap();
    assert_eq!(peer.outcome(&head(5, 0)), Outcome::Reset(5, ErrorCode::RefusedStream as u32));
    assert_eq!(peer.outcome(&data(5, END_STREAM, 5)), Outcome::Open, "sent before the client knew");
    peer.connection.finish(1);
    assert_eq!(peer.outcome(&head(7, END_STREAM)), Outcome::Open);
    assert_eq!(peer.connection.open_streams(), 2);
}

/// Sends something again and again; returns how often it may be sent before the connection is over.
fn flood(peer: &mut Peer, most: u32, mut make: impl FnMut(u32) -> Vec<u8>) -> (u32, Option<ErrorCode>) {
    for count in 0..most {
        if let Outcome::Over(code) = peer.outcome(&make(count)) {
            return (count, Some(code));
        }
    }
    (most, None)
}

#[test]
fn floods_end_the_connection() {
    let calm = Some(ErrorCode::EnhanceYourCalm);
    let rapid_reset = |count: u32| {
        let stream = 2 * count + 1;
        [head(stream, END_STREAM), raw(FrameKind::RstStream, 0, stream, &[0, 0, 0, 8])].concat()
    };
    assert_eq!(flood(&mut Peer::new(), 5_000, rapid_reset), (1_000, calm));
    let own_faults = |count: u32| head_with(2 * count + 1, END_STREAM, &[("connection", "close")]);
    assert_eq!(flood(&mut Peer::new(), 5_000, own_faults), (1_000, calm));
    let idle: [(&str, Vec<u8>); 6] = [
        ("empty DATA", data(1, 0, 0)),
        ("PING", raw(FrameKind::Ping, 0, 0, &[0; 8])),
        ("SETTINGS", raw(FrameKind::Settings, 0, 0, &[])),
        ("PRIORITY", raw(FrameKind::Priority, 0, 9, &[0; 5])),
        ("unknown frames", raw(FrameKind::Unknown(99), 0, 0, &[0; 8])),
        ("WINDOW_UPDATE", raw(FrameKind::WindowUpdate, 0, 0, &[0, 0, 0, 1])),
    ];
    for (name, bytes) in idle {
        let mut peer = Peer::new();
        peer.send(&head(1, 0)).unwrap();
        let (count, code) = flood(&mut peer, 5_000, |_| bytes.clone());
        assert!((1_900..=2_000).contains(&count) && code == calm, "{name}: {count} {code:?}");
    }
    let mut peer = Peer::new();
    peer.send(&raw(FrameKind::Headers, 0, 1, &block(&GET))).unwrap();
    assert_eq!(flood(&mut peer, 100, |_| raw(FrameKind::Continuation, 0, 1, b"")), (8, calm));
    // Answers that the client does not read.
    let mut peer = Peer::new();
    let pings = raw(FrameKind::Ping, 0, 0, &[0; 8]).repeat(100);
    let sent = (0..).find(|_| peer.send(&pings).is_err()).unwrap();
    assert!(sent * 100 * 17 <= 66_000, "{sent}");
}

#[test]
fn usual_traffic_is_no_flood() {
    let mut peer = Peer::new();
    for count in 0..20_000 {
        let stream = 2 * count + 1;
        // A client that widens its windows and asks for the time with each request.
        let frames = [
            head(stream, END_STREAM),
            raw(FrameKind::WindowUpdate, 0, stream, &[0, 0, 1, 0]),
            raw(FrameKind::WindowUpdate, 0, 0, &[0, 0, 0, 5]),
            raw(FrameKind::Priority, 0, stream, &[0, 0, 0, 0, 1]),
            raw(FrameKind::Ping, 0, 0, &[0; 8]),
        ];
        assert_eq!(peer.outcome(&frames.concat()), Outcome::Open, "{count}");
        peer.connection.write_data(stream, b"hello", true, &mut Vec::new());
        peer.connection.finish(stream);
    }
}

#[test]
fn list_that_expands_is_not_kept() {
    let mut peer = Peer::new();
    // An entry of 4,000 bytes, and then thousands of fields of one byte each that name it.
    let mut bomb = block(&GET);
    bomb.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
    bomb.extend_from_slice(&[b'y'; 4000]);
    bomb.extend_from_slice(&[0xbe; 12_000]);
    let received = peer.send(&raw(FrameKind::Headers, END_HEADERS | END_STREAM, 1, &bomb)).unwrap();
    let refused = Some(HeadError::HeadTooLarge);
    assert_eq!(received, [Received::Request { stream: 1, ends: true, refused }]);
    assert!(peer.head.headers.used_bytes() < 40_000);
    // The connection's tables are as they should be.
    let again = raw(FrameKind::Headers, END_HEADERS | END_STREAM, 3, &[&block(&GET)[..], b"\xbe"].concat());
    peer.send(&again).unwrap();
    assert_eq!(peer.head.headers.find(b"x").map(<[u8]>::len), Some(4000));
}

#[test]
fn idle_connection_is_small() {
    let mut peer = Peer::new();
    peer.send(&head(1, END_STREAM)).unwrap();
    peer.connection.finish(1);
    assert!(peer.connection.is_idle());
    assert!(size_of::<H2Connection>() <= 400, "{}", size_of::<H2Connection>());
}
