//! A call of the API that came in through a location of the configuration, or over the control socket.
//!
//! Owns: the shape of a call and of its answer, and who is calling. Must never: interpret either.

use std::net::IpAddr;
use std::pin::Pin;

/// A request to the API, its body read.
#[derive(Clone, Debug)]
pub struct ApiCall {
    /// The method, as sent.
    pub method: Vec<u8>,
    /// The path below the location, beginning with `/`, as sent.
    pub path: Vec<u8>,
    /// The query, without `?`.
    pub query: Vec<u8>,
    /// All header fields, names in lower case. `host` is the host asked for, also where the target names it.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// Who calls.
    pub actor: Origin,
}

/// The caller, as far as the transport identifies it; a bearer token may name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The transport.
    pub via: Via,
    /// The name that the transport gives: the user of `auth_basic`, or the user of the process at the socket's other end;
    /// empty if there is none.
    pub name: String,
    /// The client's certificate, if the server has verified it.
    pub certificate: Option<VerifiedCertificate>,
    /// The connection is encrypted.
    pub over_tls: bool,
    /// The client's address, for the record; empty on the control socket.
    pub address: String,
    /// The address of this machine at which the connection arrived; `None` on a unix socket.
    pub local: Option<IpAddr>,
    /// The location's server's `server_name`s, in lower case, wildcards and regular expressions as written; empty on
    /// the control socket.
    pub server_names: Vec<Vec<u8>>,
}

impl Origin {
    /// Returns a process at the other end of the control socket.
    pub fn at_socket(name: String) -> Origin {
        Origin {
            via: Via::Socket,
            name,
            certificate: None,
            over_tls: false,
            address: String::new(),
            local: None,
            server_names: Vec::new(),
        }
    }
}

/// A client certificate that leads to an authority of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCertificate {
    /// The SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// Its subject, as `$ssl_client_s_dn` shows it.
    pub subject: String,
}

/// The transport of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The control socket: its file permissions decide who may open it, and its users may do everything.
    Socket,
    /// A location with `control_api`, behind its access rules.
    Location,
    /// A location with `control_ui`, behind its access rules: who calls has logged in.
    Dashboard,
}

/// Where the answer to an [`ApiCall`] goes. Dropping it ends the answer.
pub trait ApiAnswer: Send + Sync {
    /// The status and the header fields, once, before any chunk. Without `content-length` among them the length is not
    /// known beforehand.
    fn head(&mut self, status: u16, headers: Vec<(String, String)>);
    /// Returns a piece of the body. False if the client has gone: what follows is of no use.
    fn chunk(&mut self, bytes: Vec<u8>) -> bool;
    /// Completes when the client has gone.
    fn gone(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
