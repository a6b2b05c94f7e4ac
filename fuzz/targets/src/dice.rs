//! Random choices of a target, seeded only by the input, so that the same bytes give the same run.

/// A small generator of random numbers (xorshift64).
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeds it with FNV-1a of the bytes.
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

    /// Returns a number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 16) % end as u64) as usize
    }
}

/// The longest input that is cut byte by byte.
const SMALL: usize = 600;

/// Returns several ways to cut bytes into pieces: the ends of the pieces, the last of them the whole length.
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
