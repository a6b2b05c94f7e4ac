//! `proxy_pass` and the other proxy directives: the destination of a request, what is sent there, and the response.
//!
//! Owns the settings and every decision about one proxied request; the server connects, sends, reads and waits.
//! The order of its calls:
//!
//! 1. [`content`] serves [`Content::Proxy`]; the request body is read first, unless it is to be passed on as it comes.
//! 2. [`plan`] says where to, over TLS for the name [`upstream_name`]; [`crate::modules::upstream::hash_key`] what a group's
//!    balancer is asked with.
//! 3. [`request_head`] writes the head, or its header block for HTTP/2; once for all tries. [`upstream_url`] names the peer for the error log.
//! 4. [`framing`] judges the answer's head, [`wanted_retry`] whether it is a reason for another try,
//!    [`accept_head`] makes it the client's answer. [`relay`] says how the body is to be passed on, and
//!    [`accept_trailers`] takes its trailers. A try that failed without a head asks [`may_retry`].
//!
//! Must never: touch a socket, or pick a peer. Source of behaviour:
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html>, of nginx 1.31.

pub mod cache;
pub(crate) mod cgi;
mod compile;
mod cookies;
pub(in crate::modules) mod directives;
mod early_hints;
mod kind;
mod local;
mod names;
mod pass;
mod plan;
pub(crate) mod record;
mod relay;
mod request;
mod request_cgi;
mod request_h2;
mod response;
mod rewrite;
mod ssl;

pub use cache::CacheSettings;
pub(in crate::modules) use cache::cache_directives;
pub use cgi::CgiSettings;
pub use compile::Compiled;
pub use cookies::CookieFlags;
pub(in crate::modules) use directives::{
    body_directives, connection_directives, head_directives, set_header, ssl_directives,
};
pub use early_hints::{EARLY_HINTS, early_hints};
pub use kind::{Families, PassKind, Protocol};
pub use local::{local_address, local_address_of};
pub use names::NameSet;
pub(in crate::modules) use pass::read_pass;
pub use pass::{Destination, Pass};
pub use plan::{Plan, Target, plan, upstream_url};
pub use relay::{
    Relay, TryProgress, default_temp_path, may_retry, relay, temp_path, tries_limit, wanted_retry,
};
pub use request::sends_head;
pub use response::{AnswerFraming, Disposition, accept_head, accept_trailers, framing};
pub use rewrite::{Pattern, Redirects, Rule};
pub(crate) use ssl::check as check_ssl;
pub use ssl::{ProxySslSettings, upstream_name};
pub(in crate::modules) use ssl::{file as ssl_file, source as ssl_source};

use super::{Module, switch};
use crate::config::Settings;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{Content, Effect, Verdict, Wake};
use crate::setting::settings;
use crate::template::Template;
use conf::Span;
use http::Version;
use http::cgi::Gateway;
use std::path::PathBuf;
use std::sync::Arc;
use upstream::retry::NextUpstream;

settings! {
    /// Settings of the request that is sent to the upstream.
    pub struct RequestSettings {
        /// `proxy_set_header`: names and values.
        pub set_headers: Vec<(Box<[u8]>, Template)> = Vec::new(),
        /// `proxy_set_body`: sent instead of the client's body.
        pub body: Option<Template> = None,
        /// `proxy_method`: sent instead of the client's method.
        pub method: Option<Template> = None,
        /// `proxy_pass_request_headers`: the client's fields are passed on.
        pub pass_headers: bool = true,
        /// `proxy_pass_request_body`: the client's body is passed on.
        pub pass_body: bool = true,
        /// `proxy_request_buffering`: the body is read whole before the upstream is asked.
        pub buffering: bool = true,
        /// `proxy_http_version`.
        pub version: Version = Version::Http11,
    }
}

