//! The cipher suites of both protocols, as directives ask for them.

use crate::ciphers;
use conf::{Diagnostic, Span};
use engine::modules::ssl::{SslText, TlsVersions};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// The wanted suites.
pub(crate) struct WantedSuites<'a> {
    pub(crate) versions: TlsVersions,
    /// For TLS 1.2.
    pub(crate) ciphers: Option<&'a SslText>,
    /// For TLS 1.3.
    pub(crate) suites: Option<&'a SslText>,
    /// The directive that names those for TLS 1.2.
    pub(crate) directive: &'static str,
    /// Where TLS is configured.
    pub(crate) at: Option<Span>,
}

/// Returns the suites; `None` after a fault. Faults and warnings go to `findings`.
pub(crate) fn select(
    wanted: WantedSuites<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Option<Vec<SupportedCipherSuite>> {
    let mut suites = Vec::new();
    if wanted.versions.tls13 {
        let list = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
        let (list, span) =
            wanted.suites.map_or((list, None), |SslText { text, span }| (text.as_str(), Some(*span)));
        match ciphers::tls13(list) {
            Ok(found) => suites.extend(found),
            Err(name) => {
                let text = format!("\"{name}\" in \"Ciphersuites\" is no cipher suite of TLS 1.3");
                findings.push(Diagnostic::error(span, text));
                return None;
            }
        }
    }
    if wanted.versions.tls12 {
        match wanted.ciphers {
            None => suites.extend(ciphers::select("HIGH:!aNULL:!MD5").suites),
            Some(SslText { text, span }) => {
                let selection = ciphers::select(text);
                let mut finding = Vec::new();
                if !selection.missing.is_empty() {
                    finding.push(format!("there is no {}", selection.missing.join(", ")));
                }
                if selection.suites.is_empty() {
                    finding.push("no cipher suite is left for TLS 1.2, which is switched off".to_owned());
                }
                suites.extend(selection.suites);
                if !finding.is_empty() && !suites.is_empty() {
                    let text = format!("\"{}\": {}", wanted.directive, finding.join("; "));
                    findings.push(Diagnostic::warn(*span, text));
                }
            }
        }
    }
    if suites.is_empty() {
        let span = wanted.ciphers.or(wanted.suites).map(|text| text.span).or(wanted.at);
        findings.push(
            Diagnostic::error(span, "no cipher suite is left: there can be no connection")
                .help("there are ECDHE suites with AES-GCM and ChaCha20 for TLS 1.2, and those of TLS 1.3"),
        );
        return None;
    }
    Some(suites)
}

/// Returns the protocols that the suites are of.
pub(crate) fn versions(suites: &[SupportedCipherSuite]) -> Vec<&'static SupportedProtocolVersion> {
    let has = |version: &'static SupportedProtocolVersion| {
        suites.iter().any(|suite| suite.version() == version).then_some(version)
    };
    [has(&rustls::version::TLS13), has(&rustls::version::TLS12)].into_iter().flatten().collect()
}
