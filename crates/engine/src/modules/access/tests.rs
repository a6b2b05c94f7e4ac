//! Access rules: who is let in, who is refused, and what is logged.

use crate::testing::{TestHost, answer, exchange, faults_of, server_of};

fn status(settings: &str, request: &str) -> (String, Vec<String>) {
    let config = server_of(settings);
    let mut host = TestHost::new().file("/prefix/html/a", "a");
    let answer = answer(&config, &mut host, request);
    (answer.split(' ').nth(1).unwrap_or_default().to_owned(), host.error_lines)
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

fn of(settings: &str) -> String {
    status(settings, GET).0
}

#[test]
fn the_first_matching_rule_decides() {
    assert_eq!(of("deny 127.0.0.1; allow all;"), "403");
    assert_eq!(of("allow 127.0.0.0/8; deny all;"), "200");
    assert_eq!(of("deny 10.0.0.0/8;"), "200");
    assert_eq!(of("deny unix:; deny ::1;"), "200");
    assert_eq!(of("deny all;"), "403");
    assert_eq!(of("deny all; location /a { }"), "403");
    assert_eq!(of("deny all; location /a { allow 10.0.0.1; }"), "200");
}

#[test]
fn rules_match_addresses_of_both_families() {
    let config = server_of(
        "location /a { allow ::1; deny all; } location /m { deny 10.0.0.0/8; } location /u { deny unix:; } location /v { deny ::/0; }",
    );
    let mut host = TestHost::new();
    let mut judged = |path: &str, remote: Option<&str>| {
        let mut exchange = exchange(&config, &mut host, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        exchange.connection.remote = remote.map(|ip| (ip.parse::<std::net::IpAddr>().unwrap(), 1).into());
        let mut env = crate::Env { config: &config, host: &mut host };
        crate::phase::advance(&mut exchange, &mut env);
        exchange.response.status
    };
    assert_eq!(judged("/a", Some("::1")), 404);
    assert_eq!(judged("/a", Some("::2")), 403);
    assert_eq!(judged("/a", None), 403);
    assert_eq!(judged("/m", Some("::ffff:10.1.2.3")), 403);
    assert_eq!(judged("/m", Some("::ffff:11.1.2.3")), 404);
    assert_eq!(judged("/u", None), 403);
    assert_eq!(judged("/u", Some("10.0.0.1")), 404);
    // Without rules about IPv4 a mapped address is an IPv6 one.
    assert_eq!(judged("/v", Some("::ffff:10.1.2.3")), 403);
}

#[test]
fn a_denial_is_logged_once() {
    let (_, lines) = status("deny all;", GET);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("[error] access forbidden by rule, client: 127.0.0.1, server: "),
        "{lines:?}"
    );
    let (code, lines) = status("satisfy any; deny all;", GET);
    assert_eq!((code.as_str(), lines.len()), ("403", 1));
}

#[test]
fn limit_except_applies_to_other_methods() {
    for (method, wanted) in [("GET", "200"), ("HEAD", "200"), ("POST", "403"), ("PURGE", "403")] {
        let request = format!("{method} /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let settings = "location /a { limit_except get { deny all; } }";
        assert_eq!(status(settings, &request).0, wanted, "{method}");
        let inner = "location /a { limit_except POST { allow 127.0.0.1; deny all; } deny all; }";
        assert_eq!(status(inner, &request).0, if method == "POST" { "403" } else { wanted_inner(method) });
    }
}

/// PURGE is let in to what serves no such method.
fn wanted_inner(method: &str) -> &'static str {
    if method == "PURGE" { "405" } else { "200" }
}

#[test]
fn faults_have_nginx_s_words() {
    let fault = |text: &str| {
        let faults = faults_of(&format!("http {{ server {{ listen 80; {text} }} }}"));
        faults
            .into_iter()
            .map(|line| line.split(" in /").next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(fault("allow 10.0.0.1/8;"), ["low address bits of 10.0.0.1/8 are meaningless"]);
    assert_eq!(fault("deny host;"), ["invalid parameter \"host\""]);
    assert_eq!(fault("satisfy some;"), ["invalid value \"some\""]);
    assert_eq!(fault("location / { limit_except BREW { } }"), ["invalid method \"BREW\""]);
    assert_eq!(
        fault("location / { limit_except GET { } limit_except PUT { } }"),
        ["\"limit_except\" directive is duplicate"]
    );
    assert_eq!(fault("limit_except GET { }"), ["\"limit_except\" directive is not allowed here"]);
}
