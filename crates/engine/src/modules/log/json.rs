//! The format `json` that is always there: an object a line, for log pipelines.
//!
//! Owns the names of its fields. They are OpenTelemetry's where its semantic conventions have one (HTTP, URL, client,
//! server, network, user agent); what is pointsman's own begins with `pointsman.`. What is not there is left out,
//! numbers
//! are numbers, times are whole microseconds. A line is always valid JSON in UTF-8, whatever a client sends: bytes that
//! are
//! no UTF-8 become U+FFFD.

use crate::exchange::{Exchange, Try};
use crate::host::{Env, Now};
use crate::variables::{self, write};
use http::{Known, Version};

/// The format's name.
pub(super) const NAME: &[u8] = b"json";

/// Appends the request's object.
pub(super) fn append(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) {
    let now = env.host.now();
    out.extend_from_slice(b"{\"timestamp\":\"");
    timestamp(now, out);
    out.push(b'"');
    append_request(exchange, out);
    append_ends(exchange, env, out);
    number(out, "http.response.status_code", u64::from(variables::status(exchange)));
    let output = &exchange.output;
    number(out, "http.response.size", output.sent);
    number(out, "http.response.body.size", output.sent.saturating_sub(output.head_len));
    let took_us = now.monotonic_us.saturating_sub(exchange.timing.start.monotonic_us);
    number(out, "pointsman.request.duration_us", took_us);
    append_switch(exchange, env, out);
    append_tries(&exchange.upstream.tries, out);
    out.push(b'}');
}

/// The methods that OpenTelemetry knows: those of RFC 9110, and PATCH (RFC 5789).
const METHODS: [&[u8]; 9] =
    [b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"];

fn append_request(exchange: &Exchange, out: &mut Vec<u8>) {
    let request = &exchange.request;
    match exchange.method() {
        method if METHODS.contains(&method) => text(out, "http.request.method", method),
        b"" => {}
        method => {
            text(out, "http.request.method", b"_OTHER");
            text(out, "http.request.method_original", method);
        }
    }
    text(out, "url.scheme", exchange.connection.scheme());
    text(out, "url.path", &request.uri);
    text(out, "url.query", &request.args);
    text(out, "network.protocol.name", b"http");
    let version: &[u8] = match request.head.version {
        Version::Http09 => b"0.9",
        Version::Http10 => b"1.0",
        Version::Http11 => b"1.1",
        Version::Http2 => b"2",
    };
    text(out, "network.protocol.version", version);
    let headers = &request.head.headers;
    text(out, "user_agent.original", headers.get(Known::UserAgent).unwrap_or_default());
    if let Some(referrer) = headers.get(Known::Referer) {
        key(out, "http.request.header.referer");
        out.push(b'[');
        quoted(out, referrer);
        out.push(b']');
    }
    if let Some(authorization) = headers.get(Known::Authorization) {
        let mut pair = Vec::new();
        if let Some(colon) = variables::basic_credentials(authorization, &mut pair) {
            text(out, "user.name", &pair[..colon]);
        }
    }
    number(out, "http.request.size", request.length);
}

fn append_ends(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) {
    let connection = &exchange.connection;
    key(out, "client.address");
    out.push(b'"');
    write::client(connection, out);
    out.push(b'"');
    if let Some(remote) = connection.remote.filter(|remote| remote.port() > 0) {
        number(out, "client.port", u64::from(remote.port()));
    }
    let host = &exchange.request.host;
    let server = env.config.servers.get(exchange.route.server.0 as usize);
    let name = server.map_or(&b""[..], |server| server.first_name());
    text(out, "server.address", if host.is_empty() { name } else { host });
    if let Some(local) = connection.local {
        number(out, "server.port", u64::from(local.port()));
    }
    number(out, "pointsman.connection.serial", connection.serial);
    number(out, "pointsman.connection.requests", connection.requests);
}

/// The choice of the switch that was asked first.
fn append_switch(exchange: &Exchange, env: &Env<'_>, out: &mut Vec<u8>) {
    let Some(choice) = exchange.switches.choices().first() else { return };
    if let Some(spec) = env.config.switches.get(usize::from(choice.switch)) {
        text(out, "pointsman.switch.name", spec.rules.name.as_bytes());
    }
    text(out, "pointsman.switch.key", &choice.key);
    text(out, "pointsman.switch.target", choice.target.as_bytes());
    number(out, "pointsman.switch.revision", choice.revision);
}

fn append_tries(tries: &[Try], out: &mut Vec<u8>) {
    if tries.is_empty() {
        return;
    }
    key(out, "pointsman.upstream.tries");
    for (place, one) in tries.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b"[{\"address\":" } else { b",{\"address\":" });
        quoted(out, one.address.as_bytes());
        let known = [
            ("status", (one.status != 0).then_some(u64::from(one.status))),
            ("connect_us", one.connect_us),
            ("header_us", one.header_us),
            ("response_us", one.response_us),
            ("sent", Some(one.sent)),
            ("received", Some(one.received)),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                number(out, name, value);
            }
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// `2001-09-09T01:46:40.000000Z` (RFC 3339).
fn timestamp(now: Now, out: &mut Vec<u8>) {
    out.extend_from_slice(&http::date::iso8601(now.epoch_s(), 0)[..19]);
    let us = now.epoch_us % 1_000_000;
    out.push(b'.');
    let mut unit = 100_000;
    while unit > 0 {
        out.push(b'0' + (us / unit % 10) as u8);
        unit /= 10;
    }
    out.push(b'Z');
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    write::number(out, value);
}

