//! Authorities and revocation lists, and whether a peer's chain of certificates leads to one of them.

use crate::der::{self, Der, Fields, SEQUENCE};
use crate::pem;
use engine::ssl_file::SslFile;
use engine::tls_session::Verified;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved};
use rustls_pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RawPublicKeyEntity,
    RevocationOptionsBuilder,
};

const BAD_ENCODING: Error = Error::InvalidCertificate(CertificateError::BadEncoding);

/// Returns a certificate's key. Not by webpki, which knows no certificates of version 1.
fn key_of<'a>(certificate: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, Error> {
    Ok(SubjectPublicKeyInfoDer::from(der::fields(certificate).ok_or(BAD_ENCODING)?.key))
}

/// Checks a peer's signature of the handshake, which shows that it has its certificate's key.
pub(crate) fn check_signature(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let key = key_of(certificate)?;
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_| BAD_ENCODING)?;
    let known = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
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

/// Returns the same in TLS 1.3, which binds a scheme to a kind of key.
pub(crate) fn check_tls13_signature(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature_with_raw_key(message, &key_of(certificate)?, signature, algorithms)
}

/// Returns true if the key, as SubjectPublicKeyInfo, has made a signature; `algorithm` is the contents of its
/// AlgorithmIdentifier.
pub(crate) fn is_signed_by(
    key: &[u8],
    algorithm: &[u8],
    signed: &[u8],
    signature: &[u8],
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let key = SubjectPublicKeyInfoDer::from(key);
    let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
    let mut fitting = algorithms.all.iter().filter(|known| *known.signature_alg_id() == *algorithm);
    fitting.any(|known| key.verify_signature(*known, signed, signature).is_ok())
}

/// Whose certificates are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Clients,
    Upstreams,
}

impl Usage {
    fn of_keys(self) -> KeyUsage {
        match self {
            Usage::Clients => KeyUsage::client_auth(),
            Usage::Upstreams => KeyUsage::server_auth(),
        }
    }
}

/// The authorities that verify peers' certificates.
#[derive(Debug)]
pub(crate) struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    /// Their certificates: one that a peer sends itself is trusted, too.
    certificates: Vec<Vec<u8>>,
    revocations: Vec<CertRevocationList<'static>>,
    depth: usize,
    algorithms: WebPkiSupportedAlgorithms,
    usage: Usage,
}

/// The fault of a file.
pub(crate) struct FileFault {
    pub(crate) file: SslFile,
    pub(crate) text: String,
}

impl Authorities {
    /// Reads files of authorities.
    pub(crate) fn load<'a>(
        files: impl IntoIterator<Item = &'a SslFile>,
        revocations: Option<&SslFile>,
        depth: u64,
        usage: Usage,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Authorities, FileFault> {
        let (anchors, certificates) = Default::default();
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        let mut authorities =
            Authorities { anchors, certificates, revocations: Vec::new(), depth, algorithms, usage };
        files.into_iter().try_for_each(|file| authorities.add(file))?;
        if let Some(file) = revocations {
            authorities.revocations = load_revocations(file)?;
        }
        Ok(authorities)
    }

    fn add(&mut self, file: &SslFile) -> Result<(), FileFault> {
        let certificates = pem::certificates(file.bytes());
        let broken = |why: &str| FileFault {
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
            self.anchors.push(anchor);
            self.certificates.push(certificate);
        }
        Ok(())
    }

    /// Returns the names of the authorities, in the order of the files.
    pub(crate) fn names(&self) -> impl Iterator<Item = DistinguishedName> {
        self.anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject))
    }
}

fn load_revocations(file: &SslFile) -> Result<Vec<CertRevocationList<'static>>, FileFault> {
    read_revocations(file.bytes()).map_err(|why| FileFault {
        file: file.clone(),
        text: format!("cannot load revocation list \"{}\": {why}", file.name),
    })
}

