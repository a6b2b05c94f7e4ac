//! The header block that is sent to an upstream over HTTP/2, and the directives of gRPC.

use super::*;
use crate::testing::faults_of;
use http::h2::hpack::HpackDecoder;

/// Returns the fields of the header block that is sent, and what follows it.
fn block(server: &str, request: &str) -> String {
    let sent = match send(&config(server), &mut TestHost::new(), request) {
        Ok(sent) => sent,
        Err(status) => return status.to_string(),
    };
    let (block, body) = sent.head.split_at(sent.head_len);
    let mut shown = String::new();
    let show = |name: &[u8], value: &[u8]| {
        shown.push_str(&format!("{}={}|", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
    };
    HpackDecoder::default().decode(block, &mut Vec::new(), show).unwrap();
    shown + std::str::from_utf8(body).unwrap()
}

#[test]
fn requests_of_http_1_become_header_blocks() {
    let request = "POST /a?b HTTP/1.1\r\nHost: front\r\nX-B: 1\r\nConnection: close, X-B\r\nTE: trailers\r\n\
                   Keep-Alive: 1\r\nUpgrade: h\r\nContent-Length: 2\r\nCookie: a=b\r\n\r\nhi";
    let server = "proxy_http_version 2; location / { proxy_pass http://backend; proxy_set_header X-A $host;
        proxy_set_header X-No $arg_no; proxy_set_header Connection upgrade; proxy_set_header X-C ' 3 '; }";
    assert_eq!(
        block(server, request),
        ":method=POST|:scheme=http|:path=/a?b|:authority=backend|x-a=front|x-c=3|content-length=2|cookie=a=b|"
    );
    let server = "location / { proxy_http_version 2; proxy_pass https://127.0.0.1:444/z$uri; proxy_set_header Host $host;
        proxy_set_body $request_method; proxy_method PUT; proxy_pass_request_headers off; }";
    assert_eq!(
        block(server, request),
        ":method=PUT|:scheme=https|:path=/z/a|:authority=front|content-length=4|POST"
    );
}

#[test]
fn version_of_a_level_is_that_of_its_lines() {
    let server = "proxy_set_header X-Outer 1; location / { proxy_http_version 2; proxy_pass http://backend; }
        location /1 { proxy_pass http://backend; }";
    assert_eq!(block(server, &get("/")), ":method=GET|:scheme=http|:path=/|:authority=backend|x-outer=1|");
    assert_eq!(sent(server, &get("/1")), "GET /1 HTTP/1.1\r\nHost: backend\r\nX-Outer: 1\r\n\r\n");
}

#[test]
fn grpc_requests_keep_te_and_length() {
    let request = "POST /p.S/M HTTP/1.1\r\nHost: front\r\nContent-Type: application/grpc\r\nTE: x, Trailers\r\n\
                   grpc-timeout: 1S\r\n\r\n";
    let server = "grpc_set_header X-A $uri; location / { grpc_pass grpc://backend; }
        location /host { grpc_set_header Host custom; grpc_pass 127.0.0.1:50051; }
        location /none { grpc_set_header TE ''; grpc_pass grpcs://unix:/run/s; }
        location /var { set $x grpcs://127.0.0.1:1; grpc_pass $x; }
        location /plain { set $x 127.0.0.1:1; grpc_pass $x; }
        location /if { if ($arg_x) { set $y 1; } grpc_pass backend; }";
    let rest = "content-type=application/grpc|grpc-timeout=1S|";
    for (path, scheme, authority, set) in [
        ("/p.S/M", "http", "backend", "x-a=/p.S/M|te=trailers|"),
        ("/host", "http", "custom", "te=trailers|"),
        ("/none", "https", "localhost", ""),
        ("/var", "https", "127.0.0.1:1", "x-a=/var|te=trailers|"),
        ("/plain", "http", "127.0.0.1:1", "x-a=/plain|te=trailers|"),
        ("/if?x=1", "http", "backend", "x-a=/if|te=trailers|"),
    ] {
        let request = request.replace("/p.S/M HTTP", &format!("{path} HTTP"));
        let head = format!(":method=POST|:scheme={scheme}|:path={path}|:authority={authority}|");
        assert_eq!(block(server, &request), format!("{head}{set}{rest}"), "{path}");
    }
    let with_length = request.replace("grpc-timeout", "Content-Length: 3\r\ngrpc-timeout") + "abc";
    assert!(block(server, &with_length).contains("|x-a=/p.S/M|content-length=3|te=trailers|"));
}

#[test]
fn the_last_pass_serves_with_its_own_settings() {
    let server = "proxy_read_timeout 1s; grpc_read_timeout 2s; location /g { proxy_pass http://backend; grpc_pass Other; }
        location /p { grpc_pass Other; proxy_pass http://backend; }";
    let config = config(server);
    for (path, read_ms, h2) in [("/g", 2000, true), ("/p", 1000, false)] {
        let sent =
            send(&config, &mut TestHost::new(), &get(path)).map_err(|status| status.to_string()).unwrap();
        let proxy = &sent.exchange.settings(&config).proxy;
        assert_eq!((*proxy.connection.read_timeout_ms, proxy.speaks_http2()), (read_ms, h2), "{path}");
        assert_eq!(*proxy.response.pass_trailers, h2);
    }
}

#[test]
fn grpc_directives_are_checked() {
    let faults = |server: &str| {
        let text = format!("http {{ upstream backend {{ server 127.0.0.1:8081; }} server {{ {server} }} }}");
        faults_of(&text).join("|").replace(" in /etc/pointsman/nginx.conf:1", "")
    };
    let unsupported = |name: &str| {
        format!("directive \"{name}\" is known to nginx (ngx_http_grpc_module), not supported by pointsman")
    };
    for (server, fault) in [
        (
            "location / { grpc_pass backend; grpc_pass backend; }",
            "\"grpc_pass\" directive is duplicate".to_owned(),
        ),
        ("grpc_pass backend;", "\"grpc_pass\" directive is not allowed here".to_owned()),
        (
            "location / { grpc_pass grpc://backend/uri; }",
            "invalid host in upstream \"backend/uri\"".to_owned(),
        ),
        (
            "location / { grpc_pass grpcs://backend; grpc_ssl_verify on; }",
            "no grpc_ssl_trusted_certificate for grpc_ssl_verify".to_owned(),
        ),
        ("grpc_bind 127.0.0.1;", String::new()),
        ("grpc_bind off;", String::new()),
        ("grpc_socket_rcvbuf 1k;", unsupported("grpc_socket_rcvbuf")),
        ("grpc_next_upstream error no;", "invalid value \"no\"".to_owned()),
        ("grpc_ignore_headers Foo;", "invalid value \"Foo\"".to_owned()),
        ("location / { grpc_pass backend; grpc_buffer_size 64k; }", String::new()),
    ] {
        assert_eq!(faults(server), fault, "{server}");
    }
}
