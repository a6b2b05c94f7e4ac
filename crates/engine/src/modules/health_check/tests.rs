//! Checks as they are written, the groups that get them, and answers that pass `match`.

use crate::config::LocationId;
use crate::probe::{AnswerTest, CheckSpec, CheckTimes, FieldTest, Probe};
use crate::testing::{config_of, faults_of};
use ::upstream::health::{CheckRules, Mandatory};

const GROUPS: &str = "upstream blue { server 127.0.0.1:1; } upstream green { server 127.0.0.1:2; }
     switch $host $live { default blue; state memory; }";

/// Returns the checks of blue and of green.
fn checks(http: &str) -> [Vec<CheckSpec>; 2] {
    let config = config_of(&format!("http {{ {GROUPS} {http} }}"));
    ["blue", "green"].map(|name| config.groups[config.group(name.as_bytes()).unwrap()].checks.clone())
}

fn location(inside: &str) -> [Vec<CheckSpec>; 2] {
    checks(&format!("match ok {{ status 200; }} server {{ listen 80; location / {{ {inside} }} }}"))
}

fn expected(tests: &str) -> AnswerTest {
    let [blue, _] = checks(&format!(
        "match m {{ {tests} }} server {{ listen 80; location / {{ proxy_pass http://blue; health_check match=m; }} }}"
    ));
    match blue[0].probe.clone() {
        Probe::Http(probe) => probe.expected,
        Probe::Connect | Probe::Grpc(_) => panic!(),
    }
}

#[test]
fn defaults_are_those_of_nginx_plus() {
    let [blue, green] = location("proxy_pass http://blue; health_check;");
    assert!(green.is_empty());
    let check = &blue[0];
    assert_eq!((&*check.text, &*check.host), ("GET /", "blue"));
    assert_eq!(check.rules, CheckRules { fails: 1, passes: 1, mandatory: Mandatory::No });
    let times = CheckTimes { interval: 5000, jitter: 0, connect: 5000, total: 5000, keepalive: 0 };
    assert_eq!((check.times, check.port, &check.tls), (times, None, &None));
    let Probe::Http(probe) = &check.probe else { panic!() };
    assert_eq!((&*probe.uri, &probe.expected), ("/", &AnswerTest::default()));
}

#[test]
fn parameters_are_read() {
    let [blue, _] = location(
        "proxy_pass http://blue; proxy_connect_timeout 100ms; proxy_read_timeout 200ms;
         health_check interval=1s jitter=300ms fails=3 passes=2 uri=/up?x host=a.test port=81 match=ok mandatory persistent \
         keepalive_time=1m;",
    );
    let check = &blue[0];
    assert_eq!(&*check.text, "GET /up?x port=81 host=a.test match=ok");
    assert_eq!(check.rules, CheckRules { fails: 3, passes: 2, mandatory: Mandatory::Persistent });
    let times = CheckTimes { interval: 1000, jitter: 300, connect: 100, total: 300, keepalive: 60_000 };
    assert_eq!((check.times, check.port, &*check.host), (times, Some(81), "a.test"));
    let [blue, _] =
        location("proxy_pass http://blue; health_check type=tcp interval=3s timeout=2s mandatory;");
    assert_eq!((&*blue[0].text, &blue[0].probe, blue[0].times.total), ("connect", &Probe::Connect, 2000));
    assert_eq!(blue[0].rules.mandatory, Mandatory::Yes);
}

