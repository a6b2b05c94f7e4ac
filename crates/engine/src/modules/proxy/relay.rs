//! Passing on the response's body, and the decision whether a failed try is followed by another.
//!
//! Owns what the settings and the upstream's own words (`X-Accel-Buffering`) come to for one request.

use super::rewrite::with_value;
use super::{PassKind, ProxySettings};
use crate::config::Config;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::modules::core;
use http::ResponseHead;
use std::path::PathBuf;
use upstream::retry::{self, TryFailure, TryState};

/// The buffering of a response's body. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// The upstream is read as fast as it sends; otherwise as fast as the client takes it, and each piece is sent on
    /// at once.
    pub buffering: bool,
    /// For the head and the body's beginning; without buffering, for all of it.
    pub head_size: u64,
    /// The number of buffers.
    pub buffer_count: u64,
    /// The size of each.
    pub buffer_size: u64,
    /// The most that may be on its way to the client while more is read.
    pub busy_size: u64,
    /// The most that may go to a temporary file; 0 uses none.
    pub max_temp_file_size: u64,
    /// The size of one write to it.
    pub temp_file_write_size: u64,
    /// Bytes a second read from the upstream; 0 is without limit. Only with buffering.
    pub limit_rate: u64,
}

/// Returns how the response's body is passed on. Valid once the head is accepted.
pub fn relay(exchange: &mut Exchange, env: &mut Env<'_>) -> Relay {
    core::settle_rates(exchange, env);
    let ProxySettings { buffers, compiled, .. } = &exchange.settings(env.config).proxy;
    let limit_rate = match &*buffers.limit_rate {
        Some(rate) => with_value(rate, exchange, env, conf::value::parse_buffer_size).unwrap_or(0),
        None => 0,
    };
    Relay {
        buffering: exchange.upstream.buffering.unwrap_or(*buffers.buffering),
        head_size: *buffers.head_size,
        buffer_count: buffers.buffers.0,
        buffer_size: buffers.buffers.1,
        busy_size: compiled.busy_size,
        max_temp_file_size: compiled.max_temp_file_size,
        temp_file_write_size: compiled.temp_file_write_size,
        limit_rate,
    }
}

/// Returns the directory for the temporary file of an answer.
pub fn temp_path(exchange: &Exchange, config: &Config) -> PathBuf {
    let settings = &exchange.settings(config).proxy;
    let set = &settings.buffers.temp_path;
    set.as_ref().map_or_else(|| config.prefix.join(default_temp_path(settings.kind)), Clone::clone)
}

/// Returns the default of `proxy_temp_path` and its like, below the prefix.
pub fn default_temp_path(kind: PassKind) -> String {
    format!("{}_temp", kind.row().prefix)
}

/// The state of a request after a try, as far as only the server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TryProgress {
    /// Any byte of the request went out in this try.
    pub request_sent: bool,
    /// The body was passed on while it came, so it cannot be sent again.
    pub body_streamed: bool,
    /// [`upstream::Tried::tries_left`], already held to [`tries_limit`].
    pub tries_left: u32,
    /// Since the first try began, in ms.
    pub elapsed_ms: u64,
}

/// Returns `proxy_next_upstream_tries`: how many tries there may be, the first included; `None` is as many as peers.
pub fn tries_limit(exchange: &Exchange, env: &Env<'_>) -> Option<u32> {
    let tries = *settings(exchange, env).retry.tries;
    (tries > 0).then(|| u32::try_from(tries).unwrap_or(u32::MAX))
}

/// Returns whether a try that failed like this is followed by another (`proxy_next_upstream`).
pub fn may_retry(exchange: &Exchange, env: &Env<'_>, failure: TryFailure, progress: TryProgress) -> bool {
    let retry = &settings(exchange, env).retry;
    let state = TryState {
        non_idempotent: retry::is_non_idempotent(exchange.method()),
        request_sent: progress.request_sent,
        body_streamed: progress.body_streamed,
        tries_left: progress.tries_left,
        elapsed_ms: progress.elapsed_ms,
        timeout_ms: *retry.timeout_ms,
    };
    retry::may_retry(*retry.next_upstream, failure, &state)
}

/// Returns how the try has failed if this response's status is a reason for another try and one is allowed; if
/// not, the answer is the client's.
pub fn wanted_retry(
    exchange: &Exchange,
    env: &Env<'_>,
    head: &ResponseHead,
    progress: TryProgress,
) -> Option<TryFailure> {
    let failure = TryFailure::from_status(head.status)?;
    may_retry(exchange, env, failure, progress).then_some(failure)
}

fn settings<'a>(exchange: &Exchange, env: &Env<'a>) -> &'a ProxySettings {
    &exchange.settings(env.config).proxy
}