settings! {
    /// Settings of the response.
    pub struct ResponseSettings {
        /// `proxy_hide_header`, beside nginx's own list.
        pub hide: Vec<Box<[u8]>> = Vec::new(),
        /// `proxy_pass_header`: taken off that list.
        pub pass: Vec<Box<[u8]>> = Vec::new(),
        /// `proxy_redirect`.
        pub redirects: Redirects = Redirects::Default,
        /// `proxy_cookie_domain`.
        pub cookie_domains: Vec<Rule> = Vec::new(),
        /// `proxy_cookie_path`.
        pub cookie_paths: Vec<Rule> = Vec::new(),
        /// `proxy_cookie_flags`.
        pub cookie_flags: Vec<CookieFlags> = Vec::new(),
        /// `proxy_intercept_errors`: `error_page` is applied to the upstream's statuses.
        pub intercept_errors: bool = false,
        /// `proxy_ignore_headers`: fields whose meaning is not heeded.
        pub ignore: NameSet = NameSet::default(),
        /// `proxy_force_ranges`: a single range is answered here.
        pub force_ranges: bool = false,
        /// `proxy_pass_trailers`.
        pub pass_trailers: bool = false,
    }
}

settings! {
    /// Conditions for another try.
    pub struct RetrySettings {
        /// `proxy_next_upstream`.
        pub next_upstream: NextUpstream = NextUpstream::default(),
        /// `proxy_next_upstream_tries`; 0 is without limit.
        pub tries: u64 = 0,
        /// `proxy_next_upstream_timeout`, in ms; 0 is without limit.
        pub timeout_ms: u64 = 0,
    }
}

/// The place of a setting in the text, for diagnostics. It is no part of what the configuration means, so it is not
/// shown with it.
#[derive(Clone, Copy, Default)]
struct WrittenAt(Option<Span>);

impl std::fmt::Debug for WrittenAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WrittenAt")
    }
}

settings! {
    /// Memory and files for the answer's body. Sizes are in bytes.
    pub struct BufferSettings {
        /// `proxy_buffering`.
        pub buffering: bool = true,
        /// `proxy_buffer_size`: for the head and the body's beginning.
        pub head_size: u64 = PAGE_BYTES,
        /// `proxy_buffers`: how many, and how large each.
        pub buffers: (u64, u64) = (8, PAGE_BYTES),
        /// `proxy_busy_buffers_size`; by default twice the larger of the two sizes above.
        pub busy_size: Option<u64> = None,
        /// `proxy_max_temp_file_size`; 0 is no file. 1 GiB by default.
        pub max_temp_file_size: Option<u64> = None,
        /// `proxy_temp_file_write_size`; by default as `busy_size`.
        pub temp_file_write_size: Option<u64> = None,
        /// `proxy_temp_path`; `None` is the default, `proxy_temp` under the prefix.
        pub temp_path: Option<PathBuf> = None,
        /// `proxy_limit_rate`: bytes a second read from the upstream; 0 is without limit.
        pub limit_rate: Option<Template> = None,
    }
    not a setting {
        /// The span of the last size, for faults of all sizes together.
        written_at: WrittenAt = WrittenAt::default(),
    }
}

settings! {
    /// The connection to the upstream. Times are in milliseconds.
    pub struct ConnectionSettings {
        /// `proxy_connect_timeout`.
        pub connect_timeout_ms: u64 = 60_000,
        /// `proxy_send_timeout`: the longest silence between two writes.
        pub send_timeout_ms: u64 = 60_000,
        /// `proxy_read_timeout`: the longest silence between two reads.
        pub read_timeout_ms: u64 = 60_000,
        /// `proxy_socket_keepalive`: SO_KEEPALIVE.
        pub socket_keepalive: bool = false,
        /// `proxy_ignore_client_abort`: goes on when the client is gone.
        pub ignore_client_abort: bool = false,
        /// `proxy_bind`: the local address of connections; `None` leaves it to the system.
        pub bind: Option<Template> = None,
    }
}

settings! {
    /// Settings of one level.
    pub struct ProxySettings {}
    nested {
        /// Settings of the request.
        pub request: RequestSettings,
        /// Settings of the response.
        pub response: ResponseSettings,
        /// Conditions for another try.
        pub retry: RetrySettings,
        /// The answer's body.
        pub buffers: BufferSettings,
        /// The connection.
        pub connection: ConnectionSettings,
        /// TLS.
        pub ssl: ProxySslSettings,
        /// Settings of requests to application servers.
        pub cgi: CgiSettings,
        /// Kept responses.
        pub cache: CacheSettings,
    }
    not a setting {
        /// Whose settings these are.
        pub kind: PassKind = PassKind::Proxy,
        /// `proxy_pass`; inherited by `if` blocks alone.
        pub pass: Option<Arc<Pass>> = None,
        /// The compiled settings, made once the whole text is read. Each level has its own.
        pub compiled: Arc<Compiled> = Arc::default(),
    }
}

