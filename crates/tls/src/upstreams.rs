//! TLS to upstreams: how a location speaks to its https upstreams.
//!
//! An upstream's certificate is verified in the handshake; a session that is resumed was verified when it began. Source:
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_ssl_verify>.

use crate::authorities::{Authorities, FileFault, Usage, check_signature, check_tls13_signature};
use crate::certificates::{self, Pair};
use crate::der;
use crate::fault_text::{HandshakePeer, fault_text};
use crate::late::{HandshakeFiles, LatePairs};
use crate::suites::{self, WantedSuites};
use ::aws_lc_rs::digest;
use conf::Diagnostic;
use engine::modules::proxy::ProxySslSettings;
use engine::modules::ssl::{HandshakePair, SslSource};
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
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use webpki::EndEntityCert;

/// The most peers whose sessions are kept for a context. With more of them all are forgotten.
const MAX_PEERS: usize = 1024;

/// Sessions kept for each peer: rustls divides them by eight for the names that the peer is asked for.
const SESSIONS: usize = 64;

/// How locations with equal settings speak to their upstreams.
pub struct UpstreamContext {
    /// What connections follow, but for sessions.
    config: ClientConfig,
    verifies: bool,
    session_reuse: bool,
    /// The same for each peer, by its address as it is shown, and each certificate that was read for it: a session belongs to the
    /// peer that has begun it, and to those who began it.
    peers: Mutex<HashMap<PeerKey, Arc<ClientConfig>>>,
    /// The certificates that handshakes read.
    late: Option<LatePairs>,
    /// A digest of the settings: contexts with the same one, of an earlier configuration too, do the same.
    pub id: [u8; 32],
}

impl fmt::Debug for UpstreamContext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("UpstreamContext").field("id", &der::hex(&self.id, false)).finish_non_exhaustive()
    }
}

impl UpstreamContext {
    /// Begins a connection to the peer of this address, whose certificate must be for `name`, if it is verified.
    ///
    /// # Errors
    /// Fails if the name cannot be one of a certificate that is to be verified; the text is for the error log.
    pub fn connect(
        &self,
        name: &[u8],
        peer: &Arc<str>,
        certificate: Option<Arc<CertifiedKey>>,
    ) -> Result<ClientConnection, String> {
        let text = String::from_utf8_lossy(name);
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
        let known = ServerName::try_from(bare.strip_suffix('.').unwrap_or(bare)).map(|name| name.to_owned());
        let name = match known {
            Ok(name) => name,
            Err(_) if self.verifies => return Err(does_not_match(&text)),
            // It is neither sent nor compared with anything.
            Err(_) => ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()),
        };
        ClientConnection::new(self.config_for(peer, certificate), name)
            .map_err(|error| format!("SSL_do_handshake() failed (SSL: {error})"))
    }

    /// Reads the certificate that a handshake names.
    ///
    /// # Errors
    /// Fails if it cannot be read or used; the text is for the error log.
    pub fn load_late(
        &self,
        names: &HandshakePair,
        files: &mut dyn HandshakeFiles,
    ) -> Result<Option<Arc<CertifiedKey>>, String> {
        self.late.as_ref().map(|late| late.load(names, files)).transpose()
    }

    fn config_for(&self, peer: &Arc<str>, certificate: Option<Arc<CertifiedKey>>) -> Arc<ClientConfig> {
        let key = (Arc::clone(peer), certificate.as_ref().map(|pair| digest_of_chain(pair)));
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = peers.get(&key) {
            return Arc::clone(config);
        }
        if peers.len() >= MAX_PEERS {
            peers.clear();
        }
        let mut config = self.config.clone();
        if self.session_reuse {
            config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS)));
        }
        if let Some(pair) = certificate {
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(pair));
        }
        let config = Arc::new(config);
        peers.insert(key, Arc::clone(&config));
        config
    }
}

/// The TLS to upstreams of all locations of a configuration.
#[derive(Debug, Default)]
pub struct UpstreamContexts {
    locations: Vec<Option<Arc<UpstreamContext>>>,
    /// For gates and health checks, by the location whose settings they have and whether they speak HTTP/2.
    probes: HashMap<(usize, bool), Option<Arc<UpstreamContext>>>,
}

/// A peer, and a digest of the certificate that a handshake with it has read; `None` is none.
type PeerKey = (Arc<str>, Option<[u8; 32]>);

