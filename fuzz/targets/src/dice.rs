//! Choices that a target makes: always the same for the same bytes.
//!
//! Owns the generator and the ways to cut an input into pieces. Must never be seeded by anything but the input.

/// A small generator (xorshift64) seeded by the input.
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeded by FNV-1a over the bytes.
    pub(crate) fn of(data: &[u8]) -> Dice {
        let hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Dice(hash | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below this one, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 16) % end as u64) as usize
    }
}

/// How often an input of this length is cut byte by byte at most.
const SMALL: usize = 600;

/// Ways to hand over so many bytes: the ends of the pieces, the last of them the whole length.
pub(crate) fn cuts(data: &[u8]) -> Vec<Vec<usize>> {
    let len = data.len();
    let mut dice = Dice::of(data);
    let mut ways = Vec::new();
    if (2..=SMALL).contains(&len) {
        ways.push((1..=len).collect());
    }
    for largest in [3, 40] {
        let mut ends = Vec::new();
        let mut end = 0;
        while end < len && ends.len() < SMALL {
            end = (end + 1 + dice.below(largest)).min(len);
            ends.push(end);
        }
        if ends.last() != Some(&len) {
            ends.push(len);
        }
        ways.push(ends);
    }
    if len > 1 {
        let at = 1 + dice.below(len - 1);
        ways.push(vec![at, len]);
    }
    ways
}
