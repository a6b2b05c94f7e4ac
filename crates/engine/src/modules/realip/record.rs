//! A request's part in `set_real_ip_from`: the client of the connection itself, as long as the request has another one.

use crate::connection::Connection;
use std::net::SocketAddr;

/// The connection's own client, while a request has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealIpRecord(Option<Option<SocketAddr>>);

impl RealIpRecord {
    /// Returns true if the request has another client than its connection.
    pub(super) fn is_changed(&self) -> bool {
        self.0.is_some()
    }

    /// Gives the connection another client until the request is over.
    pub(super) fn change(&mut self, connection: &mut Connection, client: Option<SocketAddr>) {
        self.0 = Some(std::mem::replace(&mut connection.remote, client));
    }

    /// Returns the address of the connection's other end, whatever the request says about it.
    pub fn peer(&self, connection: &Connection) -> Option<SocketAddr> {
        self.0.unwrap_or(connection.remote)
    }

    /// Gives the connection its own client back: the request is over.
    pub fn restore(&mut self, connection: &mut Connection) {
        if let Some(peer) = self.0.take() {
            connection.remote = peer;
        }
    }
}
