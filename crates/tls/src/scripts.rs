//! TLS on sockets that scripts open: what `sslhandshake` does under a location's `lua_ssl_…`.
//!
//! Whether the peer is verified, and for which name, comes with each handshake. A session belongs to the script that got it.

use crate::authorities::{Authorities, FileFault, Usage, check_signature, check_tls13_signature};
use crate::certificates;
use crate::fault_text::{HandshakePeer, fault_text};
use crate::suites::{self, WantedSuites};
use crate::upstreams::{is_for, pair};
use conf::Diagnostic;
use engine::modules::proxy::ProxySslSettings;
use engine::modules::ssl::SslSource;
use engine::ssl_file::SslFile;
use engine::tls_session::Verified;
use engine::{Config, LocationId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, OtherError,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Sessions kept for a script's session object: rustls divides them by eight for the names that the peer is asked for.
const SESSIONS: usize = 8;

/// The TLS of locations with equal settings.
#[derive(Debug)]
pub struct ScriptContext {
    /// With and without verifying the peer.
    verifying: ClientConfig,
    trusting: ClientConfig,
}

/// A session that a script may resume.
#[derive(Clone, Debug)]
pub struct ScriptSession(Arc<ClientSessionMemoryCache>);

impl Default for ScriptSession {
    fn default() -> ScriptSession {
        ScriptSession(Arc::new(ClientSessionMemoryCache::new(SESSIONS)))
    }
}

/// A certificate that a script shows to its peer.
#[derive(Clone, Debug)]
pub struct ScriptCertificate(Arc<CertifiedKey>);

impl ScriptCertificate {
    /// Makes one of a chain and its key in PEM.
    ///
    /// # Errors
    /// Fails if they are broken, or do not belong together; the text is for the script.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<ScriptCertificate, String> {
        let pair = certificates::of_texts(chain, key, &aws_lc_rs::default_provider())?;
        Ok(ScriptCertificate(Arc::new(pair)))
    }

    /// Returns true if it is the same certificate.
    pub fn is_same(&self, other: &ScriptCertificate) -> bool {
        self.0.cert == other.0.cert
    }
}

impl ScriptContext {
    /// Begins a connection. `name` is sent, and the peer's certificate must be for it if that is verified; an empty one is
    /// neither. Without a session nothing is resumed.
    ///
    /// # Errors
    /// Fails if the name cannot be sent; the text is for the script.
    pub fn connect(
        &self,
        name: &[u8],
        verifies: bool,
        session: Option<&ScriptSession>,
        certificate: Option<&ScriptCertificate>,
    ) -> Result<ClientConnection, String> {
        let text = String::from_utf8_lossy(name);
        let name = match ServerName::try_from(text.strip_suffix('.').unwrap_or(&text)) {
            Ok(name) => name.to_owned(),
            // It is neither sent nor compared.
            Err(_) if text.is_empty() || !verifies => nameless(),
            Err(_) => return Err(NO_MATCH.to_owned()),
        };
        let mut config = if verifies { self.verifying.clone() } else { self.trusting.clone() };
        if let Some(ScriptSession(store)) = session {
            config.resumption = Resumption::store(store.clone());
        }
        if let Some(ScriptCertificate(pair)) = certificate {
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(pair)));
        }
        ClientConnection::new(Arc::new(config), name).map_err(|_| "handshake failed".to_owned())
    }
}

fn nameless() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
}

/// What a script gets whose peer has the certificate of another name.
const NO_MATCH: &str = "certificate host mismatch";

/// Why a handshake failed: what the script gets, and the line of the error log, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptHandshakeFault {
    /// The text for the script.
    pub text: String,
    /// The line of the error log.
    pub log: Option<String>,
}

/// Returns what is said of a handshake that failed.
pub fn script_fault(error: &Error, name: &[u8]) -> ScriptHandshakeFault {
    if let Error::InvalidCertificate(CertificateError::Other(OtherError(fault))) = error
        && let Some(fault) = fault.downcast_ref::<NotAccepted>()
    {
        return match fault {
            NotAccepted::Chain(code, text) => ScriptHandshakeFault {
                text: format!("{code}: {text}"),
                log: Some(format!("lua ssl certificate verify error: ({code}: {text})")),
            },
            NotAccepted::Name => ScriptHandshakeFault {
                text: NO_MATCH.to_owned(),
                log: Some(format!(
                    "lua ssl certificate does not match host \"{}\"",
                    String::from_utf8_lossy(name)
                )),
            },
        };
    }
    let log = format!("SSL_do_handshake() failed (SSL: {})", fault_text(error, HandshakePeer::Upstream));
    ScriptHandshakeFault { text: "handshake failed".to_owned(), log: Some(log) }
}

/// Verifies a peer's certificate, if that is wanted, and that it has the key in any case.
#[derive(Debug)]
struct VerifyPeer {
    authorities: Option<Authorities>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why a certificate is not accepted.
#[derive(Debug)]
enum NotAccepted {
    Chain(u32, String),
    Name,
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAccepted::Chain(code, text) => write!(out, "{code}: {text}"),
            NotAccepted::Name => out.write_str(NO_MATCH),
        }
    }
}

