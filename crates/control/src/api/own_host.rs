//! Whether a request names this server: the defence against DNS rebinding.
//!
//! Owns the rule for `Host` and `Origin` where no token proves who is asking. A page of another site can make a browser
//! resolve that site's own name to an address of this machine; the browser then sends requests here that look like the
//! site's own, with its name in `Host`. Access rules by address let them through. The name gives them away.

use crate::barred;
use crate::call::Origin;
use axum::http::{HeaderMap, header};
use std::net::{IpAddr, Ipv6Addr};
use switch::{Code, Refusal};

/// Fails unless `Host` and, where there is one, `Origin` name this server: loopback, an address of this machine, or a
/// `server_name` that is written out.
pub(super) fn check(headers: &HeaderMap, origin: &Origin) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter().peekable();
    if hosts.peek().is_none() {
        return Err(refusal(Code::HostNotAllowed, "the request has no Host".to_owned()));
    }
    for host in hosts {
        if !is_own(host.as_bytes(), origin) {
            let text = format!("Host \"{}\" is not a name of this server", host.as_bytes().escape_ascii());
            return Err(refusal(Code::HostNotAllowed, text));
        }
    }
    for page in headers.get_all(header::ORIGIN) {
        let page = page.as_bytes();
        let authority = page.windows(3).position(|bytes| bytes == b"://").map(|at| &page[at + 3..]);
        if !authority.is_some_and(|authority| is_own(authority, origin)) {
            let text = format!("a web page of {} sent the request", page.escape_ascii());
            return Err(refusal(Code::CrossSite, text));
        }
    }
    Ok(())
}

fn refusal(code: Code, text: String) -> Refusal {
    let remedy = "send a token of control_tokens (Authorization: Bearer TOKEN), or use localhost, an IP address of \
                  this machine, or a server_name of the server, without wildcards";
    Refusal::new(code, format!("{text}: without a token, only names of this server are accepted"), remedy)
}

/// Returns true if an authority names this server, whatever its port.
fn is_own(authority: &[u8], origin: &Origin) -> bool {
    let mut host = Vec::new();
    if http::authority::parse(authority, &mut host).is_err() {
        return false;
    }
    if host == b"localhost" {
        return true;
    }
    match literal(&host) {
        Some(address) => {
            address.is_loopback()
                || origin.local.is_some_and(|local| local.to_canonical() == address)
                || origin.server_names.contains(&host)
                || barred::is_of_an_interface(address)
        }
        None => is_written_out(&host) && origin.server_names.contains(&host),
    }
}

/// Returns true if a host is a plain name. `*` and a leading dot are a wildcard's, `~` is a regular expression's: sent
/// as a `Host`, such a text must not match the `server_name` that is spelt like it.
fn is_written_out(host: &[u8]) -> bool {
    !host.is_empty() && !host.starts_with(b"~") && !host.starts_with(b".") && !host.contains(&b'*')
}

/// Returns an IP literal, `::ffff:192.0.2.1` as the address it means.
fn literal(host: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(host).ok()?;
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|address| IpAddr::from(address).to_canonical()),
        None => text.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Via;

    fn origin(local: Option<&str>) -> Origin {
        Origin {
            via: Via::Location,
            name: String::new(),
            certificate: None,
            over_tls: false,
            address: "127.0.0.1".into(),
            local: local.map(|local| local.parse().unwrap()),
            server_names: [
                "shop.example.com",
                "",
                "*.wild.example",
                "~^re\\.example$",
                "www.example.*",
                "2001:db8::1",
            ]
            .map(|name| name.as_bytes().to_vec())
            .into(),
        }
    }

    #[test]
    fn only_names_of_this_server_are_own() {
        let own: &[&str] = &[
            "localhost",
            "LocalHost:8090",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.8.9.10:1",
            "[::1]",
            "[::1]:8090",
            "[::ffff:127.0.0.1]",
            "192.0.2.9",
            "192.0.2.9:8090",
            "[::ffff:192.0.2.9]:8090",
            "shop.example.com",
            "SHOP.example.com.:8090",
        ];
        let foreign: &[&str] = &[
            "",
            ":80",
            "evil.example",
            "evil.example:8090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example.localhost",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0.0.0.0",
            "[::]",
            "192.0.2.10",
            "[2001:db8::1]",
            "2001:db8::1",
            "shop.example.com.evil.example",
            "a.wild.example",
            "*.wild.example",
            ".wild.example",
            "re.example",
            "~^re\\.example$",
            "www.example.com",
            "www.example.*",
            "localhost:port",
            "localhost@evil.example",
            "evil.example@localhost",
            "local host",
            "[::1",
            "_",
        ];
        let here = origin(Some("192.0.2.9"));
        for host in own {
            assert!(is_own(host.as_bytes(), &here), "{host}");
        }
        for host in foreign {
            assert!(!is_own(host.as_bytes(), &here), "{host}");
        }
        assert!(!is_own(b"192.0.2.9", &origin(None)), "only where the connection arrived");
        assert!(
            is_own(b"192.0.2.9", &origin(Some("::ffff:192.0.2.9"))),
            "as a socket for both families has it"
        );
    }

    #[test]
    fn addresses_of_interfaces_are_own() {
        let interfaces = nix::ifaddrs::getifaddrs().unwrap();
        let mut seen = 0;
        for found in interfaces.filter_map(|interface| interface.address) {
            let Some(address) = found.as_sockaddr_in() else { continue };
            assert!(is_own(format!("{}:8090", address.ip()).as_bytes(), &origin(None)), "{address}");
            seen += 1;
        }
        assert!(seen > 0, "not even loopback");
    }
}
