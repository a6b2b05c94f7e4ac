//! `hash KEY consistent`: the key's place in a ring decides, so few keys move when a peer comes or goes.
//!
//! Owns: nginx's ketama ring, which is that of Cache::Memcached::Fast. Must never: hash addresses — the ring is
//! made of the names as they are written, so all addresses of one name share its points.

use std::collections::HashMap;

use super::{Balancer, Turn, round_robin};
use crate::crc32::Crc32;
use crate::peer::Peers;

/// Points in the ring for each unit of weight.
const POINTS_PER_WEIGHT: usize = 160;

#[derive(Debug)]
struct Point {
    hash: u32,
    /// Which of `servers` it belongs to.
    server: u32,
}

#[derive(Debug)]
pub(super) struct ConsistentHash {
    /// By hash, no hash twice.
    ring: Vec<Point>,
    /// The primaries of each name.
    servers: Vec<Vec<usize>>,
}

impl ConsistentHash {
    pub(super) fn new(peers: &Peers) -> ConsistentHash {
        let mut ring = Vec::new();
        let mut servers: Vec<Vec<usize>> = Vec::new();
        let mut numbers = HashMap::new();
        for index in peers.primaries() {
            let spec = peers.list[index].spec();
            let number = *numbers.entry(spec.name.as_str()).or_insert_with(|| {
                servers.push(Vec::new());
                servers.len() - 1
            });
            servers[number].push(index);
            let server = u32::try_from(number).unwrap_or(u32::MAX);
            let points = spec.weight as usize * POINTS_PER_WEIGHT;
            ring.extend(points_of(&spec.name).take(points).map(|hash| Point { hash, server }));
        }
        // Stable, so that of two names with one hash the earlier keeps the point.
        ring.sort_by_key(|point| point.hash);
        ring.dedup_by_key(|point| point.hash);
        ConsistentHash { ring, servers }
    }

    /// Returns the first point at or after the key's hash; one past the end means the first.
    fn find(&self, key: &[u8]) -> u32 {
        let hash = Crc32::new().update(key).finish();
        let place = self.ring.partition_point(|point| point.hash < hash);
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
            let point = &self.ring[place as usize % self.ring.len()];
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

/// Returns the hashes of one name, each made of the one before: crc32(HOST, NUL, PORT, PREVIOUS).
fn points_of(name: &str) -> impl Iterator<Item = u32> {
    let (host, port) = host_and_port(name);
    let base = Crc32::new().update(host).update(b"\0").update(port);
    let mut previous: u32 = 0;
    std::iter::repeat_with(move || {
        previous = base.update(&previous.to_le_bytes()).finish();
        previous
    })
}

/// Splits a name as nginx does here: a path has no port, and a last colon counts only if only digits follow it.
fn host_and_port(name: &str) -> (&[u8], &[u8]) {
    let bytes = name.as_bytes();
    if let Some((scheme, path)) = bytes.split_at_checked(5)
        && scheme.eq_ignore_ascii_case(b"unix:")
    {
        return (path, b"");
    }
    let digits = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let end = bytes.len() - digits;
    match bytes[..end].split_last() {
        Some((b':', host)) => (host, &bytes[end..]),
        _ => (bytes, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_divide_as_in_nginx() {
        let cases: [(&str, &str, &str); 9] = [
            ("127.0.0.1:8081", "127.0.0.1", "8081"),
            ("backend", "backend", ""),
            ("backend:", "backend", ""),
            ("backend8", "backend8", ""),
            ("[::1]:80", "[::1]", "80"),
            ("[::1]", "[::1]", ""),
            ("UNIX:/a:80", "/a:80", ""),
            ("8080", "8080", ""),
            ("", "", ""),
        ];
        for (name, host, port) in cases {
            assert_eq!(host_and_port(name), (host.as_bytes(), port.as_bytes()), "{name}");
        }
    }
}
