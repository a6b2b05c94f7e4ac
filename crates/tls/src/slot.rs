//! The place of one certificate that comes, and changes, while configurations are in force.

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// See the module.
#[derive(Default)]
pub(crate) struct Slot(RwLock<Option<Arc<CertifiedKey>>>);

impl Slot {
    /// Returns what handshakes get from now on, if there is something.
    pub(crate) fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives this to handshakes from now on.
    pub(crate) fn fill(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// Sets the OCSP response that handshakes with this certificate carry from now on, or none.
    pub(crate) fn staple(&self, certificate: &CertificateDer<'_>, answer: Option<&[u8]>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = &*current
            && pair.cert.first() == Some(certificate)
        {
            let mut stapled = CertifiedKey::clone(pair);
            stapled.ocsp = answer.map(<[u8]>::to_vec);
            *current = Some(Arc::new(stapled));
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Slot").field("filled", &self.current().is_some()).finish()
    }
}
