//! Values of nginx 1.22.1 for the same requests (see `cases/variables/`).

use crate::config::Config;
use crate::exchange::{Body, Exchange, Try};
use crate::host::Env;
use crate::output;
use crate::testing::{NOW_S, TestHost, config_of, exchange, server_of};
use crate::variables;
use upstream::health::{CheckRules, HealthTable, Mandatory};
use upstream::{Address, PeerSpec};

/// Returns the value of a variable that a configuration need not name, `-` if it is not there.
fn value(exchange: &mut Exchange, config: &Config, host: &mut TestHost, name: &str) -> String {
    let definition = variables::lookup_built_in(name).unwrap_or_else(|| panic!("no ${name}"));
    let mut out = Vec::new();
    match variables::append_defined(exchange, &mut Env { config, host }, &definition, &mut out) {
        true => String::from_utf8_lossy(&out).into_owned(),
        false => {
            assert!(out.is_empty(), "{name}");
            "-".to_owned()
        }
    }
}

/// Returns the values of several variables for a request, `|` between them.
fn values(request: &str, names: &str) -> String {
    let config = server_of("server_name srv other;");
    let mut host = TestHost::new().file("/prefix/html/a.txt", "a");
    let mut exchange = exchange(&config, &mut host, request);
    let values = names.split(' ').map(|name| value(&mut exchange, &config, &mut host, name));
    values.collect::<Vec<_>>().join("|")
}

#[test]
fn the_request_line() {
    let names = "request_method uri document_uri args query_string is_args request request_uri server_protocol \
                 host http_host server_name request_port is_request_port";
    assert_eq!(
        values("GET /a%20b/../c?d=e%20f&g HTTP/1.1\r\nHost: H.Test:81\r\n\r\n", names),
        "GET|/c|/c|d=e%20f&g|d=e%20f&g|?|GET /a%20b/../c?d=e%20f&g HTTP/1.1|/a%20b/../c?d=e%20f&g|HTTP/1.1|\
         h.test|H.Test:81|srv|81|:"
    );
    assert_eq!(
        values("GET /plain HTTP/1.0\r\n\r\n", names),
        "GET|/plain|/plain|-|-||GET /plain HTTP/1.0|/plain|HTTP/1.0|srv|-|srv||"
    );
    assert_eq!(values("GET /x\r\n", "server_protocol request status"), "-|GET /x|009");
}

#[test]
fn arguments_are_not_decoded() {
    let arguments = |query: &str| {
        let request = format!("GET /?{query} HTTP/1.1\r\nHost: x\r\n\r\n");
        values(&request, "arg_a arg_b_c arg_empty arg_")
    };
    assert_eq!(arguments("a=1&a=2"), "1|-|-|-");
    assert_eq!(arguments("A=upper"), "upper|-|-|-");
    assert_eq!(arguments("xa=no&a=%41+b"), "%41+b|-|-|-");
    assert_eq!(arguments("b_c=1&empty=&a"), "-|1||-");
}

#[test]
fn fields_and_cookies() {
    let request = "POST / HTTP/1.1\r\nHost: x\r\nX-Some-Thing: v\r\nUser-Agent: me\r\nCookie: a=b; c=d; cc=e\r\n\
                   Cookie: d=f\r\nContent-Type: text/x-a\r\nContent-Length: 3\r\nX-Forwarded-For: 10.0.0.1\r\n\
                   X-Forwarded-For: 10.0.0.2\r\nAccept: a\r\nAccept: b\r\nAuthorization: Basic dXNlcjpwYXNz\r\n\
                   X-Empty:\r\nReferer: r\r\n\r\n";
    let names = "http_x_some_thing http_user_agent http_cookie cookie_c cookie_D cookie_none content_type \
                 content_length http_x_forwarded_for proxy_add_x_forwarded_for http_accept remote_user http_x_empty \
                 http_referer http_none";
    assert_eq!(
        values(request, names),
        "v|me|a=b; c=d; cc=e; d=f|d|f|-|text/x-a|3|10.0.0.1, 10.0.0.2|10.0.0.1, 10.0.0.2, 127.0.0.1|a, b|user||r|-"
    );
    assert_eq!(values("GET / HTTP/1.1\r\nHost: x\r\n\r\n", names), "-|-|-|-|-|-|-|-|-|127.0.0.1|-|-|-|-|-");
}

#[test]
fn the_connection_the_process_and_the_time() {
    let names = "remote_addr remote_port server_addr server_port connection connection_requests scheme https pid \
                 hostname nginx_version msec time_local time_iso8601 request_time request_us connection_time pipe";
    assert_eq!(NOW_S, 1_000_000_000);
    assert_eq!(
        values("GET / HTTP/1.1\r\nHost: x\r\n\r\n", names),
        "127.0.0.1|40000|127.0.0.1|80|1|1|http||4711|test.local|1.22.1|1000000000.000|\
         09/Sep/2001:01:46:40 +0000|2001-09-09T01:46:40+00:00|0.000|0|5.000|."
    );
}

