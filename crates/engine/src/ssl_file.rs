//! The bytes of a certificate, a key or another file that a directive of TLS names.

use conf::Span;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A file's bytes. They are cleared when the last configuration that has them is dropped, and never shown.
#[derive(Clone)]
pub struct SslFile {
    /// Its path, or what is said instead of it.
    pub name: Arc<str>,
    /// The same, as the configuration writes it.
    pub written: Arc<str>,
    /// Where the configuration names it.
    pub span: Span,
    bytes: Arc<Zeroizing<Vec<u8>>>,
}

impl SslFile {
    /// Takes over the bytes of a file.
    pub(crate) fn new(name: Arc<str>, written: Arc<str>, span: Span, bytes: Vec<u8>) -> SslFile {
        SslFile { name, written, span, bytes: Arc::new(Zeroizing::new(bytes)) }
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Two are equal if their bytes are.
impl PartialEq for SslFile {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for SslFile {}

impl fmt::Debug for SslFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SslFile").field("name", &self.name).finish_non_exhaustive()
    }
}
