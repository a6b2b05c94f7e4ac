//! TLS to clients (ngx_http_ssl_module): its settings, and which requests its terms refuse.
//!
//! Owns what directives say, with the bytes of the files that they name, and the statuses 421 and 495 to 497. Must never
//! look into a certificate or key: the crate `tls` does.

mod cache;
mod check;
mod directives;
mod files;
mod settings;
mod source;
#[cfg(test)]
mod tests;

pub use cache::CertificateCache;
pub use check::check;
pub(super) use directives::versions;
pub use files::SslText;
pub(super) use files::read as read_file;
pub use settings::{
    CertificateExpiry, SslCache, SslClientSettings, SslHandshakeSettings, SslSessionSettings, SslSettings,
    TlsVersions,
};
pub use source::{HandshakeFile, HandshakePair, LateFile, SslSource};

use super::Module;
use crate::config::Builder;
use crate::tls_session::VerifyClient;
use conf::{Diagnostic, Span};

/// The module.
pub static MODULE: Module = Module {
    finish: Some(finish),
    ..Module::new(
        "ssl",
        &[directives::CERTIFICATES, directives::HANDSHAKE, directives::SESSIONS, directives::CLIENTS],
    )
};

/// Checks that servers with TLS have certificates, and certificates keys.
fn finish(b: &mut Builder<'_>) {
    let mut faults = Vec::new();
    let http = &b.draft.ssl;
    for server in &b.draft.servers {
        let mut ssl = server.ssl.clone();
        ssl.inherit(http);
        let at = b.draft.scopes[server.scope].span;
        check_settings(&ssl, at, &mut faults);
    }
    for (at, listen) in b.draft.listens.iter().enumerate() {
        let same = |other: &&crate::config::ListenDraft| other.address == listen.address;
        let is_first = !b.draft.listens[..at].iter().any(|other| same(&other) && other.ssl);
        if !listen.ssl || !is_first {
            continue;
        }
        let here: Vec<_> = b.draft.listens.iter().filter(same).collect();
        let default = here.iter().find(|listen| listen.default_server).or(here.first());
        // A server other than the default one takes that one's certificate.
        let can_serve = |server: usize| {
            let ssl = &b.draft.servers[server].ssl;
            let has =
                !ssl.certificates.is_empty() || !ssl.certificates.written() && !http.certificates.is_empty();
            let rejects =
                if ssl.handshake.reject.written() { *ssl.handshake.reject } else { *http.handshake.reject };
            (has, rejects)
        };
        let Some(default) = default else { continue };
        let (has, rejects) = can_serve(default.server);
        let without = match (has, rejects) {
            (true, _) => None,
            (false, false) => Some(default),
            (false, true) => here.iter().find(|listen| can_serve(listen.server) == (false, false)),
        };
        if let Some(without) = without {
            faults.push(
                Diagnostic::error(
                    without.span,
                    "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive",
                )
                .help("name a certificate and its key: `ssl_certificate cert.pem; ssl_certificate_key key.pem;`"),
            );
        }
    }
    b.diagnostics.extend(faults);
}

fn check_settings(ssl: &SslSettings, at: Option<Span>, faults: &mut Vec<Diagnostic>) {
    if ssl.keys.len() < ssl.certificates.len()
        && let Some(last) = ssl.certificates.last()
    {
        faults.push(
            Diagnostic::error(
                last.span(),
                format!("no \"ssl_certificate_key\" is defined for certificate \"{}\"", last.written()),
            )
            .help("each `ssl_certificate` needs an `ssl_certificate_key`, in the same order"),
        );
    }
    let issued = ssl.certificates.iter().zip(ssl.keys.iter());
    for (certificate, key) in issued.filter(|(certificate, key)| certificate.is_issued() != key.is_issued()) {
        faults.push(
            Diagnostic::error(
                key.span(),
                format!("the key of \"{}\" cannot be \"{}\"", certificate.written(), key.written()),
            )
            .help("$acme_certificate and $acme_certificate_key belong together"),
        );
    }
    let client = &ssl.client;
    // One without a certificate takes the default server's, and its authorities.
    if !ssl.certificates.is_empty()
        && matches!(*client.verify, VerifyClient::On | VerifyClient::Optional)
        && client.certificate.is_none()
        && client.trusted.is_none()
    {
        faults.push(
            Diagnostic::error(at, "no ssl_client_certificate for ssl_verify_client")
                .help("name the authorities of clients' certificates: `ssl_client_certificate ca.pem;`"),
        );
    }
}
