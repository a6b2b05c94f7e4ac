//! The head that is sent to an upstream.

use super::*;
use crate::modules::proxy::Target;

#[test]
fn targets_are_nginx_s() {
    let cases = [
        // Without a URI the client's own target is passed on, byte by byte.
        ("location / { proxy_pass http://backend; }", "/a%20b//c/../d?x=%20", "/a%20b//c/../d?x=%20"),
        ("location /some/path/ { proxy_pass http://backend; }", "/some/path/%41", "/some/path/%41"),
        ("location ~ ^/re(.*)$ { proxy_pass http://backend; }", "/re/%7e?x", "/re/%7e?x"),
        ("location /v { set $b backend; proxy_pass http://$b; }", "/v/a%20b//c?x", "/v/a%20b//c?x"),
        // A URI takes the place of the location's name in the normalised one.
        ("location /name/ { proxy_pass http://backend/remote/; }", "/name/a%20b?x=1", "/remote/a%20b?x=1"),
        ("location /name/ { proxy_pass http://backend/remote/; }", "/name//a/../b%2Fc", "/remote/b/c"),
        ("location /name { proxy_pass http://backend/remote; }", "/name/x", "/remote/x"),
        ("location /name/ { proxy_pass http://backend/; }", "/name/x?", "/x"),
        ("location = /exact { proxy_pass http://backend/other?a=b; }", "/exact?x=1", "/other?a=b?x=1"),
        (
            "location /if/ { if ($arg_x) { set $y 1; } proxy_pass http://backend/z/; }",
            "/if/a?x=1",
            "/z/a?x=1",
        ),
        ("location /if { if ($arg_x) { proxy_pass http://backend; } }", "/if?x=1", "/if?x=1"),
        // A URI made of variables is sent as it is.
        ("location /v { proxy_pass http://backend$request_uri; }", "/v/a%20b?x", "/v/a%20b?x"),
        ("location /v { set $b backend; proxy_pass http://$b/fixed; }", "/v/a%20b//c?x", "/fixed"),
        ("location /v { set $b backend; proxy_pass http://$b?q=1; }", "/v/a", "/?q=1"),
        // But for what a target cannot hold, which nginx sends.
        ("location ~ ^/re(.*)$ { proxy_pass http://backend$1; }", "/re/a%20b?x", "/a%20b"),
        // What was rewritten is escaped anew; within its location it is sent as it is.
        (
            "location /name/ { rewrite /name/([^/]+) /users?name=$1 break; proxy_pass http://backend; }",
            "/name/joe%20x?y=1",
            "/users?name=joe%20x&y=1",
        ),
        (
            "location /name/ { rewrite ^/name/(.*)$ /n2/$1 break; proxy_pass http://backend/remote/; }",
            "/name/joe%20x?y=1",
            "/n2/joe%20x?y=1",
        ),
        (
            "location /name/ { rewrite ^/name/(.*)$ /n2/$1; } location /n2/ { proxy_pass http://backend/remote/; }",
            "/name/joe%20x?y=1",
            "/remote/joe%20x?y=1",
        ),
        (
            "location /name/ { rewrite ^/name/(.*)$ /n2/$1; break; proxy_pass http://backend/remote/; }",
            "/name/joe?y=1",
            "/n2/joe?y=1",
        ),
        (
            "location / { try_files /none @p; } location @p { proxy_pass http://backend; }",
            "/a%20b//?c",
            "/a%20b//?c",
        ),
        (
            "location / { error_page 403 = /err?q; return 403; } location /err { proxy_pass http://backend; }",
            "/a%20b//?c",
            "/err?q",
        ),
        (
            "location / { error_page 403 = /err; return 403; } location /err { proxy_pass http://backend/x; }",
            "/a%20b//?c",
            "/x",
        ),
        ("location / { set $args z=1; proxy_pass http://backend; }", "/a?x=1", "/a?z=1"),
        ("location / { set $args z=1; proxy_pass http://backend/; }", "/a%3Fb?x=1", "/a%3Fb?z=1"),
    ];
    for (server, asked, expected) in cases {
        assert_eq!(target(server, asked), expected, "{server} {asked}");
    }
}

