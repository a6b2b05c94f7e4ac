//! The request's head as it is sent to an upstream over HTTP/1 (ngx_http_proxy_create_request).
//!
//! Owns the request line, the URI in it, and the fields. Nothing that comes from a variable can end a line early.

use super::compile::Line;
use super::rewrite::with_value;
use super::{Destination, Pass, Plan, ProxySettings, cache};
use crate::exchange::{Body, Exchange};
use crate::host::{Env, Level};
use crate::log_line;
use http::escape::{Escape, escape};
use http::line_end;
use http::{BodyFraming, Known, Version};

/// The length of the body that follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Nothing follows, and nothing is said about it.
    Unsaid,
    /// So many bytes.
    Known(u64),
    /// It comes in chunks while the client sends it.
    Chunked,
}

/// Appends the head, and with `proxy_set_body` the body after it, to `out`; returns how long the head is.
///
/// # Errors
/// The status to answer, logged in nginx's words.
pub(super) fn request_text(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &ProxySettings,
    pass: &Pass,
    plan: &Plan,
    out: &mut Vec<u8>,
) -> Result<usize, u16> {
    append_method(exchange, env, settings, out)?;
    out.push(b' ');
    let start = out.len();
    append_target(exchange, pass, plan, out);
    if out.len() == start {
        log_line::error(exchange, env, Level::Error, b"zero length URI to proxy");
        return Err(500);
    }
    exchange.upstream.uri.clear();
    exchange.upstream.uri.extend_from_slice(&out[start..]);
    let version = *settings.request.version;
    out.extend_from_slice(if version == Version::Http11 { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" });

    append_host(exchange, env, settings, version, out);
    let body = settings.request.body.as_ref().map(|body| body.value(exchange, env));
    let length = match &body {
        Some(body) => Length::Known(body.len() as u64),
        None => body_length(exchange),
    };
    let is_sent = (body.is_some() || *settings.request.pass_body)
        && !matches!(length, Length::Unsaid | Length::Known(0));
    for line in &settings.compiled.lines {
        match line {
            Line::OwnFraming { .. } if is_sent => {}
            Line::BodyLength { has_own: true } if !is_sent => {}
            line => append_line(exchange, env, line, length, out),
        }
    }
    revalidate(exchange, settings, |name, value| {
        out.extend_from_slice(name.name().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    });
    if tells_early(exchange, settings) {
        out.extend_from_slice(b"Early-Data: 1\r\n");
    }
    if *settings.request.pass_headers {
        let is_hidden = hidden_fields(exchange, settings);
        exchange.request.head.headers.append_to(out, |known, name, _| !is_hidden(known, name));
    }
    out.extend_from_slice(b"\r\n");
    let len = out.len();
    out.extend_from_slice(body.as_deref().unwrap_or_default());
    Ok(len)
}

pub(super) fn append_method(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &ProxySettings,
    out: &mut Vec<u8>,
) -> Result<(), u16> {
    let Some(method) = &*settings.request.method else {
        out.extend_from_slice(if cache::fetches_with_get(exchange) { b"GET" } else { exchange.method() });
        return Ok(());
    };
    let start = out.len();
    method.append(exchange, env, out);
    // nginx sends what there is; a method that is no word would be another request.
    let method = &out[start..];
    if method.is_empty() || method.iter().any(|byte| !byte.is_ascii_graphic()) {
        let line = [b"invalid method \"", method, b"\" to proxy"].concat();
        log_line::error(exchange, env, Level::Error, &line);
        return Err(500);
    }
    Ok(())
}

/// Appends the target: the one of the URL where that is made of variables and has one, the client's own where nothing
/// changed it and the URL has none; else the URI, with the URL's in the place of the location's name. What a target
/// cannot
/// hold, such as a decoded space, is escaped; nginx sends some of it as it is.
pub(super) fn append_target(exchange: &Exchange, pass: &Pass, plan: &Plan, out: &mut Vec<u8>) {
    let request = &exchange.request;
    let start = out.len();
    if let Some(uri) = &plan.uri {
        out.extend_from_slice(exchange.upstream.pass.get(uri.clone()).unwrap_or_default());
        return line_end::escape_target_from(out, start);
    }
    let in_place = matches!(pass.to, Destination::Group(_)) && !pass.uri.is_empty();
    if !in_place && !request.uri_changed && request.head.is_target_whole() {
        // As it came it holds no line end.
        out.extend_from_slice(request.head.target());
        return;
    }
    let mut rest = request.uri.as_slice();
    // After `rewrite … break` the URI need not begin with the location's name: nginx then sends it as it is.
    if in_place && !exchange.route.rewritten {
        out.extend_from_slice(&pass.uri);
        rest = &rest[pass.location.len().min(rest.len())..];
    }
    if request.is_quoted() || exchange.route.internal || request.uri_changed {
        escape(Escape::Uri, rest, out);
    } else {
        out.extend_from_slice(rest);
    }
    if !request.args.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&request.args);
    }
    line_end::escape_target_from(out, start);
}

/// `Host` comes first. Set to nothing, it is left out in HTTP/1.0, and the default in 1.1, which demands one.
fn append_host(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &ProxySettings,
    version: Version,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(b"Host: ");
    let value = out.len();
    match &settings.compiled.host {
        Some(host) => {
            host.append(exchange, env, out);
            line_end::blank(&mut out[value..]);
            if out.len() == value && version == Version::Http11 {
                out.extend_from_slice(&exchange.upstream.proxy_host.text);
            }
        }
        None => out.extend_from_slice(&exchange.upstream.proxy_host.text),
    }
    end_line(out, start, value);
}

fn append_line(exchange: &mut Exchange, env: &mut Env<'_>, line: &Line, length: Length, out: &mut Vec<u8>) {
    match (line, length) {
        (Line::Constant(text), _) => out.extend_from_slice(text),
        (Line::Evaluated { name, value } | Line::OwnFraming { name, value }, _) => {
            let start = out.len();
            out.extend_from_slice(name);
            let at = out.len();
            value.append(exchange, env, out);
            line_end::blank(&mut out[at..]);
            end_line(out, start, at);
        }
        (Line::BodyLength { .. }, Length::Known(length)) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        (Line::Chunked, Length::Chunked) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        (Line::BodyLength { .. } | Line::Chunked | Line::Trailers, _) => {}
    }
}

/// Returns which of the client's fields are not passed on.
pub(super) fn hidden_fields<'s>(
    exchange: &Exchange,
    settings: &'s ProxySettings,
) -> impl Fn(Option<Known>, &[u8]) -> bool + use<'s> {
    let compiled = &settings.compiled;
    let conditions = cache::hides_conditions(exchange).then_some(&compiled.conditions);
    move |known, name| {
        compiled.suppressed.contains(known, name)
            || conditions.is_some_and(|hidden| hidden.contains(known, name))
    }
}

