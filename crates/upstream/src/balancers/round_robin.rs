//! nginx's default: smooth weighted round robin.
//!
//! Owns: the rotation. Must never: depend on anything but weights, order and eligibility.
//!
//! Every eligible peer gains its effective weight, the one with the most is chosen and pays what all gained. So
//! weights 5, 1, 1 give a a b a c a a, not a a a a a b c. Earlier peers win ties.

use super::{Balancer, Turn};

#[derive(Debug)]
pub(super) struct RoundRobin;

impl Balancer for RoundRobin {
    fn choose(&self, turn: &mut Turn<'_>) -> Option<usize> {
        choose(turn)
    }
}

/// Picks by rotation; the other balancers fall back to it.
pub(super) fn choose(turn: &mut Turn<'_>) -> Option<usize> {
    let tier = turn.tier();
    choose_among(turn, tier)
}

/// Picks by rotation among some of the peers; the consistent hash rotates among the addresses of one name.
pub(super) fn choose_among(turn: &mut Turn<'_>, indexes: impl Iterator<Item = usize>) -> Option<usize> {
    let mut best: Option<(usize, i64)> = None;
    let mut total = 0;
    let (now_ms, in_shares) = (turn.now_ms, turn.peers.in_shares);
    for index in indexes {
        if !turn.is_eligible(index) {
            continue;
        }
        let peer = turn.peer(index);
        total += peer.gain(now_ms, in_shares);
        if best.is_none_or(|(_, weight)| peer.current_weight > weight) {
            best = Some((index, peer.current_weight));
        }
    }
    let (index, _) = best?;
    turn.peer(index).current_weight -= total;
    Some(index)
}
