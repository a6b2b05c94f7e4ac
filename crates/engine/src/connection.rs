//! The client's connection as a request sees it: its two ends, its number and its age.

use crate::clock::Now;
use crate::tls_session::TlsSession;
use http::ProxyHeader;
use std::net::SocketAddr;
use std::rc::Rc;

/// The client's connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The number in the error log (`*7`), counted over the whole process.
    pub serial: u64,
    /// Requests on this connection so far, this one included.
    pub requests: u64,
    /// The client's address, which `set_real_ip_from` changes for a request; `None` on a unix socket.
    pub remote: Option<SocketAddr>,
    /// The address it came to; `None` on a unix socket.
    pub local: Option<SocketAddr>,
    /// The path, when it came to a unix socket.
    pub local_path: Option<Rc<Vec<u8>>>,
    /// The result of the TLS handshake; `None` without TLS.
    pub tls: Option<Rc<TlsSession>>,
    /// Its header of the PROXY protocol; `None` if it has none.
    pub proxy_protocol: Option<Box<ProxyProtocol>>,
    /// The listener it was accepted on.
    pub listener: usize,
    /// Bytes the server sent on this connection before this request's answer.
    pub sent_before: u64,
    /// The time at which it was accepted.
    pub opened: Now,
    /// The longest idle time before the next request, in ms: that of the last request's location.
    pub idle_timeout_ms: u32,
    /// For how much of that it is not closed even if this process ends or connections run out, in ms.
    pub idle_min_ms: u32,
}

/// The header of the PROXY protocol at the beginning of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// It has not come yet.
    Awaited,
    /// Its addresses.
    Header(ProxyHeader),
}

impl Connection {
    /// Returns the port that URLs of its scheme need not name.
    pub fn default_port(&self) -> u16 {
        if self.tls.is_some() { 443 } else { 80 }
    }

    /// Returns the scheme of its URLs.
    pub fn scheme(&self) -> &'static [u8] {
        if self.tls.is_some() { b"https" } else { b"http" }
    }

    /// Returns the addresses that the header of the PROXY protocol gave.
    pub fn proxy_header(&self) -> Option<&ProxyHeader> {
        match self.proxy_protocol.as_deref() {
            Some(ProxyProtocol::Header(header)) => Some(header),
            _ => None,
        }
    }
}
