//! The input of a pick, and its error.
//!
//! Owns: what the request hands to its balancer. Must never: know how a balancer uses it.

use std::fmt;
use std::net::IpAddr;

/// The part of a request that the choice of a peer depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickInput<'a> {
    /// The evaluated key of `hash`. Empty means round robin, as in nginx. Other balancers ignore it.
    pub key: &'a [u8],
    /// The client's address, for `ip_hash`; `None` if it came over a UNIX-domain socket.
    pub client: Option<IpAddr>,
}

/// Why no peer was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickError {
    /// Every peer is down, failed, full or tried already, backups included. The request ends with 502, and
    /// `$upstream_addr` shows the group's name.
    NoLive,
    /// The group has no servers. The request ends likewise.
    Empty,
}

/// The text that is written to the error log, level `error`; nginx has no empty groups.
impl fmt::Display for PickError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PickError::NoLive => f.write_str("no live upstreams"),
            PickError::Empty => f.write_str("no servers in upstream"),
        }
    }
}

impl std::error::Error for PickError {}
