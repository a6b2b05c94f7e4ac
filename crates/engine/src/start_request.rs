//! The beginning of a request: from a decoded head to an exchange that can walk through the phases.

use crate::Config;
use crate::exchange::{Exchange, Request, Route, ScriptState, Timing};
use crate::host::{Env, Level, Now};
use crate::log_line;
use crate::modules::realip::record::RealIpRecord;
use crate::modules::{core, ssl};
use crate::phase::{Cursor, Phase};
use http::{HeadLimits, Known, Method, Version};

/// Returns the limits on request heads of a listening address: those of its default server, as in nginx.
pub fn head_limits(config: &Config, listener: usize) -> HeadLimits {
    let Some(listener) = config.listeners.get(listener) else { return HeadLimits::default() };
    let scope = config.server(listener.servers.default).scope;
    let head = &config.location(scope).settings.core.head;
    HeadLimits {
        client_header_buffer_size: *head.buffer_size as usize,
        large_client_header_buffers: (head.large_buffers.0 as usize, head.large_buffers.1 as usize),
        max_fields: *head.max_fields as usize,
        underscores_in_headers: *head.underscores,
        ignore_invalid_headers: *head.ignore_invalid,
        merge_slashes: *head.merge_slashes,
        ..HeadLimits::default()
    }
}

impl Exchange {
    /// Makes ready for the next request of the same connection, keeping all buffers.
    pub fn reset(&mut self, config: &Config, now: Now) {
        let connection_requests = self.connection.requests;
        self.connection.requests = connection_requests + 1;
        self.request.reset();
        self.response.reset();
        self.route = Route::default();
        self.upstream.reset();
        self.slots.reset(config.variables.slot_count());
        self.captures.groups.clear();
        self.script = ScriptState {
            chunk: std::mem::take(&mut self.script.chunk),
            value: std::mem::take(&mut self.script.value),
            ..ScriptState::default()
        };
        self.realip = RealIpRecord::default();
        self.limits.reset();
        self.switches.reset();
        self.subrequests.reset();
        self.userid.reset();
        self.output.reset();
        self.timing = Timing { start: now };
    }
}

impl Request {
    /// Returns whether its method may be served although the request may have been sent again: it changes nothing (RFC 9110,
    /// section 9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(self.head.method, Method::Get | Method::Head | Method::Options)
    }
}

/// Takes over a decoded head: chooses the server, normalises the URI, decides the body's framing.
///
/// # Errors
/// The status to answer, already logged.
pub fn start(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), u16> {
    exchange.route.cursor = Cursor { phase: Phase::PostRead, handler: 0 };
    let request = &mut exchange.request;
    request.host.extend_from_slice(request.head.host());
    request.length = request.head.len() as u64;
    core::choose_server(exchange, env);
    let merge = *exchange.settings(env.config).core.head.merge_slashes;
    let request = &mut exchange.request;
    match request.head.split_target(merge, &mut request.uri) {
        Ok(args) => request.args.extend_from_slice(args),
        Err(_) => {
            request.uri.clear();
            log_line::error(
                exchange,
                env,
                Level::Info,
                b"client sent invalid request while reading client request line",
            );
            return Err(400);
        }
    }
    match http::framing::request_body(&request.head) {
        Ok(framing) => request.framing = framing,
        Err(fault) => {
            let mut text = b"client sent ".to_vec();
            text.extend_from_slice(fault.words().as_bytes());
            if fault == http::FramingError::UnknownTransferEncoding {
                text.extend_from_slice(b": \"");
                text.extend_from_slice(request.head.headers.get(Known::TransferEncoding).unwrap_or_default());
                text.push(b'"');
            }
            text.extend_from_slice(READING_FIELDS);
            log_line::error(exchange, env, Level::Info, &text);
            return Err(fault.status());
        }
    }
    if let Err(fault) = http::framing::check_method(&request.head, request.framing, false) {
        let mut text = Vec::new();
        request.head.explain(fault, b"", &mut text);
        text.extend_from_slice(while_reading(fault));
        log_line::error(exchange, env, Level::Info, &text);
        return Err(fault.status());
    }
    if request.head.version == Version::Http09 {
        exchange.response.close = true;
    }
    ssl::check(exchange, env)
}

/// Rejects a head that could not be decoded: chooses the default server, and logs the fault. Returns the status to
/// answer.
pub fn reject(exchange: &mut Exchange, env: &mut Env<'_>, fault: http::HeadError, input: &[u8]) -> u16 {
    core::choose_server(exchange, env);
    exchange.response.close = true;
    let mut text = Vec::new();
    exchange.request.head.explain(fault, input, &mut text);
    text.extend_from_slice(while_reading(fault));
    log_line::error(exchange, env, Level::Info, &text);
    fault.status()
}

const READING_LINE: &[u8] = b" while reading client request line";
const READING_FIELDS: &[u8] = b" while reading client request headers";

/// Returns nginx's words for the step in which it met a fault.
fn while_reading(fault: http::HeadError) -> &'static [u8] {
    use http::HeadError::*;
    match fault {
        InvalidMethod | InvalidRequest | InvalidVersion | InvalidHttp09Method | UriTooLong
        | InvalidTargetHost => READING_LINE,
        _ => READING_FIELDS,
    }
}
