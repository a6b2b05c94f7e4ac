//! Lines of the error log about a request: nginx's words, with client, server, request, upstream and host after them.
//!
//! Owns which targets want a line and what follows its text (ngx_http_log_error_handler). It must never write
//! time, level, process or connection in front: that is the host's, and so is the limit on a line's length. Text of
//! clients and peers is in the line as it came, but for the values of secret fields ([`http::masking`]) and for what would end
//! the line or change how a terminal shows it, which nginx writes as it came: a client could make up whole lines.

use crate::config::{Config, LocationId, LogId};
use crate::exchange::{Connection, Exchange};
use crate::host::{Env, Level};
use crate::variables::write;
use http::{Known, masking};
use std::borrow::Cow;
use std::io::Write;
use switch::is_hidden;

/// Returns whether a line of this level about this request would be written at all. Lets callers avoid putting together
/// a costly line.
pub fn enabled(exchange: &Exchange, config: &Config, level: Level) -> bool {
    targets(config, exchange.route.location).iter().any(|(_, least)| level <= *least)
}

/// Writes a line about this request to the error logs of its location that want its level.
///
/// The text is what nginx has in front of `, client: …`: message, system error, `while …`.
pub fn error(exchange: &Exchange, env: &mut Env<'_>, level: Level, text: &[u8]) {
    if enabled(exchange, env.config, level) {
        error_as_shown(exchange, env, level, &shown(text, false));
    }
}

/// Writes what a script says: the same, but its lines stay lines, such as those of a traceback.
pub fn script_error(exchange: &Exchange, env: &mut Env<'_>, level: Level, text: &[u8]) {
    if enabled(exchange, env.config, level) {
        error_as_shown(exchange, env, level, &shown(text, true));
    }
}

fn error_as_shown(exchange: &Exchange, env: &mut Env<'_>, level: Level, text: &[u8]) {
    let mut context = Vec::with_capacity(256);
    append_context(exchange, env.config, &mut context);
    let line = [text, &*shown(&context, false)].concat();
    write_line(env, exchange.route.location, level, exchange.connection.serial, &line);
}

/// Returns a text in which control characters, and others that a terminal does not show as themselves, are written as `\x1B`;
/// if lines stay, line feeds and tabs do.
fn shown(text: &[u8], lines_stay: bool) -> Cow<'_, [u8]> {
    let stays = |byte: u8| (0x20..0x7f).contains(&byte) || lines_stay && matches!(byte, b'\n' | b'\t');
    if text.iter().all(|byte| stays(*byte)) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            let is_shown = if c.is_ascii() { stays(c as u8) } else { !is_hidden(c) };
            match is_shown {
                true => out.extend_from_slice(bytes),
                // Writing to a Vec cannot fail.
                false => bytes.iter().for_each(|byte| drop(write!(out, "\\x{byte:02X}"))),
            }
        }
        // In another encoding: a byte alone moves nothing, unless it is a control character of ISO 8859.
        for &byte in chunk.invalid() {
            match byte {
                0x80..=0x9f => drop(write!(out, "\\x{byte:02X}")),
                _ => out.push(byte),
            }
        }
    }
    Cow::Owned(out)
}

/// Writes a line about a client's connection on which no request has begun, to the error logs of the server that is
/// the address's default.
pub fn connection_error(connection: &Connection, env: &mut Env<'_>, level: Level, text: &[u8]) {
    let config = env.config;
    let Some(listener) = config.listeners.get(connection.listener) else {
        return worker_error(env, level, text);
    };
    let location = config.server(listener.servers.default).scope;
    if targets(config, location).iter().any(|(_, least)| level <= *least) {
        of_connection(connection, env, level, shown(text, false).into_owned());
    }
}

fn of_connection(connection: &Connection, env: &mut Env<'_>, level: Level, mut line: Vec<u8>) {
    let config = env.config;
    let Some(listener) = config.listeners.get(connection.listener) else { return };
    let location = config.server(listener.servers.default).scope;
    line.extend_from_slice(b", client: ");
    write::client(connection, &mut line);
    // Writing to a Vec cannot fail.
    let _ = write!(line, ", server: {}", listener.address);
    write_line(env, location, level, connection.serial, &line);
}

/// Writes a line of a script of a handshake to the error logs of the server that connections of its listener get; `context` is the
/// script's directive.
pub fn handshake_script(exchange: &Exchange, env: &mut Env<'_>, level: Level, text: &[u8], context: &str) {
    let text = [&*shown(text, true), b", context: ", context.as_bytes()].concat();
    of_connection(&exchange.connection, env, level, text);
}

/// Writes a line that is about no client at all (a timer, the start of a worker) to the error logs of `http`.
pub fn worker_error(env: &mut Env<'_>, level: Level, text: &[u8]) {
    write_line(env, LocationId(0), level, 0, &shown(text, true));
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

/// Appends `, client: …, server: …, request: "…", upstream: "…", host: "…", referrer: "…"`, each if it is known.
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
        masking::append_request_line(head.request_line(), &mut request);
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

/// Returns what nginx's lines say behind a fault in a body that is being sent.
pub(crate) fn while_sending(exchange: &Exchange) -> &'static [u8] {
    match exchange.response.from_upstream {
        true => b" while sending to client",
        false => b" while sending response to client",
    }
}

/// Returns what they say behind a fault in a head that was accepted just now.
pub(crate) fn while_reading_head(exchange: &Exchange) -> &'static [u8] {
    match exchange.upstream.url.is_empty() {
        false => b" while reading response header from upstream",
        true => b" while sending response to client",
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn text_of_clients_ends_no_line_and_moves_no_cursor() {
        let of = |text: &[u8]| String::from_utf8_lossy(&shown(text, false)).into_owned();
        assert_eq!(of(b"open() \"/srv/a b\" failed"), "open() \"/srv/a b\" failed");
        assert_eq!(of("b\u{fc}cher \u{65e5}".as_bytes()), "b\u{fc}cher \u{65e5}");
        assert_eq!(
            of(b"/x\n2026 [emerg] 1#1: made up\x1b[31m\x7f"),
            "/x\\x0A2026 [emerg] 1#1: made up\\x1B[31m\\x7F"
        );
        assert_eq!(of("a\u{202e}b\u{9b}c".as_bytes()), "a\\xE2\\x80\\xAEb\\xC2\\x9Bc");
        assert_eq!(&*shown(b"\xff\x9b1m", false), b"\xff\\x9B1m");
        assert_eq!(of(b"a\tb"), "a\\x09b");
        assert_eq!(&*shown(b"stack traceback:\n\t[C]: in\r", true), b"stack traceback:\n\t[C]: in\\x0D");
    }
}
