//! Log lines of nginx 1.22.1 for the same configurations (see `cases/logs/`), and its words for faults.

use super::{LogBuffer, LogTarget, access};
use crate::config::LocationId;
use crate::host::{Env, Level};
use crate::testing::{Node, TestHost, config_of, exchange, faults_of};
use crate::{log_line, phase};

/// Returns the access lines of a request that was answered.
fn lines(text: &str, request: &str, host: &mut TestHost) -> Vec<String> {
    let config = config_of(text);
    let mut exchange = exchange(&config, host, request);
    let mut env = Env { config: &config, host };
    let _ = phase::advance(&mut exchange, &mut env);
    exchange.output.sent = 205;
    exchange.output.head_len = 200;
    access(&mut exchange, &mut env);
    host.access_lines.drain(..).collect()
}

fn faults(http: &str) -> Vec<String> {
    faults_of(&format!("http {{ {http} }}"))
        .iter()
        .map(|fault| fault.replace(" in /etc/pointsman/nginx.conf:1", ""))
        .collect()
}

#[test]
fn combined_is_the_default() {
    let request = "GET /a?b=c HTTP/1.1\r\nHost: x\r\nAuthorization: Basic am9lOnNlY3JldA==\r\nReferer: http://r.test/\r\n\
                   User-Agent: a \"quoted\" \\ agent\u{1}\r\n\r\n";
    // A control byte in a field is the decoder's to refuse or not; here it is taken.
    let request = request.replace('\u{1}', "\u{e9}");
    let config = "http { server { listen 80; return 200 four; } }";
    assert_eq!(
        lines(config, &request, &mut TestHost::new()),
        ["127.0.0.1 - joe [09/Sep/2001:01:46:40 +0000] \"GET /a?b=c HTTP/1.1\" 200 5 \"http://r.test/\" \
          \"a \\x22quoted\\x22 \\x5C agent\\xC3\\xA9\"\n"]
    );
    assert_eq!(
        lines(config, "GET / HTTP/1.0\r\n\r\n", &mut TestHost::new()),
        ["127.0.0.1 - - [09/Sep/2001:01:46:40 +0000] \"GET / HTTP/1.0\" 200 5 \"-\" \"-\"\n"]
    );
}

#[test]
fn an_unreadable_request_is_logged_with_what_is_known() {
    let config = config_of(
        "error_log e info; http { log_format s '$request|$uri|$request_uri|$args|$host'; server { listen 80; access_log a combined; access_log a s; } }",
    );
    let mut host = TestHost::new();
    let mut exchange = crate::exchange::Exchange::default();
    exchange.reset(&config, host.now);
    let input = b"BAD\x01 / HTTP/1.1\r\nHost: x\r\n\r\n";
    let fault =
        exchange.request.head.decode(input, &crate::start_request::head_limits(&config, 0)).unwrap_err();
    let mut env = Env { config: &config, host: &mut host };
    exchange.response.status = crate::start_request::reject(&mut exchange, &mut env, fault, input);
    access(&mut exchange, &mut env);
    assert_eq!(
        host.access_lines,
        [
            "unix: - - [09/Sep/2001:01:46:40 +0000] \"BAD\\x01 / HTTP/1.1\" 400 0 \"-\" \"-\"\n",
            "BAD\\x01 / HTTP/1.1|-|-|-|\n",
        ]
    );
    assert_eq!(
        host.error_lines,
        ["[info] client sent invalid method while reading client request line, client: unix:, server: , \
          request: \"BAD\\x01 / HTTP/1.1\""]
    );
}

#[test]
fn escapes_are_default_json_and_none() {
    let config = r#"http {
        log_format d '"$arg_v" $http_x_a $http_none';
        log_format j escape=json '{"v":"$arg_v","a":"$http_x_a","n":"$http_none"}';
        log_format n escape=none '"$arg_v" $http_x_a' ' $http_none.';
        server { listen 80; access_log d d; access_log j j; access_log n n; return 200; } }"#;
    let request = "GET /?v=\"\\ HTTP/1.1\r\nHost: x\r\nX-A: tab\there \"q\" é\u{7f}\r\n\r\n";
    assert_eq!(
        lines(config, request, &mut TestHost::new()),
        [
            "\"\\x22\\x5C\" tab\\x09here \\x22q\\x22 \\xC3\\xA9\\x7F -\n",
            "{\"v\":\"\\\"\\\\\",\"a\":\"tab\\there \\\"q\\\" é\u{7f}\",\"n\":\"\"}\n",
            "\"\"\\\" tab\there \"q\" é\u{7f} .\n",
        ]
    );
}

