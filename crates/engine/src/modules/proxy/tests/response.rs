//! Processing of an upstream's head.

use super::*;
use crate::modules::proxy::{
    Relay, TryProgress, accept_trailers, may_retry, relay, tries_limit, wanted_retry,
};
use http::Headers;

const PLAIN: &str = "location / { proxy_pass http://backend; }";

fn with(directives: &str) -> String {
    format!("location / {{ proxy_pass http://backend; {directives} }}")
}

#[test]
fn fields_go_to_the_client_in_order() {
    let response = "HTTP/1.1 200 OK\r\nServer: x\r\nDate: y\r\nX-Pad: z\r\nX-Accel-Expires: 1\r\n\
                    X-Accel-Limit-Rate: 0\r\nX-Accel-Buffering: yes\r\nConnection: keep-alive\r\n\
                    Keep-Alive: timeout=5\r\nX-One: 1\r\nContent-Type: text/html;charset=\"utf-8\"\r\nETag: \"a\"\r\n\
                    Last-Modified: Thu, 01 Jan 1970 00:00:10 GMT\r\nAccept-Ranges: bytes\r\nContent-Length: 2\r\n\
                    x-two: 2\r\n\r\n";
    let expected = "HTTP/1.1 200 OK|Content-Type: text/html;charset=\"utf-8\"|Content-Length: 2|X-One: 1|ETag: \"a\"|\
                    Last-Modified: Thu, 01 Jan 1970 00:00:10 GMT|Accept-Ranges: bytes|x-two: 2||";
    assert_eq!(answered(PLAIN, response), expected);
}

