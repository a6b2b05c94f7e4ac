//! The control directives' arguments, and the file of tokens.

use super::tokens::Role;
use super::{Socket, path_below};
use crate::Env;
use crate::phase::{self, Content, ControlFace, Effect, Step, Wake};
use crate::testing::{TestHost, answer, config_of, exchange, faults_of, server_of, with_files};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB0f";

#[test]
fn the_control_socket_is_on_by_default() {
    let socket = |text: &str| config_of(text).control.socket.get().clone();
    let at = |path: &str, mode, group: Option<&str>| {
        Some(Socket { path: path.into(), mode, group: group.map(str::to_owned) })
    };
    assert_eq!(socket(""), at("/prefix/run/pointsman.sock", 0o600, None));
    assert!(!config_of("").control.socket.written());
    assert_eq!(socket("control off;"), None);
    assert_eq!(socket("control unix:s.sock mode=0660 group=ops;"), at("/prefix/s.sock", 0o660, Some("ops")));
    assert_eq!(socket("control /run/p.sock mode=666;"), at("/run/p.sock", 0o666, None));
}

#[test]
fn faults_of_the_socket() {
    for (text, fault) in [
        ("control off mode=0600;", "invalid parameter \"mode=0600\""),
        ("control unix:;", "no path in the control socket \"unix:\""),
        ("control run/;", "no path in the control socket \"run/\""),
        ("control 127.0.0.1:9000;", "the control socket is a UNIX-domain socket"),
        ("control a mode=0888;", "invalid mode \"0888\""),
        ("control a mode=1777;", "invalid mode \"1777\""),
        ("control a mode=6;", "invalid mode \"6\""),
        ("control a group=;", "invalid parameter \"group=\""),
        ("control a owner=b;", "invalid parameter \"owner=b\""),
        ("control a; control b;", "\"control\" directive is duplicate"),
        ("http { control a; }", "\"control\" directive is not allowed here"),
    ] {
        assert_eq!(faults_of(text), [format!("{fault} in /etc/pointsman/nginx.conf:1")], "{text}");
    }
}

#[test]
fn server_orders_takes_networks_and_sockets() {
    assert!(config_of("").control.server_orders.is_none());
    let config = config_of("http { server_orders 10.0.0.0/8 2001:db8::/32 unix:/run/app-*; }");
    let orders = config.control.server_orders.as_ref().unwrap();
    for (address, is_allowed) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("2001:db8::1", true),
        ("11.0.0.1", false),
        ("::1", false),
    ] {
        assert_eq!(orders.allows(address.parse().unwrap()), is_allowed, "{address}");
    }
    for word in ["unix:run/app", "unix:", "any", "10.0.0.1:80", "10.0.0.0/33", "unix:/*/*/*/*/*"] {
        let fault = format!("invalid parameter \"{word}\" in /etc/pointsman/nginx.conf:1");
        assert_eq!(faults_of(&format!("http {{ server_orders {word}; }}")), [fault]);
    }
}

#[test]
fn tokens_are_read_and_found_by_their_hash() {
    let file = format!("# who\n\nops:operator:{A}\r\n  look.er@x:viewer:{B}  \n");
    let config = with_files("control_tokens tokens;", &[("/etc/pointsman/tokens", &file)]).unwrap();
    let tokens = config.control.tokens.get();
    let found = tokens.find(&[0xaa; 32]).unwrap();
    assert_eq!((&*found.name, found.role), ("ops", Role::Operator));
    let mut hash = [0xbb; 32];
    hash[31] = 0x0f;
    assert_eq!(tokens.find(&hash).map(|token| (&*token.name, token.role)), Some(("look.er@x", Role::Viewer)));
    assert_eq!(tokens.find(&[0; 32]), None);
    assert!(config_of("").control.tokens.is_empty());
}

