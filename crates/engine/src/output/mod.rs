//! The answer on its way out: header filters, the head's bytes, body filters and framing.
//!
//! Everything ends up in [`Output::wire`], which the server sends; large bodies pass by it (see
//! [`Output::open_chunk`]): the engine frames them and never copies them.

mod body;
pub(crate) mod chain;
mod decoder;
mod encoder;
mod http2;
pub(crate) mod wire;

pub(crate) use body::ENOUGH;
pub use body::{end_body, included, insert, pump, put_stub, room};
pub use chain::{BodyStep, Include, Included};
pub use decoder::{DecodeError, Decoder};
pub use encoder::{Coding, Encoder, Ratio};
pub use wire::{FilterFailed, Framing, HeadRefused, Output};

use crate::exchange::Exchange;
use crate::host::Env;
use crate::modules;
use http::{Known, Version, line_end};
use std::net::IpAddr;

/// Runs the header filters and writes the head into the wire. Does nothing if the head is written.
///
/// # Errors
/// The answer that a filter demands instead.
pub fn write_head(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    if exchange.output.head_written {
        return Ok(());
    }
    if exchange.response.status == 0 {
        exchange.response.status = 200;
    }
    if let Some(status) = exchange.response.forced_status {
        // `error_page` chose the status; what serves the page has no say in it (nginx's `err_status`).
        exchange.response.status = status;
        exchange.response.status_line = None;
    }
    if !exchange.response.filtered {
        exchange.response.filtered = true;
        exchange.switches.begin_answer();
        // What an answer was to pass that was refused is none of the next one's.
        exchange.output.forget_filters();
        let needed = exchange.location(env.config).modules;
        for filter in modules::header_filters(needed, &exchange.subrequests) {
            filter(exchange, env)?;
        }
    }
    modules::core::settle_rates(exchange, env);
    encode_head(exchange, env);
    Ok(())
}

/// Passes body bytes through the body filters into the wire, writing the head before them if that is still to do.
pub fn write_body(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    data: &[u8],
    last: bool,
) -> Result<(), FilterFailed> {
    write_head(exchange, env).map_err(|_| FilterFailed)?;
    if exchange.output.framing == Framing::None {
        // nginx's `header_only`: no body filter sees a body that is not sent.
        exchange.output.ended |= last;
        return Ok(());
    }
    if exchange.output.failed {
        return Err(FilterFailed);
    }
    if has_script(exchange, env) {
        exchange.script.chunk.clear();
        exchange.script.chunk.extend_from_slice(data);
        exchange.script.chunk_last = last;
        if let Err(failed) = modules::lua::filter_body(exchange, env) {
            // As nginx's `c->error`: what was not sent yet is not sent any more.
            exchange.output.failed = true;
            exchange.output.wire.clear();
            return Err(failed);
        }
        let chunk = std::mem::take(&mut exchange.script.chunk);
        let given = body::give(exchange, env, &chunk, exchange.script.chunk_last);
        exchange.script.chunk = chunk;
        given
    } else {
        body::give(exchange, env, data, last)
    }
}

/// Returns whether the body must pass through [`write_body`]; otherwise the server may send it past the wire.
pub fn has_body_filter(exchange: &Exchange, env: &Env<'_>) -> bool {
    !exchange.output.chain.is_empty() || exchange.output.encoder.is_some() || has_script(exchange, env)
}

/// Returns whether a body that is at hand may pass through its filters piece by piece: a script sees it whole.
pub fn takes_pieces(exchange: &Exchange, env: &Env<'_>) -> bool {
    has_body_filter(exchange, env) && !has_script(exchange, env)
}

fn has_script(exchange: &Exchange, env: &Env<'_>) -> bool {
    exchange.settings(env.config).lua.body_filter.is_some()
}

/// Writes what filters hold back of the body so far.
pub fn flush(exchange: &mut Exchange, env: &mut Env<'_>) {
    if exchange.output.encoder.is_some() && exchange.output.head_written && !exchange.output.ended {
        let before = std::mem::replace(&mut exchange.output.at_once, true);
        body::append(exchange, env, b"", false);
        exchange.output.at_once = before;
    }
}

