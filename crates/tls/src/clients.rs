//! Clients' certificates: asked for in the handshake, which goes on whatever they are, and verified after it, as in nginx:
//! the request learns the result.

use crate::der;
use crate::pem;
use aws_lc_rs::digest;
use engine::modules::ssl::SslSettings;
use engine::ssl_file::SslFile;
use engine::tls_session::{ClientCertificate, ClientTerms, Verified, VerifyClient};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationOptionsBuilder,
};

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
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The part after it.
#[derive(Debug)]
pub(crate) struct ClientAuthorities {
    anchors: Vec<TrustAnchor<'static>>,
    /// Their certificates: one that a client sends itself is trusted, too.
    certificates: Vec<Vec<u8>>,
    revocations: Vec<CertRevocationList<'static>>,
    depth: usize,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What is wrong with a file.
pub(crate) struct ClientFault {
    pub(crate) file: SslFile,
    pub(crate) text: String,
}

/// Reads the authorities and revocation lists of a server that verifies clients.
pub(crate) fn load(
    settings: &SslSettings,
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<(AskClient, ClientAuthorities), ClientFault> {
    let mut names = Vec::new();
    let mut authorities = ClientAuthorities {
        anchors: Vec::new(),
        certificates: Vec::new(),
        revocations: Vec::new(),
        depth: usize::try_from(*settings.client.depth).unwrap_or(usize::MAX),
        algorithms,
    };
    let told = settings.client.certificate.iter().map(|file| (file, true));
    for (file, is_told) in told.chain(settings.client.trusted.iter().map(|file| (file, false))) {
        let certificates = pem::certificates(file.bytes());
        let broken = |why: &str| ClientFault {
            file: file.clone(),
            text: format!("cannot load CA certificates \"{}\": {why}", file.name),
        };
        if certificates.is_empty() {
            return Err(broken("there is no certificate in it"));
        }
        for certificate in certificates {
            let anchor = webpki::anchor_from_trusted_cert(&CertificateDer::from(certificate.as_slice()))
                .map_err(|_| broken("a certificate in it is broken"))?
                .to_owned();
            if is_told {
                names.push(DistinguishedName::in_sequence(&anchor.subject));
            }
            authorities.anchors.push(anchor);
            authorities.certificates.push(certificate);
        }
    }
    if let Some(file) = settings.client.revocations.get() {
        let broken = |why: &str| ClientFault {
            file: file.clone(),
            text: format!("cannot load revocation list \"{}\": {why}", file.name),
        };
        let lists = pem::sections(file.bytes()).into_iter().filter(|section| section.label == "X509 CRL");
        for section in lists {
            let list = OwnedCertRevocationList::from_der(&section.der)
                .map_err(|_| broken("a list in it is broken"))?;
            authorities.revocations.push(list.into());
        }
        if authorities.revocations.is_empty() {
            return Err(broken("there is no list in it"));
        }
    }
    Ok((AskClient { names, algorithms }, authorities))
}

/// OpenSSL's numbers and words (X509_verify_cert_error_string).
const SELF_SIGNED: (u32, &str) = (18, "self-signed certificate");
const UNKNOWN_ISSUER: (u32, &str) = (20, "unable to get local issuer certificate");
const UNKNOWN_ISSUER_OF_LEAF: (u32, &str) = (21, "unable to verify the first certificate");
const TOO_LONG: (u32, &str) = (22, "certificate chain too long");

impl ClientAuthorities {
    /// Verifies what a client has sent.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Verified {
        match self.check(chain, now) {
            Ok(()) => Verified::Success,
            Err((code, text)) => Verified::Failed { code, text },
        }
    }

    fn check(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), (u32, &'static str)> {
        let Some((first, rest)) = chain.split_first() else { return Err(UNKNOWN_ISSUER) };
        let fields = der::fields(first).ok_or((13, "format error in certificate's notBefore field"))?;
        let certificate = EndEntityCert::try_from(first).map_err(|error| words(&error, chain))?;
        let lists: Vec<&CertRevocationList<'_>> = self.revocations.iter().collect();
        let revocation = match RevocationOptionsBuilder::new(&lists) {
            Ok(builder) => Some(builder.with_expiration_policy(webpki::ExpirationPolicy::Enforce).build()),
            // There are none.
            Err(_) => None,
        };
        let verified = certificate.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            rest,
            now,
            KeyUsage::client_auth(),
            revocation,
            None,
        );
        match verified {
            Ok(path) if path.intermediate_certificates().count() > self.depth => Err(TOO_LONG),
            Ok(_) => Ok(()),
            // An authority's own certificate, which webpki takes for no client's.
            Err(_)
                if self.certificates.iter().any(|known| **known == **first)
                    && self.revocations.is_empty() =>
            {
                if now.as_secs() > fields.until.epoch_s() {
                    return Err((10, "certificate has expired"));
                }
                Ok(())
            }
            Err(error) => Err(words(&error, chain)),
        }
    }
}

/// Returns OpenSSL's number and words for an error of webpki.
fn words(error: &webpki::Error, chain: &[CertificateDer<'_>]) -> (u32, &'static str) {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => (10, "certificate has expired"),
        E::CertNotValidYet { .. } => (9, "certificate is not yet valid"),
        E::CertRevoked => (23, "certificate revoked"),
        E::UnknownRevocationStatus => (3, "unable to get certificate CRL"),
        E::CrlExpired { .. } => (12, "CRL has expired"),
        E::RequiredEkuNotFoundContext(_) | E::CaUsedAsEndEntity => (26, "unsuitable certificate purpose"),
        E::EndEntityUsedAsCa => (24, "invalid CA certificate"),
        E::MaximumPathDepthExceeded | E::MaximumPathBuildCallsExceeded | E::PathLenConstraintViolated => {
            TOO_LONG
        }
        E::UnknownIssuer => match chain {
            [only] => match der::fields(only) {
                Some(fields) if fields.subject.0 == fields.issuer.0 => SELF_SIGNED,
                _ => UNKNOWN_ISSUER_OF_LEAF,
            },
            _ => UNKNOWN_ISSUER,
        },
        E::InvalidSignatureForPublicKey => (7, "certificate signature failure"),
        _ => (1, "unspecified certificate verification error"),
    }
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
    ClientCertificate {
        pem: pem::encode_certificate(der),
        subject: der::rfc2253(fields.subject),
        issuer: der::rfc2253(fields.issuer),
        legacy_subject: der::legacy(fields.subject),
        legacy_issuer: der::legacy(fields.issuer),
        serial: der::serial(fields.serial),
        fingerprint: der::hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref(), false),
        valid_from: fields.from.shown(),
        valid_until: fields.until.shown(),
        valid_until_s: fields.until.epoch_s(),
    }
}
