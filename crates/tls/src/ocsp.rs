//! OCSP (RFC 6960): the question whether a certificate is still good, and what an answer to it is worth.
//!
//! Must never ask anyone: questions and answers are bytes here. An answer counts only if the issuer of the certificate has
//! signed it, or one whom it has charged with that.

use crate::authorities::is_signed_by;
use crate::der::{self, Der, Fields, INTEGER, OCTETS, OID, SEQUENCE, Time};
use aws_lc_rs::digest;
use rustls::crypto::WebPkiSupportedAlgorithms;

const ENUMERATED: u8 = 0x0a;
const BITS: u8 = 0x03;
const NULL: u8 = 0x05;
/// The first two explicit fields of a structure.
const FIRST: u8 = 0xa0;
const SECOND: u8 = 0xa1;

/// SHA-1, by which questions name issuers: others are not known to every responder.
const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
/// The only kind of answer that there is.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
/// The extension in which a certificate names its responder, and the way of asking that is OCSP.
const AUTHORITY_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
const BY_OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1];
/// The extension about what a key is for, and the purpose of answering in the issuer's place.
const KEY_PURPOSES: &[u8] = &[0x55, 29, 37];
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];

/// By how many seconds clocks may differ, as in nginx.
const SKEW_S: u64 = 300;

/// For how long an answer is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// Until when, in seconds since the epoch; `None` is without an end.
    pub(crate) until_s: Option<u64>,
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let mut out = vec![tag];
    match contents.len() {
        short @ 0..0x80 => out.push(short as u8),
        long => {
            let digits: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
            out.push(0x80 | digits.len() as u8);
            out.extend(digits);
        }
    }
    out.extend(contents);
    out
}

fn sha1(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

/// Returns the contents of the CertID of a certificate.
fn certificate_id(certificate: &Fields<'_>, issuer: &Fields<'_>) -> Option<Vec<u8>> {
    let mut key = Der(issuer.key).tagged(SEQUENCE)?;
    key.tagged(SEQUENCE)?;
    let [0, key @ ..] = key.tagged(BITS)?.0 else { return None };
    let name = element(SEQUENCE, &[issuer.subject.0]);
    Some(
        [
            element(SEQUENCE, &[&element(OID, &[SHA1]), &element(NULL, &[])]),
            element(OCTETS, &[sha1(&name).as_ref()]),
            element(OCTETS, &[sha1(key).as_ref()]),
            element(INTEGER, &[certificate.serial]),
        ]
        .concat(),
    )
}

/// Returns the question about a certificate, in DER; `None` if the certificates are broken.
pub(crate) fn question(certificate: &Fields<'_>, issuer: &Fields<'_>) -> Option<Vec<u8>> {
    let id = element(SEQUENCE, &[&certificate_id(certificate, issuer)?]);
    let list = element(SEQUENCE, &[&element(SEQUENCE, &[&id])]);
    Some(element(SEQUENCE, &[&element(SEQUENCE, &[&list])]))
}

/// Returns the first URL at which a certificate lets itself be asked about.
pub(crate) fn responder(certificate: &Fields<'_>) -> Option<String> {
    const URI: u8 = 0x86;
    let mut ways = der::extension(certificate, AUTHORITY_ACCESS)?.tagged(SEQUENCE)?;
    while let Some(mut way) = ways.tagged(SEQUENCE) {
        if way.tagged(OID)?.0 == BY_OCSP
            && let Some(uri) = way.tagged(URI)
        {
            return String::from_utf8(uri.0.to_vec()).ok();
        }
    }
    None
}

/// Judges an answer about a certificate.
///
/// # Errors
/// Fails with the reason if it is none, is not the issuer's, is too old, or says anything but that the certificate is good.
pub(crate) fn judge(
    answer: &[u8],
    certificate: &Fields<'_>,
    issuer: &Fields<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
    now_s: u64,
) -> Result<Validity, String> {
    let broken = || "the answer is broken".to_owned();
    let mut answer = Der(answer).tagged(SEQUENCE).ok_or_else(broken)?;
    match answer.tagged(ENUMERATED).ok_or_else(broken)?.0 {
        [0] => {}
        status => return Err(format!("the responder has no answer: {}", refusal(status))),
    }
    let basic = basic_of(answer).ok_or_else(broken)?;
    let response = Response::read(basic).ok_or_else(broken)?;
    if !response.is_signed(issuer, algorithms, now_s) {
        return Err("the answer is not signed by the certificate's issuer".to_owned());
    }
    let id = certificate_id(certificate, issuer).ok_or_else(broken)?;
    let single = response.about(&id).ok_or("the answer is not about this certificate")?;
    single.judge(now_s)
}

/// Returns the words for a status other than success.
fn refusal(status: &[u8]) -> &'static str {
    match status {
        [1] => "malformed request",
        [2] => "internal error",
        [3] => "try later",
        [5] => "a signature is required",
        [6] => "unauthorized",
        _ => "unknown status",
    }
}

