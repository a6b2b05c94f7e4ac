//! The client behind trusted proxies, as they name it in a field such as X-Forwarded-For (ngx_http_get_forwarded_addr).
//!
//! Owns how far such a list is believed. Must never know which proxies are trusted, or who asks.

use super::map::networks::parse_address_port;
use std::net::{IpAddr, SocketAddr};

/// The result of following one field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trail {
    /// To its beginning.
    Through,
    /// To an address that is no trusted proxy's.
    Ended,
    /// Nowhere.
    None,
}

/// Returns the address that trusted proxies name for the connection of `peer`, or `None` if the peer is not trusted or names
/// none. An address without a port has port 0. `peer` is `None` for a unix socket.
///
/// The last address of the last field counts. `recursive` goes on to the one before it as long as it is a trusted proxy's
/// own.
pub(super) fn client<'f>(
    mut peer: Option<SocketAddr>,
    fields: impl Iterator<Item = &'f [u8]> + Clone,
    recursive: bool,
    is_trusted: impl Fn(Option<IpAddr>) -> bool,
) -> Option<SocketAddr> {
    let mut found = None;
    for place in (0..fields.clone().count()).rev() {
        let field = fields.clone().nth(place).unwrap_or_default();
        let trail = follow(&mut peer, field, recursive, &is_trusted);
        if trail != Trail::None {
            found = peer;
        }
        if trail != Trail::Through || !recursive {
            break;
        }
    }
    found
}

fn follow(
    peer: &mut Option<SocketAddr>,
    mut field: &[u8],
    recursive: bool,
    is_trusted: &impl Fn(Option<IpAddr>) -> bool,
) -> Trail {
    let separator = |byte: &u8| matches!(byte, b' ' | b',');
    let mut trail = Trail::None;
    // An IPv4-mapped address is judged as the IPv4 one (ngx_cidr_match).
    while is_trusted(peer.map(|peer| peer.ip().to_canonical())) {
        while let [rest @ .., last] = field
            && !rest.is_empty()
            && separator(last)
        {
            field = rest;
        }
        let start = field.iter().rposition(separator).filter(|at| *at > 0).map_or(0, |at| at + 1);
        let Some(before) = parse_address_port(&field[start..]) else { return trail };
        *peer = Some(before);
        if start == 0 || !recursive {
            return Trail::Through;
        }
        trail = Trail::Ended;
        field = &field[..start - 1];
    }
    trail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(peer: &str, fields: &[&str], recursive: bool) -> Option<String> {
        let peer = (peer != "unix").then(|| peer.parse().unwrap());
        let trusted = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let fields = fields.iter().map(|field| field.as_bytes());
        client(peer, fields, recursive, |ip| ip.is_none_or(|ip| trusted.contains(&ip)))
            .map(|address| address.to_string())
    }

    #[test]
    fn the_last_address_counts_and_recursion_skips_trusted_ones() {
        for (peer, fields, last, recursive) in [
            ("10.0.0.1:5", &["1.1.1.1, 10.0.0.2"][..], "10.0.0.2:0", "1.1.1.1:0"),
            ("10.0.0.1:5", &["1.1.1.1,2.2.2.2:80"], "2.2.2.2:80", "2.2.2.2:80"),
            ("10.0.0.1:5", &["1.1.1.1", "10.0.0.2"], "10.0.0.2:0", "1.1.1.1:0"),
            ("10.0.0.1:5", &["1.1.1.1, x", "10.0.0.2"], "10.0.0.2:0", "10.0.0.2:0"),
            ("10.0.0.1:5", &["x, 10.0.0.2 , "], "10.0.0.2:0", "10.0.0.2:0"),
            ("10.0.0.1:5", &["10.0.0.2"], "10.0.0.2:0", "10.0.0.2:0"),
            ("10.0.0.1:5", &["[2001:db8::1]:7"], "[2001:db8::1]:7", "[2001:db8::1]:7"),
            ("[::ffff:10.0.0.1]:5", &["1.1.1.1"], "1.1.1.1:0", "1.1.1.1:0"),
            ("[fd00::1]:5", &["1.1.1.1,fd00::1"], "[fd00::1]:0", "1.1.1.1:0"),
            ("unix", &["1.1.1.1, 9.9.9.9"], "9.9.9.9:0", "9.9.9.9:0"),
        ] {
            assert_eq!(client_of(peer, fields, false).as_deref(), Some(last), "{fields:?}");
            assert_eq!(client_of(peer, fields, true).as_deref(), Some(recursive), "{fields:?} recursive");
        }
    }

    #[test]
    fn strangers_and_garbage_name_no_client() {
        for (peer, field) in [
            ("10.0.0.3:5", "1.1.1.1"),
            ("10.0.0.1:5", ""),
            ("10.0.0.1:5", " "),
            ("10.0.0.1:5", ","),
            ("10.0.0.1:5", ",1.1.1.1"),
            ("10.0.0.1:5", "1.1.1.1, unknown"),
            ("10.0.0.1:5", "1.1.1.1:"),
            ("10.0.0.1:5", "1.1.1.1:99999"),
            ("10.0.0.1:5", "[::1]"),
            ("10.0.0.1:5", "unix:"),
            ("10.0.0.1:5", "1.1.1.1\t"),
        ] {
            assert_eq!(client_of(peer, &[field], true), None, "{field:?}");
        }
        assert_eq!(client_of("10.0.0.1:5", &[], true), None);
    }
}