#[test]
fn a_condition_is_false_when_it_is_empty_or_zero() {
    let config =
        "http { log_format s '$uri'; server { listen 80; access_log a s if=$arg_log; return 200; } }";
    for (target, written) in [("/", 0), ("/?log=0", 0), ("/?log=", 0), ("/?log=1", 1), ("/?log=00", 1)] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(lines(config, &request, &mut TestHost::new()).len(), written, "{target}");
    }
}

#[test]
fn an_inner_access_log_replaces_the_outer_and_off_wins() {
    let config = "http { log_format s '$uri'; access_log a s; access_log b s;
        server { listen 80; location /in { return 200; } location /own { access_log c s; return 200; }
          location /off { access_log off; return 200; } location /both { access_log c s; access_log off; return 200; } } }";
    for (target, count) in [("/in", 2), ("/own", 1), ("/off", 0), ("/both", 0)] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(lines(config, &request, &mut TestHost::new()).len(), count, "{target}");
    }
}

#[test]
fn a_path_with_variables_needs_the_root() {
    let config = "http { log_format s '$uri'; server { listen 80; root /www/$host; access_log logs/$host.log s; return 200; } }";
    let request = "GET / HTTP/1.1\r\nHost: one\r\n\r\n";
    let mut host = TestHost::new().node("/www/one", Node::Directory).file("/prefix/logs/one.log", "");
    assert_eq!(lines(config, request, &mut host), ["/\n"]);
    let mut host = TestHost::new().file("/prefix/logs/one.log", "");
    assert_eq!(lines(config, request, &mut host), [""; 0]);
    assert!(host.error_lines[0].starts_with(
        "[error] testing \"/www/one\" existence failed (2: No such file or directory), client: 127.0.0.1, server: "
    ));
    let mut host = TestHost::new().node("/www/one", Node::Directory);
    assert_eq!(lines(config, request, &mut host), [""; 0]);
    assert!(host.error_lines[0].starts_with("[crit] open() \"/prefix/logs/one.log\" failed (2: No such"));
}

#[test]
fn a_request_leads_no_log_out_of_its_folder() {
    let config = "http { log_format s '$uri'; server { listen 80; root /www; access_log logs/$arg_f.log s; return 200; } }";
    let request = |name: &str| format!("GET /?f={name} HTTP/1.1\r\nHost: one\r\n\r\n");
    let host = || {
        let host = TestHost::new().node("/www", Node::Directory).file("/prefix/logs/a..b.log", "");
        host.file("/prefix/logs/../x.log", "").file("/prefix/x.log", "")
    };
    let mut there = host();
    assert_eq!(lines(config, &request("a..b"), &mut there), ["/\n"]);
    let mut climbing = host();
    assert_eq!(lines(config, &request("../x"), &mut climbing), [""; 0]);
    let refused = "[error] path \"logs/../x.log\" is refused: the request put a \"..\" into it";
    assert!(climbing.error_lines[0].starts_with(refused), "{:?}", climbing.error_lines);
}

#[test]
fn log_files_have_their_buffers_and_defaults() {
    let config = config_of(
        "error_log logs/e.log warn; http { access_log a combined buffer=32k flush=5s;
         server { listen 80; access_log a combined; location / { error_log stderr crit; error_log logs/e.log; } } }",
    );
    let buffer = Some(LogBuffer { size: 32 << 10, flush_ms: 5000 });
    let of = |path: &str| config.logs.iter().find(|log| log.target == LogTarget::File(path.into())).unwrap();
    assert_eq!(of("/prefix/a").buffer, buffer);
    assert_eq!(of("/prefix/logs/e.log").buffer, None);
    let errors = |location: usize| {
        let errors = &config.locations[location].settings.log.errors;
        errors
            .iter()
            .map(|(log, level)| (config.logs[log.0 as usize].target.clone(), *level))
            .collect::<Vec<_>>()
    };
    let main = (LogTarget::File("/prefix/logs/e.log".into()), Level::Warn);
    assert_eq!(errors(1), [main]);
    assert_eq!(
        errors(2),
        [(LogTarget::Stderr, Level::Crit), (LogTarget::File("/prefix/logs/e.log".into()), Level::Error)]
    );
    let bare = config_of("http { server { listen 80; } server { listen 81; access_log off; } }");
    let targets: Vec<_> = bare.logs.iter().map(|log| log.target.clone()).collect();
    assert_eq!(targets, [LogTarget::CommandLine, LogTarget::File("/prefix/logs/access.log".into())]);
    let silent = config_of("error_log e; http { access_log off; server { listen 80; } }");
    assert_eq!(silent.logs.len(), 1);
}