#[test]
fn certificates_are_found_by_themselves_and_then_by_their_subject() {
    let colons =
        A.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect::<Vec<_>>().join(":");
    let file =
        format!("any:viewer:subject:CN=ops,O=A:B\none:operator:certificate:{colons}\ntoken:viewer:{A}\n");
    let config = with_files("control_tokens tokens;", &[("/etc/pointsman/tokens", &file)]).unwrap();
    let tokens = config.control.tokens.get();
    let found = |byte: u8, subject: &str| tokens.find_certificate(&[byte; 32], subject).map(|it| &*it.name);
    assert_eq!(found(0xaa, "CN=ops,O=A:B"), Some("one"));
    assert_eq!(found(0xbb, "CN=ops,O=A:B"), Some("any"));
    assert_eq!(found(0xbb, "CN=ops,O=A"), None);
    // The hash of a certificate is not that of a token, nor the other way round.
    assert_eq!(tokens.find(&[0xaa; 32]).map(|it| &*it.name), Some("token"));
    let only =
        with_files("control_tokens t;", &[("/etc/pointsman/t", &format!("one:viewer:certificate:{A}"))])
            .unwrap();
    assert_eq!(only.control.tokens.get().find(&[0xaa; 32]), None);
}

#[test]
fn an_invalid_token_line_is_reported_with_its_file() {
    for (file, fault) in [
        ("ops:operator".to_owned(), "a line of tokens is not name:role:sha256 in /t:1"),
        (format!("#\n#\nops:operator:{A}:x"), "a line of tokens is not name:role:sha256 in /t:3"),
        (format!("o ps:operator:{A}"), "invalid name \"o ps\" of a token in /t:1"),
        (format!(":operator:{A}"), "invalid name \"\" of a token in /t:1"),
        (format!("ops:admin:{A}"), "unknown role \"admin\" of a token, which is viewer or operator in /t:1"),
        (
            format!("\nops:viewer:{}", &A[1..]),
            "the hash of \"ops\" is not 64 hexadecimal digits of a SHA-256 in /t:2",
        ),
        (
            format!("ops:viewer:{}", A.replace('a', "g")),
            "the hash of \"ops\" is not 64 hexadecimal digits of a SHA-256 in /t:1",
        ),
        (format!("ops:viewer:{A}\nops:viewer:{B}"), "the name \"ops\" is already used in line 1 in /t:2"),
        (format!("a:viewer:{A}\nb:viewer:{A}"), "the token of \"b\" is that of line 1 in /t:2"),
        (format!("a:viewer:key:{A}"), "a line of tokens is not name:role:sha256 in /t:1"),
        (
            format!("a:viewer:certificate:{}", &A[2..]),
            "the hash of \"a\" is not 64 hexadecimal digits of a SHA-256 in /t:1",
        ),
        ("a:viewer:subject:".to_owned(), "the subject of \"a\" is empty in /t:1"),
        (
            "a:viewer:subject:CN=x\nb:viewer:subject:CN=x".to_owned(),
            "the subject of \"b\" is that of line 1 in /t:2",
        ),
    ] {
        let faults = with_files("control_tokens /t;", &[("/t", &file)]).unwrap_err();
        assert_eq!(faults, [format!("{fault} in /etc/pointsman/nginx.conf:1")], "{file}");
    }
    let missing = with_files("http { control_tokens none; }", &[]).unwrap_err();
    assert_eq!(missing, ["open() \"/etc/pointsman/none\" failed in /etc/pointsman/nginx.conf:1"]);
}

#[test]
fn the_api_is_served_once_the_body_is_read() {
    let config = server_of("location /_control/ { control_api; }");
    let mut host = TestHost::new();
    let request = "PUT /_control/v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n";
    let mut exchange = exchange(&config, &mut host, request);
    let mut env = Env { config: &config, host: &mut host };
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Wait(Effect::ReadBody)));
    exchange.request.body = crate::exchange::Body::Memory(b"{}".to_vec());
    exchange.route.wake = Some(Wake::Done);
    assert!(matches!(
        phase::advance(&mut exchange, &mut env),
        Step::Serve(Content::Control(ControlFace::Api))
    ));
    assert_eq!(path_below(&exchange, &config), b"/v1/x");
}

