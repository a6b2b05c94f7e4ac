//! Networks, address ranges, and the table that finds the smallest one an address is in.
//!
//! The table is a sorted list of the places where the value changes, so a look-up is one binary search whatever was
//! nested in what. Addresses are read as nginx reads them (ngx_inet_addr): leading zeros are decimal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address of one family, as a number.
pub(super) trait Number: Copy + Ord {
    const ZERO: Self;
    fn successor(self) -> Option<Self>;
}

impl Number for u32 {
    const ZERO: u32 = 0;
    fn successor(self) -> Option<u32> {
        self.checked_add(1)
    }
}

impl Number for u128 {
    const ZERO: u128 = 0;
    fn successor(self) -> Option<u128> {
        self.checked_add(1)
    }
}

/// From addresses to values: each value holds from its start to the next one's.
#[derive(Clone, Debug)]
pub(super) struct Table<N> {
    starts: Vec<(N, u32)>,
}

impl<N: Number> Table<N> {
    /// Builds the table from ranges (first, last, value) that lie beside or inside one another; an inner one hides
    /// the outer. What is in none has the default.
    pub(super) fn build(mut ranges: Vec<(N, N, u32)>, default: u32) -> Table<N> {
        ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut table = Table { starts: vec![(N::ZERO, default)] };
        let mut open: Vec<(N, u32)> = Vec::new();
        for (first, last, value) in ranges {
            table.close(&mut open, default, Some(first));
            table.change(first, value);
            open.push((last, value));
        }
        table.close(&mut open, default, None);
        table.starts.shrink_to_fit();
        table
    }

    /// Ends the open ranges that end before an address, or all.
    fn close(&mut self, open: &mut Vec<(N, u32)>, default: u32, before: Option<N>) {
        while let Some((last, _)) = open.pop_if(|(last, _)| before.is_none_or(|first| *last < first)) {
            let outer = open.last().map_or(default, |(_, value)| *value);
            if let Some(next) = last.successor() {
                self.change(next, outer);
            }
        }
    }

    fn change(&mut self, at: N, value: u32) {
        match self.starts.last_mut() {
            Some((start, present)) if *start == at => *present = value,
            _ => self.starts.push((at, value)),
        }
    }

    /// Returns the value of an address.
    pub(super) fn find(&self, address: N) -> u32 {
        let after = self.starts.partition_point(|(start, _)| *start <= address);
        self.starts[after - 1].1
    }
}

/// `address/bits`; of an IPv6 address the whole 128 bits count, of an IPv4 address 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4(u32, u8),
    V6(u128, u8),
}

impl Network {
    /// Returns the network of one address. An IPv4-mapped one is an IPv6 address here.
    pub(crate) fn of(address: IpAddr) -> Network {
        match address {
            IpAddr::V4(v4) => Network::V4(v4.to_bits(), 32),
            IpAddr::V6(v6) => Network::V6(v6.to_bits(), 128),
        }
    }

    /// Returns the first and the last address.
    pub(super) fn ends_v4(address: u32, bits: u8) -> (u32, u32) {
        (address, address | u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0))
    }

    /// Returns the first and the last address.
    pub(super) fn ends_v6(address: u128, bits: u8) -> (u128, u128) {
        (address, address | u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0))
    }

    /// Reads `address` or `address/bits` (ngx_ptocidr). Says too whether bits beside the network were set: they are
    /// cleared.
    pub(crate) fn parse(text: &[u8]) -> Option<(Network, bool)> {
        let (address, bits) = match memchr::memchr(b'/', text) {
            Some(slash) => (&text[..slash], Some(conf::value::parse_number(&text[slash + 1..])?)),
            None => (text, None),
        };
        let bits = |most: u8| match bits {
            None => Some(most),
            Some(bits) => u8::try_from(bits).ok().filter(|bits| *bits <= most),
        };
        Some(match parse_address(address)? {
            IpAddr::V4(v4) => {
                let (address, bits) = (v4.to_bits(), bits(32)?);
                let low = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
                (Network::V4(address & !low, bits), address & low != 0)
            }
            IpAddr::V6(v6) => {
                let (address, bits) = (v6.to_bits(), bits(128)?);
                let low = u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
                (Network::V6(address & !low, bits), address & low != 0)
            }
        })
    }

    /// Returns whether the network holds the address as it is.
    pub(crate) fn holds(self, address: IpAddr) -> bool {
        match (self, address) {
            (Network::V4(network, bits), IpAddr::V4(v4)) => {
                let (first, last) = Network::ends_v4(network, bits);
                (first..=last).contains(&v4.to_bits())
            }
            (Network::V6(network, bits), IpAddr::V6(v6)) => {
                let (first, last) = Network::ends_v6(network, bits);
                (first..=last).contains(&v6.to_bits())
            }
            _ => false,
        }
    }
}