impl ProxySettings {
    /// Returns whether upstreams are spoken to in HTTP/2.
    pub fn speaks_http2(&self) -> bool {
        *self.request.version == Version::Http2
    }

    /// Returns what is spoken to upstreams.
    pub fn protocol(&self) -> Protocol {
        match self.kind.gateway() {
            Some(Gateway::FastCgi) => Protocol::FastCgi,
            Some(Gateway::Uwsgi | Gateway::Scgi) => Protocol::Cgi,
            None if self.speaks_http2() => Protocol::Http2,
            None => Protocol::Http1,
        }
    }
}

/// Appends the request's head as it is sent to every peer, its header block for HTTP/2, or its parameters for an application
/// server, and with `proxy_set_body` the body after it, to `out`; returns how long the head is.
///
/// # Errors
/// The status to answer, logged in nginx's words.
pub fn request_head(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    plan: &Plan,
    out: &mut Vec<u8>,
) -> Result<usize, u16> {
    let settings = &exchange.settings(env.config).proxy;
    let Some(pass) = &settings.pass else { return Err(500) };
    match settings.kind.gateway() {
        Some(gateway) => request_cgi::request_params(exchange, env, settings, gateway, out),
        None if settings.speaks_http2() => {
            request_h2::request_block(exchange, env, settings, pass, plan, out)
        }
        None => request::request_text(exchange, env, settings, pass, plan, out),
    }
}

/// nginx takes the page size for its default buffers.
const PAGE_BYTES: u64 = 4096;

/// Inherits the content handler in an `if` block: what serves the location serves the block in it.
pub fn inherit_pass(settings: &mut Settings, outer: &Settings) {
    if PassKind::ALL.iter().all(|kind| kind.of(settings).pass.is_none())
        && let Some(kind) = PassKind::ALL.into_iter().find(|kind| kind.of(outer).pass.is_some())
    {
        kind.settings(settings).pass = kind.of(outer).pass.clone();
    }
}

/// Makes the settings of the family whose `…_pass` a location has those by which it is served. To be called when all levels
/// have inherited theirs.
pub fn settle_kind(settings: &mut Settings) {
    if let Some(kind) = PassKind::ALL[1..].iter().find(|kind| kind.of(settings).pass.is_some()) {
        settings.proxy = kind.of(settings).clone();
    }
}

/// The module.
pub static MODULE: Module = Module {
    finish: Some(compile::finish),
    ..Module::new(
        "proxy",
        &[
            pass::DIRECTIVES,
            directives::REQUEST,
            directives::RESPONSE,
            head_directives!("proxy", PassKind::Proxy),
            connection_directives!("proxy", PassKind::Proxy, ALL_WORDS),
            body_directives!("proxy", PassKind::Proxy),
            ssl_directives!("proxy", PassKind::Proxy, "$proxy_host"),
            cache_directives!(
                "proxy",
                PassKind::Proxy,
                "The key of a cached response. The default is the upstream's URL, with the URI as it is sent there."
            ),
        ],
    )
};

/// Returns the content handler of a location with `proxy_pass`.
pub fn content(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if exchange.request.body_settled() || streams_body(exchange, env) {
        return match switch::before_proxy(exchange, env) {
            Verdict::Next => {
                exchange.switches.lead();
                Verdict::Serve(Content::Proxy)
            }
            held => held,
        };
    }
    match exchange.route.wake.take() {
        Some(Wake::Failed(status)) => Verdict::Refuse(status),
        // A wake that is left from an earlier handler's effect says nothing about the body.
        Some(Wake::Done) | None => Verdict::Wait(Effect::ReadBody),
    }
}

/// Returns whether the request's body is passed on while it arrives (`proxy_request_buffering off`). It is not if
/// another body is sent or
/// none, nor if it has no known length and the upstream is spoken to in HTTP/1.0, which has no chunks.
pub fn streams_body(exchange: &Exchange, env: &Env<'_>) -> bool {
    let request = &exchange.settings(env.config).proxy.request;
    !*request.buffering
        && request.body.is_none()
        && *request.pass_body
        && (exchange.request.framing != http::BodyFraming::Chunked || *request.version >= Version::Http11)
}

#[cfg(test)]
mod tests;
