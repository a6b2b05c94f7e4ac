//! Random messages: known ones with a few bytes or lines changed, the same for the same seed.

/// A small generator, so that a seed repeats a run.
pub(super) struct Dice(u64);

impl Dice {
    /// One for each round of each seed.
    pub(super) fn new(seed: u64, round: u64) -> Dice {
        let mixed = (seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_add(round.wrapping_mul(0xBF58_476D_1CE4_E5B9));
        let mut dice = Dice(mixed | 1);
        dice.below(2);
        dice.below(2);
        dice
    }

    /// A number below the given one.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }
}

/// Bytes that mean something somewhere.
const BYTES: &[u8] = b"\r\n\0\t :;,=-+_0159afxX/.\"\x0b\x7f\xff\r\n\r\n";

/// Pieces that frame something.
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

/// One of the known ones, changed.
pub(super) fn mutant(dice: &mut Dice, known: &[&[u8]]) -> Vec<u8> {
    let mut bytes = known[dice.below(known.len())].to_vec();
    if dice.below(4) == 0 {
        bytes.extend_from_slice(known[dice.below(known.len())]);
    }
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(7) {
            0 if at < bytes.len() => bytes[at] = BYTES[dice.below(BYTES.len())],
            1 => bytes.insert(at, BYTES[dice.below(BYTES.len())]),
            2 => {
                let end = (at + 1 + dice.below(4)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            3 => insert(&mut bytes, at, PIECES[dice.below(PIECES.len())].as_bytes()),
            // Pieces mostly belong at the beginning of a line.
            4 | 5 => {
                let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
                let at = if ends.is_empty() { 0 } else { ends[dice.below(ends.len())] + 1 };
                insert(&mut bytes, at, PIECES[dice.below(PIECES.len())].as_bytes());
            }
            _ => {
                let ends: Vec<usize> =
                    bytes.windows(2).enumerate().filter(|(_, w)| *w == b"\r\n").map(|(n, _)| n).collect();
                if !ends.is_empty() {
                    bytes.remove(ends[dice.below(ends.len())] + dice.below(2));
                }
            }
        }
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(bytes.splice(at..at, piece.iter().copied()));
}
