//! What a handshake agreed on, as requests see it.

use crate::clients;
use crate::contexts::Context;
use crate::der;
use crate::names;
use crate::resolver;
use crate::tailored::Tailored;
use aws_lc_rs::rand;
use engine::tls_session::{TlsSession, Verified};
use rustls::server::{Accepted, ServerConnection};
use rustls::{HandshakeKind, ProtocolVersion};
use rustls_pki_types::UnixTime;
use std::sync::Arc;

/// The offer of a client's first message.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The server name that it asks for, in lower case.
    pub server_name: Option<Box<[u8]>>,
    ciphers: String,
    curves: String,
    /// It offers suites of TLS 1.3.
    has_tls13: bool,
}

/// The bytes of a session's number.
const SESSION_ID: usize = 32;

/// Gives a session that begins a number; one that is resumed keeps its own. To be called before the handshake goes on.
pub fn identify_session(connection: &mut ServerConnection) -> String {
    let mut id = [0; SESSION_ID];
    match connection.received_resumption_data() {
        Some(known) if known.len() == SESSION_ID => id.copy_from_slice(known),
        // Without randomness there is no TLS.
        _ => drop(rand::fill(&mut id)),
    }
    connection.set_resumption_data(&id);
    der::hex(&id, false)
}

impl Offer {
    /// Reads the first message.
    pub fn new(accepted: &Accepted) -> Offer {
        let hello = accepted.client_hello();
        Offer {
            server_name: hello.server_name().map(|name| name.to_ascii_lowercase().into_bytes().into()),
            ciphers: names::ciphers(hello.cipher_suites()),
            curves: hello.named_groups().map(names::groups).unwrap_or_default(),
            has_tls13: hello.cipher_suites().iter().any(|suite| resolver::is_tls13(*suite)),
        }
    }

    /// Returns what is known of a handshake before its server is chosen; the server may speak TLS 1.3.
    pub fn begun_session(&self, has_tls13: bool) -> TlsSession {
        let is_tls13 = has_tls13 && self.has_tls13;
        let version = if is_tls13 { ProtocolVersion::TLSv1_3 } else { ProtocolVersion::TLSv1_2 };
        TlsSession {
            server_name: self.server_name.clone(),
            protocol: names::protocol(version),
            cipher: "",
            curve: "",
            offered_ciphers: self.ciphers.clone(),
            offered_curves: self.curves.clone(),
            alpn: None,
            id: String::new(),
            resumed: false,
            certificate: None,
            verified: Verified::None,
            terms: Arc::default(),
        }
    }
}

impl Context {
    /// Returns what is known of a handshake that has begun.
    pub fn begun_session(&self, offer: &Offer) -> TlsSession {
        TlsSession { terms: Arc::clone(&self.terms), ..offer.begun_session(self.resolver.has_tls13) }
    }

    /// Returns what a finished handshake agreed on, which followed `tailored` if that is there; verifies the client's certificate.
    pub fn session(
        &self,
        offer: Offer,
        id: String,
        connection: &ServerConnection,
        tailored: Option<&Tailored>,
    ) -> TlsSession {
        let (authorities, terms) = match tailored.and_then(|tailored| tailored.verification.as_ref()) {
            Some((authorities, terms)) => (Some(authorities), terms),
            None => (self.authorities.as_ref(), &self.terms),
        };
        let chain = connection.peer_certificates().unwrap_or_default();
        let verified = match authorities {
            Some(authorities) if !chain.is_empty() => authorities.verify(chain, UnixTime::now()),
            _ => Verified::None,
        };
        let suite = connection.negotiated_cipher_suite();
        let group = connection.negotiated_key_exchange_group();
        TlsSession {
            server_name: offer.server_name,
            protocol: names::protocol(connection.protocol_version().unwrap_or(ProtocolVersion::TLSv1_2)),
            cipher: suite.map(|suite| names::cipher(suite.suite())).unwrap_or_default(),
            curve: group.map(|group| names::group(group.name())).unwrap_or_default(),
            offered_ciphers: offer.ciphers,
            offered_curves: offer.curves,
            alpn: connection.alpn_protocol().map(Into::into),
            id,
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            certificate: chain.first().map(|first| Box::new(clients::shown(first))),
            verified,
            terms: Arc::clone(terms),
        }
    }
}
