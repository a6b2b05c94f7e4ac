//! The TLS of a configuration: a context for each server that has certificates.

use crate::authorities::{Authorities, Usage};
use crate::certificates::{self, Pair};
use crate::clients;
use crate::groups;
use crate::issued::Issued;
use crate::late::LatePairs;
use crate::pem;
use crate::resolver::Resolver;
use crate::scripts::ScriptContexts;
use crate::sessions::{Cache, Resumption, Sessions};
use crate::slot::Slot;
use crate::stapling::Staple;
use crate::suites::{self, WantedSuites};
use crate::upstreams::UpstreamContexts;
use conf::{Diagnostic, Span};
use engine::modules::acme::{OnDemand, Wanted};
use engine::modules::ssl::{CertificateExpiry, SslCache, SslSettings, SslSource, SslText};
use engine::ssl_file::SslFile;
use engine::tls_session::{ClientTerms, VerifyClient};
use engine::{Config, ServerId};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::UnixTime;
use std::collections::HashMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The most that a client may send before the end of its handshake, as in OpenSSL.
const MAX_EARLY_DATA: u32 = 16 << 10;

/// The TLS of one server.
#[derive(Debug)]
pub struct Context {
    /// The configuration of handshakes.
    pub(crate) config: Arc<ServerConfig>,
    /// The same, with HTTP/2 among the protocols.
    pub(crate) http2: Arc<ServerConfig>,
    pub(crate) terms: Arc<ClientTerms>,
    pub(crate) authorities: Option<Authorities>,
    /// What ACME issues for it, where that is all it has.
    awaited: Vec<Arc<Slot>>,
    /// What it issues for hosts that the configuration does not name.
    on_demand: Option<(Issued, OnDemand)>,
    /// It has certificates from files.
    has_files: bool,
    /// Those whose names have variables.
    pub(crate) late: Option<LatePairs>,
    /// Which of its certificates a handshake gets.
    pub(crate) resolver: Arc<Resolver>,
    /// How clients are asked for a certificate.
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
    /// How sessions are resumed.
    pub(crate) resumption: Resumption,
}

impl Context {
    /// Returns true if there is no certificate yet for a handshake that names this host: ACME has issued none.
    pub fn is_without_certificate(&self, name: Option<&[u8]>) -> bool {
        match self.on_demand {
            None => !self.awaited.is_empty() && self.awaited.iter().all(|slot| slot.current().is_none()),
            Some(_) => !self.has_files && !name.is_some_and(|name| self.has_own_certificate(name)),
        }
    }

    /// Returns what allows certificates for hosts that the configuration does not name.
    pub fn on_demand(&self) -> Option<&OnDemand> {
        self.on_demand.as_ref().map(|(_, on_demand)| on_demand)
    }

    /// Returns true if ACME has issued a certificate for this host alone, in lower case.
    pub fn has_own_certificate(&self, name: &[u8]) -> bool {
        let (Some((issued, on_demand)), Ok(name)) = (&self.on_demand, std::str::from_utf8(name)) else {
            return false;
        };
        issued.current(&on_demand.wanted(name).id).is_some()
    }

    /// Returns what a handshake follows; with HTTP/2 among the protocols if that may be spoken.
    pub fn config(&self, speaks_http2: bool) -> &Arc<ServerConfig> {
        if speaks_http2 { &self.http2 } else { &self.config }
    }
}

/// How a server answers a handshake.
#[derive(Clone, Debug)]
enum Answer {
    /// With the default server's context.
    AsDefault,
    Reject,
    With(Arc<Context>),
}

/// The TLS of all servers of a configuration.
#[derive(Debug, Default)]
pub struct Contexts {
    servers: Vec<Answer>,
    /// All certificates, each once.
    pub certificates: Vec<CertificateExpiry>,
    /// TLS to upstreams.
    pub upstreams: UpstreamContexts,
    issued: Issued,
    /// TLS on scripts' sockets.
    pub scripts: ScriptContexts,
    staples: Vec<Arc<Staple>>,
}

