//! The local address of connections to upstreams (`proxy_bind` and its like).

use super::rewrite::with_value;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use std::net::{IpAddr, SocketAddr};

/// Reads an address, with a port or without: then the system chooses it.
pub fn local_address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let without_port = || bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    text.parse().ok().or_else(without_port)
}

/// Returns the local address of the request's connections; `None` leaves it to the system, as nginx does where a variable holds
/// none.
pub fn local_address_of(exchange: &mut Exchange, env: &mut Env<'_>) -> Option<SocketAddr> {
    let settings = &exchange.settings(env.config).proxy;
    let template = settings.connection.bind.get().as_ref()?;
    let found = with_value(template, exchange, env, |text| local_address(text).ok_or_else(|| text.to_vec()));
    match found {
        Ok(address) => Some(address),
        Err(text) if text.is_empty() => None,
        Err(text) => {
            let line = [b"invalid local address \"", &*text, b"\""].concat();
            log_line::error(exchange, env, Level::Error, &line);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_may_have_a_port() {
        let read = |text: &str| local_address(text.as_bytes()).map(|address| address.to_string());
        assert_eq!(read("127.0.0.1").as_deref(), Some("127.0.0.1:0"));
        assert_eq!(read("127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(read("[::1]").as_deref(), Some("[::1]:0"));
        assert_eq!(read("::1").as_deref(), Some("[::1]:0"));
        assert_eq!(read("[::1]:9").as_deref(), Some("[::1]:9"));
        for bad in ["", "localhost", "127.0.0.1:", "unix:/a", "[::1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