#[test]
fn checks_speak_what_their_location_speaks() {
    use crate::probe::{GrpcProbe, ProbeHost};
    let ask = |inside: &str| location(inside)[0][0].clone();
    let grpc = |service: &str, status| {
        let host = ProbeHost::Name("blue".into());
        Probe::Grpc(GrpcProbe { service: service.into(), status, host })
    };
    let plain = ask("grpc_pass grpc://blue; health_check type=grpc;");
    assert_eq!((&*plain.text, &plain.probe), ("gRPC", &grpc("", 0)));
    let more = "grpc_pass grpcs://blue; health_check grpc_status=unimplemented type=grpc grpc_service=a.B;";
    let more = ask(more);
    assert_eq!((&*more.text, &more.probe), ("gRPC a.B grpc_status=12 https", &grpc("a.B", 12)));
    assert!(more.tls.is_some());
    let named = ask("proxy_pass http://blue; proxy_http_version 2; health_check type=grpc host=a.test;");
    assert_eq!((&*named.text, &*named.host), ("gRPC host=a.test", "a.test"));
    let over_http2 = |inside: &str| {
        let check = ask(inside);
        (check.probe.is_over_http2(), check.text.to_string())
    };
    let get = |text: &str| (text.contains("http2"), text.to_owned());
    assert_eq!(over_http2("grpc_pass blue; health_check;"), get("GET / http2"));
    assert_eq!(over_http2("proxy_pass http://blue; proxy_http_version 2; health_check;"), get("GET / http2"));
    assert_eq!(over_http2("grpc_pass blue; health_check port=81;"), get("GET / port=81"));
    assert_eq!(over_http2("proxy_pass http://blue; health_check;"), get("GET /"));
    // In a block it is what all locations speak that lead there.
    let block = |locations: &str| {
        let config = config_of(&format!(
            "http {{ upstream red {{ server 127.0.0.1:3; health_check; }} server {{ listen 80; {locations} }} }}"
        ));
        config.groups[0].checks[0].probe.is_over_http2()
    };
    let (h2, h1) = ("location /2 { grpc_pass red; }", "location /1 { proxy_pass http://red; }");
    assert!(block(h2) && !block(h1) && !block(&format!("{h2} {h1}")) && !block(""));
    let faults = |inside: &str| {
        let text = format!("http {{ {GROUPS} server {{ listen 80; location / {{ {inside} }} }} }}");
        faults_of(&text)[0].clone()
    };
    for (inside, fault) in [
        ("proxy_pass http://blue; health_check type=grpc;", "type=grpc of health_check in a location that"),
        ("grpc_pass blue; health_check type=grpc uri=/x;", "uri= has no meaning with type=grpc"),
        ("grpc_pass blue; health_check grpc_status=0;", "grpc_status= has no meaning without type=grpc"),
        ("grpc_pass blue; health_check type=grpc grpc_status=17;", "invalid parameter \"grpc_status=17\""),
        ("grpc_pass blue; health_check type=grpc grpc_service=;", "invalid parameter \"grpc_service=\""),
        ("grpc_pass blue; health_check type=udp;", "invalid parameter \"type=udp\""),
        ("fastcgi_pass blue; health_check;", "health_check asks over HTTP, which servers of fastcgi_pass"),
    ] {
        assert!(faults(inside).starts_with(fault), "{inside}: {}", faults(inside));
    }
}

