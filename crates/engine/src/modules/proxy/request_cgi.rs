//! A request as it is sent to an application server: its parameters (ngx_http_fastcgi_create_request and its like).
//!
//! Owns which parameters are sent. Must never decide how they are coded: that is `http::cgi`'s.

use super::cgi::Piece;
use super::request::{revalidate, tells_early};
use super::{ProxySettings, cache};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use http::cgi::{self, Gateway, TooLarge, fastcgi, scgi, uwsgi};
use http::{Headers, Known};

/// Appends the request up to its body to `out`; returns how long that is.
///
/// # Errors
/// The status to answer, logged in nginx's words.
pub(super) fn request_params(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &ProxySettings,
    gateway: Gateway,
    out: &mut Vec<u8>,
) -> Result<usize, u16> {
    let start = out.len();
    exchange.upstream.uri.clear();
    correct_length(exchange);
    let coded = match gateway {
        Gateway::FastCgi => {
            fastcgi::begin(*settings.cgi.keep_conn, out);
            append_params(exchange, env, settings, gateway, out);
            fastcgi::end_params(start, out)
        }
        Gateway::Uwsgi => {
            let cgi = &settings.cgi;
            uwsgi::begin([*cgi.modifier1 as u8, *cgi.modifier2 as u8], out);
            append_params(exchange, env, settings, gateway, out);
            out.extend_from_slice(&cgi.string);
            uwsgi::end(start, out)
        }
        Gateway::Scgi => {
            let mut params = Vec::new();
            let length = content_length(exchange);
            scgi::append_param(b"CONTENT_LENGTH", itoa::Buffer::new().format(length).as_bytes(), &mut params);
            append_params(exchange, env, settings, gateway, &mut params);
            scgi::append_netstring(&params, out);
            Ok(())
        }
    };
    coded.map_err(|TooLarge(bytes)| {
        let what = if gateway == Gateway::Uwsgi { "uwsgi request" } else { "fastcgi request record" };
        log_line::error(exchange, env, Level::Alert, format!("{what} is too big: {bytes}").as_bytes());
        500u16
    })?;
    Ok(out.len() - start)
}

/// Makes the field say how long the body is: scripts and headers-more may have changed it, and some servers go by nothing else.
fn correct_length(exchange: &mut Exchange) {
    let super::request::Length::Known(length) = super::request::body_length(exchange) else { return };
    let fields = &mut exchange.request.head.headers;
    if fields.has(Known::ContentLength) && http::framing::content_length(fields) != Ok(Some(length)) {
        fields.set_known(Known::ContentLength, itoa::Buffer::new().format(length).as_bytes());
    }
}

/// Returns the length of the client's body, as far as it is known.
fn content_length(exchange: &Exchange) -> u64 {
    match super::request::body_length(exchange) {
        super::request::Length::Known(length) => length,
        _ => 0,
    }
}

fn append_params(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &ProxySettings,
    gateway: Gateway,
    out: &mut Vec<u8>,
) {
    let params = &settings.compiled.params;
    for piece in &params.pieces {
        match piece {
            Piece::Constant(coded) => out.extend_from_slice(coded),
            Piece::Evaluated(param) => {
                let value = param.value.value(exchange, env);
                if !(param.if_not_empty && value.is_empty()) {
                    gateway.append_param(&param.name, &value, out);
                }
            }
        }
    }
    let mut name = Vec::new();
    revalidate(exchange, settings, |field, value| {
        name.clear();
        cgi::append_field_name(field.name().as_bytes(), &mut name);
        gateway.append_param(&name, value, out);
    });
    let sets_early = || params.fields.iter().any(|name| cgi::is_field_name(name, b"Early-Data"));
    if tells_early(exchange, settings) && !sets_early() {
        gateway.append_param(b"HTTP_EARLY_DATA", b"1", out);
    }
    if *settings.request.pass_headers {
        let conditions = cache::hides_conditions(exchange).then_some(&settings.compiled.conditions);
        let is_hidden = |known: Option<Known>, field: &[u8]| {
            conditions.is_some_and(|hidden| hidden.contains(known, field))
                || params.fields.iter().any(|name| cgi::is_field_name(name, field))
        };
        append_fields(&exchange.request.head.headers, is_hidden, gateway, out);
    }
}

/// Appends the client's fields, those of one name together, without those that a parameter stands for.
fn append_fields(
    headers: &Headers,
    is_hidden: impl Fn(Option<Known>, &[u8]) -> bool,
    gateway: Gateway,
    out: &mut Vec<u8>,
) {
    let (mut name, mut joined) = (Vec::new(), Vec::new());
    for (place, (known, field, value)) in headers.iter().enumerate() {
        if is_hidden(known, field) {
            continue;
        }
        let same = |(_, other, _): &(Option<Known>, &[u8], &[u8])| other.eq_ignore_ascii_case(field);
        if headers.iter().take(place).any(|other| same(&other)) {
            continue;
        }
        joined.clear();
        joined.extend_from_slice(value);
        for (_, _, more) in headers.iter().skip(place + 1).filter(same) {
            joined.extend_from_slice(if known == Some(Known::Cookie) { b"; " } else { b", " });
            joined.extend_from_slice(more);
        }
        name.clear();
        cgi::append_field_name(field, &mut name);
        gateway.append_param(&name, &joined, out);
    }
}