fn basic_of(mut answer: Der<'_>) -> Option<Der<'_>> {
    let mut bytes = answer.tagged(FIRST)?.tagged(SEQUENCE)?;
    if bytes.tagged(OID)?.0 != BASIC {
        return None;
    }
    bytes.tagged(OCTETS)?.tagged(SEQUENCE)
}

/// A basic answer.
struct Response<'a> {
    /// What is signed.
    signed: &'a [u8],
    /// The contents of the signature's AlgorithmIdentifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
    /// Certificates of signers.
    certificates: Vec<&'a [u8]>,
    /// The statuses of certificates.
    singles: Der<'a>,
}

impl<'a> Response<'a> {
    fn read(mut basic: Der<'a>) -> Option<Response<'a>> {
        let signed = basic.whole(SEQUENCE)?;
        let algorithm = basic.tagged(SEQUENCE)?.0;
        let [0, signature @ ..] = basic.tagged(BITS)?.0 else { return None };
        let mut certificates = Vec::new();
        if let Some(mut list) = basic.tagged(FIRST).and_then(|mut list| list.tagged(SEQUENCE)) {
            while let Some(certificate) = list.whole(SEQUENCE) {
                certificates.push(certificate);
            }
        }
        let mut data = Der(signed).tagged(SEQUENCE)?;
        // The version, who has signed, and when.
        let _ = data.tagged(FIRST);
        data.next()?;
        Time::read(data.next()?)?;
        let singles = data.tagged(SEQUENCE)?;
        Some(Response { signed, algorithm, signature, certificates, singles })
    }

    /// Returns true if the issuer has signed it, or one whom it has charged with that (RFC 6960, section 4.2.2.2).
    fn is_signed(&self, issuer: &Fields<'_>, algorithms: &WebPkiSupportedAlgorithms, now_s: u64) -> bool {
        let by = |key: &[u8]| is_signed_by(key, self.algorithm, self.signed, self.signature, algorithms);
        by(issuer.key)
            || self.certificates.iter().filter_map(|certificate| der::fields(certificate)).any(|signer| {
                signer.issuer.0 == issuer.subject.0
                    && answers_for_issuer(&signer)
                    && (signer.from.epoch_s()..=signer.until.epoch_s()).contains(&now_s)
                    && is_signed_by(issuer.key, signer.algorithm, signer.signed, signer.signature, algorithms)
                    && by(signer.key)
            })
    }

    /// Returns what it says about a certificate.
    fn about(&self, id: &[u8]) -> Option<Single<'a>> {
        let mut singles = self.singles;
        while let Some(mut single) = singles.tagged(SEQUENCE) {
            if is_same_id(single.tagged(SEQUENCE)?, Der(id)) {
                return Single::read(single);
            }
        }
        None
    }
}

/// Returns true if both name the same certificate; that an algorithm has parameters may be written or not.
fn is_same_id(mut one: Der<'_>, mut other: Der<'_>) -> bool {
    let algorithm =
        |id: &mut Der<'_>| id.tagged(SEQUENCE).and_then(|mut it| it.tagged(OID)).map(|it| it.0.to_vec());
    algorithm(&mut one).is_some_and(|it| Some(it) == algorithm(&mut other)) && one.0 == other.0
}

fn answers_for_issuer(signer: &Fields<'_>) -> bool {
    let Some(mut purposes) =
        der::extension(signer, KEY_PURPOSES).and_then(|mut value| value.tagged(SEQUENCE))
    else {
        return false;
    };
    std::iter::from_fn(|| purposes.tagged(OID)).any(|purpose| purpose.0 == OCSP_SIGNING)
}

/// The status of one certificate.
struct Single<'a> {
    status: u8,
    from: Time,
    until: Option<Time>,
    _rest: Der<'a>,
}