#[test]
fn no_value_can_end_a_line() {
    let server = "location / { set $x $uri; proxy_pass http://backend$x; proxy_set_header X-Uri $uri; }";
    let head = sent(server, &get("/a%0D%0AX-Evil:%201"));
    assert_eq!(head, "GET /a%0D%0AX-Evil:%201 HTTP/1.1\r\nHost: backend\r\nX-Uri: /a  X-Evil: 1\r\n\r\n");
    let server =
        "location ~ ^/(?<m>.*)$ { proxy_pass http://backend; proxy_set_header Host $m; proxy_method $m; }";
    assert_eq!(sent(server, &get("/PUT")), "PUT /PUT HTTP/1.1\r\nHost: PUT\r\n\r\n");
    assert_eq!(sent(server, &get("/PUT%20/%0A")), "500");
    assert_eq!(sent(server, &get("/")), "500");
    let server = "location / { proxy_pass http://backend; proxy_set_header Host $host$uri; }";
    assert_eq!(sent(server, &get("/%0A")), "GET /%0A HTTP/1.1\r\nHost: front/ \r\n\r\n");
}

#[test]
fn fields_are_set_suppressed_and_passed_on() {
    let request = "GET / HTTP/1.1\r\nHost: front\r\nX-B: 1\r\naccept: */*\r\nx-a: client\r\nX-Empty: c\r\n\
                   Connection: close, X-B\r\nTE: trailers\r\nKeep-Alive: 1\r\nUpgrade: h\r\nExpect: 100-continue\r\n\
                   Proxy-Connection: x\r\nCookie: a=b\r\n\r\n";
    let server = "location / { proxy_pass http://backend; proxy_set_header X-A $host; proxy_set_header X-Empty $arg_no;
        proxy_set_header X-A two; proxy_set_header Accept ''; proxy_set_header X-C '3'; proxy_set_header x-d 4; }";
    let expected = "GET / HTTP/1.1\r\nHost: backend\r\nX-A: front\r\nX-A: two\r\nX-C: 3\r\nx-d: 4\r\nX-B: 1\r\n\
                    Cookie: a=b\r\n\r\n";
    assert_eq!(sent(server, request), expected);
    let server = "location / { proxy_pass http://backend:80; proxy_pass_request_headers off; }";
    let implied = server.replace("backend:80", "127.0.0.1:80");
    assert_eq!(sent(&implied, request), "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let upgrade = "location / { proxy_pass http://backend; proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade; proxy_pass_request_headers off; }";
    let expected = "GET / HTTP/1.1\r\nHost: backend\r\nUpgrade: h\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(sent(upgrade, request), expected);
}

#[test]
fn fields_written_at_a_level_replace_the_outer_ones() {
    let server = "proxy_set_header X-Outer 1; location / { proxy_pass http://backend; }
        location /own { proxy_set_header X-Own 1; proxy_pass http://backend; }
        location /if { if ($arg_x) { proxy_pass http://Other; } proxy_pass http://backend; }";
    assert_eq!(sent(server, &get("/")), "GET / HTTP/1.1\r\nHost: backend\r\nX-Outer: 1\r\n\r\n");
    assert_eq!(sent(server, &get("/own")), "GET /own HTTP/1.1\r\nHost: backend\r\nX-Own: 1\r\n\r\n");
    assert_eq!(sent(server, &get("/if")), "GET /if HTTP/1.1\r\nHost: backend\r\nX-Outer: 1\r\n\r\n");
    assert_eq!(sent(server, &get("/if?x=1")), "GET /if?x=1 HTTP/1.1\r\nHost: Other\r\nX-Outer: 1\r\n\r\n");
}

#[test]
fn host_is_never_missing_from_1_1() {
    let head = |directives: &str| {
        sent(&format!("location / {{ proxy_pass http://backend; {directives} }}"), &get("/"))
    };
    assert_eq!(head("proxy_set_header Host '';"), "GET / HTTP/1.1\r\nHost: backend\r\n\r\n");
    assert_eq!(head("proxy_set_header Host ''; proxy_http_version 1.0;"), "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(head("proxy_set_header host $http_host;"), "GET / HTTP/1.1\r\nHost: front\r\n\r\n");
    assert_eq!(
        head("proxy_set_header Host $proxy_host:$proxy_port;"),
        "GET / HTTP/1.1\r\nHost: backend:80\r\n\r\n"
    );
}

#[test]
fn bodies_are_framed_by_length_or_chunks() {
    let post = |fields: &str, body: &str| format!("POST /p HTTP/1.1\r\nHost: front\r\n{fields}\r\n{body}");
    let fields = |directives: &str, request: &str| {
        let head = sent(&format!("location / {{ proxy_pass http://backend; {directives} }}"), request);
        head.split_once("Host: backend\r\n").unwrap().1.to_owned()
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    let cases = [
        ("", post("", ""), "\r\n"),
        ("", post("Content-Length: 0\r\n", ""), "Content-Length: 0\r\n\r\n"),
        ("", post("Content-Length: 3\r\n", "abc"), "Content-Length: 3\r\n\r\n"),
        ("", post(chunked, "abc"), "Content-Length: 3\r\n\r\n"),
        ("", post(chunked, ""), "Content-Length: 0\r\n\r\n"),
        ("proxy_request_buffering off;", post("Content-Length: 3\r\n", "abc"), "Content-Length: 3\r\n\r\n"),
        ("proxy_request_buffering off;", post(chunked, "abc"), "Transfer-Encoding: chunked\r\n\r\n"),
        (
            "proxy_request_buffering off; proxy_set_body x;",
            post(chunked, "abc"),
            "Content-Length: 1\r\n\r\nx",
        ),
        ("proxy_pass_request_body off;", post("Content-Length: 3\r\n", "abc"), "Content-Length: 3\r\n\r\n"),
        (
            "proxy_pass_request_body off; proxy_set_header Content-Length '';",
            post("Content-Length: 3\r\n", "abc"),
            "\r\n",
        ),
        ("proxy_set_body m=$request_method;", post("", ""), "Content-Length: 6\r\n\r\nm=POST"),
    ];
    for (directives, request, expected) in cases {
        assert_eq!(fields(directives, &request), expected, "{directives} {request:?}");
    }
    let old =
        "location / { proxy_pass http://backend; proxy_request_buffering off; proxy_http_version 1.0; }";
    let head = sent(old, &post(chunked, "abc"));
    assert_eq!(head, "POST /p HTTP/1.0\r\nHost: backend\r\nContent-Length: 3\r\n\r\n");
    let page = "location / { error_page 403 = /e; return 403; } location /e { proxy_pass http://backend; }";
    let head = sent(page, &post("Content-Length: 3\r\n", "abc"));
    assert_eq!(head, "GET /e HTTP/1.1\r\nHost: backend\r\nContent-Length: 3\r\n\r\n");
}

#[test]
fn variables_name_groups_addresses_and_hosts() {
    let config = config(
        "location / { proxy_pass http://$arg_to; } location /i { proxy_pass http://10.0.0.9:99; }
         location /r { resolver 127.0.0.1; proxy_pass http://$arg_to/u; }
         location /s { proxy_pass https://$arg_to; }",
    );
    let mut host = TestHost::new();
    let mut to = |target: &str| {
        let sent = send(&config, &mut host, &get(target));
        let name = |group: usize| config.groups[group].spec.name.clone();
        let shown = sent.map(|sent| {
            let upstream = &sent.exchange.upstream;
            let names = [&upstream.proxy_host.text, &upstream.proxy_port.text]
                .map(|name| String::from_utf8_lossy(name));
            let target = match sent.plan.target {
                Target::Group(group) => format!("group {}", name(group)),
                Target::Made(name) => format!("made {}", String::from_utf8_lossy(&name)),
                Target::Address { name, .. } => format!("address {name}"),
                Target::Host { host, port } => format!("host {host} {port}"),
            };
            format!("{target}; {}; {}", names[0], names[1])
        });
        (shown, std::mem::take(&mut host.error_lines).pop().unwrap_or_default())
    };
    let mut fine = |target: &str| to(target).0.unwrap();
    assert_eq!(fine("/?to=backend"), "group backend; backend; 80");
    assert_eq!(fine("/?to=OTHER"), "group Other; OTHER; 80");
    assert_eq!(fine("/s?to=10.0.0.1"), "address 10.0.0.1:443; 10.0.0.1; 443");
    assert_eq!(fine("/?to=10.0.0.9:99"), "group 10.0.0.9; 10.0.0.9:99; 99");
    assert_eq!(fine("/?to=10.0.0.9:98"), "address 10.0.0.9:98; 10.0.0.9:98; 98");
    assert_eq!(fine("/?to=[::1]:98/x"), "address [::1]:98; [::1]:98; 98");
    assert_eq!(fine("/?to=unix:/run/a.sock"), "address unix:/run/a.sock; localhost; ");
    assert_eq!(fine("/r?to=backend:80"), "host backend 80; backend; 80");
    assert_eq!(fine("/r?to=api.example:81"), "host api.example 81; api.example:81; 81");
    let mut refused = |target: &str| {
        let (shown, line) = to(target);
        let (text, _) = line.split_once(", client: ").unwrap();
        format!("{} {text}", shown.unwrap_err())
    };
    assert_eq!(refused("/?to=nosuch.example"), "502 [error] no resolver defined to resolve nosuch.example");
    assert_eq!(refused("/?to=a:99999"), "500 [error] invalid port in upstream \"a:99999\"");
    assert_eq!(refused("/?to=[::1"), "500 [error] invalid host in upstream \"[::1\"");
    assert_eq!(refused("/?to="), "500 [error] invalid URL prefix in \"http://\"");
}

#[test]
fn the_error_log_names_the_peer() {
    let config = config("location /a/ { proxy_pass http://backend/b/; }");
    let mut host = TestHost::new();
    let mut sent = send(&config, &mut host, &get("/a/c?d")).map_err(|status| status.to_string()).unwrap();
    assert_eq!(sent.exchange.upstream.url, b"http://127.0.0.1:8081/b/c?d");
    upstream_url(&mut sent.exchange, &sent.plan, "unix:/run/a.sock");
    assert_eq!(sent.exchange.upstream.url, b"http://unix:/run/a.sock:/b/c?d");
}

#[test]
fn a_body_that_cannot_be_read_ends_the_request() {
    let config = config("location / { proxy_pass http://backend; }");
    let mut host = TestHost::new();
    let request = "POST / HTTP/1.1\r\nHost: front\r\nContent-Length: 3\r\n\r\n";
    let mut exchange = exchange(&config, &mut host, request);
    let env = &mut Env { config: &config, host: &mut host };
    assert!(matches!(phase::advance(&mut exchange, env), Step::Wait(Effect::ReadBody)));
    exchange.route.wake = Some(Wake::Failed(408));
    assert!(matches!(phase::advance(&mut exchange, env), Step::Serve(Content::Bytes(_))));
    assert_eq!(exchange.response.status, 408);
}

#[test]
fn a_location_s_name_without_its_slash_is_redirected() {
    let config =
        config("location /name/ { proxy_pass http://backend; } location /lua { proxy_pass http://backend; }");
    let mut host = TestHost::new();
    let answer = crate::testing::answer(&config, &mut host, &get("/name?x"));
    assert!(
        answer.starts_with("HTTP/1.1 301 ") && answer.contains("\r\nLocation: http://front/name/?x\r\n"),
        "{answer}"
    );
    assert_eq!(crate::testing::answer(&config, &mut host, &get("/name/")), "<proxy>");
    assert_eq!(crate::testing::answer(&config, &mut host, &get("/lua")), "<proxy>");
}

#[test]
fn body_that_is_sent_is_framed_whatever_the_configuration_sets() {
    let head = |directives: &str| {
        let request = "POST / HTTP/1.1\r\nHost: front\r\nContent-Length: 2\r\n\r\nhi";
        sent(&format!("location / {{ proxy_pass http://backend; {directives} }}"), request)
    };
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: backend\r\n{fields}\r\n");
    for own in ["Content-Length ''", "Content-Length 1", "Content-Length $arg_no"] {
        assert_eq!(head(&format!("proxy_set_header {own};")), with("Content-Length: 2\r\n"), "{own}");
    }
    for own in ["Transfer-Encoding ''", "Transfer-Encoding chunked"] {
        assert_eq!(head(&format!("proxy_set_header {own};")), with("Content-Length: 2\r\n"), "{own}");
    }
    // Where no body is sent, it is as it says.
    let without = "proxy_pass_request_body off; proxy_set_header Content-Length";
    assert_eq!(head(&format!("{without} '';")), with(""));
    assert_eq!(head(&format!("{without} 0;")), with("Content-Length: 0\r\n"));
    assert_eq!(
        sent("location / { proxy_pass http://backend; proxy_set_header Content-Length 0; }", &get("/")),
        "GET / HTTP/1.1\r\nHost: backend\r\nContent-Length: 0\r\n\r\n"
    );
}
