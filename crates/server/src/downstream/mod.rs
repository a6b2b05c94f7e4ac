//! Clients' connections: accepted, idle, parked, or serving requests.

pub(crate) mod accept;
mod answer;
pub(crate) mod conn;
mod handshake;
pub(crate) mod http1;
mod http2;
pub(crate) mod idle;
mod linger;
mod on_demand;
pub(crate) mod parking;
pub(crate) mod proxy_protocol;
pub(crate) mod tls;
