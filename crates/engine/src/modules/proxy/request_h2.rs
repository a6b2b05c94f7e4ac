//! The request's head as it is sent to an upstream over HTTP/2: a header block (ngx_http_proxy_v2_create_request,
//! ngx_http_grpc_create_request).
//!
//! Owns the pseudo-headers, and which fields HTTP/2 has in the place of HTTP/1's. The encoder keeps no state, so that the
//! block is the same for every try and every connection.

use super::compile::Line;
use super::request::{
    Length, append_method, append_target, body_length, hidden_fields, revalidate, tells_early,
};
use super::{Pass, PassKind, Plan, ProxySettings};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use http::h2::hpack::{Pseudo, encode_known, encode_pseudo, encode_valid_field};
use http::{Known, framing, line_end};

/// Appends the header block, and with `proxy_set_body` the body after it, to `out`; returns how long the block is.
///
/// # Errors
/// The status to answer, logged in nginx's words.
pub(super) fn request_block(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &ProxySettings,
    pass: &Pass,
    plan: &Plan,
    out: &mut Vec<u8>,
) -> Result<usize, u16> {
    let mut text = Vec::new();
    append_method(exchange, env, settings, &mut text)?;
    encode_pseudo(out, Pseudo::Method, &text);
    encode_pseudo(out, Pseudo::Scheme, if plan.over_tls { b"https" } else { b"http" });
    text.clear();
    append_target(exchange, pass, plan, &mut text);
    line_end::escape_path_from(&mut text, 0);
    if text.is_empty() {
        log_line::error(exchange, env, Level::Error, b"zero length URI to proxy");
        return Err(500);
    }
    encode_pseudo(out, Pseudo::Path, &text);
    exchange.upstream.uri.clear();
    exchange.upstream.uri.extend_from_slice(&text);
    text.clear();
    if let Some(host) = &settings.compiled.host {
        host.append(exchange, env, &mut text);
        line_end::blank(&mut text);
    }
    let authority = if text.is_empty() { &exchange.upstream.proxy_host.text } else { &text };
    encode_pseudo(out, Pseudo::Authority, authority);
    let body = settings.request.body.as_ref().map(|body| body.value(exchange, env));
    let length = match &body {
        Some(body) => Length::Known(body.len() as u64),
        // A gRPC message says its own length: a client that says none needs none.
        None if pass.kind == PassKind::Grpc && !exchange.request.head.headers.has(Known::ContentLength) => {
            Length::Unsaid
        }
        None => body_length(exchange),
    };
    for line in &settings.compiled.lines {
        append_line(exchange, env, line, length, out);
    }
    revalidate(exchange, settings, |name, value| encode_known(out, name, value));
    if tells_early(exchange, settings) {
        encode_known(out, Known::EarlyData, b"1");
    }
    if *settings.request.pass_headers {
        let is_hidden = hidden_fields(exchange, settings);
        let headers = &exchange.request.head.headers;
        for (known, name, value) in headers.iter() {
            // What HTTP/1 says of a connection has no place in HTTP/2 (RFC 9113 §8.2.2).
            if !is_hidden(known, name) && !framing::is_of_connection(headers, known, name) {
                encode_valid_field(out, known, name, value.trim_ascii());
            }
        }
    }
    let len = out.len();
    out.extend_from_slice(body.as_deref().unwrap_or_default());
    Ok(len)
}

fn append_line(exchange: &mut Exchange, env: &mut Env<'_>, line: &Line, length: Length, out: &mut Vec<u8>) {
    match line {
        Line::Constant(fields) => out.extend_from_slice(fields),
        Line::Evaluated { name, value } => {
            let mut value = value.value(exchange, env);
            line_end::blank(&mut value);
            let value = value.trim_ascii();
            if !value.is_empty() {
                encode_valid_field(out, Known::from_bytes(name), name, value);
            }
        }
        Line::BodyLength { .. } => {
            if let Length::Known(length) = length {
                encode_known(out, Known::ContentLength, itoa::Buffer::new().format(length).as_bytes());
            }
        }
        Line::Trailers => {
            let accepts = |value: &[u8]| {
                http::framing::list(std::iter::once(value)).any(|word| word.eq_ignore_ascii_case(b"trailers"))
            };
            if exchange.request.head.headers.get_all(Known::Te).any(accepts) {
                encode_known(out, Known::Te, b"trailers");
            }
        }
        Line::OwnFraming { .. } | Line::Chunked => {}
    }
}