impl Contexts {
    /// Returns the context for a handshake that asks for `server` at an address whose default server is `default`; `None` is
    /// to be refused.
    pub fn choose(&self, server: ServerId, default: ServerId) -> Option<&Arc<Context>> {
        let answer = |server: ServerId| self.servers.get(server.0 as usize);
        match answer(server) {
            Some(Answer::With(context)) => Some(context),
            Some(Answer::AsDefault) => match answer(default) {
                Some(Answer::With(context)) => Some(context),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the server whose context [`Contexts::choose`] chooses: the default one for a server without certificates.
    pub fn answering(&self, server: ServerId, default: ServerId) -> ServerId {
        match self.servers.get(server.0 as usize) {
            Some(Answer::AsDefault) => default,
            _ => server,
        }
    }

    /// Returns the certificates about which responders are to be asked.
    pub fn staples(&self) -> &[Arc<Staple>] {
        &self.staples
    }

    /// Returns what a handshake of TLS-ALPN-01 for this name follows; `None` if no issuer is to ask for it now.
    pub fn challenge(&self, name: &[u8]) -> Option<Arc<ServerConfig>> {
        self.issued.answer(name)
    }

    /// Builds the contexts of a configuration. Faults and warnings go to `findings`; with a fault among them the result is
    /// not to be used.
    pub fn build(
        config: &Config,
        sessions: &Sessions,
        issued: &Issued,
        findings: &mut Vec<Diagnostic>,
    ) -> Contexts {
        let mut builder = ContextBuilder {
            sessions,
            issued,
            findings,
            pairs: HashMap::new(),
            certificates: Vec::new(),
            now_s: UnixTime::now().as_secs(),
            staples: Vec::new(),
            stapled: HashMap::new(),
        };
        let servers = config.servers.iter().enumerate();
        let acme = &config.http.acme;
        let servers = servers
            .map(|(number, server)| {
                let ordered =
                    Ordered { one: acme.of_server(number), on_demand: acme.on_demand_of_server(number) };
                builder.answer(&server.ssl, ordered)
            })
            .collect();
        let (certificates, staples) = (builder.certificates, builder.staples);
        let upstreams = UpstreamContexts::build(config, findings);
        let scripts = ScriptContexts::build(config, findings);
        Contexts { servers, certificates, upstreams, issued: issued.clone(), scripts, staples }
    }
}

/// What ACME orders for a server.
#[derive(Clone, Copy)]
struct Ordered<'a> {
    one: Option<&'a Wanted>,
    on_demand: Option<&'a OnDemand>,
}

/// Returns the certificates with their keys that were read when the configuration was loaded.
fn files_of(ssl: &SslSettings) -> impl Iterator<Item = (&SslFile, &SslFile)> {
    let pairs = ssl.certificates.iter().zip(ssl.keys.iter());
    let files = pairs.filter_map(|(certificate, key)| Some((certificate.file()?, key.file()?)));
    files.filter(|(certificate, _)| !certificate.is_issued())
}

fn first_span(ssl: &SslSettings) -> Option<Span> {
    ssl.certificates.first().map(SslSource::span)
}

/// The names of a certificate's file and of its key's.
type FileNames = (Arc<str>, Arc<str>);

struct ContextBuilder<'a> {
    sessions: &'a Sessions,
    issued: &'a Issued,
    findings: &'a mut Vec<Diagnostic>,
    /// Pairs by the names of their files, so that servers with the same certificate share it.
    pairs: HashMap<FileNames, Option<Arc<CertifiedKey>>>,
    certificates: Vec<CertificateExpiry>,
    now_s: u64,
    /// What is to be asked about.
    staples: Vec<Arc<Staple>>,
    /// The places of pairs that are stapled.
    stapled: HashMap<StapledBy, Arc<Slot>>,
}

/// A pair, and how it is asked about.
type StapledBy = (*const CertifiedKey, Option<String>, bool);

impl ContextBuilder<'_> {
    fn answer(&mut self, ssl: &SslSettings, ordered: Ordered<'_>) -> Answer {
        if *ssl.handshake.reject {
            return Answer::Reject;
        }
        if ssl.certificates.is_empty() {
            return Answer::AsDefault;
        }
        match self.context(ssl, ordered) {
            Some(context) => Answer::With(Arc::new(context)),
            None => Answer::Reject,
        }
    }

