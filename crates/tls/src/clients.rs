//! Clients' certificates: asked for in the handshake, which goes on whatever they are, and verified after it, as in nginx:
//! the request learns the result.

use crate::der::{self, Fields};
use crate::pem;
use aws_lc_rs::digest;
use engine::modules::ssl::SslSettings;
use engine::ssl_file::SslFile;
use engine::tls_session::{ClientCertificate, ClientTerms, Verified, VerifyClient};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};
use rustls_pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RawPublicKeyEntity,
    RevocationOptionsBuilder,
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
        let key = key_of(certificate)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| BAD_ENCODING)?;
        let known = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
        let Some((_, algorithms)) = known else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        let fits = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
            key.verify_signature(**algorithm, message, signature.signature()).is_ok()
        };
        match algorithms.iter().find(fits) {
            Some(_) => Ok(HandshakeSignatureValid::assertion()),
            None => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &key_of(certificate)?, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

const BAD_ENCODING: Error = Error::InvalidCertificate(CertificateError::BadEncoding);

/// Returns a certificate's key. Not by webpki, which knows no certificates of version 1.
fn key_of<'a>(certificate: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, Error> {
    Ok(SubjectPublicKeyInfoDer::from(der::fields(certificate).ok_or(BAD_ENCODING)?.key))
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
            let name = DistinguishedName::in_sequence(&anchor.subject);
            if is_told && !names.iter().any(|known: &DistinguishedName| known.as_ref() == name.as_ref()) {
                names.push(name);
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
const EXPIRED: (u32, &str) = (10, "certificate has expired");
const NOT_YET_VALID: (u32, &str) = (9, "certificate is not yet valid");
const NO_REVOCATIONS: (u32, &str) = (3, "unable to get certificate CRL");
const BAD_SIGNATURE: (u32, &str) = (7, "certificate signature failure");

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
        if fields.is_v1 {
            return self.check_v1(&fields, chain.len(), now);
        }
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
                    return Err(EXPIRED);
                }
                Ok(())
            }
            Err(error) => Err(words(&error, chain)),
        }
    }
}

impl ClientAuthorities {
    /// Checks a certificate of version 1, which `openssl x509 -req` makes without extensions, and webpki does not know: an
    /// authority itself must have signed it. With revocation lists it is refused.
    fn check_v1(&self, fields: &Fields<'_>, sent: usize, now: UnixTime) -> Result<(), (u32, &'static str)> {
        if now.as_secs() > fields.until.epoch_s() {
            return Err(EXPIRED);
        }
        if now.as_secs() < fields.from.epoch_s() {
            return Err(NOT_YET_VALID);
        }
        if !self.revocations.is_empty() {
            return Err(NO_REVOCATIONS);
        }
        let mut fault = match sent {
            _ if fields.subject.0 == fields.issuer.0 => SELF_SIGNED,
            1 => UNKNOWN_ISSUER_OF_LEAF,
            _ => UNKNOWN_ISSUER,
        };
        for authority in &self.certificates {
            let Some(authority) = der::fields(authority) else { continue };
            if authority.subject.0 != fields.issuer.0 {
                continue;
            }
            let key = SubjectPublicKeyInfoDer::from(authority.key);
            let Ok(key) = RawPublicKeyEntity::try_from(&key) else { continue };
            let mut algorithms = self
                .algorithms
                .all
                .iter()
                .filter(|algorithm| *algorithm.signature_alg_id() == *fields.algorithm);
            if algorithms
                .any(|algorithm| key.verify_signature(*algorithm, fields.signed, fields.signature).is_ok())
            {
                return Ok(());
            }
            fault = BAD_SIGNATURE;
        }
        Err(fault)
    }
}

