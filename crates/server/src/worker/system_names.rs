//! Host names that stand in a configuration, resolved by the system when it is loaded.

use engine::config::NameLookup;
use std::net::{SocketAddr, ToSocketAddrs};

/// The system's resolver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemNames;

impl NameLookup for SystemNames {
    fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let mut found: Vec<SocketAddr> =
            (host, port).to_socket_addrs().map_err(|error| error.to_string())?.collect();
        found.dedup();
        Ok(found)
    }
}
