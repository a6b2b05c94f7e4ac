//! Listening addresses and the servers behind each.

use super::{ServerId, ServerNames};
use crate::regex::Captures;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An address and a port; port 0 lets the system choose.
    Inet(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Inet(address) => write!(out, "{address}"),
            ListenAddress::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// Reads the first argument of `listen`. Host names are not resolved here: `None` for them.
    ///
    /// # Errors
    /// nginx's words: `invalid port in …`, `host not found in …`.
    pub fn parse(text: &str) -> Result<ListenAddress, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(format!(
                    "no path in the unix domain socket \"{text}\" of the \"listen\" directive"
                ));
            }
            return Ok(ListenAddress::Unix(PathBuf::from(path)));
        }
        let port = |digits: &str| match digits.parse::<u32>() {
            Ok(port @ 1..=65535) => Ok(port as u16),
            _ => Err(format!("invalid port in \"{text}\" of the \"listen\" directive")),
        };
        let inet = |ip, port| Ok(ListenAddress::Inet(SocketAddr::new(ip, port)));
        if let Some(rest) = text.strip_prefix('[') {
            let Some((ip, after)) = rest.split_once(']') else {
                return Err(format!("invalid host in \"{text}\" of the \"listen\" directive"));
            };
            let Ok(ip) = ip.parse::<Ipv6Addr>() else {
                return Err(format!("invalid IPv6 address in \"{text}\" of the \"listen\" directive"));
            };
            return match after.strip_prefix(':') {
                Some(digits) => inet(IpAddr::V6(ip), port(digits)?),
                None if after.is_empty() => inet(IpAddr::V6(ip), 80),
                None => Err(format!("invalid host in \"{text}\" of the \"listen\" directive")),
            };
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return inet(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port(text)?);
        }
        let (host, digits) = match text.split_once(':') {
            Some((host, digits)) => (host, port(digits)?),
            None => (text, 80),
        };
        match host {
            "*" => inet(IpAddr::V4(Ipv4Addr::UNSPECIFIED), digits),
            "localhost" => inet(IpAddr::V4(Ipv4Addr::LOCALHOST), digits),
            _ => match host.parse::<Ipv4Addr>() {
                Ok(ip) => inet(IpAddr::V4(ip), digits),
                Err(_) => Err(format!("host not found in \"{text}\" of the \"listen\" directive")),
            },
        }
    }
}

/// The socket options of `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Length of the queue of connections not yet accepted; nginx's default on Linux is 511.
    pub backlog: i32,
    /// One socket for each worker thread.
    pub reuseport: bool,
    /// An IPv6 socket takes IPv6 only; nginx's default is on.
    pub ipv6only: bool,
    /// Accept only when data is there.
    pub deferred: bool,
    /// Receive buffer in bytes, if set.
    pub rcvbuf: Option<usize>,
    /// Send buffer in bytes, if set.
    pub sndbuf: Option<usize>,
    /// TCP keepalive (`so_keepalive`): `None` leaves the system's setting.
    pub so_keepalive: Option<bool>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            backlog: 511,
            reuseport: false,
            ipv6only: true,
            deferred: false,
            rcvbuf: None,
            sndbuf: None,
            so_keepalive: None,
        }
    }
}

/// One socket to listen on, and who serves what comes.
#[derive(Debug)]
pub struct Listener {
    /// The address.
    pub address: ListenAddress,
    /// The options.
    pub options: ListenOptions,
    /// The servers here.
    pub servers: AddressServers,
    /// `listen 80` and `listen 127.0.0.1:80` share the wildcard socket: servers of a more exact address, by the
    /// connection's local address.
    pub exact: Vec<(SocketAddr, AddressServers)>,
}

/// The servers of an address.
#[derive(Debug)]
pub struct AddressServers {
    /// The server of hosts that no name matches.
    pub default: ServerId,
    /// Names of all servers here.
    pub names: ServerNames,
    /// Connections begin with a header of the PROXY protocol. One `listen` says so for all servers of the address.
    pub proxy_protocol: bool,
    /// Connections are TLS. One `listen` says so for all servers of the address.
    pub ssl: bool,
    /// Connections may be HTTP/2, whatever the servers say. One `listen` says so for all servers of the address.
    pub http2: bool,
}

impl AddressServers {
    /// Returns the server of a host that is not a request's: the name that a TLS client asks for.
    pub fn by_name(&self, name: &[u8]) -> ServerId {
        match self.names.find(name, &mut Captures::default()) {
            Ok(Some((server, _))) => server,
            _ => self.default,
        }
    }
}

impl Listener {
    /// Returns the servers for a connection, by its local address; `None` is a unix socket's.
    pub fn servers_at(&self, local: Option<SocketAddr>) -> &AddressServers {
        let exact = local.and_then(|local| self.exact.iter().find(|(at, _)| *at == local));
        exact.map_or(&self.servers, |(_, servers)| servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_nginx_reads_them() {
        let shown = |text: &str| ListenAddress::parse(text).map(|address| address.to_string());
        assert_eq!(shown("80").unwrap(), "0.0.0.0:80");
        assert_eq!(shown("*:81").unwrap(), "0.0.0.0:81");
        assert_eq!(shown("127.0.0.1").unwrap(), "127.0.0.1:80");
        assert_eq!(shown("[::1]:8080").unwrap(), "[::1]:8080");
        assert_eq!(shown("[::]").unwrap(), "[::]:80");
        assert_eq!(shown("unix:/tmp/s").unwrap(), "unix:/tmp/s");
        for wrong in ["0", "65536", "1.2.3.4:", "[::1", "[::1]x", "unix:", "nowhere.invalid:80"] {
            assert!(ListenAddress::parse(wrong).is_err(), "{wrong}");
        }
    }
}