fn digest_of_chain(pair: &CertifiedKey) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    pair.cert.iter().for_each(|certificate| context.update(certificate));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Returns a digest of the settings that must be equal for locations to share a context.
fn digest_of(ssl: &ProxySslSettings, is_http2: bool) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let versions = *ssl.versions;
    let flags = [versions.tls12, versions.tls13, *ssl.verify, *ssl.server_name, *ssl.session_reuse, is_http2]
        .map(u8::from);
    context.update(&flags);
    context.update(&ssl.depth.to_be_bytes());
    let texts = [&ssl.ciphers, &ssl.suites].map(|text| text.as_ref().map(|it| it.text.as_bytes()));
    let sources = [&ssl.certificate, &ssl.key].map(|source| source.as_ref());
    // What a handshake reads is not known yet; where it is written makes it another one.
    let places: Vec<String> = sources
        .iter()
        .flatten()
        .filter(|source| source.is_late())
        .map(|source| format!("{} {:?} {:?}", source.written(), source.span(), ssl.cache))
        .collect();
    context.update(places.join("\n").as_bytes());
    let sources = sources.map(|source| source.and_then(SslSource::file));
    let others = [&ssl.passwords, &ssl.trusted, &ssl.revocations].map(|file| file.as_ref());
    let files = sources.into_iter().chain(others).map(|file| file.map(SslFile::bytes));
    for bytes in texts.into_iter().chain(files) {
        context.update(&bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
        context.update(bytes.unwrap_or_default());
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

impl UpstreamContexts {
    /// Builds the contexts of a configuration. Faults and warnings go to `findings`; with a fault among them the result is
    /// not to be used.
    pub fn build(config: &Config, findings: &mut Vec<Diagnostic>) -> UpstreamContexts {
        let mut known: HashMap<[u8; 32], Option<Arc<UpstreamContext>>> = HashMap::new();
        let checks = config.groups.iter().flat_map(|group| &group.checks);
        let checked = checks.filter_map(|check| check.tls.as_ref()).map(|tls| tls.location.0 as usize);
        let mut asked: HashSet<usize> = checked.collect();
        let checked = asked.clone();
        // Questions have the TLS of a location that may itself speak in clear.
        let firsts = config.groups.iter().filter_map(|group| group.tls.first.as_ref());
        asked.extend(firsts.map(|tls| tls.location.0 as usize));
        asked.extend(config.http.health.tls_at_http.then_some(0));
        let (mut locations, mut probes, mut late) = (Vec::new(), HashMap::new(), Vec::new());
        for (at, location) in config.locations.iter().enumerate() {
            let proxy = &location.settings.proxy;
            let mut build = |is_http2: bool| {
                let id = digest_of(&proxy.ssl, is_http2);
                let build = || context(&proxy.ssl, is_http2, id, findings).map(Arc::new);
                known.entry(id).or_insert_with(build).clone()
            };
            if let (true, Some((certificate, _))) = (checked.contains(&at), proxy.ssl.late_pair()) {
                let text = "health checks show no certificate: its name has variables, and they belong to no request";
                late.push(Diagnostic::warn(certificate.span(), text));
            }
            if asked.contains(&at) {
                for is_http2 in [false, true] {
                    probes.insert((at, is_http2), build(is_http2));
                }
            }
            if !proxy.pass.as_ref().is_some_and(|pass| pass.over_tls) {
                continue;
            }
            let context = build(proxy.speaks_http2());
            locations.resize(at, None);
            locations.push(context);
        }
        findings.extend(late);
        UpstreamContexts { locations, probes }
    }

    /// Returns the context of questions with a location's settings, if there are any.
    pub fn of_probes(&self, location: LocationId, over_http2: bool) -> Option<&Arc<UpstreamContext>> {
        self.probes.get(&(location.0 as usize, over_http2))?.as_ref()
    }

    /// Returns the context of a location, if its upstream may be spoken to over TLS.
    pub fn get(&self, location: LocationId) -> Option<&Arc<UpstreamContext>> {
        self.locations.get(location.0 as usize)?.as_ref()
    }
}

fn context(
    ssl: &ProxySslSettings,
    is_http2: bool,
    id: [u8; 32],
    findings: &mut Vec<Diagnostic>,
) -> Option<UpstreamContext> {
    let standard = aws_lc_rs::default_provider();
    let algorithms = standard.signature_verification_algorithms;
    let wanted = WantedSuites {
        versions: *ssl.versions,
        ciphers: ssl.ciphers.as_ref(),
        suites: ssl.suites.as_ref(),
        directive: "proxy_ssl_ciphers",
        at: None,
    };
    let pair = pair(ssl, &standard, findings);
    let verifier = verifier(ssl, algorithms, findings);
    let suites = suites::select(wanted, findings)?;
    let versions = suites::versions(&suites);
    let provider = Arc::new(CryptoProvider { cipher_suites: suites, ..standard });
    let builder = match ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions) {
        Ok(builder) => builder.dangerous().with_custom_certificate_verifier(verifier?),
        Err(error) => {
            findings.push(Diagnostic::error(None, format!("TLS to upstreams cannot be set up: {error}")));
            return None;
        }
    };
    let mut config = match pair? {
        Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = *ssl.server_name;
    if is_http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    config.resumption = Resumption::disabled();
    let peers = Mutex::default();
    let late = ssl.late_pair().map(|_| LatePairs::new(ssl.passwords.get().clone(), *ssl.cache));
    let (verifies, session_reuse) = (*ssl.verify, *ssl.session_reuse);
    Some(UpstreamContext { config, verifies, session_reuse, peers, late, id })
}

/// Loads the certificate for upstreams that ask for one, if there is one; `None` after a fault.
pub(crate) fn pair(
    ssl: &ProxySslSettings,
    provider: &CryptoProvider,
    findings: &mut Vec<Diagnostic>,
) -> Option<Option<Arc<CertifiedKey>>> {
    // That there is a key, the engine has checked.
    let file = |source: &'_ Option<SslSource>| source.as_ref().and_then(SslSource::file).cloned();
    let (Some(certificate), Some(key)) = (file(&ssl.certificate), file(&ssl.key)) else { return Some(None) };
    match certificates::load(&certificate, &key, ssl.passwords.as_ref(), provider) {
        Ok(Pair { key, expiry }) => {
            let warning = expiry.warning(UnixTime::now().as_secs());
            findings.extend(warning.map(|text| Diagnostic::warn(certificate.span, text)));
            Some(Some(key))
        }
        Err(fault) => {
            let span = if fault.in_key { key.span } else { certificate.span };
            findings.push(Diagnostic::error(span, fault.text).help(fault.help));
            None
        }
    }
}

fn verifier(
    ssl: &ProxySslSettings,
    algorithms: WebPkiSupportedAlgorithms,
    findings: &mut Vec<Diagnostic>,
) -> Option<Arc<VerifyUpstream>> {
    if !*ssl.verify {
        return Some(Arc::new(VerifyUpstream { authorities: None, algorithms }));
    }
    let (files, revocations) = (ssl.trusted.iter(), ssl.revocations.as_ref());
    match Authorities::load(files, revocations, *ssl.depth, Usage::Upstreams, algorithms) {
        Ok(authorities) => Some(Arc::new(VerifyUpstream { authorities: Some(authorities), algorithms })),
        Err(FileFault { file, text }) => {
            findings.push(Diagnostic::error(file.span, text));
            None
        }
    }
}

/// Verifies an upstream's certificate, if that is wanted, and that it has the key in any case.
#[derive(Debug)]
pub(crate) struct VerifyUpstream {
    pub(crate) authorities: Option<Authorities>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

/// Why a certificate is not accepted, in the words of the error log.
#[derive(Debug)]
struct NotAccepted(String);

impl fmt::Display for NotAccepted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for NotAccepted {}

fn not_accepted(text: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotAccepted(text)))))
}

