//! `random [two]`: chance decides, in proportion to weight; with `two`, the less loaded of two.
//!
//! Owns: how draws become peers. Must never: make its own randomness; it is the caller's, so that runs repeat.

use std::cmp::Ordering;

use super::{Balancer, Turn, round_robin};
use crate::spec::TwoBy;

#[derive(Debug)]
pub(super) struct Random {
    pub(super) two: Option<TwoBy>,
}

impl Balancer for Random {
    fn choose(&self, turn: &mut Turn<'_>) -> Option<usize> {
        if turn.is_aimless() {
            return round_robin::choose(turn);
        }
        let mut first: Option<usize> = None;
        while !turn.tried.probe.is_spent() {
            let point = (turn.random)() % turn.peers.total_weight();
            let index = turn.peers.at_weight(point);
            if first != Some(index) && turn.is_eligible(index) {
                match (self.two, first) {
                    (None, _) => return Some(index),
                    (Some(TwoBy::LeastConn), None) => {
                        // Not a miss: the second draw follows.
                        first = Some(index);
                        continue;
                    }
                    (Some(TwoBy::LeastConn), Some(first)) => {
                        let (now_ms, in_shares) = (turn.now_ms, turn.peers.in_shares);
                        let (this, first_drawn) = (&turn.peers.list[index], &turn.peers.list[first]);
                        let order = this.load_against(first_drawn, now_ms, in_shares);
                        return Some(if order == Ordering::Greater { first } else { index });
                    }
                }
            }
            turn.tried.probe.misses += 1;
        }
        round_robin::choose(turn)
    }
}