    /// Builds a server's context; `None` after a fault.
    fn context(&mut self, ssl: &SslSettings, ordered: Ordered<'_>) -> Option<Context> {
        let standard = aws_lc_rs::default_provider();
        let has_places = ssl.certificates.iter().any(SslSource::is_issued);
        let slot = ordered.one.map(|wanted| self.issued.slot(&wanted.id));
        let on_demand = ordered.on_demand.filter(|_| has_places);
        let on_demand = on_demand.map(|on_demand| (self.issued.clone(), on_demand.clone()));
        let issued: Vec<Arc<Slot>> = slot.filter(|_| has_places).into_iter().collect();
        let pairs: Vec<_> = files_of(ssl)
            .map(|(certificate, key)| self.pair(certificate, key, ssl.passwords.as_ref(), &standard))
            .collect();
        let pairs: Option<Vec<_>> = pairs.into_iter().collect();
        let late = self.late(ssl);
        let handshake = &ssl.handshake;
        let wanted = WantedSuites {
            versions: *handshake.versions,
            ciphers: handshake.ciphers.as_ref(),
            suites: handshake.suites.as_ref(),
            directive: "ssl_ciphers",
            at: first_span(ssl),
        };
        let suites = suites::select(wanted, self.findings);
        let groups = self.groups(ssl.handshake.curves.as_ref());
        let algorithms = standard.signature_verification_algorithms;
        let (verifier, authorities): (Arc<dyn ClientCertVerifier>, _) = match *ssl.client.verify {
            VerifyClient::Off => (WebPkiClientVerifier::no_client_auth(), None),
            _ => match clients::load(ssl, algorithms) {
                Ok((ask, authorities)) => (Arc::new(ask), Some(authorities)),
                Err(fault) => {
                    self.findings.push(Diagnostic::error(fault.file.span, fault.text));
                    return None;
                }
            },
        };
        let (mut pairs, suites, groups) = (pairs?, suites?, groups?);
        let versions = suites::versions(&suites);
        let has_tls13 = versions.contains(&&rustls::version::TLS13);
        let provider = CryptoProvider { cipher_suites: suites, kx_groups: groups, ..standard };
        let built = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&versions);
        let builder = match built {
            Ok(builder) => builder,
            Err(error) => {
                let span = first_span(ssl);
                self.findings.push(Diagnostic::error(span, format!("TLS cannot be set up: {error}")));
                return None;
            }
        };
        let has_files = !pairs.is_empty() || late.is_some();
        let awaited = if has_files { Vec::new() } else { issued.clone() };
        let mut issued = issued;
        match ssl.stapling_file.get() {
            _ if !*ssl.stapling => {}
            Some(file) => pairs = ContextBuilder::stapled_by_file(pairs, file),
            None => {
                let places = self.in_slots(std::mem::take(&mut pairs), &issued, ssl);
                issued.extend(places);
            }
        }
        let resolver = Arc::new(Resolver { pairs, issued, on_demand: on_demand.clone(), has_tls13 });
        let mut config = builder
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_cert_resolver(Arc::clone(&resolver) as _);
        config.ignore_client_order = *ssl.handshake.prefer_server_ciphers;
        config.alpn_protocols = [&b"http/1.1"[..], b"http/1.0", b"http/0.9"].map(<[u8]>::to_vec).into();
        // A record's header comes on top.
        let record = usize::try_from(*ssl.handshake.buffer_size).unwrap_or(usize::MAX).clamp(512, 16 << 10);
        config.max_fragment_size = Some(record + 5);
        let resumption = self.resumption(ssl);
        resumption.apply(&mut config, clients::digest_of(&ssl.terms));
        if *ssl.handshake.early_data {
            self.early_data(&mut config, ssl, has_tls13);
        }
        let mut http2 = config.clone();
        http2.alpn_protocols.insert(0, b"h2".to_vec());
        let (config, http2) = (Arc::new(config), Arc::new(http2));
        let terms = Arc::clone(&ssl.terms);
        Some(Context {
            config,
            http2,
            terms,
            authorities,
            awaited,
            on_demand,
            has_files,
            late,
            resolver,
            verifier,
            resumption,
        })
    }

    /// Prepares the certificates that handshakes read, if there are any.
    fn late(&mut self, ssl: &SslSettings) -> Option<LatePairs> {
        let (certificate, _) = ssl.late_pairs().next()?;
        if *ssl.stapling {
            let text = "certificates whose names have variables are not stapled";
            self.findings.push(Diagnostic::warn(certificate.span(), text));
        }
        Some(LatePairs::new(ssl.passwords.get().clone(), *ssl.cache))
    }

    fn resumption(&self, ssl: &SslSettings) -> Resumption {
        let cache = match ssl.sessions.cache.get() {
            SslCache::Off | SslCache::None => None,
            SslCache::Shared(name, size) => Some(self.sessions.cache(name, *size)),
            // About so many sessions.
            SslCache::BuiltIn(count) => Some(Arc::new(Cache::new(count.saturating_mul(1024)))),
        };
        let secret = |file: &SslFile| Arc::new(Zeroizing::new(file.bytes().to_vec()));
        let tickets = ssl.sessions.tickets.then(|| ssl.sessions.ticket_keys.iter().map(secret).collect());
        let timeout_s = *ssl.sessions.timeout_ms / 1000;
        Resumption { cache, tickets, secrets: self.sessions.secrets(), timeout_s }
    }

    /// Lets clients send data before the end of the handshake, where a session can be used once.
    fn early_data(&mut self, config: &mut ServerConfig, ssl: &SslSettings, has_tls13: bool) {
        let (why, help) = match ssl.sessions.cache.get() {
            _ if !has_tls13 => ("TLS 1.3 is off", "write `ssl_protocols TLSv1.2 TLSv1.3;`"),
            _ if *ssl.sessions.tickets => (
                "a ticket could be used twice",
                "write `ssl_session_tickets off;`, with an `ssl_session_cache`",
            ),
            SslCache::Off | SslCache::None => {
                ("no session is kept", "keep them: `ssl_session_cache shared:SSL:10m;`")
            }
            SslCache::Shared(..) | SslCache::BuiltIn(_) => {
                config.max_early_data_size = MAX_EARLY_DATA;
                // Or the answer would wait for the client all the same.
                config.send_half_rtt_data = true;
                return;
            }
        };
        let span = first_span(ssl);
        let text = format!("\"ssl_early_data\" has no effect: {why}");
        if !self.findings.iter().any(|known| known.message == text) {
            self.findings.push(Diagnostic::warn(span, text).help(help));
        }
    }

    fn pair(
        &mut self,
        certificate: &SslFile,
        key: &SslFile,
        passwords: Option<&SslFile>,
        provider: &CryptoProvider,
    ) -> Option<Arc<CertifiedKey>> {
        // Contents in the configuration itself have no name of their own.
        let is_inline = |file: &SslFile| file.name.starts_with("data:");
        let names = (Arc::clone(&certificate.name), Arc::clone(&key.name));
        if let Some(known) = self.pairs.get(&names)
            && !is_inline(certificate)
            && !is_inline(key)
        {
            return known.clone();
        }
        let pair = match certificates::load(certificate, key, passwords, provider) {
            Ok(Pair { key, expiry }) => {
                let warning = expiry.warning(self.now_s).map(|text| Diagnostic::warn(certificate.span, text));
                self.findings.extend(warning.map(|warning| warning.help("renew it, and reload")));
                self.certificates.push(expiry);
                Some(key)
            }
            Err(fault) => {
                let span = if fault.in_key { key.span } else { certificate.span };
                self.findings.push(Diagnostic::error(span, fault.text).help(fault.help));
                None
            }
        };
        self.pairs.insert(names, pair.clone());
        pair
    }

    /// Puts the answer of `ssl_stapling_file` beside the certificates.
    fn stapled_by_file(pairs: Vec<Arc<CertifiedKey>>, file: &SslFile) -> Vec<Arc<CertifiedKey>> {
        let stapled = |pair: Arc<CertifiedKey>| {
            let mut pair = CertifiedKey::clone(&pair);
            pair.ocsp = Some(file.bytes().to_vec());
            Arc::new(pair)
        };
        pairs.into_iter().map(stapled).collect()
    }

    /// Gives the certificates of files places in which answers are put beside them, and notes those and what ACME issues as to be
    /// asked about.
    fn in_slots(
        &mut self,
        pairs: Vec<Arc<CertifiedKey>>,
        issued: &[Arc<Slot>],
        ssl: &SslSettings,
    ) -> Vec<Arc<Slot>> {
        let mut slots = Vec::new();
        for ((file, _), pair) in files_of(ssl).zip(pairs) {
            let key = (Arc::as_ptr(&pair), ssl.stapling_responder.get().clone(), *ssl.stapling_verify);
            if let Some(slot) = self.stapled.get(&key) {
                slots.push(Arc::clone(slot));
                continue;
            }
            let slot = Arc::new(Slot::default());
            slot.fill(pair);
            let staple = self.staple(Arc::clone(&file.name), Arc::clone(&slot), ssl);
            match staple.question() {
                Ok(_) => {
                    staple.keep(self.now_s);
                    self.staples.push(Arc::new(staple));
                }
                Err(text) => self.findings.push(Diagnostic::warn(file.span, text)),
            }
            self.stapled.insert(key, Arc::clone(&slot));
            slots.push(slot);
        }
        for slot in issued {
            if !self.staples.iter().any(|known| Arc::ptr_eq(&known.slot, slot)) {
                let staple = self.staple("$acme_certificate".into(), Arc::clone(slot), ssl);
                self.staples.push(Arc::new(staple));
            }
        }
        slots
    }

    fn staple(&mut self, name: Arc<str>, slot: Arc<Slot>, ssl: &SslSettings) -> Staple {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let files = || ssl.client.certificate.iter().chain(ssl.client.trusted.iter());
        let mut authorities = None;
        if *ssl.stapling_verify {
            let depth = u64::MAX;
            match Authorities::load(files(), None, depth, Usage::Upstreams, algorithms) {
                Ok(loaded) => authorities = Some(loaded),
                Err(fault) => self.findings.push(Diagnostic::error(fault.file.span, fault.text)),
            }
        }
        Staple {
            name,
            slot,
            responder: ssl.stapling_responder.as_deref().map(Into::into),
            issuers: files().flat_map(|file| pem::certificates(file.bytes())).collect(),
            authorities,
            answers: self.sessions.answers(),
            algorithms,
        }
    }

    fn groups(
        &mut self,
        text: Option<&SslText>,
    ) -> Option<Vec<&'static dyn rustls::crypto::SupportedKxGroup>> {
        let found = groups::select(text.map_or("auto", |text| text.text.as_str()));
        let span = text.map(|text| text.span);
        if found.groups.is_empty() {
            self.findings.push(
                Diagnostic::error(span, "no curve in \"ssl_ecdh_curve\" is supported")
                    .help("supported are: X25519MLKEM768, X25519, prime256v1, secp384r1"),
            );
            return None;
        }
        if !found.missing.is_empty() {
            let text = format!("\"ssl_ecdh_curve\": there is no {}", found.missing.join(", "));
            self.findings.push(Diagnostic::warn(span, text));
        }
        Some(found.groups)
    }
}
