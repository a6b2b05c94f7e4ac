//! A gateway with a native switch, which several tests share.

use std::net::SocketAddr;

use crate::server::{Program, Server, SharedDir, address, prepare};

const CONF: &str = include_str!("native_switches.conf");

/// The upstream groups by number: the default, and the other one.
pub(crate) const GROUPS: [&str; 2] = ["blue", "green"];

/// A directory with the configuration, and where the gateway will listen.
pub(crate) struct Gateway {
    pub(crate) dir: SharedDir,
    pub(crate) front: SocketAddr,
    /// The ports of the servers of the two groups.
    pub(crate) groups: [[u16; 2]; 2],
}

impl Gateway {
    /// Prepares a gateway that does not run yet.
    pub(crate) fn prepare() -> Result<Gateway, String> {
        let dir = prepare(CONF)?;
        let front = address(&dir, "front")?;
        let groups = [[dir.port("a")?, dir.port("b")?], [dir.port("c")?, dir.port("d")?]];
        Ok(Gateway { dir, front, groups })
    }

    /// Starts it.
    pub(crate) fn start(&self, program: &Program) -> Result<Server, String> {
        Server::start(program, &self.dir, self.front)
    }
}