/// Returns whether the upstream is to be told that the request may have been sent again (RFC 8470, section 5.1): neither the
/// client nor the configuration has said it.
pub(super) fn tells_early(exchange: &Exchange, settings: &ProxySettings) -> bool {
    exchange.request.is_early
        && !settings.compiled.suppressed.has(Known::EarlyData)
        && !(*settings.request.pass_headers && exchange.request.head.headers.has(Known::EarlyData))
}

/// Says what there is of the response, where the upstream is to say whether that is still good
/// (`proxy_cache_revalidate`).
pub(super) fn revalidate(exchange: &Exchange, settings: &ProxySettings, mut field: impl FnMut(Known, &[u8])) {
    let Some(record) = exchange.upstream.cache.as_ref().filter(|_| *settings.cache.revalidate) else {
        return;
    };
    let conditions = &settings.compiled.conditions;
    if let Some(modified_s) = record.last_modified_s()
        && conditions.has(Known::IfModifiedSince)
    {
        field(Known::IfModifiedSince, &http::date::http_date(modified_s));
    }
    if let Some(tag) = record.etag()
        && conditions.has(Known::IfNoneMatch)
    {
        field(Known::IfNoneMatch, tag);
    }
}

/// Ends a line, or takes it back if it has no value.
fn end_line(out: &mut Vec<u8>, start: usize, value: usize) {
    if out.len() == value {
        out.truncate(start);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

/// Returns the length of the client's body as nginx counts it: also where it is not passed on.
pub(super) fn body_length(exchange: &Exchange) -> Length {
    let request = &exchange.request;
    let says_length = request.head.headers.has(Known::ContentLength);
    match &request.body {
        Body::File(file) => Length::Known(file.len),
        Body::Memory(bytes) if bytes.is_empty() && request.framing == BodyFraming::None && !says_length => {
            Length::Unsaid
        }
        Body::Memory(bytes) => Length::Known(bytes.len() as u64),
        Body::Discarded => Length::Known(0),
        Body::Unread | Body::Streaming => match request.framing {
            BodyFraming::Chunked => Length::Chunked,
            BodyFraming::Length(length) => Length::Known(length),
            BodyFraming::None if says_length => Length::Known(0),
            BodyFraming::None | BodyFraming::UntilClose => Length::Unsaid,
        },
    }
}

/// Returns whether the method, from `proxy_method` or the client, gets a response without a body.
pub fn sends_head(exchange: &mut Exchange, env: &mut Env<'_>) -> bool {
    let config = env.config;
    match &*exchange.settings(config).proxy.request.method {
        Some(method) => with_value(method, exchange, env, |method| method.eq_ignore_ascii_case(b"HEAD")),
        None => exchange.method().eq_ignore_ascii_case(b"HEAD") && !cache::fetches_with_get(exchange),
    }
}
