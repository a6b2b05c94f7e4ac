//! Randomness for tests, the same every time.
//!
//! Owns: [`Dice`]. Must never: be compiled into anything but tests.

/// A seeded generator (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to `end`, exclusive.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Returns a number above 0, at most 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

/// Returns the end of a random request.
pub(crate) fn request_end(dice: &mut Dice) -> crate::RequestEnd {
    crate::RequestEnd {
        status: [0, 101, 200, 200, 200, 302, 404, 500, 502, 999][dice.below(10) as usize],
        response_us: (dice.below(8) > 0).then(|| 1 << dice.below(30)),
        received: dice.below(100_000),
        sent: dice.below(1_000),
    }
}

/// Returns the end of a random try.
pub(crate) fn try_end(dice: &mut Dice) -> crate::TryEnd {
    let mut time = || (dice.below(4) > 0).then(|| dice.below(1 << 22));
    let (connect_us, first_byte_us, response_us) = (time(), time(), time());
    crate::TryEnd {
        status: [0, 200, 200, 204, 304, 404, 503][dice.below(7) as usize],
        failure: crate::Failure::ALL.get(dice.below(20) as usize).copied(),
        connect_us,
        first_byte_us,
        response_us,
        sent: dice.below(1_000),
        received: dice.below(100_000),
    }
}

/// Returns a layout from `group: peer peer` lines, with the switches `live` and `canary`.
pub(crate) fn layout(text: &str, max_keys: usize) -> std::sync::Arc<crate::Layout> {
    let groups = text.lines().filter_map(|line| line.split_once(':'));
    std::sync::Arc::new(crate::Layout {
        groups: groups
            .map(|(name, peers)| crate::GroupLayout {
                name: name.trim().into(),
                peers: peers.split_whitespace().map(Into::into).collect(),
            })
            .collect(),
        switches: vec!["live".into(), "canary".into()],
        max_keys,
    })
}
