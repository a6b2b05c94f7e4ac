//! Writing values: numbers, times, addresses, lists. Everything goes straight into the caller's buffer.

use crate::connection::Connection;
use http::ProxyAddress;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Writes a decimal number.
pub(crate) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Seconds with three decimals.
pub(crate) fn seconds(out: &mut Vec<u8>, ms: u64) {
    number(out, ms / 1000);
    let rest = (ms % 1000) as u16;
    let digit = |value: u16| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

/// Writes an address without a port, as ngx_inet_ntop does.
pub(crate) fn ip(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => octets(out, v4.octets()),
        IpAddr::V6(v6) => ipv6(out, v6),
    }
}

/// Every octet in decimal digits with a dot behind, and how long that is.
static OCTETS: [([u8; 4], u8); 256] = octet_texts();

const fn octet_texts() -> [([u8; 4], u8); 256] {
    let mut texts = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let len = if octet < 10 { 1 } else { 2 + (octet >= 100) as usize };
        let mut rest = octet;
        let mut place = len;
        while place > 0 {
            place -= 1;
            texts[octet].0[place] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        texts[octet].1 = len as u8 + 1;
        octet += 1;
    }
    texts
}

fn octets(out: &mut Vec<u8>, octets: [u8; 4]) {
    let mut text = [0; 16];
    let mut len = 0;
    for octet in octets {
        let (digits, count) = &OCTETS[usize::from(octet)];
        text[len..len + 4].copy_from_slice(digits);
        len += usize::from(*count);
    }
    out.extend_from_slice(&text[..len - 1]);
}

/// nginx writes addresses whose first six groups are zero with dots, which std does not.
fn ipv6(out: &mut Vec<u8>, address: Ipv6Addr) {
    let [zeros @ .., a, b, c, d] = address.octets();
    if zeros.iter().all(|octet| *octet == 0) && ((a | b) != 0 || (c != 0 && d != 1)) {
        out.extend_from_slice(b"::");
        return octets(out, [a, b, c, d]);
    }
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{address}");
}

/// Writes the address of a connection's client.
pub(crate) fn client(connection: &Connection, out: &mut Vec<u8>) {
    peer(connection.remote, out);
}

/// Writes a port; nothing for 0, which is none.
pub(crate) fn port(port: u16, out: &mut Vec<u8>) {
    if port > 0 {
        number(out, u64::from(port));
    }
}

/// Writes the other end of a connection; of a unix socket just `unix:`.
pub(crate) fn peer(remote: Option<SocketAddr>, out: &mut Vec<u8>) {
    match remote {
        Some(remote) => ip(out, remote.ip()),
        None => out.extend_from_slice(b"unix:"),
    }
}

/// Writes an address as a header of the PROXY protocol gives it.
pub(crate) fn proxy_address(address: &ProxyAddress, out: &mut Vec<u8>) {
    match address {
        ProxyAddress::Text(text) => out.extend_from_slice(text),
        ProxyAddress::Ip(address) => ip(out, *address),
    }
}

/// Appends all values with a separator between them. Returns `false` if there is none.
pub(crate) fn joined<'v>(
    out: &mut Vec<u8>,
    values: impl IntoIterator<Item = &'v [u8]>,
    separator: &[u8],
) -> bool {
    let mut found = false;
    for value in values {
        if found {
            out.extend_from_slice(separator);
        }
        out.extend_from_slice(value);
        found = true;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(address: &str) -> String {
        let mut out = Vec::new();
        ip(&mut out, address.parse().unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_are_written_as_in_nginx() {
        for same in
            ["127.0.0.1", "255.0.10.9", "::1", "::", "2001:db8::1:0:0:1", "::ffff:10.0.0.1", "::12", "fe80::"]
        {
            assert_eq!(shown(same), same);
        }
        assert_eq!(shown("::a00:1"), "::10.0.0.1");
        assert_eq!(shown("::1234"), "::0.0.18.52");
    }

    #[test]
    fn every_octet_is_written_as_std_does() {
        for octet in 0..=255u8 {
            for octets in [[octet, 0, 99, 255], [255, octet, 1, octet], [octet; 4]] {
                let address = std::net::Ipv4Addr::from(octets).to_string();
                assert_eq!(shown(&address), address);
            }
        }
    }

    #[test]
    fn seconds_have_three_decimals() {
        let mut out = Vec::new();
        for ms in [0, 7, 1_050, 61_999] {
            seconds(&mut out, ms);
            out.push(b' ');
        }
        assert_eq!(out, b"0.000 0.007 1.050 61.999 ");
    }
}
