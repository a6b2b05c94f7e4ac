//! A client's TLS connection as requests see it: what its handshake agreed on, and who the client is.
//!
//! Owns no key and no cipher: the server fills it in after the handshake.

use crate::ssl_file::SslFile;
use std::sync::Arc;

/// `ssl_verify_client`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyClient {
    /// No certificate is asked for.
    #[default]
    Off,
    /// A valid one is required.
    On,
    /// One that is sent must be valid.
    Optional,
    /// One that is sent need not be signed by a known authority.
    OptionalNoCa,
}

/// The terms under which a client's certificate counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientTerms {
    /// Whether one is wanted.
    pub verify: VerifyClient,
    /// How many intermediate certificates may be between it and an authority.
    pub depth: u64,
    /// The authorities: the bytes of `ssl_client_certificate` and `ssl_trusted_certificate`.
    pub authorities: Vec<SslFile>,
    /// The revocation lists: the bytes of `ssl_crl`.
    pub revocations: Option<SslFile>,
}

/// The result of a handshake.
#[derive(Debug)]
pub struct TlsSession {
    /// The server name that the client asked for, in lower case.
    pub server_name: Option<Box<[u8]>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// The cipher suite, by OpenSSL's name.
    pub cipher: &'static str,
    /// The group of the key exchange, by OpenSSL's name; empty if a TLS 1.2 session was resumed.
    pub curve: &'static str,
    /// The cipher suites that the client offered, by OpenSSL's names, joined by colons.
    pub offered_ciphers: String,
    /// The groups that the client offered, joined by colons.
    pub offered_curves: String,
    /// The protocol chosen by ALPN.
    pub alpn: Option<Box<[u8]>>,
    /// The session's number, in hexadecimal digits: the same when it is resumed.
    pub id: String,
    /// A session was resumed.
    pub resumed: bool,
    /// The client's certificate, if it has sent one.
    pub certificate: Option<Box<ClientCertificate>>,
    /// The result of its verification.
    pub verified: Verified,
    /// The terms of that verification.
    pub terms: Arc<ClientTerms>,
}

/// The result of verifying the client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// There is no certificate, or none was wanted.
    None,
    /// It is valid.
    Success,
    /// It is not.
    Failed {
        /// OpenSSL's number of the reason.
        code: u32,
        /// OpenSSL's words for it.
        text: &'static str,
    },
}

/// A client's certificate, as variables show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM, with a newline at the end.
    pub pem: String,
    /// The subject, as RFC 2253 writes it.
    pub subject: String,
    /// The issuer, as RFC 2253 writes it.
    pub issuer: String,
    /// The subject, as OpenSSL wrote it before: `/C=…/CN=…`.
    pub legacy_subject: String,
    /// The issuer, as OpenSSL wrote it before.
    pub legacy_issuer: String,
    /// The serial number, in hexadecimal digits.
    pub serial: String,
    /// The SHA-1 of the certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// The SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// From when on it is valid, as OpenSSL prints it.
    pub valid_from: String,
    /// Until when it is valid, as OpenSSL prints it.
    pub valid_until: String,
    /// The same, in seconds since the epoch.
    pub valid_until_s: u64,
}
