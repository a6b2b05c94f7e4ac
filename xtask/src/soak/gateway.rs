//! The gateway with a native switch that several parts put to the test.

use crate::server::{Folder, free_ports};
use std::net::{Ipv4Addr, SocketAddr};

const CONF: &str = include_str!("points.conf");

/// The groups by their numbers: the default, and the other one.
pub(super) const GROUPS: [&str; 2] = ["blue", "green"];

/// A folder with the configuration in it, and where it will listen.
pub(super) struct Gateway {
    pub(super) folder: Folder,
    pub(super) front: SocketAddr,
    /// The ports of the two groups' servers.
    pub(super) groups: [[u16; 2]; 2],
}

impl Gateway {
    /// Makes the folder of a gateway that does not run yet.
    pub(super) fn make(name: &str) -> Result<Gateway, String> {
        let ports: [u16; 5] = free_ports()?;
        let names = ["{front}", "{a}", "{b}", "{c}", "{d}"];
        let text = names
            .iter()
            .zip(ports)
            .fold(CONF.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
        Ok(Gateway {
            folder: Folder::make(name, &[("conf/nginx.conf", text)])?,
            front: SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0])),
            groups: [[ports[1], ports[2]], [ports[3], ports[4]]],
        })
    }
}