fn does_not_match(name: &str) -> String {
    format!("upstream SSL certificate does not match \"{name}\"")
}

impl ServerCertVerifier for VerifyUpstream {
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
            return Err(not_accepted(format!("upstream SSL certificate verify error: ({code}:{text})")));
        }
        match is_for(first, name) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(not_accepted(does_not_match(&name.to_str()))),
        }
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

/// Returns true if a certificate is for this name: one of its alternative names, or, without any of DNS, its common name
/// (RFC 6125, section 6.4.4; as OpenSSL's X509_check_host).
pub(crate) fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    if let Ok(parsed) = EndEntityCert::try_from(certificate) {
        if parsed.verify_is_valid_for_subject_name(name).is_ok() {
            return true;
        }
        if parsed.valid_dns_names().next().is_some() {
            return false;
        }
    }
    let names = der::fields(certificate).map(|fields| der::common_names(fields.subject)).unwrap_or_default();
    let wanted = name.to_str();
    names.iter().any(|known| {
        known.eq_ignore_ascii_case(wanted.as_bytes())
            || known.strip_prefix(b"*").is_some_and(|domain| {
                let rest = wanted.find('.').map(|dot| &wanted.as_bytes()[dot..]);
                domain.len() > 1 && rest.is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
            })
    })
}

/// Returns the words of the error log for a handshake with an upstream that failed.
pub fn upstream_fault_text(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(fault))) => fault.to_string(),
        error => format!("SSL_do_handshake() failed (SSL: {})", fault_text(error, HandshakePeer::Upstream)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{KEY, der_of, openssl};

    #[test]
    fn names_are_compared_with_alternative_names_and_else_with_the_common_one() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        openssl(folder, &format!("req -x509 {KEY} k1 -out cn -days 3 -subj /CN=*.one.test"));
        let names = "subjectAltName=DNS:two.test,DNS:*.three.test,IP:127.0.0.2";
        openssl(folder, &format!("req -x509 {KEY} k2 -out san -days 3 -subj /CN=one.test -addext {names}"));
        let is_for = |file: &str, name: &str| {
            let der = der_of(folder, file);
            super::is_for(&CertificateDer::from(der), &ServerName::try_from(name.to_owned()).unwrap())
        };
        for (file, name, expected) in [
            ("cn", "a.one.test", true),
            ("cn", "A.ONE.TEST", true),
            ("cn", "one.test", false),
            ("cn", "a.b.one.test", false),
            ("cn", "127.0.0.1", false),
            ("san", "two.test", true),
            ("san", "x.three.test", true),
            ("san", "three.test", false),
            ("san", "one.test", false),
            ("san", "127.0.0.2", true),
            ("san", "127.0.0.1", false),
        ] {
            assert_eq!(is_for(file, name), expected, "{file} {name}");
        }
    }
}