/// Returns an address without a port.
pub(super) fn parse_address(text: &[u8]) -> Option<IpAddr> {
    parse_v4(text).map(IpAddr::V4).or_else(|| parse_v6(text).map(IpAddr::V6))
}

/// Returns an address with or without a port (ngx_parse_addr_port, for which 255.255.255.255 is none); without one
/// the port is 0.
pub(crate) fn parse_address_port(text: &[u8]) -> Option<SocketAddr> {
    if let Some(address) = parse_address(text) {
        return (address != Ipv4Addr::BROADCAST).then(|| SocketAddr::new(address, 0));
    }
    let colon = memchr::memrchr(b':', text)?;
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    let port = conf::value::parse_number(port).filter(|port| *port > 0)?;
    let address = match host {
        [b'[', v6 @ .., b']'] => IpAddr::V6(parse_v6(v6)?),
        host => IpAddr::V4(parse_v4(host)?),
    };
    Some(SocketAddr::new(address, u16::try_from(port).ok()?))
}

pub(super) fn parse_v4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut place = 0;
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                let octet = &mut octets[place];
                *octet = octet.checked_mul(10)?.checked_add(byte - b'0')?;
            }
            b'.' if place < 3 => place += 1,
            _ => return None,
        }
    }
    (place == 3).then(|| Ipv4Addr::from(octets))
}

fn parse_v6(text: &[u8]) -> Option<Ipv6Addr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_network_wins_whatever_the_order() {
        // Checked against the plain rule, for every address of a small space and many nestings.
        let mut state = 7u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for _ in 0..300 {
            let mut networks: Vec<(u32, u32, u32)> = Vec::new();
            for value in 1..=random(12) {
                let len = 1 << random(9);
                let base = if random(2) == 0 { 0 } else { u32::MAX - 255 };
                let first = base + random(256) / len * len;
                if len <= 256 && networks.iter().all(|known| (known.0, known.1) != (first, first + (len - 1)))
                {
                    networks.push((first, first + (len - 1), value));
                }
            }
            let table = Table::build(networks.clone(), 0);
            for address in (0..600).chain(u32::MAX - 300..=u32::MAX) {
                let inside = networks.iter().filter(|known| (known.0..=known.1).contains(&address));
                let wanted = inside.min_by_key(|known| known.1 - known.0).map_or(0, |known| known.2);
                assert_eq!(table.find(address), wanted, "{address} in {networks:?}");
            }
        }
    }

    #[test]
    fn a_range_may_end_at_the_last_address() {
        let table = Table::build(vec![(0, u128::MAX, 1), (u128::MAX, u128::MAX, 2)], 0);
        assert_eq!((table.find(0), table.find(u128::MAX - 1), table.find(u128::MAX)), (1, 1, 2));
    }

    #[test]
    fn networks_are_read_as_nginx_reads_them() {
        let net = |text: &str| Network::parse(text.as_bytes());
        assert_eq!(net("10.0.0.0/8"), Some((Network::V4(10 << 24, 8), false)));
        assert_eq!(net("10.0.0.1/8"), Some((Network::V4(10 << 24, 8), true)));
        assert_eq!(net("010.0.0.1"), Some((Network::V4(0x0a00_0001, 32), false)));
        assert_eq!(net("0.0.0.0/0"), Some((Network::V4(0, 0), false)));
        assert_eq!(net("2001:db8::/32"), Some((Network::V6(0x2001_0db8 << 96, 32), false)));
        assert_eq!(net("::/0"), Some((Network::V6(0, 0), false)));
        for none in ["10.0.0.0/33", "10.0.0/8", "10.0.0.256", "::/129", "10.0.0.0/", "x", "", "1.2.3.4.5"] {
            assert_eq!(net(none), None, "{none}");
        }
    }

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        let ip = |text: &str| parse_address_port(text.as_bytes()).map(|ip| ip.to_string());
        assert_eq!(ip("10.0.0.1").as_deref(), Some("10.0.0.1:0"));
        assert_eq!(ip("10.0.0.1:80").as_deref(), Some("10.0.0.1:80"));
        assert_eq!(ip("[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(ip("::1").as_deref(), Some("[::1]:0"));
        for none in ["10.0.0.1:", "10.0.0.1:0", "10.0.0.1:70000", "[::1]", "unknown", ""] {
            assert_eq!(ip(none), None, "{none}");
        }
    }
}
