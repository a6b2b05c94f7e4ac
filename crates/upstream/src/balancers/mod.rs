//! The balancing methods, one file each.
//!
//! Owns: which of the eligible peers is chosen. Must never: count connections or record failures — [`crate::Group`]
//! does that once for all of them.

mod consistent_hash;
mod hash;
mod ip_hash;
mod least_conn;
mod random;
mod round_robin;

use std::fmt::Debug;
use std::ops::Range;

use crate::peer::{Peer, Peers};
use crate::pick::PickInput;
use crate::spec::{BalancerSpec, GroupSpec};
use crate::tried::{Tier, Tried};

/// One try's turn to choose.
pub(crate) struct Turn<'a> {
    pub(crate) peers: &'a mut Peers,
    pub(crate) tried: &'a mut Tried,
    pub(crate) input: &'a PickInput<'a>,
    pub(crate) now_ms: u64,
    pub(crate) random: &'a mut dyn FnMut() -> u64,
}

impl Turn<'_> {
    /// Returns the peers in question: primaries or backups.
    fn tier(&self) -> Range<usize> {
        match self.tried.tier {
            Tier::Primary => self.peers.primaries(),
            Tier::Backup => self.peers.backups(),
        }
    }

    /// Returns true if the peer is available and this request has not tried it.
    fn is_eligible(&self, index: usize) -> bool {
        !self.tried.contains(index) && self.peers.list[index].is_available(self.now_ms)
    }

    /// Returns true if a method that aims at one peer has to leave the choice to round robin: there is nothing to aim
    /// at, or it has missed too often. None of them aims at backups, which nginx refuses beside them.
    fn is_aimless(&self) -> bool {
        self.tried.tier == Tier::Backup || self.peers.primaries().len() < 2 || self.tried.probe.is_spent()
    }

    fn peer(&mut self, index: usize) -> &mut Peer {
        &mut self.peers.list[index]
    }
}

/// A balancing method, made for one list of peers and made anew when that is replaced.
pub(crate) trait Balancer: Debug + Send {
    /// Returns an eligible peer of the turn's tier, or none if there is none. Never called for a group of a single
    /// peer.
    fn choose(&self, turn: &mut Turn<'_>) -> Option<usize>;
}

/// Builds a balancer. A new method is one line here and one file beside this one.
pub(crate) fn build(spec: &GroupSpec, peers: &Peers) -> Box<dyn Balancer> {
    match spec.balancer {
        BalancerSpec::RoundRobin => Box::new(round_robin::RoundRobin),
        BalancerSpec::LeastConn => Box::new(least_conn::LeastConn),
        BalancerSpec::IpHash => Box::new(ip_hash::IpHash),
        BalancerSpec::Hash { consistent: false } => Box::new(hash::Hash),
        BalancerSpec::Hash { consistent: true } => {
            Box::new(consistent_hash::ConsistentHash::new(peers, &spec.ring))
        }
        BalancerSpec::Random { two } => Box::new(random::Random { two }),
    }
}
