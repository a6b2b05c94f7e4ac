//! Requests one after another at the same moment, and what becomes of each.

use super::*;
use crate::phase::{self, Step};
use crate::testing::{TestHost, config_of, exchange, faults_of};

const ZONES: &str =
    "limit_req_zone $arg_k zone=one:32k rate=1r/s; limit_req_zone $arg_l zone=two:32k rate=60r/m;";

/// Returns the outcomes of requests sent one after another at the same moment: the status, a delay in ms, or `-`.
fn outcomes(settings: &str, uris: &[&str]) -> (Vec<String>, TestHost) {
    let config = config_of(&format!(
        "error_log e info; http {{ {ZONES} server {{ listen 80; {settings} location / {{ index x; }} }} }}"
    ));
    let mut host = TestHost::new();
    let mut out = Vec::new();
    for uri in uris {
        let request = format!("GET {uri} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut exchange = exchange(&config, &mut host, &request);
        let mut env = Env { config: &config, host: &mut host };
        out.push(match phase::advance(&mut exchange, &mut env) {
            Step::Wait(Effect::Hold(ms)) => {
                let step = phase::advance(&mut exchange, &mut env);
                assert!(matches!(step, Step::Serve(_)), "{step:?}");
                format!("{ms} ms")
            }
            Step::Serve(_) => {
                let outcome = exchange.limits.requests.map_or(&b"-"[..], |outcome| outcome.word());
                format!("{} {}", exchange.response.status, String::from_utf8_lossy(outcome))
            }
            step => panic!("{step:?}"),
        });
    }
    (out, host)
}

#[test]
fn bursts_are_delayed_and_excess_is_refused() {
    let (out, host) = outcomes("limit_req zone=one burst=2;", &["/?k=a"; 4]);
    assert_eq!(out, ["404 PASSED", "1000 ms", "2000 ms", "503 REJECTED"]);
    let lines: Vec<_> = host.error_lines.iter().filter(|line| line.contains("excess")).collect();
    assert!(
        lines[0].starts_with("[warn] delaying request, excess: 1.000, by zone \"one\", client: "),
        "{lines:?}"
    );
}

#[test]
fn delay_and_nodelay_let_bursts_pass() {
    assert_eq!(
        outcomes("limit_req zone=one burst=2 nodelay; limit_req_status 429;", &["/?k=a"; 4]).0,
        ["404 PASSED", "404 PASSED", "404 PASSED", "429 REJECTED"]
    );
    assert_eq!(
        outcomes("limit_req zone=one burst=2 delay=1;", &["/?k=a"; 4]).0,
        ["404 PASSED", "404 PASSED", "1000 ms", "503 REJECTED"]
    );
    assert_eq!(
        outcomes("limit_req zone=one;", &["/?k=a", "/?k=b", "/?k=a", "/"]).0,
        ["404 PASSED", "404 PASSED", "503 REJECTED", "404 -"]
    );
}

#[test]
fn a_request_refused_by_one_zone_is_entered_in_none() {
    let limits = "limit_req zone=one burst=1; limit_req zone=two;";
    assert_eq!(
        outcomes(limits, &["/?k=a&l=x", "/?k=a&l=x", "/?k=a&l=x", "/?k=a&l=y", "/?k=a&l=z"]).0,
        ["404 PASSED", "503 REJECTED", "503 REJECTED", "1000 ms", "503 REJECTED"]
    );
    // A last key without a value: the zones before it count all the same.
    assert_eq!(outcomes(limits, &["/?k=a"; 3]).0, ["404 PASSED", "1000 ms", "503 REJECTED"]);
}

#[test]
fn a_dry_run_logs_and_lets_pass() {
    let (out, host) = outcomes("limit_req zone=one burst=1; limit_req_dry_run on;", &["/?k=a"; 3]);
    assert_eq!(out, ["404 PASSED", "404 DELAYED_DRY_RUN", "404 REJECTED_DRY_RUN"]);
    let starts = [
        "[warn] delaying request, dry run, excess: 1.000, by zone \"one\"",
        "[error] limiting requests, dry run, excess: 2.000 by zone \"one\"",
    ];
    for start in starts {
        assert!(
            host.error_lines.iter().any(|line| line.starts_with(start)),
            "{start}: {:?}",
            host.error_lines
        );
    }
}

#[test]
fn delayed_requests_are_logged_one_level_below_refused_ones() {
    let (_, host) = outcomes("limit_req zone=one burst=1; limit_req_log_level notice;", &["/?k=a"; 3]);
    let levels: Vec<_> = host
        .error_lines
        .iter()
        .filter(|line| line.contains("excess"))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(levels, ["[info]", "[notice]"]);
}

#[test]
fn faults_have_nginx_s_words() {
    let fault = |text: &str| {
        let faults = faults_of(&format!("http {{ {text} server {{ listen 80; }} }}"));
        let words = |line: String| line.split(" in /").next().unwrap_or_default().to_owned();
        faults.into_iter().map(words).collect::<Vec<_>>()
    };
    let zone = "limit_req_zone $uri zone=a:32k rate=1r/s;";
    assert_eq!(fault("limit_req_zone $uri zone=a:32k rate=0r/s;"), ["invalid rate \"rate=0r/s\""]);
    assert_eq!(fault("limit_req_zone $uri zone=a:32k rate=1r/h;"), ["invalid rate \"rate=1r/h\""]);
    assert_eq!(
        fault("limit_req_zone $uri rate=1r/s rate=1r/s;"),
        ["\"limit_req_zone\" must have \"zone\" parameter"]
    );
    assert_eq!(fault("limit_req burst=1;"), ["\"limit_req\" must have \"zone\" parameter"]);
    assert_eq!(fault(&format!("{zone} limit_req zone=a burst=0;")), ["invalid burst value \"burst=0\""]);
    assert_eq!(fault(&format!("{zone} limit_req zone=a delay=x;")), ["invalid delay value \"delay=x\""]);
    assert_eq!(fault(&format!("{zone} limit_req zone=a fast;")), ["invalid parameter \"fast\""]);
    assert_eq!(
        fault(&format!("{zone} limit_req zone=a; limit_req zone=a;")),
        ["\"limit_req\" directive is duplicate"]
    );
    let two = format!("{zone} limit_req_zone $host zone=a:64k rate=1r/s;");
    let conflict = "the size 65536 of shared memory zone \"a\" conflicts with already declared size 32768";
    assert_eq!(fault(&two), [conflict]);
    let use_twice = format!("{zone} limit_conn_zone $uri zone=a:32k;");
    assert_eq!(fault(&use_twice), ["the shared memory zone \"a\" is already declared for a different use"]);
    assert_eq!(fault("limit_req zone=b;"), ["zero size shared memory zone \"b\""]);
}