#[test]
fn faults_have_nginx_s_words() {
    for (text, fault) in [
        ("access_log a nope;", "unknown log format \"nope\""),
        ("access_log off combined;", "invalid parameter \"combined\""),
        ("access_log a combined buffer=0;", "invalid buffer size \"0\""),
        ("access_log a combined buffer=1g;", "invalid buffer size \"1g\""),
        ("access_log a combined flush=5s;", "no buffer is defined for access_log \"a\""),
        ("access_log a combined buffer=1k flush=x;", "invalid flush time \"x\""),
        ("access_log a combined more;", "invalid parameter \"more\""),
        ("access_log a combined gzip;", "compressed access logs are not supported by pointsman"),
        ("access_log syslog:server=x;", "logging to syslog is not supported by pointsman yet"),
        ("access_log a$uri combined buffer=1k;", "buffered logs cannot have variables in name"),
        (
            "access_log a combined buffer=1k; access_log a combined buffer=2k;",
            "access_log \"a\" already defined with conflicting parameters",
        ),
        ("log_format combined x;", "duplicate \"log_format\" name \"combined\""),
        ("log_format a x; log_format a y;", "duplicate \"log_format\" name \"a\""),
        ("log_format a escape=x y;", "unknown log format escaping \"x\""),
        ("log_format a 'b $';", "invalid parameter \"$\""),
        ("log_format a '${b';", "the closing bracket in \"b\" variable is missing"),
        ("log_format a $1;", "unknown \"1\" variable"),
        ("error_log a loud;", "invalid log level \"loud\""),
        ("error_log a stderr;", "invalid log level \"stderr\""),
        ("error_log a warn error;", "duplicate log level \"error\""),
        ("error_log a warn debug_http;", "invalid log level \"debug_http\""),
        ("error_log syslog:server=x;", "logging to syslog is not supported by pointsman yet"),
    ] {
        assert_eq!(faults(text), [fault], "{text}");
    }
    assert_eq!(
        faults(
            "log_format Main '$uri'; server { listen 80; access_log a main; error_log a debug_http debug_event; }"
        ),
        [""; 0]
    );
}

#[test]
fn error_lines_say_whose_request_it_was() {
    let config = config_of(
        "error_log e; http { server { listen 80; server_name named; location / { error_log f warn; } } }",
    );
    let mut host = TestHost::new();
    let request = "GET /x?y HTTP/1.1\r\nHost: X:80\r\nReferer: http://r.test/\r\n\r\n";
    let mut exchange = exchange(&config, &mut host, request);
    let mut env = Env { config: &config, host: &mut host };
    log_line::error(&exchange, &mut env, Level::Error, b"first");
    log_line::error(&exchange, &mut env, Level::Warn, b"not of the server's level");
    assert!(!log_line::enabled(&exchange, &config, Level::Warn));
    exchange.route.location = LocationId(2);
    assert!(log_line::enabled(&exchange, &config, Level::Warn));
    exchange.upstream.url.extend_from_slice(b"http://127.0.0.1:8081/x");
    log_line::error(&exchange, &mut env, Level::Warn, b"second while connecting to upstream");
    log_line::connection_error(&exchange.connection, &mut env, Level::Error, b"third");
    log_line::connection_error(&exchange.connection, &mut env, Level::Info, b"not of the level");
    log_line::worker_error(&mut env, Level::Alert, b"fourth");
    assert_eq!(
        host.error_lines,
        [
            "[error] first, client: 127.0.0.1, server: named, request: \"GET /x?y HTTP/1.1\", host: \"X:80\", \
             referrer: \"http://r.test/\"",
            "[warn] second while connecting to upstream, client: 127.0.0.1, server: named, \
             request: \"GET /x?y HTTP/1.1\", upstream: \"http://127.0.0.1:8081/x\", host: \"X:80\", \
             referrer: \"http://r.test/\"",
            "[error] third, client: 127.0.0.1, server: 0.0.0.0:80",
            "[alert] fourth",
        ]
    );
}