/// A text that is left out when it is empty.
fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !value.is_empty() {
        key(out, name);
        quoted(out, value);
    }
}

fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    if value.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(value);
    } else {
        for chunk in value.utf8_chunks() {
            http::escape::escape_json(chunk.valid().as_bytes(), out);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Env;
    use crate::modules::log::access;
    use crate::phase;
    use crate::testing::{TestHost, config_of, exchange, faults_of};

    const CONFIG: &str = "http { server { listen 80; server_name first; access_log a json; location / { return 200 four; } } }";

    fn line(request: &str, change: impl FnOnce(&mut Exchange)) -> String {
        let config = config_of(CONFIG);
        let mut host = TestHost::new();
        let mut exchange = exchange(&config, &mut host, request);
        let mut env = Env { config: &config, host: &mut host };
        let _ = phase::advance(&mut exchange, &mut env);
        exchange.output.sent = 205;
        exchange.output.head_len = 200;
        exchange.timing.start.monotonic_us -= 1_234;
        change(&mut exchange);
        access(&mut exchange, &mut env);
        host.access_lines.concat()
    }

    #[test]
    fn a_plain_request() {
        assert_eq!(
            line("GET /a%20b?c=d HTTP/1.1\r\nHost: Shop.test:80\r\nUser-Agent: curl/8\r\n\r\n", |_| ()),
            "{\"timestamp\":\"2001-09-09T01:46:40.000000Z\",\"http.request.method\":\"GET\",\"url.scheme\":\"http\",\
             \"url.path\":\"/a b\",\"url.query\":\"c=d\",\"network.protocol.name\":\"http\",\
             \"network.protocol.version\":\"1.1\",\"user_agent.original\":\"curl/8\",\"http.request.size\":67,\
             \"client.address\":\"127.0.0.1\",\"client.port\":40000,\"server.address\":\"shop.test\",\
             \"server.port\":80,\"pointsman.connection.serial\":1,\"pointsman.connection.requests\":1,\
             \"http.response.status_code\":200,\"http.response.size\":205,\"http.response.body.size\":5,\
             \"pointsman.request.duration_us\":1234}\n"
        );
    }

    #[test]
    fn tries_methods_users_and_odd_bytes() {
        let request =
            "BREW / HTTP/1.0\r\nAuthorization: Basic am9lOnNlY3JldA==\r\nReferer: \"a\\b\u{e9}\r\n\r\n";
        let shown = line(request, |exchange| {
            exchange.request.args = b"x=\xff\"\n\xe9t\xc3\xa9".to_vec();
            exchange.upstream.tries = vec![
                Try { address: "127.0.0.1:1".into(), ..Try::default() },
                Try {
                    address: "unix:/s".into(),
                    status: 502,
                    connect_us: Some(7),
                    header_us: Some(1500),
                    response_us: Some(2500),
                    sent: 10,
                    received: 20,
                    ..Try::default()
                },
            ];
        });
        for part in [
            "\"http.request.method\":\"_OTHER\",\"http.request.method_original\":\"BREW\"",
            "\"url.query\":\"x=\u{fffd}\\\"\\n\u{fffd}t\u{e9}\"",
            "\"network.protocol.version\":\"1.0\"",
            "\"http.request.header.referer\":[\"\\\"a\\\\b\u{e9}\"]",
            "\"user.name\":\"joe\"",
            "\"server.address\":\"first\"",
            "\"pointsman.upstream.tries\":[{\"address\":\"127.0.0.1:1\",\"sent\":0,\"received\":0},\
             {\"address\":\"unix:/s\",\"status\":502,\"connect_us\":7,\"header_us\":1500,\"response_us\":2500,\
             \"sent\":10,\"received\":20}]",
        ] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        assert!(!shown.contains("secret"));
    }

    #[test]
    fn times_have_microseconds() {
        let mut out = Vec::new();
        timestamp(Now { epoch_us: 1_000_000_000_012_034, ..Now::default() }, &mut out);
        assert_eq!(out, b"2001-09-09T01:46:40.012034Z");
    }

    #[test]
    fn a_configured_json_format_takes_precedence() {
        let config = "http { log_format json '$uri'; server { listen 80; access_log a json; return 200; } }";
        let config = config_of(config);
        let mut host = TestHost::new();
        let mut exchange = exchange(&config, &mut host, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut env = Env { config: &config, host: &mut host };
        let _ = phase::advance(&mut exchange, &mut env);
        access(&mut exchange, &mut env);
        assert_eq!(host.access_lines, ["/x\n"]);
        assert_eq!(
            faults_of("http { access_log a json; log_format json '$uri'; server { listen 80; } }"),
            ["duplicate \"log_format\" name \"json\" in /etc/pointsman/nginx.conf:1"]
        );
    }
}
