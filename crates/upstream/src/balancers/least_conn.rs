//! `least_conn`: the fewest connections in proportion to weight.
//!
//! Owns: that comparison; equals are left to the rotation. Must never: count idle connections.

use std::cmp::Ordering;

use super::{Balancer, Turn};

#[derive(Debug)]
pub(super) struct LeastConn;

impl Balancer for LeastConn {
    fn choose(&self, turn: &mut Turn<'_>) -> Option<usize> {
        let mut least: Option<usize> = None;
        let (now_ms, in_shares) = (turn.now_ms, turn.peers.in_shares);
        let mut several = false;
        for index in turn.tier() {
            if !turn.is_eligible(index) {
                continue;
            }
            let order = least.map_or(Ordering::Less, |least| {
                turn.peers.list[index].load_against(&turn.peers.list[least], now_ms, in_shares)
            });
            match order {
                Ordering::Less => {
                    least = Some(index);
                    several = false;
                }
                Ordering::Equal => several = true,
                Ordering::Greater => {}
            }
        }
        let first = least?;
        if several { rotate_among_equals(turn, first) } else { Some(first) }
    }
}

/// Returns a rotation among the peers as loaded as `first`, the earliest of them. As in nginx, a peer that is alone at
/// the least load neither gains nor pays weight.
fn rotate_among_equals(turn: &mut Turn<'_>, first: usize) -> Option<usize> {
    let mut best = first;
    let mut total = 0;
    let (now_ms, in_shares) = (turn.now_ms, turn.peers.in_shares);
    for index in first..turn.tier().end {
        if !turn.is_eligible(index)
            || turn.peers.list[index].load_against(&turn.peers.list[first], now_ms, in_shares)
                != Ordering::Equal
        {
            continue;
        }
        total += turn.peer(index).gain(now_ms, in_shares);
        if turn.peers.list[index].current_weight > turn.peers.list[best].current_weight {
            best = index;
        }
    }
    turn.peer(best).current_weight -= total;
    Some(best)
}
