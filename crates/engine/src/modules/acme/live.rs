//! What ACME changes while configurations are in force: shared by all configurations of a process.

use crate::modules::ssl::CertificateExpiry;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

#[derive(Default)]
struct State {
    /// The texts that HTTP-01 asks for, by their tokens.
    texts: HashMap<Box<[u8]>, Box<[u8]>>,
    /// When what was issued expires, by [`super::Wanted::id`].
    expiries: HashMap<Arc<str>, CertificateExpiry>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct AcmeLive(Arc<RwLock<State>>);

impl AcmeLive {
    /// Returns the text for a token of HTTP-01.
    pub fn answer(&self, token: &[u8]) -> Option<Vec<u8>> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        state.texts.get(token).map(|text| text.to_vec())
    }

    /// Answers a token with this text from now on, or, without one, no more.
    pub fn set_answer(&self, token: &str, text: Option<&str>) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => state.texts.insert(token.as_bytes().into(), text.as_bytes().into()),
            None => state.texts.remove(token.as_bytes()),
        };
    }

    /// Notes when a certificate expires that was issued.
    pub fn set_expiry(&self, id: &Arc<str>, expiry: CertificateExpiry) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.expiries.insert(Arc::clone(id), expiry);
    }

    /// Returns when a certificate expires, if it was issued.
    pub fn expiry(&self, id: &str) -> Option<CertificateExpiry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).expiries.get(id).cloned()
    }
}

impl fmt::Debug for AcmeLive {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AcmeLive").finish_non_exhaustive()
    }
}
