//! Certificates by themselves (ngx_http_acme_module): issuers, what is to be ordered from them, and the answers to HTTP-01.
//!
//! Owns what the directives say, and the challenges that requests answer. Must never order anything: the crate `acme` does;
//! and never look into a certificate or key: the crate `tls` does.

mod certificates;
mod directives;
mod dns_update;
mod live;
mod names;
#[cfg(test)]
mod tests;

pub use dns_update::{DnsUpdate, TsigAlgorithm, TsigSecret};
pub use live::AcmeLive;
pub use names::{Identifier, is_public_host};

use super::Module;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{Content, Phase, Verdict};
use crate::ssl_file::SslFile;
use conf::Span;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The path below which HTTP-01 asks (RFC 8555, section 8.3).
const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// How an issuer is shown that a name is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChallengeKind {
    /// `http-01`: by a text at a path, over HTTP at port 80.
    #[default]
    Http01,
    /// `tls-alpn-01`: by a certificate, in a handshake at port 443.
    TlsAlpn01,
    /// `dns-01`: by a record of the name, which a program sets, or an update of the zone.
    Dns01,
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChallengeKind::Http01 => "http-01",
            ChallengeKind::TlsAlpn01 => "tls-alpn-01",
            ChallengeKind::Dns01 => "dns-01",
        })
    }
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// `ecdsa:256`
    #[default]
    Ecdsa256,
    /// `ecdsa:384`
    Ecdsa384,
    /// `ecdsa:521`
    Ecdsa521,
    /// `rsa:2048`
    Rsa2048,
    /// `rsa:3072`
    Rsa3072,
    /// `rsa:4096`
    Rsa4096,
}

impl KeyKind {
    /// Every kind, as directives write it.
    pub const ALL: [(&'static str, KeyKind); 6] = [
        ("ecdsa:256", KeyKind::Ecdsa256),
        ("ecdsa:384", KeyKind::Ecdsa384),
        ("ecdsa:521", KeyKind::Ecdsa521),
        ("rsa:2048", KeyKind::Rsa2048),
        ("rsa:3072", KeyKind::Rsa3072),
        ("rsa:4096", KeyKind::Rsa4096),
    ];

    /// Returns the kind as directives write it.
    pub fn name(self) -> &'static str {
        KeyKind::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// An `acme_issuer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name.
    pub name: Arc<str>,
    /// Its directory: `uri`.
    pub directory: String,
    /// `contact`, each as a URL.
    pub contacts: Vec<String>,
    /// `challenge`.
    pub challenge: ChallengeKind,
    /// `dns_hook`: a program and its arguments.
    pub dns_hook: Option<Vec<String>>,
    /// `dns_update`: the name server that takes records.
    pub dns_update: Option<DnsUpdate>,
    /// The file of `account_key`; without it one is made.
    pub account_key: Option<SslFile>,
    /// `external_account_key`: the key's name and the key, in base64url.
    pub external: Option<(String, SslFile)>,
    /// `ssl_trusted_certificate`.
    pub trusted: Option<SslFile>,
    /// `ssl_verify`.
    pub verify: bool,
    /// `state_path`; `None` is off.
    pub state: Option<PathBuf>,
    /// `accept_terms_of_service`.
    pub accepts_terms: bool,
    /// `profile`, and whether it is required.
    pub profile: Option<(String, bool)>,
    /// `common_name_in_csr`.
    pub common_name: bool,
    /// `on_demand_limit`: how many certificates that only handshakes name are ordered in an hour at most.
    pub on_demand_per_hour: u32,
}

/// A certificate to be ordered. Two that are equal are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The issuer: an index into [`AcmeSettings::issuers`].
    pub issuer: usize,
    /// The names that it is valid for.
    pub identifiers: Vec<Identifier>,
    /// The kind of its key.
    pub key: KeyKind,
    /// All of that as a text: by it the certificate is found in other configurations.
    pub id: Arc<str>,
}

/// The permission for a certificate of a name that only a handshake has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// `ask=`: a server that is asked, an http or https address.
    Ask(String),
    /// `keys=`: the name is a key in the table of this switch, an index into [`crate::Config::switches`].
    Keys(usize),
}

