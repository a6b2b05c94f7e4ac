//! The context of one handshake, where that has more than its server's: certificates that it names itself, and what its scripts
//! have said.

use crate::authorities::{Authorities, Usage};
use crate::clients;
use crate::contexts::Context;
use crate::hello;
use crate::late::{HandshakeFiles, LatePairs};
use crate::resolver::Resolver;
use crate::script_parts;
use crate::suites;
use engine::modules::lua::handshake::{HandshakeScript, HelloFacts, ScriptVerification};
use engine::modules::ssl::{HandshakePair, SslSettings};
use engine::tls_session::{ClientTerms, VerifyClient};
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::sync::Arc;

/// The additions of a handshake to its server's context.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Certificates beside the context's own.
    pub pairs: Vec<Arc<CertifiedKey>>,
    /// The context's own are not used.
    clears: bool,
    /// The protocols that alone may be spoken: TLS 1.2 and 1.3.
    protocols: Option<(bool, bool)>,
    verification: Option<ScriptVerification>,
}

impl Wishes {
    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        let Wishes { pairs, clears, protocols, verification } = self;
        pairs.is_empty() && !clears && protocols.is_none() && verification.is_none()
    }

    /// Returns what the scripts of a handshake have said.
    pub fn of_script(said: &HandshakeScript) -> Wishes {
        Wishes {
            pairs: script_parts::pairs(&said.chains, &said.keys),
            clears: said.clears,
            protocols: said.protocols,
            verification: said.verification.clone(),
        }
    }
}

/// The context that a handshake follows.
pub struct Tailored {
    /// The configuration.
    pub config: Arc<ServerConfig>,
    /// How the client is verified, if not as the context does.
    pub(crate) verification: Option<(Authorities, Arc<ClientTerms>)>,
}

/// Why there can be no handshake.
#[derive(Debug, PartialEq, Eq)]
pub enum TailorFault {
    /// There is no certificate left.
    NoCertificate,
    /// There is no protocol left.
    NoProtocol,
    /// The client cannot be verified: the text says why.
    Verification(String),
}

impl Context {
    /// Returns true if the names of some of its certificates have variables: [`Context::load_late`] loads them.
    pub fn has_late(&self) -> bool {
        self.late.is_some()
    }

    /// Loads the certificates that a handshake names.
    ///
    /// # Errors
    /// Fails if one cannot be read or used; the text is for the error log.
    pub fn load_late(
        &self,
        names: &[HandshakePair],
        files: &mut dyn HandshakeFiles,
    ) -> Result<Vec<Arc<CertifiedKey>>, String> {
        let load = |late: &LatePairs| names.iter().map(|pair| late.load(pair, files)).collect();
        self.late.as_ref().map_or(Ok(Vec::new()), load)
    }

    /// Returns the number of the protocol that a handshake will have.
    pub fn version(&self, hello: &HelloFacts, protocols: Option<(bool, bool)>) -> u16 {
        let is_allowed = protocols.is_none_or(|(_, tls13)| tls13) && self.resolver.has_tls13;
        if is_allowed && hello::offers_tls13(hello) { 0x304 } else { 0x303 }
    }

    /// Returns what a handshake follows that has more than the context; with HTTP/2 among the protocols if that may be spoken. `ssl`
    /// are the settings of the context's server.
    ///
    /// # Errors
    /// Fails if nothing is left of what the handshake needs.
    pub fn tailored(
        &self,
        speaks_http2: bool,
        wishes: Wishes,
        ssl: &SslSettings,
    ) -> Result<Tailored, TailorFault> {
        let base = self.config(speaks_http2);
        let versions = self.versions(base, wishes.protocols)?;
        let verification = wishes.verification.map(|wanted| verify_client(wanted, ssl)).transpose()?;
        let resolver = self.tailored_resolver(wishes.pairs, wishes.clears)?;
        let has_tls13 = versions.contains(&&rustls::version::TLS13);
        let resolver = Arc::new(Resolver { has_tls13, ..resolver });
        let mut config = match (&verification, wishes.protocols) {
            (None, None) => {
                let mut config = ServerConfig::clone(base);
                config.cert_resolver = resolver;
                config
            }
            _ => {
                let verifier = match &verification {
                    Some(verification) => Arc::clone(&verification.verifier),
                    None => Arc::clone(&self.verifier),
                };
                rebuilt(base, &versions, verifier, resolver)?
            }
        };
        let verification = verification.map(|Verification { authorities, terms, .. }| {
            self.resumption.apply(&mut config, clients::digest_of(&terms));
            (authorities, terms)
        });
        Ok(Tailored { config: Arc::new(config), verification })
    }