impl<'a> Single<'a> {
    fn read(mut single: Der<'a>) -> Option<Single<'a>> {
        let (status, _) = single.next()?;
        let from = Time::read(single.next()?)?;
        let until = match single.tagged(FIRST) {
            Some(mut until) => Some(Time::read(until.next()?)?),
            None => None,
        };
        Some(Single { status, from, until, _rest: single })
    }

    fn judge(&self, now_s: u64) -> Result<Validity, String> {
        const GOOD: u8 = 0x80;
        match self.status {
            GOOD => {}
            SECOND => return Err("certificate status \"revoked\" in the OCSP response".to_owned()),
            _ => return Err("certificate status \"unknown\" in the OCSP response".to_owned()),
        }
        let until_s = self.until.map(Time::epoch_s);
        if self.from.epoch_s() > now_s + SKEW_S {
            return Err("the answer is not valid yet".to_owned());
        }
        if until_s.is_some_and(|until_s| until_s + SKEW_S < now_s) {
            return Err("the answer has expired".to_owned());
        }
        Ok(Validity { until_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{KEY, der_of, openssl};
    use rustls::crypto::aws_lc_rs;
    use std::path::Path;

    const CONF: &str = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n\
        policy=p\nemail_in_dn=no\n[p]\ncommonName=supplied\n\
        [leaf]\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:8888/ocsp\n\
        [signer]\nextendedKeyUsage=OCSPSigning\n[stranger]\nextendedKeyUsage=serverAuth\n";

    /// Makes an authority, what it has signed, and a stranger of the authority's name.
    fn certificates(folder: &Path) {
        std::fs::write(folder.join("conf"), CONF).unwrap();
        std::fs::write(folder.join("index"), "").unwrap();
        std::fs::write(folder.join("serial"), "0080").unwrap();
        for (key, certificate) in [("ca.key", "ca"), ("other.key", "other")] {
            openssl(folder, &format!("req -x509 {KEY} {key} -out {certificate} -days 30 -subj /CN=ca"));
        }
        for name in ["leaf", "signer", "stranger"] {
            openssl(folder, &format!("req -new {KEY} {name}.key -out {name}.csr -subj /CN={name}"));
            openssl(
                folder,
                &format!(
                    "ca -batch -notext -config conf -extensions {name} -in {name}.csr -out {name} -cert ca -keyfile ca.key -days 30"
                ),
            );
        }
    }

    /// Has openssl answer the question about the leaf.
    fn answer(folder: &Path, signer: &str, more: &str) -> Vec<u8> {
        let key = if signer == "ca" { "ca.key" } else { &format!("{signer}.key") };
        let args = format!(
            "ocsp -index index -CA ca -rsigner {signer} -rkey {key} -reqin question -respout answer -noverify {more}"
        );
        openssl(folder, args.trim_end());
        std::fs::read(folder.join("answer")).unwrap()
    }

    #[test]
    fn answers_count_if_the_issuer_has_signed_them() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        certificates(folder);
        let [leaf, ca, other, signer] = ["leaf", "ca", "other", "signer"].map(|name| der_of(folder, name));
        let fields = |der: &'static [u8]| der::fields(der).unwrap();
        let leak = |der: &[u8]| fields(Box::leak(der.to_vec().into_boxed_slice()));
        let (leaf_fields, ca_fields) = (leak(&leaf), leak(&ca));
        assert_eq!(responder(&leaf_fields).as_deref(), Some("http://127.0.0.1:8888/ocsp"));
        assert_eq!(responder(&ca_fields), None);
        // openssl's own question is the same.
        let ours = question(&leaf_fields, &ca_fields).unwrap();
        openssl(folder, "ocsp -issuer ca -cert leaf -no_nonce -reqout question");
        assert_eq!(std::fs::read(folder.join("question")).unwrap(), ours);

        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let now_s = rustls_pki_types::UnixTime::now().as_secs();
        let at = |answer: &[u8], now_s| judge(answer, &leaf_fields, &ca_fields, &algorithms, now_s);
        let good = answer(folder, "ca", "-ndays 7");
        let until_s = at(&good, now_s).unwrap().until_s.unwrap();
        assert!((now_s + 6 * 86_400..=now_s + 7 * 86_400 + 60).contains(&until_s));
        assert!(at(&good, until_s + 301).unwrap_err().contains("expired"));
        assert!(at(&good, now_s - 400).unwrap_err().contains("not valid yet"));
        assert_eq!(at(&answer(folder, "ca", ""), now_s), Ok(Validity { until_s: None }));
        assert!(at(&answer(folder, "signer", "-ndays 7"), now_s).is_ok());
        let unsigned = "not signed by the certificate's issuer";
        assert!(at(&answer(folder, "stranger", "-ndays 7"), now_s).unwrap_err().contains(unsigned));
        assert!(at(&answer(folder, "other", "-ndays 7"), now_s).unwrap_err().contains(unsigned));
        let about_other = judge(&good, &leaf_fields, &leak(&other), &algorithms, now_s);
        assert!(about_other.unwrap_err().contains(unsigned));
        let about_signer = judge(&good, &leak(&signer), &ca_fields, &algorithms, now_s);
        assert!(about_signer.unwrap_err().contains("not about this certificate"));
        assert!(at(&element(SEQUENCE, &[&[ENUMERATED, 1, 3]]), now_s).unwrap_err().contains("try later"));
        for at_byte in 0..good.len() {
            let mut changed = good.clone();
            changed[at_byte] ^= 0x10;
            // Any change is seen, but for one in what no one has signed, and that is nothing.
            if let Ok(validity) = at(&changed, now_s) {
                assert_eq!(validity.until_s, Some(until_s), "{at_byte}");
            }
            assert!(at(&good[..at_byte], now_s).is_err());
        }
        openssl(folder, "ca -config conf -revoke leaf -cert ca -keyfile ca.key");
        assert!(at(&answer(folder, "ca", "-ndays 7"), now_s).unwrap_err().contains("\"revoked\""));
        std::fs::write(folder.join("index"), "").unwrap();
        assert!(at(&answer(folder, "ca", "-ndays 7"), now_s).unwrap_err().contains("\"unknown\""));
    }
}