#[test]
fn a_check_is_of_the_groups_that_its_place_leads_to() {
    let texts = |checks: [Vec<CheckSpec>; 2]| {
        checks.map(|checks| checks.iter().map(|check| check.text.to_string()).collect::<Vec<_>>())
    };
    let both = texts(location("proxy_pass http://$live/x; health_check uri=/a; health_check uri=/b;"));
    assert_eq!(both, [["GET /a", "GET /b"], ["GET /a", "GET /b"]]);
    let block =
        checks("upstream red { server 127.0.0.1:3; health_check uri=/r; health_check uri=/r fails=2; }");
    assert_eq!(texts(block), [[""; 0]; 2]);
    let config = config_of("http { upstream red { health_check uri=/r; server 127.0.0.1:3; } }");
    assert_eq!((&*config.groups[0].checks[0].text, &*config.groups[0].checks[0].host), ("GET /r", "red"));
    // Two locations that ask the same ask once.
    let once = checks(
        "server { listen 80; location / { proxy_pass http://blue; health_check; }
         location /b { proxy_pass http://blue; health_check fails=9; } }",
    );
    assert_eq!(texts(once), [vec!["GET /"], vec![]]);
}

#[test]
fn a_check_has_the_tls_of_its_location() {
    let tls = |inside: &str| location(inside)[0][0].tls.clone();
    assert_eq!(tls("proxy_pass https://blue; health_check scheme=http;"), None);
    let own = tls("proxy_pass https://blue; proxy_ssl_name a.test; health_check;").unwrap();
    assert_eq!(own.name.as_deref(), Some("a.test"));
    assert_ne!(own.location, LocationId(0));
    assert!(tls("proxy_pass http://blue; health_check scheme=https;").is_some());
    let block = |locations: &str, check: &str| {
        let config = config_of(&format!(
            "http {{ upstream red {{ server 127.0.0.1:3; {check} }} server {{ listen 80; {locations} }} }}"
        ));
        (config.groups[0].checks[0].tls.clone(), config.http.health.tls_at_http)
    };
    let (secure, clear) =
        ("location /s { proxy_pass https://red; }", "location /c { proxy_pass http://red; }");
    assert_eq!(block(clear, "health_check;"), (None, false));
    let (at_location, at_http) = block(secure, "health_check;");
    assert!(at_location.is_some_and(|tls| tls.location != LocationId(0)) && !at_http);
    assert_eq!(block(&format!("{secure} {clear}"), "health_check;").0, None);
    assert!(block(&format!("{secure} {clear}"), "health_check scheme=https;").0.is_some());
    let (alone, at_http) = block(clear, "health_check scheme=https;");
    assert!(alone.is_some_and(|tls| tls.location == LocationId(0)) && at_http);
}

#[test]
fn answers_pass_a_match_or_not() {
    for (tests, well, ill) in [
        ("status 200;", &[200][..], &[201, 500][..]),
        ("status ! 500;", &[200, 501], &[500]),
        ("status 200 204;", &[200, 204], &[201]),
        ("status ! 301 302;", &[200, 303], &[301, 302]),
        ("status 200-399;", &[200, 399], &[199, 400]),
        ("status ! 400-599;", &[200, 399], &[400, 599]),
        ("status 301-303 307;", &[301, 302, 303, 307], &[304, 200]),
        ("body ~ x;", &[200, 302], &[404]),
    ] {
        let statuses = expected(tests).statuses;
        for status in 100..=599 {
            if well.contains(&status) || ill.contains(&status) {
                assert_eq!(statuses.allow(status), well.contains(&status), "{tests} {status}");
            }
        }
    }
    let passes = |test: &FieldTest, values: &[&str]| test.passes(values.iter().map(|value| value.as_bytes()));
    for (tests, well, ill) in [
        (
            "header X = text/html;",
            &[&["text/html"][..], &["a", "text/html"]][..],
            &[&[][..], &["text/htmlx"]][..],
        ),
        ("header X != text/html;", &[&[][..], &["text"]], &[&["text/html"][..]]),
        ("header X ~ close;", &[&["x, close"][..]], &[&[][..], &["keep"]]),
        ("header X !~ close;", &[&[][..], &["keep"]], &[&["close"][..]]),
        ("header X;", &[&[""][..]], &[&[][..]]),
        ("header ! X;", &[&[][..]], &[&["a"][..]]),
    ] {
        let expected = expected(tests);
        for values in well {
            assert!(passes(&expected.fields[0], values), "{tests} {values:?}");
        }
        for values in ill {
            assert!(!passes(&expected.fields[0], values), "{tests} {values:?}");
        }
    }
    let body = |tests: &str, body: &str| expected(tests).body.unwrap().passes(body.as_bytes());
    assert!(body("body ~ 'Welcome to nginx!';", "<p>Welcome to nginx!</p>"));
    assert!(!body("body ~ ^Welcome;", "<p>Welcome"));
    assert!(body("body !~ busy;", "free") && !body("body !~ busy;", "busy"));
    assert_eq!(expected("header A; header B; status 200;").fields.len(), 2);
}

#[test]
fn faults_say_what_to_do() {
    for (inside, fault) in [
        ("health_check;", "health_check in a location without proxy_pass"),
        (
            "proxy_pass http://127.0.0.1:1; health_check;",
            "health_check needs an upstream block: \"http://127.0.0.1:1\" names none",
        ),
        (
            "proxy_pass http://$arg_x; health_check;",
            "which group health_check is for is not known at load: \"http://$arg_x\"",
        ),
        (
            "proxy_pass http://${live}x; health_check;",
            "which group health_check is for is not known at load: \"http://${live}x\"",
        ),
        ("proxy_pass http://blue; health_check match=no;", "no match \"no\""),
        (
            "proxy_pass http://blue; health_check type=grpc;",
            "type=grpc of health_check in a location that speaks no HTTP/2",
        ),
        (
            "proxy_pass http://blue; health_check grpc_service=a;",
            "grpc_service= has no meaning without type=grpc",
        ),
        (
            "proxy_pass http://blue; health_check type=tcp uri=/;",
            "uri= has no meaning with type=tcp: nothing is asked",
        ),
        ("proxy_pass http://blue; health_check persistent;", "persistent has no meaning without mandatory"),
        (
            "proxy_pass http://blue; health_check interval=1s timeout=2s;",
            "timeout= of health_check is longer than its interval: checks of a server follow one another",
        ),
        ("proxy_pass http://blue; health_check interval=0;", "invalid parameter \"interval=0\""),
        ("proxy_pass http://blue; health_check fails=0;", "invalid parameter \"fails=0\""),
        ("proxy_pass http://blue; health_check port=0;", "invalid parameter \"port=0\""),
        ("proxy_pass http://blue; health_check uri=up;", "invalid parameter \"uri=up\""),
        ("proxy_pass http://blue; health_check host=$host;", "invalid parameter \"host=$host\""),
        ("proxy_pass http://blue; health_check scheme=ftp;", "invalid parameter \"scheme=ftp\""),
        ("proxy_pass http://blue; health_check often;", "invalid parameter \"often\""),
    ] {
        let text = format!("http {{ {GROUPS} server {{ listen 80; location / {{ {inside} }} }} }}");
        let faults = faults_of(&text);
        assert!(faults.len() == 1 && faults[0].contains(fault), "{inside}: {faults:?}");
    }
    for (http, fault) in [
        ("match a { status 200; status 201; }", "\"status\" directive is duplicate"),
        ("match a { } match a { }", "duplicate match \"a\""),
        ("match a { status 99; }", "invalid value"),
        ("match a { status !; }", "no status after !"),
        ("match a { header A == b; }", "invalid value"),
        ("match a { header A b; }", "invalid value"),
        ("match a { body = x; }", "invalid value"),
        (
            "match a { require $a; }",
            "\"require\" of \"match\" is known to nginx Plus, not supported by pointsman",
        ),
        ("status 200;", "directive \"status\" is known to commercial nginx"),
    ] {
        let faults = faults_of(&format!("http {{ {http} }}"));
        assert!(!faults.is_empty() && faults[0].contains(fault), "{http}: {faults:?}");
    }
}
