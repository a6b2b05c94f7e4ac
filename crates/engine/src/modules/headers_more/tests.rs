//! What the commands make of heads, and which of them are refused.

use crate::host::Env;
use crate::output::write_head;
use crate::testing::{TestHost, config_of, exchange, faults_of};

/// Returns the head of an answer that has these fields.
fn sent(directives: &str, status: u16, fields: &[(&str, &str)]) -> String {
    let text = format!("http {{ server {{ listen 80; location / {{ {directives} return 200 x; }} }} }}");
    let config = config_of(&text);
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    exchange.route.location = crate::LocationId(config.locations.len() as u32 - 1);
    exchange.response.status = status;
    exchange.response.content_type = Some(b"text/html; charset=utf-8".to_vec());
    exchange.response.content_length = Some(5);
    for (name, value) in fields {
        exchange.response.headers.push(name.as_bytes(), value.as_bytes());
    }
    write_head(&mut exchange, &mut Env { config: &config, host: &mut host }).unwrap();
    let head = String::from_utf8(exchange.output.wire).unwrap();
    let lines = head.lines().skip(1).filter(|line| {
        !line.is_empty()
            && !["Server: pointsman", "Server: nginx", "Date: ", "Connection: "]
                .iter()
                .any(|own| line.starts_with(own))
    });
    lines.collect::<Vec<_>>().join("|")
}

const USUAL: &str = "Content-Type: text/html; charset=utf-8|Content-Length: 5";

#[test]
fn fields_of_answers_are_set_and_cleared() {
    for (directives, fields, expected) in [
        ("more_set_headers 'X-A: b';", &[][..], "|X-A: b"),
        ("more_set_headers 'X-A:' 'X-B';", &[("x-a", "1"), ("X-C", "2")], "|X-C: 2"),
        ("more_set_headers X-A:b:c;", &[("X-A", "1"), ("X-A", "2")], "|X-A: b:c"),
        ("more_set_headers -a 'X-A: 3';", &[("X-A", "1")], "|X-A: 1|X-A: 3"),
        ("more_clear_headers 'X-*';", &[("X-A", "1"), ("Y", "2"), ("X-B", "3")], "|Y: 2"),
        ("more_set_headers 'X-*: 9';", &[("X-A", "1"), ("Y", "2"), ("X-B", "3")], "|X-A: 9|Y: 2"),
        ("more_set_headers -s '404 500' 'X-A: b';", &[], ""),
        ("more_set_headers -s '404 200' 'X-A: b';", &[], "|X-A: b"),
        ("more_set_headers -t 'text/plain text/html' 'X-A: b';", &[], "|X-A: b"),
        ("more_set_headers -t text/plain 'X-A: b';", &[], ""),
        ("more_set_headers 'X-A: $host-';", &[], "|X-A: a-"),
    ] {
        assert_eq!(sent(directives, 200, fields), format!("{USUAL}{expected}"), "{directives}");
    }
}

#[test]
fn fields_that_the_server_writes_itself_are_set_and_cleared_too() {
    for (directives, expected) in [
        ("more_set_headers 'Content-Type: a/b';", "Content-Type: a/b|Content-Length: 5"),
        ("more_clear_headers Content-Type;", "Content-Length: 5"),
        (
            "more_clear_headers Content-Length;",
            "Content-Type: text/html; charset=utf-8|Transfer-Encoding: chunked",
        ),
        ("more_set_headers 'Server: mine';", &format!("{USUAL}|Server: mine")),
        ("more_clear_headers Server Date;", USUAL),
        ("more_set_headers 'Location: http://b/';", &format!("{USUAL}|Location: http://b/")),
    ] {
        assert_eq!(sent(directives, 200, &[]), expected, "{directives}");
    }
    let config = config_of("http { server { listen 80; more_clear_headers Server Date; return 200 x; } }");
    let head = crate::testing::answer(&config, &mut TestHost::new(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!head.contains("Server:") && !head.contains("Date:"), "{head}");
}

#[test]
fn commands_of_the_level_around_come_first() {
    let config = config_of(
        "http { more_set_headers 'X-A: 1' 'X-B: 1'; server { listen 80; more_set_headers 'X-A: 2';
         location / { more_set_headers 'X-C: 3'; return 200 x; } } }",
    );
    let head = crate::testing::answer(&config, &mut TestHost::new(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let own: Vec<&str> = head.lines().filter(|line| line.starts_with("X-")).collect();
    assert_eq!(own, ["X-A: 2", "X-B: 1", "X-C: 3"]);
}

#[test]
fn fields_of_requests_are_set_and_cleared() {
    let answer = |directives: &str| {
        let text = format!(
            "http {{ server {{ listen 80; location / {{ {directives} \
             return 200 \"$host|$http_host|$http_x_a|$http_x_b|$http_cookie\"; }} }} }}"
        );
        let config = config_of(&text);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\nX-B: 3\r\nCookie: c\r\n\r\n";
        let answer = crate::testing::answer(&config, &mut TestHost::new(), request);
        answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
    };
    // `return` answers before the commands run, as in nginx.
    assert_eq!(answer("more_set_input_headers 'X-A: 9';"), "a|a|1, 2|3|c");
}

#[test]
fn faulty_commands_are_refused() {
    let file = "in /etc/pointsman/nginx.conf:1";
    for (directive, fault) in [
        ("more_set_headers -x 'A: b'", "more_set_headers: invalid option name: \"-x\""),
        ("more_clear_headers -a A", "more_clear_headers: invalid option name: \"-a\""),
        ("more_set_input_headers -s 404 'A: b'", "more_set_input_headers: invalid option name: \"-s\""),
        ("more_set_headers 'A: b' -s", "more_set_headers: option -s takes an argument."),
        (
            "more_set_headers -s 4x4 'A: b'",
            "more_set_headers: invalid digit found in the status code list \"4x4\"",
        ),
        ("more_set_headers -a 'Server: b'", "more_set_headers: can not append builtin headers \"Server\""),
        ("more_set_headers ': b'", "more_set_headers: no key found in the header argument: : b"),
        ("more_clear_headers *", "more_clear_headers: wildcard key too short: *"),
    ] {
        assert_eq!(faults_of(&format!("events {{}} http {{ {directive}; }}")), [format!("{fault} {file}")]);
    }
}
