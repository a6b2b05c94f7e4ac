//! A connection of HTTP/2: `http::h2::H2Connection`.
//!
//! Compares a client's bytes with the same in other pieces. What is held for the client, and what waits to be sent to it, is
//! bounded; a stream is answered after it began, and no DATA comes for one that is over.

use crate::dice::cuts;
use http::h2::frame::{self, PREFACE};
use http::h2::{ErrorCode, H2Connection, H2Limits, HeadSlot, ReadContext, Received};
use http::{HeadLimits, RequestHead};
use std::collections::BTreeMap;

/// What the server saw of a client.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// By stream: the request line, the body, and whether it has ended.
    requests: BTreeMap<u32, (Vec<u8>, Vec<u8>, bool)>,
    gone: Vec<u32>,
    fault: Option<ErrorCode>,
    control: Vec<u8>,
}

/// Reads bytes that come in pieces with these ends. Each second stream takes its body.
fn read(input: &[u8], ends: &[usize]) -> Seen {
    let limits = H2Limits { max_streams: 9, initial_window: 20_000, ..H2Limits::default() };
    let mut connection = H2Connection::new(limits);
    let mut seen = Seen::default();
    let (mut head, mut scratch, mut at) = (RequestHead::new(), Vec::new(), 0);
    let mut held = BTreeMap::new();
    for &end in ends {
        loop {
            let head_limits = &HeadLimits::default();
            let mut cx = ReadContext {
                heads: HeadSlot::Request { head: &mut head, limits: head_limits },
                scratch: &mut scratch,
                now_ms: 7,
            };
            let unread = &input[at..end];
            let step = match connection.receive(unread, &mut cx) {
                Ok(step) => step,
                Err(fault) => {
                    connection.fail(fault.code);
                    seen.fault = Some(fault.code);
                    seen.control.append(connection.control());
                    return seen;
                }
            };
            assert!(step.consumed <= unread.len());
            at += step.consumed;
            match step.received {
                Received::Partial if step.consumed == 0 => break,
                Received::Request { stream, ends, refused } => {
                    assert!(stream % 2 == 1 && seen.requests.keys().all(|earlier| *earlier < stream));
                    assert!(refused.is_some() || !head.host().is_empty());
                    seen.requests.insert(stream, (head.request_line().to_vec(), Vec::new(), ends));
                    held.insert(stream, 0);
                }
                Received::Data { stream, range, ends } => {
                    assert!(!seen.gone.contains(&stream), "data of a stream that is over");
                    let (_, body, ended) = seen.requests.get_mut(&stream).unwrap();
                    assert!(!*ended, "data behind the end");
                    body.extend_from_slice(&unread[range.clone()]);
                    *ended = ends;
                    *held.entry(stream).or_default() += range.len();
                    if stream % 4 == 1 {
                        connection.taken(stream, range.len() as u32);
                        held.insert(stream, 0);
                    }
                }
                Received::Gone { stream, .. } => {
                    held.remove(&stream);
                    seen.gone.push(stream);
                }
                _ => {}
            }
            assert!(connection.open_streams() <= 9);
            assert!(connection.control().len() <= 70_000);
            assert!(held.values().all(|held| *held <= 20_000) && held.values().sum::<usize>() <= 1 << 20);
        }
    }
    seen.control.append(connection.control());
    seen
}

pub(crate) fn check(data: &[u8]) {
    let mut input = PREFACE.to_vec();
    frame::write_settings(&mut input, &[]);
    let skipped = input.len();
    input.extend_from_slice(data);
    let whole = read(&input, &[input.len()]);
    for ends in cuts(data) {
        let ends: Vec<usize> = ends.into_iter().map(|end| end + skipped).collect();
        let pieces = read(&input, &ends);
        // Of DATA, acknowledgements depend on the pieces.
        assert_eq!(
            (&whole.requests, &whole.gone, whole.fault),
            (&pieces.requests, &pieces.gone, pieces.fault),
            "in pieces"
        );
    }
}
