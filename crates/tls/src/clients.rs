//! Clients' certificates: asked for in the handshake, which goes on whatever they are, and verified after it, as in nginx:
//! the request learns the result.

use crate::authorities::{Authorities, FileFault, Usage, check_signature, check_tls13_signature};
use crate::der;
use crate::pem;
use aws_lc_rs::digest;
use engine::modules::ssl::SslSettings;
use engine::tls_session::{ClientCertificate, ClientTerms, VerifyClient};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// The part of the handshake: asks for a certificate, and checks that the client has its key.
#[derive(Debug)]
pub(crate) struct AskClient {
    /// The names of authorities that clients are told.
    names: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AskClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
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

impl AskClient {
    /// Tells clients the names of these authorities, each once.
    pub(crate) fn new(
        authorities: impl Iterator<Item = DistinguishedName>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> AskClient {
        let mut names: Vec<DistinguishedName> = Vec::new();
        for name in authorities {
            if !names.iter().any(|known| known.as_ref() == name.as_ref()) {
                names.push(name);
            }
        }
        AskClient { names, algorithms }
    }
}

/// Reads the authorities and revocation lists of a server that verifies clients.
pub(crate) fn load(
    settings: &SslSettings,
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<(AskClient, Authorities), FileFault> {
    let client = &settings.client;
    let files = client.certificate.iter().chain(client.trusted.iter());
    let revocations = client.revocations.as_ref();
    let authorities = Authorities::load(files, revocations, *client.depth, Usage::Clients, algorithms)?;
    let named = client.certificate.as_ref().map_or(0, |file| pem::certificates(file.bytes()).len());
    Ok((AskClient::new(authorities.names().take(named), algorithms), authorities))
}

/// Returns a digest of the terms: what sessions are bound to.
pub(crate) fn digest_of(terms: &ClientTerms) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let verify: u8 = match terms.verify {
        VerifyClient::Off => 0,
        VerifyClient::On => 1,
        VerifyClient::Optional => 2,
        VerifyClient::OptionalNoCa => 3,
    };
    context.update(&[verify]);
    context.update(&terms.depth.to_be_bytes());
    for file in terms.authorities.iter().chain(&terms.revocations) {
        context.update(&(file.bytes().len() as u64).to_be_bytes());
        context.update(file.bytes());
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Returns a client's certificate as variables show it.
pub(crate) fn shown(der: &[u8]) -> ClientCertificate {
    let Some(fields) = der::fields(der) else { return ClientCertificate::default() };
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    ClientCertificate {
        pem: pem::encode_certificate(der),
        subject: der::rfc2253(fields.subject),
        issuer: der::rfc2253(fields.issuer),
        legacy_subject: der::legacy(fields.subject),
        legacy_issuer: der::legacy(fields.issuer),
        serial: der::serial(fields.serial),
        fingerprint: der::hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref(), false),
        sha256,
        valid_from: fields.from.shown(),
        valid_until: fields.until.shown(),
        valid_until_s: fields.until.epoch_s(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{KEY, der_of, openssl};

    #[test]
    fn certificates_are_shown_as_openssl_shows_them() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let subject =
            "/C=DE/O=A,\u{a0}B\\+C/OU=<x>\"#\\\\/CN=\u{e4};+title=x/emailAddress=a@b/serialNumber=12";
        openssl(
            folder,
            &format!(
                "req -x509 {KEY} k -out c -days 3 -utf8 -multivalue-rdn -set_serial 0x00fe12 -subj {subject}"
            ),
        );
        let shown = shown(&der_of(folder, "c"));
        let theirs = |args: &str| {
            let text = openssl(folder, &format!("x509 -in c -noout {args}"));
            text.trim_end().split_once('=').unwrap().1.to_owned()
        };
        assert_eq!(shown.subject, theirs("-subject -nameopt rfc2253"));
        assert_eq!(shown.issuer, theirs("-issuer -nameopt rfc2253"));
        assert_eq!(shown.legacy_subject, theirs("-subject -nameopt compat"));
        assert_eq!(shown.serial, theirs("-serial"));
        assert_eq!(shown.valid_from, theirs("-startdate"));
        assert_eq!(shown.valid_until, theirs("-enddate"));
        let fingerprint = theirs("-fingerprint -sha1").replace(':', "").to_lowercase();
        assert_eq!(shown.fingerprint, fingerprint);
        assert_eq!(
            der::hex(&shown.sha256, false),
            theirs("-fingerprint -sha256").replace(':', "").to_lowercase()
        );
        assert_eq!(shown.pem, openssl(folder, "x509 -in c"));
    }
}