/// Certificates for hosts that the configuration does not name, each ordered when a handshake asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDemand {
    /// The issuer: an index into [`AcmeSettings::issuers`].
    pub issuer: usize,
    /// The kind of the certificates' keys.
    pub key: KeyKind,
    /// The permission that it needs.
    pub permission: Permission,
    /// Issuer and kind of key as a text: by it certificates are found in other configurations.
    pub id: Arc<str>,
}

impl OnDemand {
    /// Returns the certificate for a name, in lower case.
    pub fn wanted(&self, name: &str) -> Wanted {
        let identifiers = vec![Identifier::Dns(name.to_owned())];
        Wanted { issuer: self.issuer, identifiers, key: self.key, id: format!("{} {name}", self.id).into() }
    }
}

/// The facts of a certificate that its renewal needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// From when on it is valid, in seconds since the epoch.
    pub from_s: u64,
    /// Until when it is valid.
    pub until_s: u64,
    /// The key identifier of the authority that signed it.
    pub authority_key: Option<Vec<u8>>,
    /// Its serial number, as DER has it.
    pub serial: Vec<u8>,
}

/// An `acme_certificate` as it is written: its names may be those of a `server_name` further down.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    server: usize,
    issuer: (String, Span),
    identifiers: Vec<Identifier>,
    key: KeyKind,
    /// `keys=` or `ask=` as it is written.
    permission: Option<(String, Span)>,
    span: Span,
}

/// Which certificates a server has.
#[derive(Clone, Copy, Debug)]
enum Certificates {
    /// An index into [`AcmeSettings::certificates`].
    One(usize),
    /// An index into [`AcmeSettings::on_demand`].
    OnDemand(usize),
}

/// The configuration of ACME.
#[derive(Clone, Debug, Default)]
pub struct AcmeSettings {
    /// The issuers.
    pub issuers: Vec<Issuer>,
    /// The certificates, each once.
    pub certificates: Vec<Wanted>,
    /// Certificates that are ordered when handshakes name them, each once.
    pub on_demand: Vec<OnDemand>,
    /// What a server has, by its index.
    servers: Vec<(usize, Certificates)>,
    /// The parts that change meanwhile.
    pub live: AcmeLive,
    written: Vec<Written>,
}

impl AcmeSettings {
    /// Returns true if an issuer's challenges are answered by a program.
    pub fn runs_programs(&self) -> bool {
        self.issuers.iter().any(|issuer| issuer.dns_hook.is_some())
    }

    /// Returns the certificate of a server, by the server's number.
    pub fn of_server(&self, server: usize) -> Option<&Wanted> {
        match self.servers.iter().find(|(known, _)| *known == server)?.1 {
            Certificates::One(number) => self.certificates.get(number),
            Certificates::OnDemand(_) => None,
        }
    }

    /// Returns what allows a server certificates on demand, by the server's number.
    pub fn on_demand_of_server(&self, server: usize) -> Option<&OnDemand> {
        match self.servers.iter().find(|(known, _)| *known == server)?.1 {
            Certificates::One(_) => None,
            Certificates::OnDemand(number) => self.on_demand.get(number),
        }
    }
}

/// The module.
pub static MODULE: Module = Module {
    // As early as possible, so that no setting of a server is in the way.
    handlers: &[(Phase::PostRead, answer)],
    finish: Some(certificates::finish),
    is_needed: Some(|config, _| !config.http.acme.issuers.is_empty()),
    ..Module::new("acme", &[directives::DIRECTIVES, directives::OF_ISSUERS])
};

/// Answers HTTP-01, on any server.
fn answer(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let acme = &env.config.http.acme;
    if acme.issuers.is_empty() || exchange.method() != b"GET" {
        return Verdict::Next;
    }
    let Some(token) = exchange.request.uri.strip_prefix(PATH) else { return Verdict::Next };
    let Some(text) = acme.live.answer(token) else { return Verdict::Next };
    exchange.response.status = 200;
    exchange.response.content_length = Some(text.len() as u64);
    exchange.response.set_content_type(b"text/plain");
    if !exchange.request.body_settled() {
        exchange.request.discard_wanted = true;
    }
    Verdict::Serve(Content::Bytes(text))
}
