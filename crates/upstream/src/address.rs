//! Where a peer listens.
//!
//! Owns: the address as a value and the way nginx writes it. Must never: resolve a name or parse a configuration.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// The address of one peer. Names are resolved before they come here: one name with three addresses is three peers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A UNIX-domain stream socket, by path.
    Unix(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Inet(address)
    }
}

/// As `$upstream_addr` shows it: `127.0.0.1:8081`, `[::1]:80`, `unix:/run/app.sock`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(SocketAddr::V4(v4)) => write!(f, "{v4}"),
            Address::Inet(SocketAddr::V6(v6)) => {
                f.write_str("[")?;
                write_ipv6(f, *v6.ip())?;
                write!(f, "]:{}", v6.port())
            }
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Writes an IPv6 address as nginx does. nginx writes an IPv4-compatible one (`::a.b.c.d`, six leading zero groups) with
/// dots, as RFC 4291 §2.2 allows; std keeps the dots for IPv4-mapped ones only. In everything else the two agree. With
/// seven zero groups the last two octets decide, so that `::1` is not taken for an IPv4 address.
fn write_ipv6(f: &mut fmt::Formatter<'_>, ip: Ipv6Addr) -> fmt::Result {
    let octets = ip.octets();
    let dotted = (octets[12] | octets[13]) != 0 || (octets[14] != 0 && octets[15] != 1);
    if octets[..12].iter().all(|&octet| octet == 0) && dotted {
        return write!(f, "::{}.{}.{}.{}", octets[12], octets[13], octets[14], octets[15]);
    }
    write!(f, "{ip}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Address::Inet(text.parse().unwrap()).to_string()
    }

    #[test]
    fn an_address_is_written_as_by_nginx() {
        assert_eq!(shown("127.0.0.1:8081"), "127.0.0.1:8081");
        assert_eq!(shown("[::1]:80"), "[::1]:80");
        assert_eq!(shown("[::]:80"), "[::]:80");
        assert_eq!(shown("[2001:db8:0:0:1:0:0:1]:443"), "[2001:db8::1:0:0:1]:443");
        assert_eq!(shown("[2001:db8:0:1:1:1:1:1]:443"), "[2001:db8:0:1:1:1:1:1]:443");
        assert_eq!(shown("[::ffff:10.0.0.1]:1"), "[::ffff:10.0.0.1]:1");
        assert_eq!(shown("[::10.0.0.1]:1"), "[::10.0.0.1]:1");
        assert_eq!(shown("[::1234]:1"), "[::0.0.18.52]:1");
        assert_eq!(shown("[::12]:1"), "[::12]:1");
        assert_eq!(shown("[fe80::1%3]:80"), "[fe80::1]:80");
        assert_eq!(Address::Unix("/run/a.sock".into()).to_string(), "unix:/run/a.sock");
    }
}
