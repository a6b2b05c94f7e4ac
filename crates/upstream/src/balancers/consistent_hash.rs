//! `hash KEY consistent`: the key's place in a ring decides, so few keys move when a peer comes or goes.
//!
//! Owns which peer a place of the [`Ring`] leads to: all addresses of one name share its points.

use std::collections::HashMap;

use super::{Balancer, Turn, round_robin};
use crate::crc32::Crc32;
use crate::peer::Peers;
use crate::ring::Ring;

#[derive(Debug)]
pub(super) struct ConsistentHash {
    ring: Ring,
    /// The primaries of each name, in the order of the names.
    servers: Vec<Vec<usize>>,
}

impl ConsistentHash {
    pub(super) fn new(peers: &Peers, ring: &Ring) -> ConsistentHash {
        let mut servers: Vec<Vec<usize>> = Vec::new();
        let mut numbers = HashMap::new();
        let mut weights = Vec::new();
        for index in peers.primaries() {
            let spec = peers.list[index].spec();
            let number = *numbers.entry(spec.name.as_str()).or_insert_with(|| {
                servers.push(Vec::new());
                servers.len() - 1
            });
            servers[number].push(index);
            weights.push((spec.name.as_str(), spec.weight));
        }
        let ring = if ring.is_made() { ring.clone() } else { Ring::of(weights) };
        ConsistentHash { ring, servers }
    }

    /// Returns the first point at or after the key's hash; one past the end means the first.
    fn find(&self, key: &[u8]) -> u32 {
        let hash = Crc32::new().update(key).finish();
        let place = self.ring.points().partition_point(|point| point.hash < hash);
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

impl Balancer for ConsistentHash {
    fn choose(&self, turn: &mut Turn<'_>) -> Option<usize> {
        if turn.input.key.is_empty() || turn.is_aimless() {
            return round_robin::choose(turn);
        }
        let mut place = turn.tried.probe.hash.unwrap_or_else(|| self.find(turn.input.key));
        while !turn.tried.probe.is_spent() {
            let points = self.ring.points();
            let point = &points[place as usize % points.len()];
            let members = &self.servers[point.server as usize];
            // The point found is kept: if its name has another address, the next try goes there.
            turn.tried.probe.hash = Some(place);
            if let Some(index) = round_robin::choose_among(turn, members.iter().copied()) {
                return Some(index);
            }
            place = place.wrapping_add(1);
            turn.tried.probe.misses += 1;
        }
        round_robin::choose(turn)
    }
}
