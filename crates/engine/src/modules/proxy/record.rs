//! A request's part in `proxy_pass`: what `$proxy_host` and `$proxy_port` say, which peers were tried, and how that went.

use super::cache::record::CacheRecord;
use http::Headers;
use std::sync::Arc;
use upstream::health::ServerHealth;

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

/// One try of an upstream peer: the pieces of `$upstream_*`.
#[derive(Clone, Debug, Default)]
pub struct Try {
    /// The peer's address as nginx prints it, or the group's name when no peer could be picked.
    pub address: Arc<str>,
    /// The health of the peer (`health_check`), if it is checked.
    pub health: Option<Arc<ServerHealth>>,
    /// The peer's status; 0 when none came (printed as `-`, or 502/504 as nginx does).
    pub status: u16,
    /// Microseconds until connected; `None` if it did not come to that.
    pub connect_us: Option<u64>,
    /// Microseconds until the head was whole.
    pub header_us: Option<u64>,
    /// Microseconds until the last byte; `None` while it runs.
    pub response_us: Option<u64>,
    /// Bytes sent to the peer.
    pub sent: u64,
    /// Bytes received from the peer, head included.
    pub received: u64,
    /// Bytes of body received from the peer.
    pub body_received: u64,
    /// An internal redirect lies between this try and the one before it (` : ` in the lists).
    pub after_redirect: bool,
}

/// All tries, and the last peer's head.
#[derive(Debug, Default)]
pub struct UpstreamRecord {
    /// In order.
    pub tries: Vec<Try>,
    /// The fields of the last peer's answer (`$upstream_http_*`).
    pub headers: Headers,
    /// Trailers of the last peer's answer.
    pub trailers: Headers,
    /// The URL of the upstream, for the error log (`upstream: "http://127.0.0.1:8081/"`); empty outside a try.
    pub url: Vec<u8>,
    /// The `Host` that `$proxy_host` gives.
    pub proxy_host: PassName,
    /// The port that `$proxy_port` gives.
    pub proxy_port: PassName,
    /// The next try follows an internal redirect.
    pub redirected: bool,
    /// The value of a `proxy_pass` with variables.
    pub pass: Vec<u8>,
    /// The target of the request as it is sent to peers.
    pub uri: Vec<u8>,
    /// The value of the peer's `X-Accel-Buffering`, unless it is ignored.
    pub buffering: Option<bool>,
    /// The charset that the peer wants its answer to have (`X-Accel-Charset`); empty if it does not say.
    pub charset: Vec<u8>,
    /// The state of its look into a zone of kept responses.
    pub cache: Option<Box<CacheRecord>>,
}

impl UpstreamRecord {
    pub(crate) fn reset(&mut self) {
        self.tries.clear();
        self.headers.clear();
        self.trailers.clear();
        self.url.clear();
        self.proxy_host.reset();
        self.proxy_port.reset();
        self.redirected = false;
        self.pass.clear();
        self.uri.clear();
        self.buffering = None;
        self.charset.clear();
        self.cache = None;
    }
}
