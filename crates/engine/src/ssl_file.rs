//! The bytes of a certificate, a key or another file that a directive of TLS names.
//!
//! What ACME issues has its place among them, without bytes: they come, and change, while the configuration is in force.

use conf::{SourceId, Span};
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
    /// `None` is what ACME issues.
    bytes: Option<Arc<Zeroizing<Vec<u8>>>>,
}

impl SslFile {
    /// Takes over the bytes of a file.
    pub(crate) fn new(name: Arc<str>, written: Arc<str>, span: Span, bytes: Vec<u8>) -> SslFile {
        SslFile { name, written, span, bytes: Some(Arc::new(Zeroizing::new(bytes))) }
    }

    /// Takes over bytes that a handshake has read, under the name by which they are shown.
    pub fn of_handshake(name: &str, bytes: Vec<u8>) -> SslFile {
        let name: Arc<str> = name.into();
        let nowhere = Span { source: SourceId(0), start: 0, end: 0 };
        SslFile::new(Arc::clone(&name), name, nowhere, bytes)
    }

    /// Returns the place of what ACME issues: `$acme_certificate` or `$acme_certificate_key`.
    pub(crate) fn issued(variable: &str, span: Span) -> SslFile {
        let name: Arc<str> = variable.into();
        SslFile { written: Arc::clone(&name), name, span, bytes: None }
    }

    /// Returns true if ACME issues it.
    pub fn is_issued(&self) -> bool {
        self.bytes.is_none()
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref().map_or(&[], |bytes| bytes)
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
