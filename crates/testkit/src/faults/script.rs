//! The bytes that a broken server sends before, and in, its fault.
//!
//! Owns no socket: what is to be sent and what is to happen, not how.

use super::table::{Cell, Client, Fault, Framing, Row, Stage};

/// The body of an answer, whatever frames it.
pub(crate) const BODY: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz9876543210ABCDEFGHIJKLMNOPQRSTUVWXYZ\
    the quick brown fox jumps over the lazy dog ends";

/// The body of an answer that comes too early.
pub(crate) const EARLY: &[u8] = b"too large\n";

/// The first bytes that a server sends through a tunnel, and those that it echoes.
pub(crate) const HELLO: &[u8] = b"hello";
pub(crate) const PING: &[u8] = b"ping";

/// Of an answer with trickles: what the tunnel carries.
pub(crate) const TUNNELLED: &[u8] = b"a tunnel carries a byte at a time";

/// Bytes that are no HTTP at all.
pub(crate) const GARBAGE: &[u8] = b"\x16\x03\x01\x02\x00\x01 this is not HTTP\r\n\r\n";

/// Bytes that are repeated.
pub(crate) const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
pub(crate) const FIELD: &[u8] = b"X-Endless: 0123456789abcdefghijklmnopqrstuvwxyz\r\n";

/// Returns the first and the following bytes of a request's body.
pub(crate) fn request_body(row: &Row) -> Vec<u8> {
    // What comes too early must come before a body that no socket's buffers hold.
    let len = if matches!(row.fault, Fault::EarlyClose | Fault::EarlyDrain) { 6 << 20 } else { 600 };
    (0..len).map(body_byte).collect()
}

/// Returns the byte of a request's body at this place.
pub(crate) fn body_byte(at: usize) -> u8 {
    b'a' + (at % 23) as u8
}

/// Returns a whole answer without fault. Answers to HEAD have the same head.
pub(crate) fn healthy(path: &str, to_head: bool) -> Vec<u8> {
    let body = if path.ends_with("/fault") { BODY } else { b"ok" };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), if to_head { b"" } else { body }].concat()
}

/// Returns the head that opens a tunnel, and what comes right behind it.
pub(crate) fn switching() -> Vec<u8> {
    [&b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"[..], HELLO].concat()
}

/// The bytes of a server's answer.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Before the fault.
    pub(crate) before: Vec<u8>,
    /// In a fault that sends something.
    pub(crate) rest: Vec<u8>,
}

fn head(framing: Framing) -> &'static [u8] {
    match framing {
        Framing::Length => b"HTTP/1.1 200 OK\r\nContent-Length: 120\r\n\r\n",
        Framing::Chunked => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Framing::UntilClose => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    }
}

/// Returns an answer up to its last byte, without a last chunk.
fn open_ended(framing: Framing) -> Vec<u8> {
    match framing {
        Framing::Chunked => [head(framing), b"78\r\n", BODY, b"\r\n"].concat(),
        _ => [head(framing), BODY].concat(),
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Returns the bytes of a cell's fault.
pub(crate) fn script(cell: &Cell) -> Script {
    let Cell { row, client, .. } = cell;
    let framing = row.framing;
    let mut all = open_ended(framing);
    if framing == Framing::Chunked {
        all.extend_from_slice(LAST_CHUNK);
    }
    let before = match (row.stage, row.fault) {
        (Stage::BeforeHead, Fault::EarlyClose | Fault::EarlyDrain) => {
            let head = format!("HTTP/1.1 413 Content Too Large\r\nContent-Length: {}\r\n\r\n", EARLY.len());
            [head.as_bytes(), EARLY].concat()
        }
        (Stage::InHead, Fault::Trickle) => Vec::new(),
        (Stage::InHead, Fault::Garbage) => b"HTTP/1.1 200 OK\r\nContent-Length: 120\r\n".to_vec(),
        (Stage::InHead, Fault::Endless) => b"HTTP/1.1 200 OK\r\n".to_vec(),
        (Stage::InHead, Fault::Oversized) => {
            let field = [b"X-Large: ", &[b'x'; 64 << 10][..], b"\r\n"].concat();
            [b"HTTP/1.1 200 OK\r\n", &field[..], b"Content-Length: 120\r\n\r\n", BODY].concat()
        }
        (Stage::InHead, _) => b"HTTP/1.1 200 OK\r\nContent-Len".to_vec(),
        (Stage::AfterHead, _) => head(framing).to_vec(),
        (Stage::InBody, Fault::Garbage) => [head(framing), b"3c\r\n", &BODY[..60], b"\r\n"].concat(),
        (Stage::InBody, _) => {
            let mut half = open_ended(framing);
            half.truncate(half.len() - BODY.len() / 2);
            half
        }
        (Stage::AtEnd, Fault::Extra) => [&all[..], b"and so much more"].concat(),
        (Stage::AtEnd, Fault::CloseAfter) => all.clone(),
        (Stage::AtEnd, _) => open_ended(framing),
        (Stage::Tunnel, _) => switching(),
        _ => Vec::new(),
    };
    let rest = match (row.stage, row.fault) {
        (Stage::Tunnel, Fault::Trickle) => TUNNELLED.to_vec(),
        (Stage::InHead, Fault::Trickle) if *client == Client::WebSocket => switching(),
        (Stage::InHead, Fault::Trickle) if *client == Client::Head => head(framing).to_vec(),
        (Stage::InBody, Fault::Trickle) if *client == Client::Head => BODY[60..].to_vec(),
        (_, Fault::Trickle) => all.get(before.len()..).unwrap_or_default().to_vec(),
        (Stage::InHead, Fault::Garbage) => b"\x00\x01 no field at all\r\n\r\n".to_vec(),
        (Stage::InBody, Fault::Garbage) => b"zz\r\nno chunk at all\r\n".to_vec(),
        (_, Fault::Garbage | Fault::IdleGarbage) => GARBAGE.to_vec(),
        (_, Fault::Storm) => INTERIM.to_vec(),
        (_, Fault::Endless) => FIELD.to_vec(),
        _ => Vec::new(),
    };
    Script { before, rest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::table::cells;

    #[test]
    fn trickled_answers_are_short_and_never_empty() {
        assert_eq!(BODY.len(), 120);
        for cell in cells().iter().filter(|cell| cell.row.fault == Fault::Trickle) {
            let Script { before, rest } = script(cell);
            assert!(!rest.is_empty(), "{}", cell.name());
            assert!(before.len() + rest.len() < 400);
        }
    }
}
