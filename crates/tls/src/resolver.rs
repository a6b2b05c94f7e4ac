//! Which certificate of a server a handshake gets.

use crate::issued::Issued;
use crate::slot::Slot;
use engine::modules::acme::OnDemand;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm};
use std::sync::Arc;

/// Chooses among the pairs of a server by what the client can verify.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    pub(crate) pairs: Vec<Arc<CertifiedKey>>,
    /// Certificates that ACME issues: they come first.
    pub(crate) issued: Vec<Arc<Slot>>,
    /// The certificates that ACME issues for the host that the client names: if there is one, it is the only choice.
    pub(crate) on_demand: Option<(Issued, OnDemand)>,
    pub(crate) has_tls13: bool,
}

impl Resolver {
    /// Returns true if the client has offered a suite for this kind of key.
    fn is_usable(&self, pair: &CertifiedKey, hello: &ClientHello<'_>) -> bool {
        let wants_ecdsa = pair.key.algorithm() != SignatureAlgorithm::RSA;
        hello.cipher_suites().iter().any(|suite| match suite {
            suite if is_tls13(*suite) => self.has_tls13,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => wants_ecdsa,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => !wants_ecdsa,
            _ => false,
        })
    }

    fn choose(&self, pairs: &[Arc<CertifiedKey>], hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // In the client's order of signatures.
        let wanted = hello.signature_schemes().iter().find_map(|scheme| {
            pairs
                .iter()
                .find(|pair| pair.key.choose_scheme(&[*scheme]).is_some() && self.is_usable(pair, hello))
        });
        wanted.or(pairs.first()).cloned()
    }
}

/// Returns true for the suites of TLS 1.3 that there are.
pub(crate) fn is_tls13(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
    )
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let (Some((issued, on_demand)), Some(name)) = (&self.on_demand, hello.server_name()) {
            let own = issued.current(&on_demand.wanted(&name.to_ascii_lowercase()).id);
            if own.is_some() {
                return own;
            }
        }
        if self.issued.is_empty() {
            return self.choose(&self.pairs, &hello);
        }
        let issued = self.issued.iter().filter_map(|slot| slot.current());
        let pairs: Vec<_> = issued.chain(self.pairs.iter().cloned()).collect();
        self.choose(&pairs, &hello)
    }
}
