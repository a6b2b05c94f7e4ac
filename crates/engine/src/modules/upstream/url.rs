//! `host[:port][/uri]` behind a scheme, as `proxy_pass` and `server` in `upstream {}` take it.
//!
//! Owns the reading of such a text, after ngx_parse_url. Must never resolve a name: it says that the host is one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use upstream::Address;

/// The port that is meant when none is written behind `http://`.
pub const DEFAULT_PORT: u16 = 80;

/// The port that is meant when none is written behind `https://`.
pub const DEFAULT_TLS_PORT: u16 = 443;

/// The longest path of a UNIX-domain socket: `sun_path` holds 108 bytes, a NUL among them.
const MAX_UNIX_PATH: usize = 107;

/// The kind of a URL's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// An address written out.
    Ip(IpAddr),
    /// `unix:/path`.
    Unix,
    /// A name: of an upstream group, or one that must be resolved.
    Name,
}

/// The parts of a URL, without its scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// The host as written: a name, an address (IPv6 with its brackets), or the path of a UNIX-domain socket.
    pub host: &'a [u8],
    /// The kind of host.
    pub kind: HostKind,
    /// The port as written, if one is.
    pub port_text: Option<&'a [u8]>,
    /// The port: the scheme's if none is written, 0 for a UNIX-domain socket.
    pub port: u16,
    /// The port of the scheme.
    pub default_port: u16,
    /// The URI from its `/` or `?` on; empty if there is none.
    pub uri: &'a [u8],
}

impl<'a> Url<'a> {
    /// Reads a URL without its scheme, whose port is `default_port`. `with_uri` allows a URI after the host.
    ///
    /// # Errors
    /// nginx's words for what is wrong with it; ` in upstream "…"` follows them in its messages.
    pub fn parse(text: &'a [u8], default_port: u16, with_uri: bool) -> Result<Url<'a>, &'static str> {
        match text {
            [b'[', ..] => parse_ipv6(text, default_port, with_uri),
            _ if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"unix:")) => {
                parse_unix(&text[5..], default_port, with_uri)
            }
            _ => parse_inet(text, default_port, with_uri),
        }
    }

    /// Returns nothing says which port: only then can the host be the name of an `upstream {}` block.
    pub fn has_no_port(&self) -> bool {
        self.port_text.is_none() && self.kind != HostKind::Unix
    }

    /// Returns the address, if the host is one.
    pub fn address(&self) -> Option<Address> {
        match self.kind {
            HostKind::Ip(ip) => Some(Address::Inet(SocketAddr::new(ip, self.port))),
            HostKind::Unix => Some(Address::Unix(unix_path(self.host))),
            HostKind::Name => None,
        }
    }

    /// Appends what the `Host` field says by default, `$proxy_host`: the port is in it unless it is the scheme's.
    pub fn append_host_header(&self, out: &mut Vec<u8>) {
        if self.kind == HostKind::Unix {
            out.extend_from_slice(b"localhost");
            return;
        }
        out.extend_from_slice(self.host);
        if let Some(port) = self.port_text.filter(|_| self.port != self.default_port) {
            out.push(b':');
            out.extend_from_slice(port);
        }
    }

    /// Returns the value of `$proxy_port`.
    pub fn shown_port(&self) -> &'a [u8] {
        match (self.kind, self.port_text) {
            (HostKind::Unix, _) => b"",
            (_, Some(port)) if self.port != self.default_port => port,
            _ if self.default_port == DEFAULT_TLS_PORT => b"443",
            _ => b"80",
        }
    }
}

fn unix_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// `path[:uri]`.
fn parse_unix(text: &[u8], default_port: u16, with_uri: bool) -> Result<Url<'_>, &'static str> {
    let (path, uri) = match memchr::memchr(b':', text) {
        Some(colon) if with_uri => (&text[..colon], &text[colon + 1..]),
        _ => (text, &b""[..]),
    };
    if path.is_empty() {
        return Err("no path in the unix domain socket");
    }
    if path.len() > MAX_UNIX_PATH {
        return Err("too long path in the unix domain socket");
    }
    Ok(Url { host: path, kind: HostKind::Unix, port_text: None, port: 0, default_port, uri })
}

fn parse_inet(text: &[u8], default_port: u16, with_uri: bool) -> Result<Url<'_>, &'static str> {
    let uri_at = memchr::memchr2(b'/', b'?', text);
    if uri_at.is_some() && !with_uri {
        return Err("invalid host");
    }
    let (authority, uri) = text.split_at(uri_at.unwrap_or(text.len()));
    let (host, port_text) = match memchr::memchr(b':', authority) {
        Some(colon) => (&authority[..colon], Some(&authority[colon + 1..])),
        None => (authority, None),
    };
    let port = port_text.map_or(Ok(default_port), parse_port)?;
    if host.is_empty() {
        return Err("no host");
    }
    let kind = parse_ipv4(host).map_or(HostKind::Name, |ip| HostKind::Ip(IpAddr::V4(ip)));
    Ok(Url { host, kind, port_text, port, default_port, uri })
}

