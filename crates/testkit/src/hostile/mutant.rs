//! Random messages: known ones with a few bytes or lines changed, the same for the same seed.

use fastrand::Rng;

/// Bytes that have a meaning somewhere in a message.
const BYTES: &[u8] = b"\r\n\0\t :;,=-+_0159afxX/.\"\x0b\x7f\xff\r\n\r\n";

/// Pieces that frame a message.
const PIECES: [&str; 18] = [
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "Host: h\r\n",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "5;a=b\r\nhello\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    " ",
    "GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
];

/// Returns one of the known messages, changed.
pub(super) fn mutant(random: &mut Rng, known: &[&[u8]]) -> Vec<u8> {
    let mut bytes = known[random.usize(..known.len())].to_vec();
    if random.usize(..4) == 0 {
        bytes.extend_from_slice(known[random.usize(..known.len())]);
    }
    for _ in 0..1 + random.usize(..3) {
        let at = random.usize(..bytes.len() + 1);
        match random.usize(..7) {
            0 if at < bytes.len() => bytes[at] = BYTES[random.usize(..BYTES.len())],
            1 => bytes.insert(at, BYTES[random.usize(..BYTES.len())]),
            2 => {
                let end = (at + 1 + random.usize(..4)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            3 => insert(&mut bytes, at, PIECES[random.usize(..PIECES.len())].as_bytes()),
            // Pieces mostly belong at the beginning of a line.
            4 | 5 => {
                let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
                let at = if ends.is_empty() { 0 } else { ends[random.usize(..ends.len())] + 1 };
                insert(&mut bytes, at, PIECES[random.usize(..PIECES.len())].as_bytes());
            }
            _ => {
                let ends: Vec<usize> =
                    bytes.windows(2).enumerate().filter(|(_, w)| *w == b"\r\n").map(|(n, _)| n).collect();
                if !ends.is_empty() {
                    bytes.remove(ends[random.usize(..ends.len())] + random.usize(..2));
                }
            }
        }
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(bytes.splice(at..at, piece.iter().copied()));
}
