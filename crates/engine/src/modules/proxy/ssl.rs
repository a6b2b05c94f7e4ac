//! TLS to upstreams (`proxy_ssl_…`): its settings, and what they need of each other.
//!
//! Owns what directives say, with the bytes of the files that they name. Must never look into a certificate or key: the crate
//! `tls` does.

use super::{PassKind, ProxySettings};
use crate::config::{Builder, once};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::modules::ssl::{CertificateCache, HandshakePair, SslSource, SslText, TlsVersions, read_file};
use crate::setting::{Setting, settings};
use crate::ssl_file::SslFile;
use crate::template::Template;
use conf::{Diagnostic, Span};

settings! {
    /// TLS to the upstream.
    pub struct ProxySslSettings {
        /// `proxy_ssl_protocols`.
        pub versions: TlsVersions = TlsVersions { tls12: true, tls13: true },
        /// `proxy_ssl_ciphers`.
        pub ciphers: Option<SslText> = None,
        /// `proxy_ssl_conf_command Ciphersuites`.
        pub suites: Option<SslText> = None,
        /// `proxy_ssl_certificate`: what upstreams that ask for a certificate get.
        pub certificate: Option<SslSource> = None,
        /// `proxy_ssl_certificate_key`.
        pub key: Option<SslSource> = None,
        /// `proxy_ssl_certificate_cache`; `None` is off.
        pub cache: Option<CertificateCache> = None,
        /// `proxy_ssl_password_file`.
        pub passwords: Option<SslFile> = None,
        /// `proxy_ssl_verify`.
        pub verify: bool = false,
        /// `proxy_ssl_verify_depth`.
        pub depth: u64 = 1,
        /// `proxy_ssl_trusted_certificate`.
        pub trusted: Option<SslFile> = None,
        /// `proxy_ssl_crl`.
        pub revocations: Option<SslFile> = None,
        /// `proxy_ssl_name`; `$proxy_host` without one.
        pub name: Option<Template> = None,
        /// `proxy_ssl_server_name`: the name is sent (SNI).
        pub server_name: bool = false,
        /// `proxy_ssl_session_reuse`.
        pub session_reuse: bool = true,
    }
}

/// Reads a directive that names a file; the empty name is none.
pub(in crate::modules) fn file(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
    what: &str,
    setting: fn(&mut ProxySslSettings) -> &mut Setting<Option<SslFile>>,
) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let file = if word.text().is_empty() { None } else { Some(read_file(b, word, what)?) };
    once(setting(&mut kind.settings(b.settings()).ssl).write(file), d)
}

/// Reads a directive that names a certificate or its key; the empty name is none.
pub(in crate::modules) fn source(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
    what: &str,
    setting: fn(&mut ProxySslSettings) -> &mut Setting<Option<SslSource>>,
) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let source = if word.text().is_empty() { None } else { Some(SslSource::read(b, word, what)?) };
    once(setting(&mut kind.settings(b.settings()).ssl).write(source), d)
}

impl ProxySslSettings {
    /// Returns the certificate and its key if a handshake reads at least one of them.
    pub fn late_pair(&self) -> Option<(&SslSource, &SslSource)> {
        let (certificate, key) = (self.certificate.as_ref()?, self.key.as_ref()?);
        (certificate.is_late() || key.is_late()).then_some((certificate, key))
    }

    /// Returns the same as a request's handshake needs them; with the empty name there is none.
    pub fn in_handshake(&self, exchange: &mut Exchange, env: &mut Env<'_>) -> Option<HandshakePair> {
        let (certificate, key) = self.late_pair()?;
        let certificate = certificate.in_handshake(exchange, env);
        (!certificate.is_empty()).then(|| (certificate, key.in_handshake(exchange, env)))
    }
}

/// Checks the settings of a level whose upstream may be spoken to over TLS; `at` is the level.
pub(crate) fn check(settings: &ProxySettings, kind: PassKind, at: Option<Span>) -> Option<Diagnostic> {
    let ssl = &settings.ssl;
    let prefix = kind.row().prefix;
    if let (Some(certificate), None) = (ssl.certificate.get(), ssl.key.get()) {
        let text = format!(
            "no \"{prefix}_ssl_certificate_key\" is defined for certificate \"{}\"",
            certificate.written()
        );
        let help = format!("name the key that belongs to it: `{prefix}_ssl_certificate_key client.key;`");
        return Some(Diagnostic::error(certificate.span(), text).help(help));
    }
    if *ssl.verify && ssl.trusted.is_none() {
        let help = format!(
            "name the authorities of the upstream's certificate: \
             `{prefix}_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;`"
        );
        let text = format!("no {prefix}_ssl_trusted_certificate for {prefix}_ssl_verify");
        return Some(Diagnostic::error(at, text).help(help));
    }
    None
}

/// Appends the name that the upstream's certificate must be for, and that is sent if `proxy_ssl_server_name` says so: without
/// the port that it may have. `host` is what a script names, if it names any. To be called after [`super::plan`].
pub fn upstream_name(exchange: &mut Exchange, env: &mut Env<'_>, host: &[u8], out: &mut Vec<u8>) {
    let config = env.config;
    match exchange.settings(config).proxy.ssl.name.get() {
        Some(name) => name.append(exchange, env, out),
        None if !host.is_empty() => out.extend_from_slice(host),
        None => out.extend_from_slice(&exchange.upstream.proxy_host.text),
    }
    let host = match &out[..] {
        [b'[', ..] => memchr::memchr(b']', out).map_or(out.len(), |close| close + 1),
        _ => memchr::memchr(b':', out).unwrap_or(out.len()),
    };
    out.truncate(host);
}
