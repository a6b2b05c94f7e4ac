//! The ring of `hash … consistent`: nginx's ketama ring, which is that of Cache::Memcached::Fast.
//!
//! Must never hash addresses: the ring is made of the names as they are written.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::crc32::Crc32;

/// Points in the ring for each unit of weight.
const POINTS_PER_WEIGHT: usize = 160;

#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) hash: u32,
    /// The number of the name that it belongs to, in the order of the names.
    pub(crate) server: u32,
}

/// The points of a group, which its threads share: made when the configuration is read, so that no thread has to make them
/// between two requests. Equal to any other, for it follows from the peers.
#[derive(Clone, Default)]
pub struct Ring(Option<Arc<[Point]>>);

impl Ring {
    /// The most points that a ring may have: 128 MiB of them.
    pub const MAX_POINTS: u64 = 16 << 20;

    /// Returns how many points servers of these weights have, at most.
    pub fn size(weights: impl IntoIterator<Item = u32>) -> u64 {
        let weights = weights.into_iter().map(|weight| u64::from(weight.max(1)));
        weights.sum::<u64>() * POINTS_PER_WEIGHT as u64
    }

    /// Makes the ring of the servers of a group, backups apart: their names and weights, in order. A name may come several
    /// times, once for each of its addresses.
    pub fn of<'a>(servers: impl IntoIterator<Item = (&'a str, u32)>) -> Ring {
        // The addresses of one name have the same points: the largest weight decides.
        let mut names: Vec<(&str, usize)> = Vec::new();
        let mut numbers = HashMap::new();
        for (name, weight) in servers {
            let number = *numbers.entry(name).or_insert_with(|| {
                names.push((name, 0));
                names.len() - 1
            });
            names[number].1 = names[number].1.max(weight.max(1) as usize);
        }
        let mut points = Vec::new();
        for (number, (name, weight)) in names.iter().enumerate() {
            let server = u32::try_from(number).unwrap_or(u32::MAX);
            let hashes = points_of(name).take(weight * POINTS_PER_WEIGHT);
            points.extend(hashes.map(|hash| Point { hash, server }));
        }
        // Stable, so that of two names with one hash the earlier keeps the point.
        points.sort_by_key(|point| point.hash);
        points.dedup_by_key(|point| point.hash);
        Ring(Some(points.into()))
    }

    /// Returns true if it has its points.
    pub(crate) fn is_made(&self) -> bool {
        self.0.is_some()
    }

    /// Returns its points: by hash, no hash twice.
    pub(crate) fn points(&self) -> &[Point] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Ring")
    }
}

impl PartialEq for Ring {
    fn eq(&self, _: &Ring) -> bool {
        true
    }
}

impl Eq for Ring {}

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