fn parse_ipv6(text: &[u8], default_port: u16, with_uri: bool) -> Result<Url<'_>, &'static str> {
    let close = memchr::memchr(b']', text).ok_or("invalid host")?;
    let (host, rest) = text.split_at(close + 1);
    let uri_at = memchr::memchr(b'/', rest);
    if uri_at.is_some() && !with_uri {
        return Err("invalid host");
    }
    let (port, uri) = rest.split_at(uri_at.unwrap_or(rest.len()));
    let port_text = match port {
        [] => None,
        [b':', digits @ ..] => Some(digits),
        _ => return Err("invalid host"),
    };
    let port = port_text.map_or(Ok(default_port), parse_port)?;
    let inside = &host[1..close];
    if inside.is_empty() {
        return Err("no host");
    }
    let ip: Option<Ipv6Addr> = std::str::from_utf8(inside).ok().and_then(|text| text.parse().ok());
    let ip = ip.ok_or("invalid IPv6 address")?;
    Ok(Url { host, kind: HostKind::Ip(IpAddr::V6(ip)), port_text, port, default_port, uri })
}

fn parse_port(digits: &[u8]) -> Result<u16, &'static str> {
    let number = conf::value::parse_number(digits).and_then(|number| u16::try_from(number).ok());
    number.filter(|port| *port > 0).ok_or("invalid port")
}

/// Four numbers up to 255 in decimal; leading zeros do not make them octal (ngx_inet_addr).
fn parse_ipv4(host: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = host.split(|byte| *byte == b'.');
    for octet in &mut octets {
        let digits = parts.next()?;
        *octet = u8::try_from(conf::value::parse_number(digits)?).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Url<'_>, &'static str> {
        Url::parse(text.as_bytes(), DEFAULT_PORT, true)
    }

    fn shown(text: &str) -> (String, String, u16, String) {
        let url = parse(text).unwrap();
        let mut header = Vec::new();
        url.append_host_header(&mut header);
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (lossy(&header), lossy(url.shown_port()), url.port, lossy(url.uri))
    }

    #[test]
    fn a_url_is_split_into_host_port_and_uri() {
        let cases = [
            ("backend", ("backend", "80", 80, "")),
            ("backend:80/a", ("backend", "80", 80, "/a")),
            ("backend:8080?x=1:2/3", ("backend:8080", "8080", 8080, "?x=1:2/3")),
            ("10.0.0.1/a:b", ("10.0.0.1", "80", 80, "/a:b")),
            ("[::1]:81/", ("[::1]:81", "81", 81, "/")),
            ("[::1]", ("[::1]", "80", 80, "")),
            ("unix:/run/a.sock", ("localhost", "", 0, "")),
            ("UNIX:/run/a.sock:/x", ("localhost", "", 0, "/x")),
        ];
        for (text, (header, port_text, port, uri)) in cases {
            assert_eq!(shown(text), (header.into(), port_text.into(), port, uri.into()), "{text}");
        }
    }

    #[test]
    fn the_port_of_the_scheme_is_left_out() {
        let shown = |text: &'static str| {
            let url = Url::parse(text.as_bytes(), DEFAULT_TLS_PORT, true).unwrap();
            let mut header = Vec::new();
            url.append_host_header(&mut header);
            (String::from_utf8(header).unwrap(), url.shown_port(), url.port)
        };
        assert_eq!(shown("a/x"), ("a".into(), &b"443"[..], 443));
        assert_eq!(shown("a:443"), ("a".into(), &b"443"[..], 443));
        assert_eq!(shown("a:80"), ("a:80".into(), &b"80"[..], 80));
    }

    #[test]
    fn addresses_of_all_families_are_parsed() {
        let address = |text| parse(text).unwrap().address().map(|address| address.to_string());
        assert_eq!(address("127.0.0.1:8081").unwrap(), "127.0.0.1:8081");
        assert_eq!(address("010.0.0.01").unwrap(), "10.0.0.1:80");
        assert_eq!(address("[2001:db8::1]:1").unwrap(), "[2001:db8::1]:1");
        assert_eq!(address("unix:/a:/b").unwrap(), "unix:/a");
        assert_eq!(address("1.2.3.4.5"), None);
        assert_eq!(address("1.2.3.256"), None);
        assert_eq!(address("1..3.4"), None);
        assert!(parse("backend").unwrap().has_no_port());
        assert!(!parse("backend:80").unwrap().has_no_port());
        assert!(!parse("unix:/a").unwrap().has_no_port());
    }

    #[test]
    fn faults_have_nginx_s_words() {
        let cases = [
            ("", "no host"),
            (":80", "no host"),
            ("/uri", "no host"),
            ("a:", "invalid port"),
            ("a:0", "invalid port"),
            ("a:65536", "invalid port"),
            ("a:b/c", "invalid port"),
            ("[::1", "invalid host"),
            ("[::1]x", "invalid host"),
            ("[]", "no host"),
            ("[::g]", "invalid IPv6 address"),
            ("unix:", "no path in the unix domain socket"),
        ];
        for (text, fault) in cases {
            assert_eq!(parse(text), Err(fault), "{text}");
        }
        assert_eq!(Url::parse(b"http://a", DEFAULT_PORT, false), Err("invalid host"));
        assert_eq!(Url::parse(b"a/b", DEFAULT_PORT, false), Err("invalid host"));
        assert_eq!(Url::parse(b"[::1]/b", DEFAULT_PORT, false), Err("invalid host"));
        let long = [b"unix:".as_slice(), &[b'a'; 108]].concat();
        assert_eq!(Url::parse(&long, DEFAULT_PORT, true), Err("too long path in the unix domain socket"));
    }
}