fn read_revocations(bytes: &[u8]) -> Result<Vec<CertRevocationList<'static>>, &'static str> {
    let sections = pem::sections(bytes).into_iter().filter(|section| section.label == "X509 CRL");
    let read = |section: pem::Section| {
        let list = OwnedCertRevocationList::from_der(&section.der);
        list.map(CertRevocationList::from).map_err(|fault| unusable(&fault, &section.der))
    };
    let lists: Vec<_> = sections.map(read).collect::<Result<_, _>>()?;
    match lists.is_empty() {
        true => Err("there is no list in it"),
        false => Ok(lists),
    }
}

/// Returns why a list cannot be used. OpenSSL takes lists of version 1, which RFC 5280 §5.1.2.1 rules out.
fn unusable(fault: &webpki::Error, list: &[u8]) -> &'static str {
    match fault {
        _ if is_version_1(list) => {
            "a list in it is of version 1, which is not supported: make it of version 2 \
             (openssl ca: crl_extensions with authorityKeyIdentifier, and crlnumber)"
        }
        webpki::Error::UnsupportedDeltaCrl => "a list in it is a delta list, which is not supported",
        webpki::Error::UnsupportedIndirectCrl => "a list in it is an indirect list, which is not supported",
        webpki::Error::UnsupportedCriticalExtension => {
            "a list in it has a critical extension that is not supported"
        }
        _ => "a list in it is broken",
    }
}

/// Returns true if a list begins as one of version 1 does, without a version.
fn is_version_1(list: &[u8]) -> bool {
    let body = Der(list).tagged(SEQUENCE).and_then(|mut list| list.tagged(SEQUENCE));
    body.and_then(|mut body| body.tagged(SEQUENCE)).is_some()
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

impl Authorities {
    /// Verifies the chain that a peer has sent.
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
            self.usage.of_keys(),
            revocation,
            None,
        );
        match verified {
            Ok(path) if path.intermediate_certificates().count() > self.depth => Err(TOO_LONG),
            Ok(_) => Ok(()),
            // An authority's own certificate, which webpki takes for no peer's.
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

impl Authorities {
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
            let Fields { algorithm, signed, signature, .. } = *fields;
            if is_signed_by(authority.key, algorithm, signed, signature, &self.algorithms) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{KEY, der_of, openssl};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    fn authorities(certificates: &[&[u8]], depth: usize) -> Authorities {
        let anchor =
            |der: &&[u8]| webpki::anchor_from_trusted_cert(&CertificateDer::from(*der)).unwrap().to_owned();
        Authorities {
            anchors: certificates.iter().map(anchor).collect(),
            certificates: certificates.iter().map(|der| der.to_vec()).collect(),
            revocations: Vec::new(),
            depth,
            algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
            usage: Usage::Clients,
        }
    }

    fn failed((code, text): (u32, &'static str)) -> Verified {
        Verified::Failed { code, text }
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
    #[test]
    fn revocation_list_of_version_1_is_refused_with_the_reason() {
        // openssl ca -gencrl, without crl_extensions.
        let list = "-----BEGIN X509 CRL-----\n\
            MIGPMDgwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBchcNMjYxMTMwMDIwODQzWhcN\n\
            MzYxMTI3MDIwODQzWjAKBggqhkjOPQQDAgNHADBEAiAa64b+DCHavFOL0c2l7bbp\n\
            9jGQ86y9rknSLFzTwwgRSQIgXEHqKOVRnCisrPCzBr3MbDaAJU1sIx27KESUyanV\n\
            Qhc=\n-----END X509 CRL-----\n";
        let why = |bytes: &str| read_revocations(bytes.as_bytes()).unwrap_err();
        assert!(why(list).contains("version 1"), "{}", why(list));
        assert_eq!(why(&list.replace("MIGP", "AAAA")), "a list in it is broken");
        assert_eq!(why(""), "there is no list in it");
    }
}
