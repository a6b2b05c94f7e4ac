//! A client's HTTP/2 in clear, as little of it as a cell needs: requests with small bodies, one after another.
//!
//! Owns what "complete" means there: an answer ends with its stream, whatever becomes of the connection.

use super::got::Got;
use crate::connection::{Connection, PATIENCE};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames, and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The streams of a connection.
#[derive(Default)]
pub(crate) struct Streams {
    last: u32,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns a field without any table (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

impl Streams {
    /// Returns the bytes of the next request.
    pub(crate) fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if self.last == 0 {
            out = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
        }
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x")];
        let mut block = fields.map(|(name, value)| field(name, value)).concat();
        if body.is_empty() {
            out.extend(frame(HEADERS, END_HEADERS | END_STREAM, self.last, &block));
            return out;
        }
        block.extend(field("content-length", &body.len().to_string()));
        out.extend(frame(HEADERS, END_HEADERS, self.last, &block));
        out.extend(frame(DATA, END_STREAM, self.last, body));
        out
    }

    /// Reads the answer to the last request.
    pub(crate) fn answer(&self, wire: &mut Connection) -> Got {
        let mut status = 0;
        let mut body = Vec::new();
        loop {
            while let Some((kind, flags, stream, payload)) = take_frame(&mut wire.buffer) {
                let ends = flags & END_STREAM != 0;
                match kind {
                    SETTINGS if flags & ACK == 0 => {
                        let _ = wire.send(&frame(SETTINGS, ACK, 0, b""));
                    }
                    PING if flags & ACK == 0 => {
                        let _ = wire.send(&frame(PING, ACK, 0, &payload));
                    }
                    HEADERS if stream == self.last && status == 0 => match status_of(&payload) {
                        Some(code) => status = code,
                        None => return Got::Wrong(format!("no status: {payload:?}")),
                    },
                    DATA if stream == self.last => body.extend_from_slice(&payload),
                    RESET if stream == self.last => {
                        return if status == 0 { Got::Nothing } else { Got::Cut(status, body) };
                    }
                    GO_AWAY if payload.get(4..8) != Some(&[0; 4]) => {
                        return Got::Wrong(format!("GOAWAY {payload:?}"));
                    }
                    _ => {}
                }
                if matches!(kind, HEADERS | DATA) && stream == self.last && ends {
                    return Got::Whole(status, body);
                }
            }
            if wire.has_ended() {
                return if status == 0 { Got::Nothing } else { Got::Cut(status, body) };
            }
            let known = wire.buffer.len();
            if !wire.read_until(PATIENCE, |wire| wire.buffer.len() > known) {
                return Got::Wrong("no end of the answer".to_owned());
            }
        }
    }
}

/// Takes the first frame, if it is whole: kind, flags, stream and payload.
fn take_frame(buffer: &mut Vec<u8>) -> Option<(u8, u8, u32, Vec<u8>)> {
    let &[a, b, c, kind, flags, s1, s2, s3, s4] = buffer.first_chunk::<9>()?;
    let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
    let payload = buffer.get(9..end)?.to_vec();
    buffer.drain(..end);
    Some((kind, flags, u32::from_be_bytes([s1, s2, s3, s4]) & 0x7fff_ffff, payload))
}

/// Returns the status at the beginning of a header block: an entry of the static table, or its name with three digits.
fn status_of(block: &[u8]) -> Option<u16> {
    // The size of the table may come first.
    let block = block.strip_prefix(&[0x20]).unwrap_or(block);
    match *block {
        [0x88, ..] => Some(200),
        [0x89, ..] => Some(204),
        [0x8a, ..] => Some(206),
        [0x8b, ..] => Some(304),
        [0x8c, ..] => Some(400),
        [0x8d, ..] => Some(404),
        [0x8e, ..] => Some(500),
        [0x08 | 0x48, 3, a, b, c, ..] => std::str::from_utf8(&[a, b, c]).ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written() {
        let mut streams = Streams::default();
        let mut bytes = streams.request("GET", "/a", b"")[PREFACE.len()..].to_vec();
        bytes.extend(streams.request("POST", "/b", b"xyz"));
        let mut kinds = Vec::new();
        while let Some((kind, flags, stream, _)) = take_frame(&mut bytes) {
            kinds.push((kind, flags, stream));
        }
        assert_eq!(kinds, [(SETTINGS, 0, 0), (HEADERS, 5, 1), (HEADERS, 4, 3), (DATA, 1, 3)]);
        assert!(bytes.is_empty());
        for (block, status) in [
            (&[0x88, 1][..], Some(200)),
            (b"\x20\x08\x03502", Some(502)),
            (b"\x48\x03413\x00", Some(413)),
            (b"x", None),
        ] {
            assert_eq!(status_of(block), status);
        }
    }
}
