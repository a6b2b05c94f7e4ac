//! The client's side, against frames of a server.

use super::*;
use crate::{Headers, ResponseHead};

/// A client, as its connection stands after what came.
struct Asker {
    connection: H2Connection,
    head: ResponseHead,
    trailers: Headers,
    out: Vec<u8>,
}

const REQUEST: &[u8] = &[0x82, 0x86, 0x84];

impl Asker {
    /// Returns a client behind the server's SETTINGS, with a request on stream 1.
    fn asking(is_bodiless: bool) -> Asker {
        let mut asker = Asker::new();
        assert_eq!(asker.connection.request(REQUEST, false, is_bodiless, &mut asker.out), Some(1));
        asker
    }

    fn new() -> Asker {
        let connection = H2Connection::client(H2Limits { initial_window: 100_000, ..H2Limits::default() });
        let mut asker =
            Asker { connection, head: ResponseHead::new(), trailers: Headers::new(), out: Vec::new() };
        let control = std::mem::take(asker.connection.control());
        let (preface, rest) = control.split_at(PREFACE.len());
        assert_eq!(preface, PREFACE);
        let kinds: Vec<_> = frames(rest).map(|(header, _)| header.kind).collect();
        assert_eq!(kinds, [FrameKind::Settings, FrameKind::WindowUpdate]);
        let mut start = Vec::new();
        frame::write_settings(&mut start, &[]);
        assert_eq!(asker.read(&start).unwrap(), []);
        asker
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Vec<Received>, ConnectionFault> {
        let mut all = Vec::new();
        let mut rest = bytes;
        loop {
            let mut cx = ReadContext {
                heads: HeadSlot::Response { head: &mut self.head, trailers: &mut self.trailers },
                scratch: &mut Vec::new(),
                now_ms: 5_000,
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

    /// Returns the code of the connection's fault, or of the stream's.
    fn fault(&mut self, bytes: &[u8]) -> Option<ErrorCode> {
        match self.read(bytes) {
            Err(fault) => Some(fault.code),
            Ok(all) => {
                let gone = all.iter().any(|it| matches!(it, Received::Gone { code: None, .. }));
                gone.then_some(ErrorCode::Protocol)
            }
        }
    }
}

fn fields(stream: u32, flags: u8, list: &[(&str, &str)]) -> Vec<u8> {
    raw(FrameKind::Headers, flags | END_HEADERS, stream, &block(list))
}

const OK: (&str, &str) = (":status", "200");

#[test]
fn response_comes_with_head_body_and_trailers() {
    let mut asker = Asker::asking(false);
    let mut bytes = fields(1, 0, &[(":status", "103"), ("link", "</a>")]);
    bytes.extend(fields(1, 0, &[OK, ("content-type", "text/plain")]));
    let head = asker.read(&bytes).unwrap();
    assert!(matches!(
        head[..],
        [Received::Response { ends: false, .. }, Received::Response { stream: 1, .. }]
    ));
    assert_eq!((asker.head.status, asker.head.headers.len()), (200, 1));
    let mut bytes = raw(FrameKind::Data, 0, 1, b"hello");
    bytes.extend(fields(1, END_STREAM, &[("grpc-status", "0")]));
    let body = asker.read(&bytes).unwrap();
    assert!(matches!(body[..], [Received::Data { ends: false, .. }, Received::Trailers { stream: 1 }]));
    assert_eq!(asker.trailers.find(b"grpc-status"), Some(&b"0"[..]));
    asker.connection.write_data(1, b"", true, &mut asker.out);
    asker.connection.finish(1);
    assert_eq!(asker.connection.open_streams(), 0, "both sides have ended");
    assert_eq!(asker.connection.request(REQUEST, true, false, &mut asker.out), Some(3));
}

#[test]
fn request_that_is_answered_early_is_reset() {
    let mut asker = Asker::asking(false);
    asker.read(&fields(1, END_STREAM, &[OK, ("grpc-status", "12")])).unwrap();
    asker.connection.control().clear();
    asker.connection.reset(1, ErrorCode::Cancel);
    let (reset, code) = frames(asker.connection.control()).next().unwrap();
    assert_eq!((reset.kind, frame::number(code)), (FrameKind::RstStream, Some(8)));
}

#[test]
fn resets_and_the_end_of_a_connection_are_passed_on() {
    let mut asker = Asker::asking(false);
    let mut bytes = raw(FrameKind::GoAway, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 2]);
    bytes.extend(raw(FrameKind::RstStream, 0, 1, &[0, 0, 0, 7]));
    let all = asker.read(&bytes).unwrap();
    assert_eq!(all[0], Received::GoAway { last_stream: 1, code: 2 });
    assert!(matches!(all[1], Received::Gone { stream: 1, code: Some(7), .. }));
}

#[test]
fn frames_that_no_server_may_send_are_faults() {
    let all: [(&str, Vec<u8>); 11] = [
        ("a push", raw(FrameKind::PushPromise, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("a body before the head", raw(FrameKind::Data, 0, 1, b"x")),
        ("a stream that was not opened", fields(3, 0, &[OK])),
        ("a stream of the server", fields(2, 0, &[OK])),
        ("no status", fields(1, 0, &[("x-a", "1")])),
        ("an interim response that ends", fields(1, END_STREAM, &[(":status", "100")])),
        ("trailers without an end", [fields(1, 0, &[OK]), fields(1, 0, &[("x-a", "1")])].concat()),
        ("a length and no body", fields(1, END_STREAM, &[OK, ("content-length", "5")])),
        (
            "a body that is too long",
            [fields(1, 0, &[OK, ("content-length", "5")]), raw(FrameKind::Data, 0, 1, b"longer")].concat(),
        ),
        (
            "a body that is too short",
            [fields(1, 0, &[OK, ("content-length", "5")]), fields(1, END_STREAM, &[("x-a", "1")])].concat(),
        ),
        ("a frame of CONTINUATION alone", raw(FrameKind::Continuation, END_HEADERS, 1, b"")),
    ];
    for (what, bytes) in all {
        assert!(Asker::asking(false).fault(&bytes).is_some(), "{what}");
    }
    let answered = fields(1, END_STREAM, &[OK, ("content-length", "5")]);
    assert_eq!(Asker::asking(true).fault(&answered), None, "HEAD has the length of what it has not");
}

#[test]
fn more_than_the_window_is_refused_and_what_is_taken_opens_it() {
    let mut asker = Asker::asking(false);
    asker.read(&fields(1, 0, &[OK])).unwrap();
    let frame = raw(FrameKind::Data, 0, 1, &[0; 16_000]);
    for _ in 0..6 {
        asker.read(&frame).unwrap();
    }
    asker.connection.control().clear();
    asker.connection.taken(1, 96_000);
    let (update, by) = frames(asker.connection.control()).next().unwrap();
    assert_eq!((update.kind, update.stream, frame::number(by)), (FrameKind::WindowUpdate, 1, Some(96_000)));
    for _ in 0..6 {
        assert_eq!(asker.fault(&frame), None);
    }
    assert!(asker.fault(&frame).is_some());
}

#[test]
fn head_in_many_frames_is_whole() {
    let mut asker = Asker::asking(false);
    let block = block(&[OK, ("x-a", &"v".repeat(60))]);
    let mut bytes = raw(FrameKind::Headers, 0, 1, b"");
    for byte in &block {
        bytes.extend(raw(FrameKind::Continuation, 0, 1, &[*byte]));
    }
    bytes.extend(raw(FrameKind::Continuation, END_HEADERS, 1, b""));
    assert!(matches!(asker.read(&bytes).unwrap()[..], [Received::Response { .. }]));
    assert_eq!(asker.head.headers.find(b"x-a").unwrap().len(), 60);
}
