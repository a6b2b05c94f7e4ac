//! What is known of one certificate: its files, and when it is ordered next.

use crate::client::OrderFailure;
use crate::folder;
use crate::schedule::{self, RenewalWindow};
use engine::modules::acme::{CertificateFacts, Wanted};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::time::SystemTime;

/// A certificate's state.
pub(crate) struct Certificate {
    pub(crate) wanted: Wanted,
    pub(crate) seed: u64,
    /// Its file in the folder.
    pub(crate) file: String,
    pub(crate) key_file: String,
    /// When the file was changed that is in force.
    pub(crate) changed: Option<SystemTime>,
    pub(crate) facts: Option<CertificateFacts>,
    /// The certificate itself, in DER.
    pub(crate) leaf: Option<Vec<u8>>,
    pub(crate) window: Option<RenewalWindow>,
    /// When the issuer is asked for the window.
    pub(crate) window_at_s: u64,
    /// When it is ordered; never by itself if handshakes ask for it.
    pub(crate) due_s: u64,
    pub(crate) failures: u32,
    pub(crate) is_on_demand: bool,
}

impl Certificate {
    /// Returns one that is due at once.
    pub(crate) fn new(wanted: &Wanted) -> Certificate {
        let seed = xxhash_rust::xxh3::xxh3_64(wanted.id.as_bytes());
        let first = wanted.identifiers.first().map(ToString::to_string).unwrap_or_default();
        let name = folder::file_name(&first, seed);
        Certificate {
            wanted: wanted.clone(),
            seed,
            file: format!("{name}.pem"),
            key_file: format!("{name}.key"),
            changed: None,
            facts: None,
            leaf: None,
            window: None,
            window_at_s: 0,
            due_s: 0,
            failures: 0,
            is_on_demand: false,
        }
    }

    /// Returns one that is never due by itself.
    pub(crate) fn on_demand(wanted: &Wanted) -> Certificate {
        Certificate { is_on_demand: true, due_s: u64::MAX, ..Certificate::new(wanted) }
    }

    /// Returns what it is for, for messages.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> = self.wanted.identifiers.iter().map(ToString::to_string).collect();
        names.join(", ")
    }

    /// Returns what it is called.
    pub(crate) fn name(&self) -> &str {
        self.file.strip_suffix(".pem").unwrap_or(&self.file)
    }

    /// Notes that it is revoked: another one is due at once, or with the next handshake.
    pub(crate) fn revoked(&mut self) {
        (self.facts, self.leaf, self.window, self.changed) = (None, None, None, None);
        (self.window_at_s, self.failures) = (0, 0);
        self.due_s = if self.is_on_demand { u64::MAX } else { 0 };
    }

    /// Notes what is in force.
    pub(crate) fn set(&mut self, facts: CertificateFacts) {
        (self.window, self.window_at_s, self.failures) = (None, 0, 0);
        self.due_s = schedule::renewal_s(&facts, None, self.seed);
        self.facts = Some(facts);
    }

    /// Notes a failure; returns for how long there is no other attempt.
    pub(crate) fn failed(&mut self, failure: &OrderFailure, now_s: u64) -> u64 {
        self.failures = self.failures.saturating_add(1);
        self.due_s = schedule::retry_s(now_s, self.failures, failure.cause, failure.retry_after_s, self.seed);
        self.due_s - now_s
    }
}

/// Returns the DER of the first certificate in a PEM.
pub(crate) fn leaf_of(pem: &[u8]) -> Option<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).next()?.ok().map(|leaf| leaf.to_vec())
}
