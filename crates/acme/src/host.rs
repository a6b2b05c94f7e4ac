//! What ACME needs of the server that it orders certificates for.

use engine::host::Level;
use engine::modules::acme::{CertificateFacts, Issuer, Wanted};
use std::sync::Arc;
use tokio_rustls::rustls::ClientConfig;

/// See the module.
pub trait AcmeHost {
    /// Returns what connections to an issuer follow.
    ///
    /// # Errors
    /// Fails if its authorities cannot be read or used.
    fn client_config(&self, issuer: &Issuer) -> Result<Arc<ClientConfig>, String>;

    /// Returns what connections to servers of the web follow.
    ///
    /// # Errors
    /// Fails if the system's authorities cannot be read or used.
    fn web_config(&self) -> Result<Arc<ClientConfig>, String>;

    /// Puts a certificate in force for new handshakes: a chain and its key, in PEM; `place` is where it is kept.
    ///
    /// # Errors
    /// Fails if it cannot be used; what is in force stays so.
    fn install(&self, wanted: &Wanted, place: &str, pem: &[u8]) -> Result<CertificateFacts, String>;

    /// Answers HTTP-01 for a token with this text from now on, or, without one, no more.
    fn answer_request(&self, token: &str, text: Option<&str>);

    /// Answers TLS-ALPN-01 for this name with a certificate and its key, in DER, or, without them, no more.
    ///
    /// # Errors
    /// Fails if the certificate cannot be used.
    fn answer_handshake(&self, name: &str, certificate: Option<(Vec<u8>, Vec<u8>)>) -> Result<(), String>;

    /// Writes a line to the error log.
    fn log(&self, level: Level, text: &str);
}
