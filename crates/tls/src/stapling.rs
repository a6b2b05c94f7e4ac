//! Stapling (RFC 6066, section 8): certificates whose handshakes carry the answer of an OCSP responder.
//!
//! Owns what is to be asked, the answers, and when they are asked for again. Must never ask: the server does, beside its
//! traffic.

use crate::authorities::Authorities;
use crate::der;
use crate::ocsp::{self, Validity};
use crate::slot::Slot;
use aws_lc_rs::digest::{SHA256, digest};
use engine::tls_session::Verified;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An answer is asked for again after so many seconds, as in nginx: at the latest, after a failure, and before it ends.
const REFRESH_S: u64 = 3600;
const RETRY_S: u64 = 300;
const BEFORE_END_S: u64 = 300;

/// An answer, until when it is good, and when it is asked for again.
#[derive(Clone)]
struct Answer {
    bytes: Vec<u8>,
    validity: Validity,
    refresh_s: u64,
}

/// The answers that there are, by their certificates' digests. They outlive a configuration; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<HashMap<[u8; 32], Answer>>>);

impl Answers {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Answers").finish_non_exhaustive()
    }
}

fn digest_of(certificate: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, certificate).as_ref());
    out
}

/// A certificate that is to be stapled.
#[derive(Debug)]
pub struct Staple {
    /// The name of its file, or of what ACME issues.
    pub(crate) name: Arc<str>,
    pub(crate) slot: Arc<Slot>,
    /// `ssl_stapling_responder`.
    pub(crate) responder: Option<Arc<str>>,
    /// Certificates among which the issuer may be, beside the chain.
    pub(crate) issuers: Vec<Vec<u8>>,
    /// With `ssl_stapling_verify`, what the chain must lead to.
    pub(crate) authorities: Option<Authorities>,
    pub(crate) answers: Answers,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

/// A question about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StapleQuestion {
    /// The responder; it begins with `http://`.
    pub url: String,
    /// The question, in DER.
    pub bytes: Vec<u8>,
    chain: Vec<CertificateDer<'static>>,
    issuer: Vec<u8>,
}

impl Staple {
    /// Returns the name of the certificate's file, or of what ACME issues.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what is to be asked now; `None` if there is no certificate yet.
    ///
    /// # Errors
    /// Fails with nginx's words if no one can be asked.
    pub fn question(&self) -> Result<Option<StapleQuestion>, String> {
        let Some(pair) = self.slot.current() else { return Ok(None) };
        let ignored = |why: &str| format!("\"ssl_stapling\" ignored, {why} \"{}\"", self.name);
        let fields = pair.cert.first().and_then(|first| der::fields(first));
        let fields = fields.ok_or_else(|| ignored("broken certificate"))?;
        let known = pair.cert.iter().skip(1).map(|certificate| certificate.to_vec());
        let issuer = known.chain(self.issuers.iter().cloned()).find(|issuer| {
            der::fields(issuer).is_some_and(|issuer| {
                issuer.subject.0 == fields.issuer.0
                    && crate::authorities::is_signed_by(
                        issuer.key,
                        fields.algorithm,
                        fields.signed,
                        fields.signature,
                        &self.algorithms,
                    )
            })
        });
        let issuer = issuer.ok_or_else(|| ignored("issuer certificate not found for certificate"))?;
        let url = match &self.responder {
            Some(url) => url.to_string(),
            None => {
                ocsp::responder(&fields).ok_or_else(|| ignored("no OCSP responder URL in the certificate"))?
            }
        };
        if url.get(..7).is_none_or(|scheme| !scheme.eq_ignore_ascii_case("http://")) {
            return Err(ignored(&format!(
                "invalid URL prefix in OCSP responder \"{url}\" in the certificate"
            )));
        }
        let bytes = der::fields(&issuer).and_then(|issuer| ocsp::question(&fields, &issuer));
        let bytes = bytes.ok_or_else(|| ignored("broken certificate"))?;
        Ok(Some(StapleQuestion { url, bytes, chain: pair.cert.clone(), issuer }))
    }

    /// Takes an answer, which handshakes carry from then on. Returns when it is to be asked for again.
    ///
    /// # Errors
    /// Fails with the reason if it is not to be used; what handshakes carry stays.
    pub fn accept(&self, question: &StapleQuestion, answer: &[u8], now_s: u64) -> Result<u64, String> {
        let certificate = question.chain.first().ok_or("there is no certificate")?;
        let (Some(fields), Some(issuer)) = (der::fields(certificate), der::fields(&question.issuer)) else {
            return Err("the certificate is broken".to_owned());
        };
        let validity = ocsp::judge(answer, &fields, &issuer, &self.algorithms, now_s)?;
        if let Some(authorities) = &self.authorities {
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_s));
            if let Verified::Failed { text, .. } = authorities.verify(&question.chain, now) {
                return Err(format!("OCSP_basic_verify() failed: {text}"));
            }
        }
        let latest_s = now_s + REFRESH_S;
        let wanted_s = validity.until_s.map_or(latest_s, |until_s| until_s.saturating_sub(BEFORE_END_S));
        let refresh_s = wanted_s.min(latest_s).max(now_s + RETRY_S);
        let answer = Answer { bytes: answer.to_vec(), validity, refresh_s };
        self.slot.staple(certificate, Some(&answer.bytes));
        let mut answers = self.answers.lock();
        // Those about certificates that are not there any more are never looked for.
        answers.retain(|_, known| known.validity.until_s.is_none_or(|until_s| until_s >= now_s));
        answers.insert(digest_of(certificate), answer);
        Ok(refresh_s)
    }

    /// Lets handshakes carry the response that is known already, or none any more if it is too old. Returns when there is
    /// something
    /// to do next; `None` is now: there is no answer.
    pub fn keep(&self, now_s: u64) -> Option<u64> {
        let pair = self.slot.current()?;
        let certificate = pair.cert.first()?;
        let mut answers = self.answers.lock();
        let known = answers.get(&digest_of(certificate))?;
        if known.validity.until_s.is_some_and(|until_s| until_s < now_s) {
            self.slot.staple(certificate, None);
            answers.remove(&digest_of(certificate));
            return None;
        }
        if pair.ocsp.is_none() {
            self.slot.staple(certificate, Some(&known.bytes));
        }
        Some(known.refresh_s)
    }

    /// Returns when to ask again after a failure.
    pub fn retry_s(now_s: u64) -> u64 {
        now_s + RETRY_S
    }
}