#[test]
fn addresses_of_ipv6_and_unix_sockets() {
    let config = server_of("");
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    exchange.connection.remote = Some("[2001:db8::9]:50".parse().unwrap());
    exchange.connection.local = Some("[::1]:8080".parse().unwrap());
    let mut get = |exchange: &mut Exchange, name: &str| value(exchange, &config, &mut host, name);
    assert_eq!(get(&mut exchange, "remote_addr"), "2001:db8::9");
    assert_eq!(get(&mut exchange, "server_addr"), "::1");
    let mut binary = Vec::new();
    let definition = variables::lookup_built_in("binary_remote_addr").unwrap();
    variables::append_defined(
        &mut exchange,
        &mut Env { config: &config, host: &mut TestHost::new() },
        &definition,
        &mut binary,
    );
    assert_eq!(binary, [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    exchange.connection.remote = None;
    exchange.connection.local = None;
    exchange.connection.local_path = Some(b"/run/p.sock".to_vec().into());
    for (name, wanted) in [
        ("remote_addr", "unix:"),
        ("remote_port", ""),
        ("binary_remote_addr", "unix:"),
        ("server_addr", "unix:/run/p.sock"),
        ("server_port", ""),
    ] {
        assert_eq!(get(&mut exchange, name), wanted, "{name}");
    }
}

#[test]
fn request_filename_and_document_root() {
    let config = config_of(
        "http { server { listen 80; root html; set $name files; location /al { alias other; } \
         location /var { root $name; } location /abs { root /abs/$name; } } }",
    );
    let mut host = TestHost::new().file("/prefix/html/a.txt", "a");
    let mut get = |target: &str| {
        let mut exchange = exchange(&config, &mut host, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let _ = crate::phase::advance(&mut exchange, &mut Env { config: &config, host: &mut host });
        let mut one = |name: &str| value(&mut exchange, &config, &mut host, name);
        format!("{} {} {}", one("document_root"), one("request_filename"), one("realpath_root"))
    };
    assert_eq!(get("/a.txt"), "/prefix/html /prefix/html/a.txt /prefix/html");
    assert_eq!(get("/al/x"), "/prefix/other /prefix/other/x -");
    assert_eq!(get("/var/x"), "/prefix/files /prefix/files/var/x -");
    assert_eq!(get("/abs/x"), "/abs/files /abs/files/abs/x -");
    assert!(host.error_lines.iter().any(|line| {
        line.starts_with(
            "[crit] realpath() \"/prefix/other\" failed (2: No such file or directory), client: ",
        )
    }));
}

#[test]
fn body_variables_have_values_once_the_body_is_read() {
    let config = server_of("");
    let mut host = TestHost::new();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut exchange = exchange(&config, &mut host, head);
    let mut get = |exchange: &mut Exchange, name: &str| value(exchange, &config, &mut host, name);
    assert_eq!(get(&mut exchange, "request_body"), "-");
    assert_eq!(get(&mut exchange, "content_length"), "-");
    exchange.request.body = Body::Memory(b"a=b".to_vec());
    assert_eq!(get(&mut exchange, "request_body"), "a=b");
    assert_eq!(get(&mut exchange, "content_length"), "3");
    assert_eq!(get(&mut exchange, "request_body_file"), "-");
    exchange.request.body = Body::Discarded;
    assert_eq!(get(&mut exchange, "request_body"), "-");
}

#[test]
fn a_request_has_one_id() {
    let config = server_of("");
    let mut host = TestHost::new();
    let mut first = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let id = value(&mut first, &config, &mut host, "request_id");
    assert_eq!(id.len(), 32);
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
    assert_eq!(value(&mut first, &config, &mut host, "request_id"), id);
    first.reset(&config, host.now);
    assert_ne!(value(&mut first, &config, &mut host, "request_id"), id);
}

#[test]
fn response_variables_before_and_after_the_head() {
    let config = server_of("keepalive_timeout 65 60;");
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let names = [
        "status",
        "sent_http_content_type",
        "sent_http_content_length",
        "sent_http_x_a",
        "sent_http_location",
        "sent_http_last_modified",
        "sent_http_connection",
        "sent_http_keep_alive",
        "sent_http_transfer_encoding",
        "bytes_sent",
        "body_bytes_sent",
        "request_completion",
        "sent_trailer_t",
    ];
    let mut all =
        |exchange: &mut Exchange| names.map(|name| value(exchange, &config, &mut host, name)).join("|");
    assert_eq!(all(&mut exchange), "000|-|-|-|-|-|keep-alive|timeout=60|-|0|0||-");
    let response = &mut exchange.response;
    response.status = 201;
    response.content_type = Some(b"text/plain".to_vec());
    response.last_modified_s = Some(784_111_777);
    response.headers.push(b"X-A", b"1");
    response.headers.push(b"x-a", b"2");
    response.headers.push(b"Location", b"/x");
    response.trailers.push(b"T", b"t");
    assert_eq!(
        all(&mut exchange),
        "201|text/plain|-|1, 2|/x|Sun, 06 Nov 1994 08:49:37 GMT|keep-alive|timeout=60|-|0|0||t"
    );
    let mut world = TestHost::new();
    let mut env = Env { config: &config, host: &mut world };
    output::write_body(&mut exchange, &mut env, b"body", true).unwrap();
    exchange.output.sent = exchange.output.wire.len() as u64;
    let framed = b"4\r\nbody\r\n0\r\n".len() as u64 + b"T: t\r\n\r\n".len() as u64;
    let head = exchange.output.sent - framed;
    exchange.output.wire.clear();
    assert_eq!(
        all(&mut exchange),
        format!("201|text/plain|-|1, 2|/x|-|keep-alive|timeout=60|chunked|{}|{framed}|OK|t", head + framed)
    );
}

#[test]
fn an_error_s_status_takes_precedence_over_its_page_s() {
    let config = server_of("");
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    exchange.response.status = 200;
    exchange.response.error_status = 404;
    assert_eq!(value(&mut exchange, &config, &mut host, "status"), "404");
    exchange.response.forced_status = Some(301);
    assert_eq!(value(&mut exchange, &config, &mut host, "status"), "301");
}

#[test]
fn the_rate_is_the_location_s_until_it_is_set() {
    let config = server_of("set $limit_rate 4k; set $args a=$limit_rate;");
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET /?x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(value(&mut exchange, &config, &mut host, "limit_rate"), "0");
    let _ = crate::phase::advance(&mut exchange, &mut Env { config: &config, host: &mut host });
    assert_eq!(value(&mut exchange, &config, &mut host, "limit_rate"), "4096");
    assert_eq!(value(&mut exchange, &config, &mut host, "arg_a"), "4096");
    assert!(exchange.request.uri_changed);
}

#[test]
fn lists_over_several_tries_are_nginx_s() {
    let config = server_of("");
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let names = [
        "upstream_addr",
        "upstream_health",
        "upstream_status",
        "upstream_connect_time",
        "upstream_header_time",
        "upstream_response_time",
        "upstream_connect_us",
        "upstream_header_us",
        "upstream_response_us",
        "upstream_response_length",
        "upstream_bytes_received",
        "upstream_bytes_sent",
    ];
    let mut all = |exchange: &mut Exchange| names.map(|name| value(exchange, &config, &mut host, name));
    assert_eq!(all(&mut exchange), ["-"; 12]);
    let failed =
        Try { address: "127.0.0.1:1".into(), status: 502, response_us: Some(1_999), ..Try::default() };
    let table = HealthTable::default();
    let rules = CheckRules { mandatory: Mandatory::Yes, ..CheckRules::default() };
    table.configure([("b", vec![("check".into(), rules)])].into(), 1);
    let peer = PeerSpec::new("unix:/b", Address::Unix("/b".into()));
    let good = Try {
        address: "unix:/b".into(),
        health: Some(table.group("b").server(&peer)),
        status: 200,
        connect_us: Some(1_000),
        header_us: Some(12_345_678),
        response_us: None,
        sent: 10,
        received: 20,
        body_received: 5,
        after_redirect: false,
    };
    let after = Try { address: "c".into(), after_redirect: true, ..Try::default() };
    exchange.upstream.tries = vec![failed, good, after];
    assert_eq!(
        all(&mut exchange),
        [
            "127.0.0.1:1, unix:/b : c",
            "-, checking : -",
            "502, 200 : -",
            "-, 0.001 : -",
            "-, 12.345 : -",
            "0.001, - : -",
            "-, 1000 : -",
            "-, 12345678 : -",
            "1999, - : -",
            "0, 5 : 0",
            "0, 20 : 0",
            "0, 10 : 0",
        ]
    );
}

#[test]
fn upstream_variables_show_the_last_peer_s_head() {
    let config = server_of("");
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let headers = &mut exchange.upstream.headers;
    headers.push(b"X-A", b"1");
    headers.push(b"x-a", b"2");
    headers.push(b"Set-Cookie", b"a=1; Path=/");
    headers.push(b"Set-Cookie", b"b=2");
    exchange.upstream.trailers.push(b"T", b"t");
    exchange.upstream.proxy_host.set(b"backend");
    exchange.upstream.proxy_port.set(b"80");
    for (name, wanted) in [
        ("upstream_http_x_a", "1, 2"),
        ("upstream_cookie_b", "2"),
        ("upstream_cookie_c", "-"),
        ("upstream_trailer_t", "t"),
        ("upstream_http_none", "-"),
        ("proxy_host", "backend"),
        ("proxy_port", "80"),
    ] {
        assert_eq!(value(&mut exchange, &config, &mut host, name), wanted, "{name}");
    }
}

#[test]
fn names_are_unique_and_families_do_not_hide_one_another() {
    let mut names: Vec<_> =
        variables::VARIABLES.iter().flat_map(|table| table.iter()).map(|v| v.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    let prefixes: Vec<_> =
        variables::FAMILIES.iter().flat_map(|table| table.iter()).map(|f| f.prefix).collect();
    for prefix in &prefixes {
        assert_eq!(prefixes.iter().filter(|other| prefix.starts_with(**other)).count(), 1, "{prefix}");
    }
}
