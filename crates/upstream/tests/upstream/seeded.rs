//! Randomness that a seed repeats, and groups made with it. Must never: be asked for quality, only for variety.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use pointsman_upstream::{Address, BalancerSpec, GroupSpec, KeepaliveSpec, PeerSpec, Ring};

/// xorshift64*; the same numbers for the same seed everywhere.
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Seeded {
        Seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + (self.next() >> 11) % (range.end() - range.start() + 1)
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.within(1..=100) <= percent
    }
}

pub(crate) fn peer(number: usize) -> PeerSpec {
    let path = format!("/p{number}.sock");
    PeerSpec::new(format!("unix:{path}"), Address::Unix(PathBuf::from(path)))
}

pub(crate) fn group(balancer: BalancerSpec, peers: Vec<PeerSpec>) -> GroupSpec {
    GroupSpec {
        name: "group".into(),
        peers,
        balancer,
        keepalive: KeepaliveSpec::default(),
        ring: Ring::default(),
    }
}

/// Gives a peer parameters at random, `backup` only where the balancer allows it and never for the first.
pub(crate) fn vary(peer: &mut PeerSpec, first: bool, balancer: BalancerSpec, random: &mut Seeded) {
    peer.weight = if random.chance(40) { 1 } else { random.within(1..=7) as u32 };
    peer.max_fails = random.within(0..=4) as u32;
    peer.down = random.chance(15);
    peer.backup = !first && balancer.allows_backup() && random.chance(25);
}
