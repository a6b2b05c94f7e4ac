//! A request's part in `proxy_pass`: what `$proxy_host` and `$proxy_port` say.

/// A part of what `proxy_pass` names. What a configuration sets stays, whatever is named later.
#[derive(Debug, Default)]
pub struct PassName {
    /// Its text; empty if it is not known.
    pub text: Vec<u8>,
    is_known: bool,
    is_set: bool,
}

impl PassName {
    /// Returns true if it was named or set.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Sets it for the rest of the request.
    pub fn set(&mut self, value: &[u8]) {
        self.text.clear();
        self.text.extend_from_slice(value);
        (self.is_known, self.is_set) = (true, true);
    }

    /// Names it, unless it is set.
    pub(crate) fn name(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_set {
            self.text.clear();
            write(&mut self.text);
            self.is_known = true;
        }
    }

    /// Forgets it: another request begins.
    pub(crate) fn reset(&mut self) {
        self.text.clear();
        (self.is_known, self.is_set) = (false, false);
    }
}
