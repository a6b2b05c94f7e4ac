//! `proxy_pass` and its kin: where a request goes, what is sent there, and what becomes of the answer.
//!
//! Owns the settings and every decision about one proxied request; the server connects, sends, reads and waits.
//! The order of its calls:
//!
//! 1. [`content`] serves [`Content::Proxy`]; the request body is read first, unless it is to be passed on as it comes.
//! 2. [`plan`] says where to; [`crate::modules::upstream::hash_key`] what a group's balancer is asked with.
//! 3. [`request_head`] writes the head; once for all tries. [`upstream_url`] names the peer for the error log.
//! 4. [`framing`] judges the answer's head, [`wanted_retry`] whether it is a reason for another try,
//!    [`accept_head`] makes it the client's answer. [`relay`] says how the body is to be passed on, and
//!    [`accept_trailers`] takes its trailers. A try that failed without a head asks [`may_retry`].
//!
//! Must never: touch a socket, or pick a peer. Source of behaviour:
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html>, of nginx 1.31.

mod compile;
mod cookies;
mod directives;
mod names;
mod pass;
mod plan;
mod ranges;
mod relay;
mod request;
mod response;
mod rewrite;

pub use compile::Compiled;
pub use cookies::CookieFlags;
pub use names::NameSet;
pub use pass::{Destination, Pass};
pub use plan::{Plan, Target, plan, upstream_url};
pub use relay::{Progress, Relay, may_retry, relay, temp_path, tries_limit, wanted_retry};
pub use request::request_head;
pub use response::{AnswerFraming, Disposition, accept_head, accept_trailers, framing};
pub use rewrite::{Pattern, Redirects, Rule};

use super::Module;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{Content, Effect, Verdict, Wake};
use crate::setting::{Setting, inherit};
use crate::template::Template;
use conf::Span;
use http::Version;
use std::path::PathBuf;
use std::sync::Arc;
use upstream::retry::NextUpstream;

/// What is sent to the upstream.
#[derive(Clone, Debug)]
pub struct RequestSettings {
    /// `proxy_set_header`: names and values.
    pub set_headers: Setting<Vec<(Box<[u8]>, Template)>>,
    /// `proxy_set_body`: sent instead of the client's body.
    pub body: Setting<Option<Template>>,
    /// `proxy_method`: sent instead of the client's method.
    pub method: Setting<Option<Template>>,
    /// `proxy_pass_request_headers`: the client's fields are passed on.
    pub pass_headers: Setting<bool>,
    /// `proxy_pass_request_body`: the client's body is passed on.
    pub pass_body: Setting<bool>,
    /// `proxy_request_buffering`: the body is read whole before the upstream is asked.
    pub buffering: Setting<bool>,
    /// `proxy_http_version`.
    pub version: Setting<Version>,
}

/// What becomes of the answer.
#[derive(Clone, Debug)]
pub struct ResponseSettings {
    /// `proxy_hide_header`, beside nginx's own list.
    pub hide: Setting<Vec<Box<[u8]>>>,
    /// `proxy_pass_header`: taken off that list.
    pub pass: Setting<Vec<Box<[u8]>>>,
    /// `proxy_redirect`.
    pub redirects: Setting<Redirects>,
    /// `proxy_cookie_domain`.
    pub cookie_domains: Setting<Vec<Rule>>,
    /// `proxy_cookie_path`.
    pub cookie_paths: Setting<Vec<Rule>>,
    /// `proxy_cookie_flags`.
    pub cookie_flags: Setting<Vec<CookieFlags>>,
    /// `proxy_intercept_errors`: `error_page` is applied to the upstream's statuses.
    pub intercept_errors: Setting<bool>,
    /// `proxy_ignore_headers`: fields whose meaning is not heeded.
    pub ignore: Setting<NameSet>,
    /// `proxy_force_ranges`: a single range is answered here.
    pub force_ranges: Setting<bool>,
    /// `proxy_pass_trailers`.
    pub pass_trailers: Setting<bool>,
}

/// When there is another try.
#[derive(Clone, Debug)]
pub struct RetrySettings {
    /// `proxy_next_upstream`.
    pub next_upstream: Setting<NextUpstream>,
    /// `proxy_next_upstream_tries`; 0 is without limit.
    pub tries: Setting<u64>,
    /// `proxy_next_upstream_timeout`, in ms; 0 is without limit.
    pub timeout_ms: Setting<u64>,
}

/// Memory and files for the answer's body. Sizes are in bytes.
#[derive(Clone, Debug)]
pub struct BufferSettings {
    /// `proxy_buffering`.
    pub buffering: Setting<bool>,
    /// `proxy_buffer_size`: for the head and the body's beginning.
    pub head_size: Setting<u64>,
    /// `proxy_buffers`: how many, and how large each.
    pub buffers: Setting<(u64, u64)>,
    /// `proxy_busy_buffers_size`; by default twice the larger of the two sizes above.
    pub busy_size: Setting<Option<u64>>,
    /// `proxy_max_temp_file_size`; 0 is no file. 1 GiB by default.
    pub max_temp_file_size: Setting<Option<u64>>,
    /// `proxy_temp_file_write_size`; by default as `busy_size`.
    pub temp_file_write_size: Setting<Option<u64>>,
    /// `proxy_temp_path`; `None` is the default, `proxy_temp` under the prefix.
    pub temp_path: Setting<Option<PathBuf>>,
    /// `proxy_limit_rate`: bytes a second read from the upstream; 0 is without limit.
    pub limit_rate: Setting<Option<Template>>,
    /// Where the last of the sizes is written, for what is wrong with all of them together.
    written_at: Option<Span>,
}

