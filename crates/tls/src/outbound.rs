//! TLS of the program where it is the client on its own account: the command line's calls of the control API, and ACME.

use crate::upstreams::VerifyUpstream;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// Where distributions keep the authorities that the system trusts, the first that exists counts.
pub const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A certificate and its key, in PEM.
#[derive(Clone, Copy)]
pub struct ClientIdentity<'a> {
    /// The certificate, followed by the intermediate certificates.
    pub certificate: &'a [u8],
    /// Its key.
    pub key: &'a [u8],
}

/// Returns what connections follow that trust these authorities, in PEM; without them the server is not verified.
///
/// # Errors
/// Fails if the authorities or the identity cannot be used; the text says which.
pub fn client_config(
    authorities: Option<&[u8]>,
    identity: Option<ClientIdentity<'_>>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = match authorities {
        Some(pem) => builder.with_root_certificates(roots(pem)?),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(VerifyUpstream { authorities: None, algorithms })),
    };
    let Some(ClientIdentity { certificate, key }) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Err("there is no certificate in the client certificate's file".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "there is no unencrypted private key in the client certificate's key file".to_owned())?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the client certificate and its key cannot be used: {error}"))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // One that is broken does not make the others worse.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    if roots.is_empty() { Err("there is no certificate of an authority in it".to_owned()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn unusable_files_are_faults() {
        let (certificate, key) = self_signed();
        let (_, other) = self_signed();
        let pem = certificate.as_bytes();
        let faults = |authorities: Option<&[u8]>, certificate: &str, key: &str| {
            let identity = ClientIdentity { certificate: certificate.as_bytes(), key: key.as_bytes() };
            client_config(authorities, Some(identity))
                .map(|config| config.client_auth_cert_resolver.has_certs())
        };
        assert_eq!(faults(Some(pem), &certificate, &key), Ok(true));
        assert_eq!(faults(None, &certificate, &key), Ok(true));
        assert!(faults(Some(b"x"), &certificate, &key).unwrap_err().contains("authority"));
        assert!(faults(Some(pem), &key, &key).unwrap_err().contains("no certificate"));
        assert!(faults(Some(pem), &certificate, &certificate).unwrap_err().contains("private key"));
        assert!(faults(Some(pem), &certificate, &other).unwrap_err().contains("cannot be used"));
    }
}
