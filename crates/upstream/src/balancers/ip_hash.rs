//! `ip_hash`: the client's network decides.
//!
//! Owns: nginx's hash of an address — the first three octets of IPv4, all sixteen of IPv6, so that a household
//! stays together. Must never: look at anything but the address it is given; choosing that is up to the caller.

use std::net::IpAddr;

use super::{Balancer, Turn, round_robin};

#[derive(Debug)]
pub(super) struct IpHash;

impl Balancer for IpHash {
    fn choose(&self, turn: &mut Turn<'_>) -> Option<usize> {
        if turn.is_aimless() {
            return round_robin::choose(turn);
        }
        let v4;
        let v6;
        let octets: &[u8] = match turn.input.client {
            Some(IpAddr::V4(ip)) => {
                v4 = ip.octets();
                &v4[..3]
            }
            Some(IpAddr::V6(ip)) => {
                v6 = ip.octets();
                &v6
            }
            // nginx takes every client of a UNIX-domain socket for one from 0.0.0.
            None => &[0; 3],
        };
        let mut hash = turn.tried.probe.hash.unwrap_or(89);
        while !turn.tried.probe.is_spent() {
            hash = octets.iter().fold(hash, |hash, &octet| (hash * 113 + u32::from(octet)) % 6271);
            let index = turn.peers.at_weight(u64::from(hash) % turn.peers.total_weight());
            if turn.is_eligible(index) {
                turn.tried.probe.hash = Some(hash);
                return Some(index);
            }
            turn.tried.probe.misses += 1;
        }
        round_robin::choose(turn)
    }
}
