//! Counts and their ends.

use super::*;
use crate::phase::{self, Step};
use crate::testing::{TestHost, config_of, exchange, faults_of};

fn walk(config: &crate::Config, host: &mut TestHost, uri: &str) -> (Exchange, u16) {
    let mut exchange = exchange(config, host, &format!("GET {uri} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let mut env = Env { config, host };
    let step = phase::advance(&mut exchange, &mut env);
    assert!(matches!(step, Step::Serve(_)), "{step:?}");
    let status = exchange.response.status;
    (exchange, status)
}

fn config(settings: &str) -> crate::Config {
    config_of(&format!(
        "error_log e info; http {{ limit_conn_zone $arg_k zone=one:32k; limit_conn_zone $arg_l zone=two:32k;
         server {{ listen 80; {settings} }} }}"
    ))
}

#[test]
fn a_request_is_counted_while_it_lasts() {
    let config = config("limit_conn one 1; limit_conn_status 429; limit_conn_log_level info;");
    let mut host = TestHost::new();
    let (mut first, status) = walk(&config, &mut host, "/?k=a");
    assert_eq!((status, first.limits.connections), (404, Some(Outcome::Passed)));
    assert_eq!(walk(&config, &mut host, "/?k=a").1, 429);
    assert_eq!(walk(&config, &mut host, "/?k=b").1, 404);
    let (other, status) = walk(&config, &mut host, "/");
    assert_eq!((status, other.limits.connections), (404, None));
    first.release();
    let (second, status) = walk(&config, &mut host, "/?k=a");
    assert_eq!(status, 404);
    drop(second);
    let (mut third, status) = walk(&config, &mut host, "/?k=a");
    assert_eq!(status, 404);
    third.reset(&config, host.now);
    assert_eq!(walk(&config, &mut host, "/?k=a").1, 404);
    let lines: Vec<_> = host.error_lines.iter().filter(|line| line.contains("limiting")).collect();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("[info] limiting connections by zone \"one\", client: 127.0.0.1"),
        "{lines:?}"
    );
}

#[test]
fn a_refused_request_is_counted_nowhere() {
    let config = config("limit_conn one 5; limit_conn two 1;");
    let mut host = TestHost::new();
    let (_held, _) = walk(&config, &mut host, "/?k=a&l=b");
    for _ in 0..9 {
        assert_eq!(walk(&config, &mut host, "/?k=a&l=b").1, 503);
    }
    assert_eq!(walk(&config, &mut host, "/?k=a&l=c").1, 404);
}

#[test]
fn a_dry_run_logs_and_lets_pass() {
    let config = config("limit_conn one 1; limit_conn_dry_run on;");
    let mut host = TestHost::new();
    let (_held, _) = walk(&config, &mut host, "/?k=a");
    let (second, status) = walk(&config, &mut host, "/?k=a");
    assert_eq!((status, second.limits.connections), (404, Some(Outcome::RejectedDryRun)));
    assert!(second.limits.seats.is_empty());
    assert!(
        host.error_lines
            .iter()
            .any(|line| line.starts_with("[error] limiting connections, dry run, by zone")),
        "{:?}",
        host.error_lines
    );
}

#[test]
fn a_long_key_is_not_counted() {
    let config = config("limit_conn one 1;");
    let mut host = TestHost::new();
    let uri = format!("/?k={}", "a".repeat(256));
    let (_held, _) = walk(&config, &mut host, &uri);
    assert_eq!(walk(&config, &mut host, &uri).1, 404);
    assert!(
        host.error_lines
            .iter()
            .any(|line| line.contains("the value of the \"$arg_k\" key is more than 255 bytes: \"aaa"))
    );
}

#[test]
fn counts_are_carried_over_a_reload() {
    let text = "limit_conn one 1;";
    let old = config(text);
    let mut host = TestHost::new();
    let (held, _) = walk(&old, &mut host, "/?k=a");
    let mut new = config(text);
    new.limits.carry_over(&old.limits).unwrap();
    assert_eq!(walk(&new, &mut host, "/?k=a").1, 503);
    drop(held);
    assert_eq!(walk(&new, &mut host, "/?k=a").1, 404);
    let mut other = config_of("http { limit_conn_zone $uri zone=one:32k; }");
    assert_eq!(
        other.limits.carry_over(&old.limits).unwrap_err(),
        "limit_conn_zone \"one\" uses the \"$uri\" key while previously it used the \"$arg_k\" key"
    );
    let mut larger = config_of("http { limit_conn_zone $uri zone=one:64k; }");
    assert_eq!(larger.limits.carry_over(&old.limits), Ok(()));
}

#[test]
fn faults_have_nginx_s_words() {
    let fault = |text: &str| {
        let faults = faults_of(&format!("http {{ {text} server {{ listen 80; }} }}"));
        let words = |line: String| line.split(" in /").next().unwrap_or_default().to_owned();
        faults.into_iter().map(words).collect::<Vec<_>>()
    };
    let zone = "limit_conn_zone $uri zone=a:32k;";
    assert_eq!(fault("limit_conn_zone $uri zone=a;"), ["invalid zone size \"zone=a\""]);
    assert_eq!(fault("limit_conn_zone $uri zone=a:1k;"), ["zone \"zone=a:1k\" is too small"]);
    assert_eq!(fault("limit_conn_zone $uri rate=1r/s;"), ["invalid parameter \"rate=1r/s\""]);
    assert_eq!(
        fault(&format!("{zone} limit_conn_zone $host zone=a:32k;")),
        ["limit_conn_zone \"a\" is already bound to key \"$uri\""]
    );
    assert_eq!(fault("limit_conn a 1;"), ["zero size shared memory zone \"a\""]);
    assert_eq!(fault(&format!("limit_conn a 1; {zone}")), [""; 0]);
    assert_eq!(fault(&format!("{zone} limit_conn a 0;")), ["invalid number of connections \"0\""]);
    assert_eq!(fault(&format!("{zone} limit_conn a 65536;")), ["connection limit must be less 65536"]);
    assert_eq!(
        fault(&format!("{zone} limit_conn a 1; limit_conn a 2;")),
        ["\"limit_conn\" directive is duplicate"]
    );
    assert_eq!(fault("limit_conn_status 302;"), ["value must be between 400 and 599"]);
    assert_eq!(fault("limit_conn_log_level crit;"), ["invalid value \"crit\""]);
}