impl std::error::Error for NotAccepted {}

fn not_accepted(why: NotAccepted) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

impl ServerCertVerifier for VerifyPeer {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        let chain: Vec<CertificateDer<'_>> =
            [first].into_iter().chain(rest).map(|it| CertificateDer::from(&**it)).collect();
        if let Verified::Failed { code, text } = authorities.verify(&chain, now) {
            return Err(not_accepted(NotAccepted::Chain(code, text.to_string())));
        }
        if *name == nameless() || is_for(first, name) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(not_accepted(NotAccepted::Name))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(&self.algorithms, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_tls13_signature(&self.algorithms, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The TLS of scripts' sockets in all locations of a configuration; none without Lua.
#[derive(Debug, Default)]
pub struct ScriptContexts {
    locations: Vec<Option<Arc<ScriptContext>>>,
}

/// What is equal where settings are: levels that inherit a file share its bytes.
#[derive(PartialEq, Eq, Hash)]
struct Settings {
    versions: [bool; 2],
    depth: u64,
    texts: [Option<String>; 2],
    files: [usize; 5],
}

impl Settings {
    fn of(ssl: &ProxySslSettings) -> Settings {
        let texts = [&ssl.ciphers, &ssl.suites].map(|text| text.as_ref().map(|it| it.text.clone()));
        let sources = [&ssl.certificate, &ssl.key].map(|source| source.as_ref().and_then(SslSource::file));
        let others = [&ssl.passwords, &ssl.trusted, &ssl.revocations].map(|file| file.as_ref());
        let [certificate, key] = sources;
        let [passwords, trusted, revocations] = others;
        let files = [certificate, key, passwords, trusted, revocations];
        let files = files.map(|file| file.map_or(0, |file: &SslFile| file.bytes().as_ptr().addr()));
        Settings { versions: [ssl.versions.tls12, ssl.versions.tls13], depth: *ssl.depth, texts, files }
    }
}

impl ScriptContexts {
    /// Builds the contexts of a configuration. Faults and warnings go to `findings`; with a fault among them the result is
    /// not to be used.
    pub fn build(config: &Config, findings: &mut Vec<Diagnostic>) -> ScriptContexts {
        if !config.lua.used {
            return ScriptContexts::default();
        }
        let mut known: HashMap<Settings, Option<Arc<ScriptContext>>> = HashMap::new();
        let of = |location: &engine::config::Location| {
            let ssl = &location.settings.lua.ssl;
            known.entry(Settings::of(ssl)).or_insert_with(|| context(ssl, findings).map(Arc::new)).clone()
        };
        ScriptContexts { locations: config.locations.iter().map(of).collect() }
    }

    /// Returns the context of a location.
    pub fn get(&self, location: LocationId) -> Option<&Arc<ScriptContext>> {
        self.locations.get(location.0 as usize)?.as_ref()
    }
}

fn context(ssl: &ProxySslSettings, findings: &mut Vec<Diagnostic>) -> Option<ScriptContext> {
    let standard = aws_lc_rs::default_provider();
    let algorithms = standard.signature_verification_algorithms;
    let wanted = WantedSuites {
        versions: *ssl.versions,
        ciphers: ssl.ciphers.as_ref(),
        suites: ssl.suites.as_ref(),
        directive: "lua_ssl_ciphers",
        at: None,
    };
    if let (Some(certificate), None) = (ssl.certificate.get(), ssl.key.get()) {
        let text = format!(
            "no \"lua_ssl_certificate_key\" is defined for certificate \"{}\"",
            certificate.written()
        );
        let help = "name the key that belongs to it: `lua_ssl_certificate_key client.key;`";
        findings.push(Diagnostic::error(certificate.span(), text).help(help));
        return None;
    }
    let pair = pair(ssl, &standard, findings)?;
    let (files, revocations) = (ssl.trusted.iter(), ssl.revocations.as_ref());
    let authorities = match Authorities::load(files, revocations, *ssl.depth, Usage::Upstreams, algorithms) {
        Ok(authorities) => authorities,
        Err(FileFault { file, text }) => {
            findings.push(Diagnostic::error(file.span, text));
            return None;
        }
    };
    let suites = suites::select(wanted, findings)?;
    let versions = suites::versions(&suites);
    let provider = Arc::new(CryptoProvider { cipher_suites: suites, ..standard });
    let mut config = |authorities| {
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions);
        let builder = match builder {
            Ok(builder) => builder,
            Err(error) => {
                findings.push(Diagnostic::error(None, format!("TLS of scripts cannot be set up: {error}")));
                return None;
            }
        };
        let verifier = Arc::new(VerifyPeer { authorities, algorithms });
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match &pair {
            Some(pair) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(pair))))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Some(config)
    };
    Some(ScriptContext { verifying: config(Some(authorities))?, trusting: config(None)? })
}