    fn versions(
        &self,
        base: &ServerConfig,
        protocols: Option<(bool, bool)>,
    ) -> Result<Vec<&'static SupportedProtocolVersion>, TailorFault> {
        let mut versions = suites::versions(&base.crypto_provider().cipher_suites);
        if let Some((tls12, tls13)) = protocols {
            versions.retain(|version| if **version == rustls::version::TLS13 { tls13 } else { tls12 });
        }
        if versions.is_empty() { Err(TailorFault::NoProtocol) } else { Ok(versions) }
    }

    /// Returns the certificates of a handshake. As in OpenSSL there is one for each kind of key: those that are set take the place
    /// of the context's.
    fn tailored_resolver(
        &self,
        pairs: Vec<Arc<CertifiedKey>>,
        clears: bool,
    ) -> Result<Resolver, TailorFault> {
        let mut resolver = Resolver::clone(&self.resolver);
        if clears {
            resolver.pairs.clear();
            resolver.issued.clear();
            resolver.on_demand = None;
        }
        let is_set =
            |known: &CertifiedKey| pairs.iter().any(|pair| pair.key.algorithm() == known.key.algorithm());
        resolver.pairs.retain(|known| !is_set(known));
        resolver.issued.retain(|slot| slot.current().is_none_or(|known| !is_set(&known)));
        resolver.pairs.extend(pairs);
        let is_empty = resolver.pairs.is_empty()
            && resolver.issued.iter().all(|slot| slot.current().is_none())
            && resolver.on_demand.is_none();
        if is_empty { Err(TailorFault::NoCertificate) } else { Ok(resolver) }
    }
}

/// How a script has a client verified.
struct Verification {
    verifier: Arc<dyn ClientCertVerifier>,
    authorities: Authorities,
    terms: Arc<ClientTerms>,
}

fn verify_client(wanted: ScriptVerification, ssl: &SslSettings) -> Result<Verification, TailorFault> {
    let client = &ssl.client;
    let (files, revocations) = match wanted.authorities {
        Some(file) => (vec![file], None),
        None => {
            let files = client.certificate.iter().chain(client.trusted.iter()).cloned().collect();
            (files, client.revocations.get().clone())
        }
    };
    let depth = wanted.depth.unwrap_or(*client.depth);
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let loaded = Authorities::load(&files, revocations.as_ref(), depth, Usage::Clients, algorithms);
    let authorities = loaded.map_err(|fault| TailorFault::Verification(fault.text))?;
    let verifier = Arc::new(clients::AskClient::new(authorities.names(), algorithms));
    let verify = VerifyClient::Optional;
    let terms = Arc::new(ClientTerms { verify, depth, authorities: files, revocations });
    Ok(Verification { verifier, authorities, terms })
}

/// Returns the same configuration with other protocols, or another way to verify clients.
fn rebuilt(
    base: &ServerConfig,
    versions: &[&'static SupportedProtocolVersion],
    verifier: Arc<dyn ClientCertVerifier>,
    resolver: Arc<Resolver>,
) -> Result<ServerConfig, TailorFault> {
    let built = ServerConfig::builder_with_provider(Arc::clone(base.crypto_provider()))
        .with_protocol_versions(versions)
        .map_err(|_| TailorFault::NoProtocol)?;
    let mut config = built.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
    config.ignore_client_order = base.ignore_client_order;
    config.max_fragment_size = base.max_fragment_size;
    config.session_storage = Arc::clone(&base.session_storage);
    config.ticketer = Arc::clone(&base.ticketer);
    config.alpn_protocols.clone_from(&base.alpn_protocols);
    config.max_early_data_size = base.max_early_data_size;
    config.send_half_rtt_data = base.send_half_rtt_data;
    Ok(config)
}