/// The connection to the upstream. Times are in milliseconds.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// `proxy_connect_timeout`.
    pub connect_timeout_ms: Setting<u64>,
    /// `proxy_send_timeout`: the longest silence between two writes.
    pub send_timeout_ms: Setting<u64>,
    /// `proxy_read_timeout`: the longest silence between two reads.
    pub read_timeout_ms: Setting<u64>,
    /// `proxy_socket_keepalive`: SO_KEEPALIVE.
    pub socket_keepalive: Setting<bool>,
    /// `proxy_ignore_client_abort`: goes on when the client is gone.
    pub ignore_client_abort: Setting<bool>,
}

/// What is set at one level.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `proxy_pass`; not inherited, but by `if` blocks.
    pub pass: Option<Arc<Pass>>,
    /// What is sent.
    pub request: RequestSettings,
    /// What becomes of the answer.
    pub response: ResponseSettings,
    /// When there is another try.
    pub retry: RetrySettings,
    /// The answer's body.
    pub buffers: BufferSettings,
    /// The connection.
    pub connection: ConnectionSettings,
    /// What all that comes to, worked out once the whole text is read.
    pub compiled: Arc<Compiled>,
}

/// nginx takes the page size for its default buffers.
const PAGE_BYTES: u64 = 4096;

impl Default for Settings {
    fn default() -> Self {
        Settings {
            pass: None,
            request: RequestSettings {
                set_headers: Setting::new(Vec::new()),
                body: Setting::new(None),
                method: Setting::new(None),
                pass_headers: Setting::new(true),
                pass_body: Setting::new(true),
                buffering: Setting::new(true),
                version: Setting::new(Version::Http11),
            },
            response: ResponseSettings {
                hide: Setting::new(Vec::new()),
                pass: Setting::new(Vec::new()),
                redirects: Setting::new(Redirects::Default),
                cookie_domains: Setting::new(Vec::new()),
                cookie_paths: Setting::new(Vec::new()),
                cookie_flags: Setting::new(Vec::new()),
                intercept_errors: Setting::new(false),
                ignore: Setting::new(NameSet::default()),
                force_ranges: Setting::new(false),
                pass_trailers: Setting::new(false),
            },
            retry: RetrySettings {
                next_upstream: Setting::new(NextUpstream::default()),
                tries: Setting::new(0),
                timeout_ms: Setting::new(0),
            },
            buffers: BufferSettings {
                buffering: Setting::new(true),
                head_size: Setting::new(PAGE_BYTES),
                buffers: Setting::new((8, PAGE_BYTES)),
                busy_size: Setting::new(None),
                max_temp_file_size: Setting::new(None),
                temp_file_write_size: Setting::new(None),
                temp_path: Setting::new(None),
                limit_rate: Setting::new(None),
                written_at: None,
            },
            connection: ConnectionSettings {
                connect_timeout_ms: Setting::new(60_000),
                send_timeout_ms: Setting::new(60_000),
                read_timeout_ms: Setting::new(60_000),
                socket_keepalive: Setting::new(false),
                ignore_client_abort: Setting::new(false),
            },
            compiled: Arc::default(),
        }
    }
}

impl Settings {
    /// Takes what this level does not say from the one around it. What is compiled stays: it is this level's own.
    pub fn inherit(&mut self, outer: &Settings) {
        inherit!(self.request, outer.request; set_headers, body, method, pass_headers, pass_body, buffering, version);
        inherit!(self.response, outer.response; hide, pass, redirects, cookie_domains, cookie_paths, cookie_flags,
            intercept_errors, ignore, force_ranges, pass_trailers);
        inherit!(self.retry, outer.retry; next_upstream, tries, timeout_ms);
        inherit!(self.buffers, outer.buffers; buffering, head_size, buffers, busy_size, max_temp_file_size,
            temp_file_write_size, temp_path, limit_rate);
        inherit!(self.connection, outer.connection; connect_timeout_ms, send_timeout_ms, read_timeout_ms,
            socket_keepalive, ignore_client_abort);
    }

    /// For `if` blocks: what serves the location serves the block in it.
    pub fn inherit_target(&mut self, outer: &Settings) {
        if self.pass.is_none() {
            self.pass = outer.pass.clone();
        }
    }
}

/// The module.
pub static MODULE: Module = Module {
    finish: Some(compile::finish),
    ..Module::new(
        "proxy",
        &[pass::DIRECTIVES, directives::REQUEST, directives::RESPONSE, directives::CONNECTION],
    )
};

/// The content handler of a location with `proxy_pass`.
pub fn content(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if exchange.request.body_settled() || streams_body(exchange, env) {
        return Verdict::Serve(Content::Proxy);
    }
    match exchange.route.wake.take() {
        Some(Wake::Failed(status)) => Verdict::Refuse(status),
        // A wake that is left from an earlier handler's effect says nothing about the body.
        Some(Wake::Done) | None => Verdict::Wait(Effect::ReadBody),
    }
}

/// Is the request's body passed on while it comes (`proxy_request_buffering off`)? Not if another body is sent or
/// none, nor if it has no known length and the upstream is spoken to in HTTP/1.0, which has no chunks.
pub fn streams_body(exchange: &Exchange, env: &Env<'_>) -> bool {
    let request = &env.config.location(exchange.route.location).settings.proxy.request;
    !*request.buffering
        && request.body.is_none()
        && *request.pass_body
        && (exchange.request.framing != http::BodyFraming::Chunked || *request.version == Version::Http11)
}

#[cfg(test)]
mod tests;