#[test]
fn the_path_begins_behind_the_location() {
    for (location, uri, path) in [
        ("/api", "/api", "/"),
        ("/api", "/api/v1", "/v1"),
        ("/api", "/apiv1", "/apiv1"),
        ("/api/", "/api/", "/"),
        ("= /v1/state", "/v1/state", "/"),
        ("/", "/v1", "/v1"),
        ("~ ^/v1", "/v1/x", "/v1/x"),
    ] {
        let config = server_of(&format!("location {location} {{ control_api; }}"));
        let mut host = TestHost::new();
        let mut exchange = exchange(&config, &mut host, &format!("GET {uri} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let mut env = Env { config: &config, host: &mut host };
        assert!(matches!(
            phase::advance(&mut exchange, &mut env),
            Step::Serve(Content::Control(ControlFace::Api))
        ));
        assert_eq!(path_below(&exchange, &config), path.as_bytes(), "{location}");
    }
}

#[test]
fn an_open_control_api_gets_a_warning() {
    let warned = |location: &str| {
        let text = format!("events {{}} http {{ server {{ listen 80; {location} }} }}");
        faults_of(&text).iter().filter(|text| text.contains("anyone who reaches")).count()
    };
    assert_eq!(warned("location /a/ { control_api; }"), 1);
    assert_eq!(warned("location /a/ { control_api; } location /b/ { control_api; deny all; }"), 1);
    assert_eq!(warned("location /a/ { allow 127.0.0.1; deny all; control_api; }"), 0);
    assert_eq!(warned("allow 10.0.0.1; deny all; location /a/ { location /a/b/ { control_api; } }"), 0);
    assert_eq!(warned("location /a/ { auth_basic x; auth_basic_user_file f; control_api; }"), 0);
}

#[test]
fn a_dashboard_needs_a_slash_and_a_token() {
    let tokens = format!("ops:operator:{A}\n");
    let certificates = format!("ops:operator:certificate:{A}\n");
    let faults = |http: &str, tokens: &str| {
        with_files(&format!("events {{}} http {{ {http} }}"), &[("/t", tokens)])
            .err()
            .unwrap_or_default()
            .join("; ")
    };
    let at = |location: &str| format!("control_tokens /t; server {{ listen 80; {location} }}");
    assert_eq!(faults(&at("location /ops/ { control_ui; }"), &tokens), "");
    assert_eq!(faults(&at("location ^~ /ops/ { control_ui; }"), &tokens), "");
    for location in [
        "location /ops { control_ui; }",
        "location = /ops/ { control_ui; }",
        "location ~ /ops/ { control_ui; }",
    ] {
        let found = faults(&at(location), &tokens);
        assert!(
            found.contains("control_ui needs a location whose name ends in \"/\""),
            "{location}: {found}"
        );
    }
    let none = "control_ui has no token that someone could log in with";
    assert!(faults("server { listen 80; location /ops/ { control_ui; } }", "").contains(none));
    assert!(faults(&at("location /ops/ { control_ui; }"), &certificates).contains(none));
}

#[test]
fn the_dashboard_is_served_and_its_name_without_the_slash_leads_to_it() {
    let tokens = format!("ops:operator:{A}\n");
    let text = "events {} http { control_tokens /t; server { listen 80; location /ops/ { control_ui; } } }";
    let config = with_files(text, &[("/t", &tokens)]).unwrap();
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET /ops/ HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut env = Env { config: &config, host: &mut host };
    let step = phase::advance(&mut exchange, &mut env);
    assert!(matches!(step, Step::Serve(Content::Control(ControlFace::Dashboard))));
    let bare = answer(&config, &mut TestHost::new(), "GET /ops HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(bare.starts_with("HTTP/1.1 301") && bare.contains("Location: http://x/ops/\r\n"), "{bare}");
}
