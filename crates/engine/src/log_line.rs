//! Lines of the error log about a request: nginx's words, with client, server, request, upstream and host after them.
//!
//! Owns which targets want a line and what follows its text (ngx_http_log_error_handler). It must never write
//! time, level, process or connection in front: that is the host's, and so is the limit on a line's length. Text of
//! clients and peers is in the line as it came, as in nginx, but for the values of secret fields ([`http::masking`]).

use crate::config::{Config, LocationId, LogId};
use crate::exchange::{Connection, Exchange};
use crate::host::{Env, Level};
use crate::variables::write;
use http::{Known, masking};
use std::io::Write;

/// Returns whether a line of this level about this request would be written at all. Lets callers avoid putting together
/// a costly line.
pub fn enabled(exchange: &Exchange, config: &Config, level: Level) -> bool {
    targets(config, exchange.route.location).iter().any(|(_, least)| level <= *least)
}

/// Writes a line about this request to the error logs of its location that want its level.
///
/// The text is what nginx has in front of `, client: …`: message, system error, `while …`.
pub fn error(exchange: &Exchange, env: &mut Env<'_>, level: Level, text: &[u8]) {
    let config = env.config;
    if !enabled(exchange, config, level) {
        return;
    }
    let mut line = Vec::with_capacity(text.len() + 256);
    line.extend_from_slice(text);
    append_context(exchange, config, &mut line);
    write_line(env, exchange.route.location, level, exchange.connection.serial, &line);
}

/// Writes a line about a client's connection on which no request has begun, to the error logs of the server that is
/// the address's default.
pub fn connection_error(connection: &Connection, env: &mut Env<'_>, level: Level, text: &[u8]) {
    let config = env.config;
    let Some(listener) = config.listeners.get(connection.listener) else {
        return worker_error(env, level, text);
    };
    let location = config.server(listener.servers.default).scope;
    if !targets(config, location).iter().any(|(_, least)| level <= *least) {
        return;
    }
    let mut line = text.to_vec();
    line.extend_from_slice(b", client: ");
    write::client(connection, &mut line);
    // Writing to a Vec cannot fail.
    let _ = write!(line, ", server: {}", listener.address);
    write_line(env, location, level, connection.serial, &line);
}

/// Writes a line that is about no client at all (a timer, the start of a worker) to the error logs of `http`.
pub fn worker_error(env: &mut Env<'_>, level: Level, text: &[u8]) {
    write_line(env, LocationId(0), level, 0, text);
}

fn targets(config: &Config, location: LocationId) -> &[(LogId, Level)] {
    &config.location(location).settings.log.errors
}

fn write_line(env: &mut Env<'_>, location: LocationId, level: Level, connection: u64, line: &[u8]) {
    let config = env.config;
    for (log, least) in targets(config, location) {
        if level <= *least {
            env.host.error_log(config, *log, level, connection, line);
        }
    }
}

/// `, client: …, server: …, request: "…", upstream: "…", host: "…", referrer: "…"`, each if it is known.
pub fn append_context(exchange: &Exchange, config: &Config, line: &mut Vec<u8>) {
    line.extend_from_slice(b", client: ");
    write::client(&exchange.connection, line);
    line.extend_from_slice(b", server: ");
    if let Some(server) = config.servers.get(exchange.route.server.0 as usize) {
        line.extend_from_slice(server.first_name());
    }
    let mut quoted = |what: &[u8], value: &[u8]| {
        line.extend_from_slice(what);
        line.extend_from_slice(value);
        line.push(b'"');
    };
    let head = &exchange.request.head;
    if !head.request_line().is_empty() {
        // A header line comes to be a request line where a client loses count of its own bytes.
        let mut request = Vec::with_capacity(head.request_line().len());
        masking::append_lines(head.request_line(), &mut request);
        quoted(b", request: \"", &request);
    }
    if exchange.subrequests.is_inner() {
        quoted(b", subrequest: \"", &exchange.request.uri);
    }
    if !exchange.upstream.url.is_empty() {
        quoted(b", upstream: \"", &exchange.upstream.url);
    }
    if let Some(host) = head.headers.get(Known::Host) {
        quoted(b", host: \"", host);
    }
    if let Some(referrer) = head.headers.get(Known::Referer) {
        quoted(b", referrer: \"", referrer);
    }
}