/// The head's bytes, in nginx's order of fields (ngx_http_header_filter).
fn encode_head(exchange: &mut Exchange, env: &mut Env<'_>) {
    let config = env.config;
    let settings = exchange.settings(config);
    let now = env.host.now();
    decide_framing(exchange, settings, now);
    let made_absolute = absolute_location(exchange, config);
    if let 494..=497 = exchange.response.status {
        // nginx's own numbers: the client sees 400.
        exchange.response.status = 400;
    }
    let Exchange { response, output, request, subrequests, .. } = exchange;
    output.head_written = true;
    if subrequests.is_inner() {
        // The request around it reads the head as it is here.
        return;
    }
    match request.head.version {
        Version::Http09 => return,
        Version::Http2 => return http2::encode_head(response, output, config, settings, now),
        Version::Http10 | Version::Http11 => {}
    }
    let wire = &mut output.wire;
    let before = wire.len();
    match &response.status_line {
        Some(line) => {
            wire.extend_from_slice(b"HTTP/1.1 ");
            wire.extend_from_slice(line);
            wire.extend_from_slice(b"\r\n");
        }
        None => http::encode::encode_status_line(wire, response.status),
    }
    if !response.headers.has(Known::Server) {
        wire.extend_from_slice(b"Server: ");
        wire.extend_from_slice(config.server_header(*settings.core.server_tokens).as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    if !response.headers.has(Known::Date) {
        wire.extend_from_slice(b"Date: ");
        wire.extend_from_slice(&http::date::present_http_date(now.epoch_s()));
        wire.extend_from_slice(b"\r\n");
    }
    if let Some(kind) = &response.content_type {
        http::encode::encode_field(wire, b"Content-Type", kind);
    }
    // A script's own Content-Length is among the other fields, spelt as the script spells it.
    let keeps_length = response.keeps_length();
    if let (Some(len), false) = (response.content_length, keeps_length) {
        wire.extend_from_slice(b"Content-Length: ");
        wire.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    // `add_header Last-Modified` and scripts write it their own way, among the other fields.
    if let Some(modified_s) = response.last_modified_s
        && !response.headers.has(Known::LastModified)
    {
        http::encode::encode_field(wire, b"Last-Modified", &http::date::http_date(modified_s));
    }
    // nginx writes a Location that it made absolute here, any other behind Connection.
    if let (Some(location), true) = (&response.location, made_absolute) {
        http::encode::encode_field(wire, b"Location", location);
    }
    if output.framing == Framing::Chunked {
        wire.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if response.status == 101 {
        wire.extend_from_slice(b"Connection: upgrade\r\n");
    } else if !output.keep_alive {
        wire.extend_from_slice(b"Connection: close\r\n");
    } else {
        wire.extend_from_slice(b"Connection: keep-alive\r\n");
        if let Some(seconds) = settings.core.keepalive.idle.header_s {
            wire.extend_from_slice(b"Keep-Alive: timeout=");
            wire.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
    }
    if output.varies && *settings.filters.gzip.vary {
        wire.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
    if let (Some(location), false) = (&response.location, made_absolute) {
        http::encode::encode_field(wire, b"Location", location);
    }
    response.headers.append_to(wire, |known, _, value| match known {
        // Empty, these two say only that ours are not wanted (`proxy_pass_header` without such a field).
        Some(Known::Server | Known::Date) => !value.is_empty(),
        // Where the message ends, and whether another one follows, is said once, above, whatever adds a field.
        Some(Known::Connection | Known::TransferEncoding) => false,
        Some(Known::ContentLength) => keeps_length,
        _ => true,
    });
    wire.extend_from_slice(b"\r\n");
    output.head_len = (wire.len() - before) as u64;
}

fn decide_framing(exchange: &mut Exchange, settings: &crate::config::Settings, now: crate::host::Now) {
    let core = &settings.core;
    let has_trailers = modules::headers::wants_trailers(&exchange.response, &settings.headers);
    let head = &exchange.request.head;
    let response = &mut exchange.response;
    let asked = http::framing::keep_alive(head.version, &head.headers);
    let mut keep_alive = asked
        && !response.close
        && !http::framing::connection(&response.headers).close
        && core.keepalive.idle.timeout_ms > 0
        && !is_disabled_browser(&exchange.request, *core.keepalive.disable)
        && exchange.connection.requests < *core.keepalive.requests
        && now.monotonic_us.saturating_sub(exchange.connection.opened.monotonic_us) / 1000
            < *core.keepalive.time_ms;
    if response.status == 204 {
        response.content_type = None;
        response.content_length = None;
        response.last_modified_s = None;
    }
    if response.last_modified_s.is_some() && !matches!(response.status, 200 | 206 | 304) {
        response.last_modified_s = None;
    }
    // Trailers need chunks (ngx_http_chunked_filter_module).
    let is_head = exchange.request.method_override.as_deref().unwrap_or(head.method_bytes()) == b"HEAD";
    let chunkable = head.version >= Version::Http11 && *core.chunked_transfer_encoding && !is_head;
    if has_trailers && chunkable && !matches!(response.status, 0..200 | 204 | 304) {
        response.content_length = None;
    }
    let bodiless = response.status == 204 || response.status == 304 || response.status < 200;
    let framing = if bodiless || is_head {
        Framing::None
    } else if exchange.subrequests.is_inner() {
        Framing::Close
    } else if head.version == Version::Http2 {
        Framing::Pieces
    } else if response.content_length.is_some() {
        Framing::Length
    } else if head.version == Version::Http11 && *core.chunked_transfer_encoding {
        Framing::Chunked
    } else {
        keep_alive = false;
        Framing::Close
    };
    // A client takes what is below 200 for no answer yet, and the next one for the answer to this request.
    keep_alive &= response.status >= 200;
    exchange.output.keep_alive = keep_alive;
    exchange.output.framing = framing;
}

/// `keepalive_disable` (ngx_http_process_user_agent): Internet Explorer up to 6 after a POST, Safari on macOS.
fn is_disabled_browser(request: &crate::exchange::Request, disable: modules::core::KeepaliveDisable) -> bool {
    let is_post = request.head.method == http::Method::Post;
    if !(disable.safari || disable.msie6 && is_post) {
        return false;
    }
    let agent = request.head.headers.get(Known::UserAgent).unwrap_or_default();
    let has = |text: &[u8]| memchr::memmem::find(agent, text).is_some();
    let old_msie = |at: usize| matches!(agent.get(at + 5..at + 7), Some([b'1'..=b'6', b'.']));
    let msie = memchr::memmem::find(agent, b"MSIE ");
    (disable.msie6 && is_post && msie.is_some_and(old_msie) && !has(b"Opera"))
        || (disable.safari && has(b"Safari/") && has(b"Mac OS X") && !has(b"Chrome/"))
}

/// Makes `Location` one line, and absolute if `absolute_redirect` is on, as it is by default.
fn absolute_location(exchange: &mut Exchange, config: &crate::config::Config) -> bool {
    let core = &exchange.settings(config).core;
    let Some(location) = &mut exchange.response.location else { return false };
    line_end::escape_from(location, 0);
    if !location.starts_with(b"/") || !*core.absolute_redirect {
        return false;
    }
    let mut absolute = [exchange.connection.scheme(), b"://"].concat();
    let server = config.server(exchange.route.server);
    match exchange.connection.local {
        _ if *core.server_name_in_redirect => absolute.extend_from_slice(server.first_name()),
        Some(local) if exchange.request.host.is_empty() => match local.ip() {
            IpAddr::V4(v4) => absolute.extend_from_slice(v4.to_string().as_bytes()),
            IpAddr::V6(v6) => absolute.extend_from_slice(format!("[{v6}]").as_bytes()),
        },
        _ => absolute.extend_from_slice(&exchange.request.host),
    }
    let port = exchange.connection.local.map_or(0, |local| local.port());
    if *core.port_in_redirect && port != exchange.connection.default_port() && port != 0 {
        absolute.push(b':');
        absolute.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    absolute.extend_from_slice(location);
    *location = absolute;
    true
}
