//! `ssl_client_hello_by_lua*` and `ssl_certificate_by_lua*`: what scripts of a handshake see of it, and what they want of it.
//!
//! Plain data. The functions of `ngx.ssl` write it down; the server carries it out before the handshake goes on. Must never
//! look into a certificate or key: the crate `tls` does.

use crate::ssl_file::SslFile;
use std::any::Any;
use std::rc::Rc;

/// The client's first message, as far as scripts ask for it.
#[derive(Clone, Debug, Default)]
pub struct HelloFacts {
    /// Its random bytes.
    pub random: Box<[u8]>,
    /// Its extensions, with their types, in their order.
    pub extensions: Vec<(u16, Box<[u8]>)>,
}

impl HelloFacts {
    /// Returns an extension.
    pub fn extension(&self, kind: u16) -> Option<&[u8]> {
        self.extensions.iter().find(|(known, _)| *known == kind).map(|(_, bytes)| &**bytes)
    }
}

/// The verification of the client that a script wants.
#[derive(Clone, Debug)]
pub struct ScriptVerification {
    /// The authorities; `None` are those of the server.
    pub authorities: Option<SslFile>,
    /// How many intermediate certificates there may be; `None` is the server's.
    pub depth: Option<u64>,
}

/// The data that the scripts of a handshake and the server exchange.
#[derive(Debug, Default)]
pub struct HandshakeScript {
    /// The client's first message.
    pub hello: HelloFacts,
    /// The protocol that will be spoken, by its number; 0 before it is known.
    pub version: u16,
    /// The server's own certificates are not to be used.
    pub clears: bool,
    /// Chains of certificates, which are the host's ([`crate::host::Host::tls_part`]), in the order in which they were set.
    pub chains: Vec<Rc<dyn Any>>,
    /// Private keys, as the chains.
    pub keys: Vec<Rc<dyn Any>>,
    /// The protocols that alone may be spoken, of those that are configured: TLS 1.2 and 1.3.
    pub protocols: Option<(bool, bool)>,
    /// How the client is verified, if a script has said so.
    pub verification: Option<ScriptVerification>,
}
