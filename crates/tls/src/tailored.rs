//! The context of one handshake, where that has more than its server's: certificates that it names itself.

use crate::contexts::Context;
use crate::late::HandshakeFiles;
use crate::resolver::Resolver;
use engine::modules::ssl::HandshakePair;
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// What a handshake has beside what its server's context has.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Certificates beside the context's own.
    pub pairs: Vec<Arc<CertifiedKey>>,
}

impl Context {
    /// Returns true if the names of some of its certificates have variables: [`Context::load_late`] loads them.
    pub fn has_late(&self) -> bool {
        self.late.is_some()
    }

    /// Loads the certificates that a handshake names.
    ///
    /// # Errors
    /// Fails if one cannot be read or used; the text is for the error log.
    pub fn load_late(
        &self,
        names: &[HandshakePair],
        files: &mut dyn HandshakeFiles,
    ) -> Result<Vec<Arc<CertifiedKey>>, String> {
        let load = |late: &crate::late::LatePairs| names.iter().map(|pair| late.load(pair, files)).collect();
        self.late.as_ref().map_or(Ok(Vec::new()), load)
    }

    /// Returns what a handshake follows that has more than the context; with HTTP/2 among the protocols if that may be spoken.
    pub fn tailored(&self, speaks_http2: bool, wishes: Wishes) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(self.config(speaks_http2));
        let mut resolver = Resolver::clone(&self.resolver);
        resolver.pairs.extend(wishes.pairs);
        config.cert_resolver = Arc::new(resolver);
        Arc::new(config)
    }
}