#[test]
fn fields_are_hidden_and_shown() {
    let server = with(
        "proxy_pass_header Server; proxy_pass_header date; proxy_hide_header X-One;
        proxy_hide_header content-type; proxy_hide_header X-Powered-By;",
    );
    let response = "HTTP/1.1 200 Fine\r\nServer: x\r\nDate: y\r\nx-one: 1\r\nX-POWERED-BY: p\r\n\
                    Content-Type: text/html\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(answered(&server, response), "HTTP/1.1 200 Fine|Content-Length: 2|Server: x|Date: y||");
    // What the upstream does not say is not said for it.
    let server = with("proxy_pass_header Server; proxy_pass_header Date;");
    assert_eq!(
        answered(&server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        "HTTP/1.1 200 OK|Content-Length: 2||"
    );
}

#[test]
fn status_lines_are_the_upstream_s() {
    let line = |line: &str| {
        let answer = answered(PLAIN, &format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"));
        answer.split_once('|').unwrap().0.to_owned()
    };
    for text in ["200 OK", "404 ", "200", "302 Found", "302 Moved Temporarily", "799 Odd"] {
        assert_eq!(line(text), format!("HTTP/1.1 {text}"));
    }
}

#[test]
fn the_second_of_fields_that_come_once_is_ignored() {
    let config = config(&with("error_log logs/e warn;"));
    let mut host = TestHost::new();
    let mut sent = send(&config, &mut host, &get("/x")).map_err(|status| status.to_string()).unwrap();
    let response = "HTTP/1.1 404 Not Found\r\nContent-Type: a\r\ncontent-type: b\r\nETag: 1\r\netag: 2\r\n\
                    Set-Cookie: a\r\nSet-Cookie: b\r\nX: 1\r\nX: 2\r\n\r\n";
    let became = accept(&mut sent, &mut Env { config: &config, host: &mut host }, response);
    assert!(matches!(became, Became::Answer(Disposition::Forward)));
    let answer = &sent.exchange.response;
    assert_eq!(answer.content_type.as_deref(), Some(&b"a"[..]));
    let fields: Vec<_> = answer.headers.iter().map(|(_, name, value)| [name, b"=", value].concat()).collect();
    assert_eq!(fields.concat(), b"ETag=1Set-Cookie=aSet-Cookie=bX=1X=2");
    assert!(host.error_lines[0].starts_with(
        "[warn] upstream sent duplicate header line: \"content-type: b\", previous value: \"Content-Type: a\", \
         ignored while reading response header from upstream, client: 127.0.0.1, server: front, \
         request: \"GET /x HTTP/1.1\", upstream: \"http://127.0.0.1:8081/x\", host: \"front\""
    ));
    assert_eq!(host.error_lines.len(), 2);
}

#[test]
fn redirects_are_changed() {
    let location = |server: &str, url: &str| {
        let response = format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n");
        let answer = answered(server, &response);
        answer.split('|').find_map(|line| line.strip_prefix("Location: ").map(str::to_owned)).unwrap()
    };
    assert_eq!(location(PLAIN, "http://backend/a"), "http://front/a");
    assert_eq!(location(PLAIN, "http://other/a"), "http://other/a");
    assert_eq!(location(PLAIN, "/a"), "/a");
    assert_eq!(location(&with("absolute_redirect off;"), "http://backend/a"), "/a");
    let uri = "location /x { proxy_pass http://backend/y; }";
    assert_eq!(location(uri, "http://backend/y/a"), "http://front/x/a");
    assert_eq!(location(uri, "http://backend/z/a"), "http://backend/z/a");
    assert_eq!(location(&with("proxy_redirect off;"), "http://backend/a"), "http://backend/a");
    let rules =
        with("proxy_redirect default; proxy_redirect ~^http://([^:]+):(\\d+)/(.*)$ http://$1:8/$2/$3;");
    assert_eq!(location(&rules, "http://h:81/a"), "http://h:8/81/a");
    assert_eq!(location(&rules, "http://backend/a"), "http://front/a");
    assert_eq!(location(&with("proxy_redirect ~*^HTTP://H/ /;"), "http://h/a"), "http://front/");
    assert_eq!(
        location(&with("proxy_redirect http://$host/ https://$host/s/;"), "http://front/a"),
        "https://front/s/a"
    );
    let variables = "location / { set $b backend; proxy_pass http://$b; }";
    assert_eq!(location(variables, "http://backend/a"), "http://backend/a");
    let named = format!("proxy_redirect ~^http://(?<rest>.*)$ x-$rest; {PLAIN}");
    assert_eq!(location(&named, "http://h/a"), "x-h/a");
}

#[test]
fn refresh_is_changed_behind_url() {
    let server = with("proxy_redirect http://h/ /r/;");
    let refresh = |value: &str| {
        let answer =
            answered(&server, &format!("HTTP/1.1 200 OK\r\nRefresh: {value}\r\nContent-Length: 0\r\n\r\n"));
        answer.split_once("Refresh: ").unwrap().1.trim_end_matches('|').to_owned()
    };
    assert_eq!(refresh("5; URL=http://h/a"), "5; URL=/r/a");
    assert_eq!(refresh("5; http://h/a"), "5; http://h/a");
}

#[test]
fn cookies_are_changed() {
    let cookies = |directives: &str, fields: &str| {
        let answer =
            answered(&with(directives), &format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"));
        answer.split_once("Content-Length: 0|").unwrap().1.trim_end_matches('|').to_owned()
    };
    let directives =
        "proxy_cookie_domain .h new.$host; proxy_cookie_path /app/ /; proxy_cookie_flags ~ secure httponly;";
    let fields = "Set-Cookie: a=b; domain=.H;path=/app/x ;  Secure\r\nSet-Cookie: plain\r\nSet-Cookie: c=d;Max-Age=1\r\n";
    let expected = "Set-Cookie: a=b; domain=.new.front; path=/x; Secure; HttpOnly|Set-Cookie: plain|\
                    Set-Cookie: c=d; Max-Age=1; Secure; HttpOnly";
    assert_eq!(cookies(directives, fields), expected);
    let directives = "proxy_cookie_path ~*^/APP(.*) /n$1; proxy_cookie_domain ~^(.*)h$ $1x;";
    let fields = "Set-Cookie: a=b; domain=www.h;path=/app/x ;  Secure\r\nset-cookie: c =d;Max-Age=1\r\n";
    let expected = "Set-Cookie: a=b; domain=www.x; path=/n/x; Secure|set-cookie: c =d;Max-Age=1";
    assert_eq!(cookies(directives, fields), expected);
    assert_eq!(
        cookies(
            "proxy_cookie_flags one nosecure;",
            "Set-Cookie: ONE=1; secure\r\nSet-Cookie: b=2; secure\r\n"
        ),
        "Set-Cookie: ONE=1|Set-Cookie: b=2; secure"
    );
}

#[test]
fn errors_are_intercepted_where_there_is_a_page() {
    let server = "location / { proxy_pass http://backend; proxy_intercept_errors on; error_page 404 /e; }
        location = /e { return 200 page; }";
    let response = |status: &str| format!("HTTP/1.1 {status}\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answered(server, &response("403 No")), "HTTP/1.1 403 No|Content-Length: 0|X-A: 1||");
    let page = answered(server, &response("404 No"));
    assert!(
        page.starts_with("HTTP/1.1 404 Not Found|") && page.ends_with("||page") && !page.contains("X-A"),
        "{page}"
    );
    let off = server.replace("proxy_intercept_errors on;", "");
    assert_eq!(answered(&off, &response("404 No")), "HTTP/1.1 404 No|Content-Length: 0|X-A: 1||");
}

#[test]
fn x_accel_redirect_redirects_internally() {
    let server =
        "location / { proxy_pass http://backend; } location @in { return 200 '$uri $args $request_method'; }
        location /in/ { internal; return 200 '$uri $args $request_method'; }";
    let response = "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /in/a%20b?c=d\r\nContent-Type: text/x\r\nSet-Cookie: a=b\r\n\
                    Cache-Control: no\r\nX-A: 1\r\nETag: \"x\"\r\nContent-Disposition: attachment\r\nExpires: 0\r\n\
                    Content-Length: 0\r\n\r\n";
    let answer =
        answered_to(server, "POST /x?y HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n", response);
    assert!(
        answer.starts_with(
            "HTTP/1.1 200 OK|Content-Type: text/x|Content-Length: 15|Set-Cookie: a=b|\
        Cache-Control: no|Content-Disposition: attachment|Expires: 0||/in/a b c=d GET"
        ),
        "{answer}"
    );
    let named = answered(server, "HTTP/1.1 200 OK\r\nX-Accel-Redirect: @in\r\n\r\n");
    assert!(named.ends_with("||/x  GET"), "{named}");
    let unsafe_uri = answered(server, "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /a/../b\r\n\r\n");
    assert!(unsafe_uri.starts_with("HTTP/1.1 404 Not Found|"), "{unsafe_uri}");
    let ignored = with("proxy_ignore_headers X-Accel-Redirect;");
    let answer = answered(&ignored, "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer, "HTTP/1.1 200 OK|Content-Length: 0||");
}

#[test]
fn a_head_with_ambiguous_framing_is_invalid() {
    let cases = [
        (
            "Content-Length: 1\r\nContent-length: 2\r\n",
            "duplicate header line: \"Content-length: 2\", previous value: \"Content-Length: 1\"",
        ),
        ("Content-Length: x\r\n", "invalid \"Content-Length\" header: \"Content-Length: x\""),
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "\"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
        ),
        ("Transfer-Encoding: gzip\r\n", "unknown \"Transfer-Encoding\": \"gzip\""),
        (
            "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "duplicate header line: \"transfer-encoding: chunked\", previous value: \"Transfer-Encoding: chunked\"",
        ),
    ];
    let config = config(PLAIN);
    for (fields, words) in cases {
        let mut host = TestHost::new();
        let mut sent = send(&config, &mut host, &get("/x")).map_err(|status| status.to_string()).unwrap();
        let env = &mut Env { config: &config, host: &mut host };
        let became = accept(&mut sent, env, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
        assert!(matches!(became, Became::Failed(TryFailure::InvalidHeader)), "{fields:?} {became:?}");
        let line =
            format!("[error] upstream sent {words} while reading response header from upstream, client: ");
        assert!(host.error_lines[0].starts_with(&line), "{}", host.error_lines[0]);
    }
}

#[test]
fn connections_are_kept_unless_the_head_forbids_it() {
    let config = config(PLAIN);
    let mut host = TestHost::new();
    let mut sent = send(&config, &mut host, &get("/x")).map_err(|status| status.to_string()).unwrap();
    let env = &mut Env { config: &config, host: &mut host };
    let mut keeps = |response: &str| {
        let mut head = ResponseHead::new();
        head.decode(response.as_bytes(), 4096).unwrap();
        framing(&mut sent.exchange, env, &head).unwrap().keep_alive
    };
    assert!(keeps("HTTP/1.1 200 OK\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n"));
    assert!(!keeps("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
}

#[test]
fn proxy_force_ranges_cuts_out_a_range() {
    let server = with("proxy_force_ranges on;");
    let ask = |fields: &str| format!("GET /x HTTP/1.1\r\nHost: front\r\nConnection: close\r\n{fields}\r\n");
    let response = "HTTP/1.1 200 OK\r\nAccept-Ranges: none\r\nETag: \"x\"\r\nContent-Length: 10\r\n\r\n";
    let answer = |fields: &str| answered_to(&server, &ask(fields), response);
    let part = "HTTP/1.1 206 Partial Content|Content-Length: 3|ETag: \"x\"|Content-Range: bytes 2-4/10||";
    let whole = "HTTP/1.1 200 OK|Content-Length: 10|ETag: \"x\"|Accept-Ranges: bytes||";
    assert_eq!(answer("Range: bytes=2-4\r\n"), part);
    assert_eq!(answer("Range: bytes=2-4\r\nIf-Range: \"x\"\r\n"), part);
    assert_eq!(answer("Range: bytes=2-4\r\nIf-Range: \"y\"\r\n"), whole);
    assert_eq!(answer("Range: bytes=2-4,6-7\r\n"), whole);
    assert_eq!(answer(""), whole);
    let outside = answer("Range: bytes=20-\r\n");
    assert!(
        outside.starts_with("HTTP/1.1 416 ") && outside.contains("|Content-Range: bytes */10|"),
        "{outside}"
    );
    assert!(!outside.contains("ETag"), "{outside}");
    let plain = answered_to(PLAIN, &ask("Range: bytes=2-4\r\n"), response);
    assert_eq!(plain, "HTTP/1.1 200 OK|Content-Length: 10|Accept-Ranges: none|ETag: \"x\"||");
}

#[test]
fn an_upgrade_needs_a_client_that_asked() {
    let config = config(PLAIN);
    let asks =
        |version: &str| format!("GET /x HTTP/{version}\r\nHost: front\r\nUpgrade: websocket, h2c\r\n\r\n");
    let cases = [
        (get("/x"), "websocket", false),
        (asks("1.1"), "websocket", true),
        (asks("1.0"), "websocket", false),
        (asks("1.1"), "H2C", false),
    ];
    for (request, protocol, upgraded) in cases {
        let response = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\n\r\n");
        let mut host = TestHost::new();
        let mut sent = send(&config, &mut host, &request).map_err(|status| status.to_string()).unwrap();
        match accept(&mut sent, &mut Env { config: &config, host: &mut host }, &response) {
            Became::Answer(disposition) => {
                assert!(upgraded && disposition == Disposition::Upgrade, "{request}");
                let passed_on = sent.exchange.response.headers.get(http::Known::Upgrade);
                assert_eq!(passed_on, Some(&b"websocket"[..]));
            }
            _ => assert!(!upgraded, "{request}"),
        }
    }
}

fn relay_of(directives: &str, fields: &str) -> (Relay, Option<u64>) {
    let config = Box::leak(Box::new(config(&with(directives))));
    let host = Box::leak(Box::new(TestHost::new()));
    let mut sent = send(config, host, &get("/x?rate=3k")).map_err(|status| status.to_string()).unwrap();
    let mut env = Env { config, host };
    accept(&mut sent, &mut env, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
    (relay(&mut sent.exchange, &mut env), sent.exchange.route.limit_rate)
}

#[test]
fn x_accel_fields_control_the_relay() {
    let (plain, rate) = relay_of("", "");
    let sizes = (plain.head_size, plain.buffer_count, plain.buffer_size, plain.busy_size);
    assert_eq!((plain.buffering, sizes, rate), (true, (4096, 8, 4096, 8192), None));
    assert_eq!((plain.max_temp_file_size, plain.temp_file_write_size, plain.limit_rate), (1 << 30, 8192, 0));
    let (no, rate) = relay_of("", "X-Accel-Buffering: No\r\n");
    assert_eq!((no.buffering, rate), (false, Some(0)));
    let (yes, rate) =
        relay_of("proxy_buffering off;", "X-Accel-Buffering: YES\r\nX-Accel-Limit-Rate: 100\r\n");
    assert_eq!((yes.buffering, rate), (true, Some(100)));
    let ignore = "proxy_ignore_headers x-accel-buffering X-Accel-Limit-Rate;";
    let (ignored, rate) = relay_of(ignore, "X-Accel-Buffering: no\r\nX-Accel-Limit-Rate: 100\r\n");
    assert_eq!((ignored.buffering, rate), (true, None));
    assert_eq!(relay_of("proxy_limit_rate 2k;", "").0.limit_rate, 2048);
    assert_eq!(relay_of("proxy_limit_rate $arg_rate;", "").0.limit_rate, 3072);
    assert_eq!(relay_of("proxy_limit_rate $arg_none;", "").0.limit_rate, 0);
    let (sized, _) = relay_of("proxy_buffer_size 16k; proxy_buffers 4 16k; proxy_max_temp_file_size 0;", "");
    assert_eq!((sized.busy_size, sized.max_temp_file_size), (32 << 10, 0));
}

#[test]
fn configured_statuses_cause_another_try() {
    let config = config(&with("proxy_next_upstream http_502 http_404; proxy_next_upstream_tries 3;"));
    let mut host = TestHost::new();
    let progress = TryProgress { request_sent: true, body_streamed: false, tries_left: 1, elapsed_ms: 0 };
    let post = "POST / HTTP/1.1\r\nHost: front\r\n\r\n".to_owned();
    for (request, response, expected) in [
        (get("/"), "HTTP/1.1 502 Bad\r\n\r\n", Some(TryFailure::Http502)),
        (get("/"), "HTTP/1.1 404 None\r\n\r\n", Some(TryFailure::Http404)),
        (get("/"), "HTTP/1.1 503 Busy\r\n\r\n", None),
        (get("/"), "HTTP/1.1 200 OK\r\n\r\n", None),
        (post, "HTTP/1.1 502 Bad\r\n\r\n", None),
    ] {
        let sent = send(&config, &mut host, &request).map_err(|status| status.to_string()).unwrap();
        let env = Env { config: &config, host: &mut host };
        let mut head = ResponseHead::new();
        head.decode(response.as_bytes(), 4096).unwrap();
        assert_eq!(wanted_retry(&sent.exchange, &env, &head, progress), expected, "{request:?} {response:?}");
        let last = TryProgress { tries_left: 0, ..progress };
        assert_eq!(wanted_retry(&sent.exchange, &env, &head, last), None);
        assert!(!may_retry(&sent.exchange, &env, TryFailure::Error, progress));
        assert_eq!(tries_limit(&sent.exchange, &env), Some(3));
    }
}

#[test]
fn trailers_are_kept_and_passed_on_if_configured() {
    let mut trailers = Headers::new();
    trailers.push(b"X-Sum", b"1");
    trailers.push(b"X-Pad", b"2");
    for (directives, passed) in [("", 0), ("proxy_pass_trailers on;", 1)] {
        let config = config(&with(directives));
        let mut host = TestHost::new();
        let mut sent = send(&config, &mut host, &get("/x")).map_err(|status| status.to_string()).unwrap();
        accept_trailers(&mut sent.exchange, &mut Env { config: &config, host: &mut host }, &trailers);
        assert_eq!(
            (sent.exchange.upstream.trailers.len(), sent.exchange.response.trailers.len()),
            (2, passed)
        );
    }
}

#[test]
fn variables_show_the_last_upstream_s_head() {
    let config = config(&with("add_header X-Seen $upstream_http_x_hidden; proxy_hide_header X-Hidden;"));
    let mut host = TestHost::new();
    let mut sent = send(&config, &mut host, &get("/x")).map_err(|status| status.to_string()).unwrap();
    let env = &mut Env { config: &config, host: &mut host };
    accept(&mut sent, env, "HTTP/1.1 200 OK\r\nX-Hidden: 1\r\nContent-Length: 0\r\n\r\n");
    output::write_head(&mut sent.exchange, env).unwrap();
    let head = String::from_utf8(sent.exchange.output.wire).unwrap();
    assert!(head.ends_with("X-Seen: 1\r\n\r\n"), "{head}");
}
