//! The settings of TLS, of a server or the http level.

use super::cache::CertificateCache;
use super::files::SslText;
use super::source::{HandshakePair, SslSource};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::setting::settings;
use crate::ssl_file::SslFile;
use crate::tls_session::{ClientTerms, VerifyClient};
use std::sync::Arc;

/// When a certificate of the configuration expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// Its file.
    pub file: Arc<str>,
    /// Until when it is valid, in seconds since the epoch.
    pub until_s: u64,
}

impl CertificateExpiry {
    /// Returns the warning that it has expired, or will within 14 days.
    pub fn warning(&self, now_s: u64) -> Option<String> {
        const WARNED_S: u64 = 14 * 86_400;
        let file = &self.file;
        match self.until_s.saturating_sub(now_s) {
            0 => Some(format!("the certificate \"{file}\" has expired")),
            left_s if left_s < WARNED_S => {
                let left = match left_s / 86_400 {
                    0 => "less than a day".to_owned(),
                    1 => "1 day".to_owned(),
                    days => format!("{days} days"),
                };
                Some(format!("the certificate \"{file}\" expires in {left}"))
            }
            _ => None,
        }
    }
}

/// The protocols that `ssl_protocols` allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsVersions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

/// `ssl_session_cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SslCache {
    /// Sessions are not kept, and clients are told so; tickets apart.
    Off,
    /// Sessions are not kept; tickets apart.
    None,
    /// In memory of this name and size in bytes, shared by all servers that name it.
    Shared(String, u64),
    /// The same, for a server alone: so many sessions.
    BuiltIn(u64),
}

settings! {
    /// Verification of clients.
    pub struct SslClientSettings {
        /// `ssl_verify_client`.
        pub verify: VerifyClient = VerifyClient::Off,
        /// `ssl_verify_depth`.
        pub depth: u64 = 1,
        /// `ssl_client_certificate`.
        pub certificate: Option<SslFile> = None,
        /// `ssl_trusted_certificate`.
        pub trusted: Option<SslFile> = None,
        /// `ssl_crl`.
        pub revocations: Option<SslFile> = None,
    }
}

settings! {
    /// Sessions that are resumed.
    pub struct SslSessionSettings {
        /// `ssl_session_cache`.
        pub cache: SslCache = SslCache::None,
        /// `ssl_session_timeout`, in ms.
        pub timeout_ms: u64 = 300_000,
        /// `ssl_session_tickets`.
        pub tickets: bool = true,
        /// `ssl_session_ticket_key`: the first encrypts.
        pub ticket_keys: Vec<SslFile> = Vec::new(),
    }
}

settings! {
    /// The handshake.
    pub struct SslHandshakeSettings {
        /// `ssl_protocols`.
        pub versions: TlsVersions = TlsVersions { tls12: true, tls13: true },
        /// `ssl_ciphers`.
        pub ciphers: Option<SslText> = None,
        /// `ssl_conf_command Ciphersuites`.
        pub suites: Option<SslText> = None,
        /// `ssl_prefer_server_ciphers`.
        pub prefer_server_ciphers: bool = false,
        /// `ssl_ecdh_curve`.
        pub curves: Option<SslText> = None,
        /// `ssl_reject_handshake`.
        pub reject: bool = false,
        /// `ssl_buffer_size`.
        pub buffer_size: u64 = 16 << 10,
        /// `ssl_early_data`.
        pub early_data: bool = false,
    }
}

settings! {
    /// TLS of a server.
    pub struct SslSettings {
        /// `ssl_certificate`.
        pub certificates: Vec<SslSource> = Vec::new(),
        /// `ssl_certificate_key`.
        pub keys: Vec<SslSource> = Vec::new(),
        /// `ssl_certificate_cache`; `None` is off.
        pub cache: Option<CertificateCache> = None,
        /// `ssl_password_file`.
        pub passwords: Option<SslFile> = None,
        /// `ssl_stapling_file`.
        pub stapling_file: Option<SslFile> = None,
        /// `ssl_stapling`.
        pub stapling: bool = false,
        /// `ssl_stapling_responder`.
        pub stapling_responder: Option<String> = None,
        /// `ssl_stapling_verify`.
        pub stapling_verify: bool = false,
    }
    nested {
        /// The handshake.
        pub handshake: SslHandshakeSettings,
        /// Sessions.
        pub sessions: SslSessionSettings,
        /// Clients' certificates.
        pub client: SslClientSettings,
    }
    not a setting {
        /// The terms of `client`, to be compared with those of a handshake.
        pub terms: Arc<ClientTerms> = Arc::default(),
    }
}

impl SslSettings {
    /// Returns the certificates with their keys of which handshakes read at least one.
    pub fn late_pairs(&self) -> impl Iterator<Item = (&SslSource, &SslSource)> {
        let pairs = self.certificates.iter().zip(self.keys.iter());
        pairs.filter(|(certificate, key)| certificate.is_late() || key.is_late())
    }

    /// Returns the same as this handshake needs them.
    pub fn in_handshake(&self, exchange: &mut Exchange, env: &mut Env<'_>) -> Vec<HandshakePair> {
        let named = |source: &SslSource, exchange: &mut _, env: &mut _| source.in_handshake(exchange, env);
        self.late_pairs()
            .map(|(certificate, key)| (named(certificate, exchange, env), named(key, exchange, env)))
            .collect()
    }

    /// Takes from the http level what this server does not say, and puts the terms together.
    pub(crate) fn settle(&mut self, outer: &SslSettings) {
        self.inherit(outer);
        let client = &self.client;
        let authorities = client.certificate.iter().chain(client.trusted.iter()).cloned();
        if *client.verify != VerifyClient::Off {
            self.terms = Arc::new(ClientTerms {
                verify: *client.verify,
                depth: *client.depth,
                authorities: authorities.collect(),
                revocations: client.revocations.get().clone(),
            });
        }
    }
}
