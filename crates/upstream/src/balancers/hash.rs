//! `hash KEY`: the key decides, by modulus.
//!
//! Owns: nginx's hash, which is that of Cache::Memcached. Must never: hash an empty key; that means round robin.

use super::{Balancer, Turn, round_robin};
use crate::crc32::Crc32;

#[derive(Debug)]
pub(super) struct Hash;

impl Balancer for Hash {
    fn choose(&self, turn: &mut Turn<'_>) -> Option<usize> {
        if turn.input.key.is_empty() || turn.is_aimless() {
            return round_robin::choose(turn);
        }
        while !turn.tried.probe.is_spent() {
            let probe = &mut turn.tried.probe;
            // Each attempt adds its own hash to the last; from the second on, its number goes before the key.
            let mut crc = Crc32::new();
            if probe.rehash > 0 {
                let mut digits = [0; 10];
                crc = crc.update(decimal(probe.rehash, &mut digits));
            }
            let hash = crc.update(turn.input.key).finish() >> 16 & 0x7fff;
            let sum = probe.hash.unwrap_or(0).wrapping_add(hash);
            probe.hash = Some(sum);
            probe.rehash += 1;
            let index = turn.peers.at_weight(u64::from(sum) % turn.peers.total_weight());
            if turn.is_eligible(index) {
                return Some(index);
            }
            turn.tried.probe.misses += 1;
        }
        round_robin::choose(turn)
    }
}

/// Writes `number` in decimal at the end of `digits`, without a `String`.
fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn decimal_writes_a_number_s_digits() {
        for number in [0, 7, 10, 21, 999, u32::MAX] {
            assert_eq!(decimal(number, &mut [0; 10]), number.to_string().as_bytes());
        }
    }
}
