//! What bounds a connection: windows, numbers of streams, floods, memory.

use super::*;

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
    // An entry of 4,000 bytes, and then fields of one byte each that name it.
    let mut bomb = block(&GET);
    bomb.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
    bomb.extend_from_slice(&[b'y'; 4000]);
    bomb.extend_from_slice(&[0xbe; 50]);
    let received = peer.send(&raw(FrameKind::Headers, END_HEADERS | END_STREAM, 1, &bomb)).unwrap();
    let refused = Some(HeadError::HeadTooLarge);
    assert_eq!(received, [Received::Request { stream: 1, ends: true, refused }]);
    assert!(peer.head.headers.used_bytes() < 40_000);
    // The connection's tables are as they should be.
    let again = raw(FrameKind::Headers, END_HEADERS | END_STREAM, 3, &[&block(&GET)[..], b"\xbe"].concat());
    peer.send(&again).unwrap();
    assert_eq!(peer.head.headers.find(b"x").map(<[u8]>::len), Some(4000));
    // Thousands are not decoded to their end, in a head or behind a body.
    let bomb = [&block(&GET)[..], &[0xbe; 12_000]].concat();
    let fault = peer.send(&raw(FrameKind::Headers, END_HEADERS | END_STREAM, 5, &bomb)).unwrap_err();
    assert_eq!(fault.code, ErrorCode::EnhanceYourCalm);
}

#[test]
fn idle_connection_is_small() {
    let mut peer = Peer::new();
    peer.send(&head(1, END_STREAM)).unwrap();
    peer.connection.finish(1);
    assert!(peer.connection.is_idle());
    assert!(size_of::<H2Connection>() <= 400, "{}", size_of::<H2Connection>());
}