/// Returns OpenSSL's number and words for an error of webpki.
fn words(error: &webpki::Error, chain: &[CertificateDer<'_>]) -> (u32, &'static str) {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => EXPIRED,
        E::CertNotValidYet { .. } => NOT_YET_VALID,
        E::CertRevoked => (23, "certificate revoked"),
        E::UnknownRevocationStatus => NO_REVOCATIONS,
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
        E::InvalidSignatureForPublicKey => BAD_SIGNATURE,
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use std::path::Path;
    use std::process::Command;

    fn openssl(folder: &Path, args: &str) -> String {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn der_of(folder: &Path, name: &str) -> Vec<u8> {
        pem::certificates(&std::fs::read(folder.join(name)).unwrap()).remove(0)
    }

    fn authorities(certificates: &[&[u8]], depth: usize) -> ClientAuthorities {
        let anchor =
            |der: &&[u8]| webpki::anchor_from_trusted_cert(&CertificateDer::from(*der)).unwrap().to_owned();
        ClientAuthorities {
            anchors: certificates.iter().map(anchor).collect(),
            certificates: certificates.iter().map(|der| der.to_vec()).collect(),
            revocations: Vec::new(),
            depth,
            algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
        }
    }

    fn failed((code, text): (u32, &'static str)) -> Verified {
        Verified::Failed { code, text }
    }

    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout";

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
        assert_eq!(shown.pem, openssl(folder, "x509 -in c"));
    }

    #[test]
    fn certificates_of_version_1_are_verified() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for ca in ["one", "two"] {
            openssl(folder, &format!("req -x509 {KEY} {ca}.key -out {ca} -days 3 -subj /CN=ca"));
        }
        openssl(folder, &format!("req -x509 {KEY} other.key -out other -days 3 -subj /CN=other"));
        openssl(folder, &format!("req -new {KEY} client.key -out client.csr -subj /CN=client"));
        openssl(folder, "x509 -req -in client.csr -CA one -CAkey one.key -set_serial 5 -days 2 -out client");
        let client = der_of(folder, "client");
        assert!(der::fields(&client).unwrap().is_v1);
        let (one, two, other) = (der_of(folder, "one"), der_of(folder, "two"), der_of(folder, "other"));
        let chain = [CertificateDer::from(client)];
        let now = UnixTime::now();
        let verify = |known: &[&[u8]], now| authorities(known, 1).verify(&chain, now);
        assert_eq!(verify(&[&other, &two, &one], now), Verified::Success);
        assert_eq!(verify(&[&other], now), failed(UNKNOWN_ISSUER_OF_LEAF));
        assert_eq!(verify(&[&two], now), failed(BAD_SIGNATURE));
        let later = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_secs() + 3 * 86_400));
        assert_eq!(verify(&[&one], later), failed(EXPIRED));
    }

    #[test]
    fn depth_counts_intermediate_certificates() {
        let ca = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let [root_key, middle_key, leaf_key] = [(); 3].map(|()| KeyPair::generate().unwrap());
        let root = ca("root").self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(ca("root"), root_key);
        let middle = ca("middle").signed_by(&middle_key, &root_issuer).unwrap();
        let leaf = CertificateParams::new(vec!["leaf".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&leaf_key, &Issuer::new(ca("middle"), middle_key)).unwrap();
        let chain = [leaf.der().clone(), middle.der().clone()];
        let verify = |depth| authorities(&[root.der()], depth).verify(&chain, UnixTime::now());
        assert_eq!((verify(0), verify(1)), (failed(TOO_LONG), Verified::Success));
        let alone = authorities(&[root.der()], 1).verify(&chain[..1], UnixTime::now());
        assert_eq!(alone, failed(UNKNOWN_ISSUER_OF_LEAF));
        let own = authorities(&[root.der()], 1).verify(std::slice::from_ref(root.der()), UnixTime::now());
        assert_eq!(own, Verified::Success, "an authority's own");
        let middle =
            authorities(&[root.der()], 1).verify(std::slice::from_ref(middle.der()), UnixTime::now());
        assert!(matches!(middle, Verified::Failed { .. }));
    }
}
