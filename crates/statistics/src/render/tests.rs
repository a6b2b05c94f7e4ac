//! Each form against a file of how it should look, and the metrics under the eyes of Prometheus' own tool.
//!
//! `GOLDEN=write cargo test -p pointsman-statistics golden` writes the files anew; read the difference.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::metric_defs::METRIC_DEFS;
use super::*;
use crate::PeerSource;
use crate::testing::{Dice, layout};
use crate::{
    CertificateNow, CheckNow, Collector, Connections, Failure, PeerNow, PeerState, Recorder, RequestEnd,
    RoutedRequest, SwitchNow, TryEnd, Window,
};

const NASTY: &str = "we\"ird\\<b>&";

/// Returns a fast server and a slow one, one that refuses, a group that is gone, names that want escaping, keys of all
/// sorts.
fn sample() -> (Collector, Snapshot) {
    let old =
        layout("blue: 10.0.0.1:80 10.0.0.2:80\nretired: 10.0.0.9:80\ngreen: 10.0.1.1:80 10.0.1.2:80", 3);
    let mut collector = Collector::new(Arc::clone(&old), 1_000_000);
    let mut recorder = Recorder::new(old);
    one(&mut recorder, 1, 0, 700, None);
    let weird =
        layout(&format!("blue: 10.0.0.1:80 10.0.0.2:80\n{NASTY}: x\ngreen: 10.0.1.1:80 10.0.1.2:80"), 3);
    let mut newer = Recorder::new(Arc::clone(&weird));
    let mut dice = Dice::new(42);
    for second in 0..90 {
        for _ in 0..10 {
            one(&mut recorder, 0, 0, 900 + dice.below(200), None);
            one(&mut newer, 0, 1, 40_000 + dice.below(20_000), None);
        }
        if second % 10 == 0 {
            one(&mut newer, 0, 1, 150, Some(Failure::Connect));
            one(&mut newer, 1, 0, 2_500_000, None);
            one(&mut newer, 3, 0, 5_000, Some(Failure::ClientGone));
        }
        let end = RequestEnd { status: 200, response_us: Some(1_000), received: 10, sent: 5 };
        for key in [&b"shop.example.com"[..], b"\xff\"<script>\n", b"", b"beyond the bound"] {
            newer.key_ended(0, &RoutedRequest::new(key, "blue"), &end);
            // The first keys get the places, whatever the order in a recorder.
            if second == 0 {
                collector.absorb(&mut newer, 1_000_400);
            }
        }
        newer.request_began(0);
        newer.try_began(0, 1);
        if second < 88 {
            newer.request_ended(0, &RequestEnd { status: 499, ..end });
            newer.try_ended(0, 1, &TryEnd { status: 200, ..TryEnd::default() });
        }
        collector.absorb(&mut recorder, 1_000_000 + second * 1_000);
        collector.absorb(&mut newer, 1_000_500 + second * 1_000);
        if second == 20 {
            collector.arrange(Arc::clone(&weird));
        }
    }
    (collector, snapshot())
}

/// One request with one try, from its beginning to its end.
fn one(recorder: &mut Recorder, group: usize, peer: usize, us: u64, failure: Option<Failure>) {
    let status = if failure.is_some() { 502 } else { 200 };
    recorder.request_began(group);
    recorder.try_began(group, peer);
    let response_us = Some(us);
    let (connect_us, first_byte_us) = (failure.is_none().then_some(90), failure.is_none().then_some(us / 2));
    let (sent, received) = (300, 1_500);
    let end = TryEnd { status: 0, failure, connect_us, first_byte_us, response_us, sent, received };
    recorder.try_ended(group, peer, &TryEnd { status: if failure.is_some() { 0 } else { 200 }, ..end });
    recorder.request_ended(group, &RequestEnd { status, response_us, received, sent });
}

fn snapshot() -> Snapshot {
    let peer = |group: &str, peer: &str, state, connections| PeerNow {
        group: group.into(),
        peer: peer.into(),
        state,
        connections,
        source: if peer == "10.0.0.2:80" { PeerSource::Order } else { PeerSource::File },
        since_s: (peer == "10.0.0.2:80").then_some(1_700_000_000 + connections),
    };
    let check = |peer: &str, passed, failed, took_us| CheckNow {
        group: "blue".into(),
        peer: peer.into(),
        check: "GET /health".into(),
        passed,
        failed,
        took_us,
    };
    Snapshot {
        groups_fault: false,
        checks: vec![
            check("10.0.0.2:80", 7, 2, Some(1_250)),
            check("10.0.0.2:80", 1, 0, Some(900)),
            check("10.0.0.1:80", 0, 0, None),
        ],
        peers: vec![
            peer("blue", "10.0.0.1:80", PeerState::Up, 0),
            peer("blue", "10.0.0.2:80", PeerState::Failed, 1),
            peer("blue", "10.0.0.2:80", PeerState::Up, 1),
            peer("green", "10.0.1.1:80", PeerState::Up, 0),
            peer("green", "10.0.1.2:80", PeerState::Down, 0),
            peer(NASTY, "x", PeerState::Up, 0),
        ],
        switches: vec![SwitchNow {
            name: "live".into(),
            revision: 17,
            keys: 4,
            pending: 1,
            overdue: 0,
            store_fault: false,
            held_keys: 2,
            held_requests: 31,
            refused_requests: 6,
        }],
        connections: Connections {
            active: 6,
            accepted: 1_000,
            handled: 1_000,
            requests: 2_500,
            reading: 1,
            writing: 2,
            waiting: 3,
        },
        log_lines_lost: 7,
        certificates: vec![CertificateNow { file: "/etc/one.pem".into(), until_s: 1_794_252_744 }],
        version: "0.1.0".to_owned(),
    }
}

const NOW_MS: u64 = 1_090_250;

fn golden(name: &str, is: &str, should_be: &str) {
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/render/golden").join(name);
        std::fs::write(path, is).expect("the file can be written");
        return;
    }
    for (number, (is, should_be)) in is.lines().zip(should_be.lines()).enumerate() {
        assert_eq!(is, should_be, "line {} of {name}", number + 1);
    }
    assert_eq!(is, should_be, "{name}");
}

#[test]
fn text_matches_its_golden_file() {
    let (mut collector, snapshot) = sample();
    let is = text(&collector.summary(Window::Minute, NOW_MS), &snapshot);
    assert!(is.chars().all(|char| char == '\n' || !char.is_control()), "a key gives a terminal no orders");
    golden("status.txt", &is, include_str!("golden/status.txt"));
}

#[test]
fn html_matches_its_golden_file() {
    let (mut collector, snapshot) = sample();
    let is = html(&collector.summary(Window::FiveMinutes, NOW_MS), &snapshot);
    golden("status.html", &is, include_str!("golden/status.html"));
    assert!(!is.contains("<b>&") && !is.contains("<script"), "names are escaped");
}

#[test]
fn json_matches_its_golden_file() {
    let (mut collector, snapshot) = sample();
    let is = json(&collector.summary(Window::TenSeconds, NOW_MS), &snapshot);
    let value: serde_json::Value = serde_json::from_str(&is).expect("it is JSON");
    assert_eq!(value["switches"][0]["revision"], 17);
    assert_eq!(
        value["all"]["ended"],
        value["all"]["statuses"]
            .as_object()
            .expect("a map")
            .values()
            .map(|n| n.as_u64().unwrap())
            .sum::<u64>()
    );
    let lines = serde_json::to_string_pretty(&value).expect("it is a value") + "\n";
    golden("status.json", &lines, include_str!("golden/status.json"));
}

#[test]
fn metrics_match_their_golden_files() {
    let (mut collector, snapshot) = sample();
    let summary = collector.totals(NOW_MS);
    let is = metrics(&summary, &snapshot, Exposition::OpenMetrics);
    golden("metrics.openmetrics", &is, include_str!("golden/metrics.openmetrics"));
    let is = metrics(&summary, &snapshot, Exposition::Prometheus);
    golden("metrics.prom", &is, include_str!("golden/metrics.prom"));
}

#[test]
fn an_empty_summary_renders() {
    let mut collector = Collector::new(layout("", 0), 0);
    let summary = collector.summary(Window::Minute, 0);
    let empty = Snapshot::default();
    assert!(text(&summary, &empty).starts_with("average upstream response time: - (0 reqs)\n"));
    assert!(serde_json::from_str::<serde_json::Value>(&json(&summary, &empty)).is_ok());
    assert!(html(&summary, &empty).ends_with("</html>\n"));
    assert!(metrics(&summary, &empty, Exposition::OpenMetrics).ends_with("# EOF\n"));
}

#[test]
fn the_first_line_is_the_mean_of_all_requests() {
    let mut collector = Collector::new(layout("a:\nb:", 0), 0);
    let mut recorder = Recorder::new(layout("a:\nb:", 0));
    for (group, response_us) in [(0, Some(3_000)), (0, Some(3_900)), (1, None)] {
        recorder.request_ended(group, &RequestEnd { status: 200, response_us, ..RequestEnd::default() });
    }
    collector.absorb(&mut recorder, 0);
    let body = text(&collector.summary(Window::Minute, 10_000_000), &Snapshot::default());
    assert_eq!(body.lines().next(), Some("average upstream response time: 0.00345 (2 reqs)"));
}

#[test]
fn every_series_belongs_to_its_metric_and_appears_once() {
    let (mut collector, snapshot) = sample();
    let body = metrics(&collector.totals(NOW_MS), &snapshot, Exposition::OpenMetrics);
    let (mut seen, mut metric) = (HashSet::new(), "");
    for line in body.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => metric = rest.split(' ').next().unwrap_or_default(),
            None if line.starts_with('#') => {}
            None => {
                assert!(line.starts_with(metric), "{line}");
                let (series, value) = line.rsplit_once(' ').expect("a value");
                assert!(seen.insert(series.to_owned()), "twice: {series}");
                value.parse::<f64>().expect("a number");
            }
        }
    }
    let written = body.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(written, METRIC_DEFS.len());
    for metric in METRIC_DEFS {
        assert_eq!(body.matches(&format!("# HELP {} ", metric.name)).count(), 1, "{}", metric.name);
        assert!(metric.name.ends_with(metric.unit) && metric.help.ends_with('.'), "{}", metric.name);
    }
}

#[test]
fn different_keys_have_different_texts() {
    let keys: [&[u8]; 9] = [
        b"a",
        b"\xff",
        "\u{fffd}".as_bytes(),
        b"\xef\xbf",
        "\u{fffd}ff".as_bytes(),
        b"ff",
        b"\\xff",
        b"\xff\xfe",
        b"",
    ];
    let readable: HashSet<String> = keys.iter().map(|key| readable_key(key)).collect();
    assert_eq!(readable.len(), keys.len());
    assert_eq!(readable_key(b"shop.example.com"), "shop.example.com");
}

#[test]
fn the_form_follows_the_argument_and_accept() {
    for (format, accept, page) in [
        (None, None, Page::Text),
        (None, Some("*/*"), Page::Text),
        (None, Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Page::Html),
        (None, Some("application/json, text/plain"), Page::Json),
        (Some("json"), Some("text/html"), Page::Json),
        (Some("text"), Some("text/html"), Page::Text),
        (Some("html"), None, Page::Html),
        (Some("no such"), Some(" application/json ; q=1"), Page::Json),
    ] {
        assert_eq!(
            Page::asked_for(format.map(str::as_bytes), accept.map(str::as_bytes)),
            page,
            "{format:?} {accept:?}"
        );
    }
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Exposition::asked_for(Some(prometheus.as_bytes())), Exposition::OpenMetrics);
    assert_eq!(Exposition::asked_for(Some(b"*/*")), Exposition::Prometheus);
    assert_eq!(Exposition::asked_for(None), Exposition::Prometheus);
}

/// Prometheus' tool, or a line that says that the test is skipped.
fn promtool() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("promtool")).find(|file| file.exists());
    if found.is_none() {
        eprintln!(
            "skipped: {} needs promtool (Debian package prometheus)",
            std::thread::current().name().unwrap_or("?")
        );
    }
    found
}

#[test]
fn promtool_accepts_the_older_form() {
    let Some(promtool) = promtool() else { return };
    let (mut collector, snapshot) = sample();
    let body = metrics(&collector.totals(NOW_MS), &snapshot, Exposition::Prometheus);
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().expect("a pipe").write_all(body.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// `promtool check metrics` reads the older form only; its import reads OpenMetrics with Prometheus' strict parser, if
/// every value has its time.
#[test]
fn prometheus_imports_the_open_metrics() {
    let Some(promtool) = promtool() else { return };
    let (mut collector, snapshot) = sample();
    let body = metrics(&collector.totals(NOW_MS), &snapshot, Exposition::OpenMetrics);
    let mut values = 0;
    let timed: String = body
        .lines()
        .map(|line| match line.starts_with('#') {
            true => format!("{line}\n"),
            false => {
                values += 1;
                format!("{line} 1700000000\n")
            }
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let (file, data) = (folder.path().join("metrics"), folder.path().join("data"));
    for (text, good) in [(&timed, true), (&timed.replacen("# TYPE", "# TYP", 1), false)] {
        std::fs::write(&file, text).expect("a file");
        let mut command = Command::new(&promtool);
        let output =
            command.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(&data).output();
        let output = output.expect("promtool runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.success(), good, "{said}");
        if good {
            assert!(
                said.split_whitespace().any(|word| word == values.to_string()),
                "{values} series in {said}"
            );
        }
    }
}

/// Returns the names of the series in a text of metrics.
fn series_of(body: &str) -> HashSet<&str> {
    let values = body.lines().filter(|line| !line.starts_with('#'));
    values.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

/// Every metric that the dashboard asks for is one that there is.
#[test]
fn the_dashboard_uses_only_existing_metrics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/grafana/pointsman.json");
    let dashboard = std::fs::read_to_string(path).expect("the dashboard is in the repository");
    let value: serde_json::Value = serde_json::from_str(&dashboard).expect("it is JSON");
    let (mut collector, snapshot) = sample();
    let body = metrics(&collector.totals(NOW_MS), &snapshot, Exposition::OpenMetrics);
    let series = series_of(&body);
    let mut named = HashSet::new();
    let panels = value["panels"].as_array().expect("panels");
    let of_panels = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let of_variables = value["templating"]["list"].as_array().into_iter().flatten();
    let texts =
        of_panels.map(|target| &target["expr"]).chain(of_variables.map(|variable| &variable["definition"]));
    for text in texts.filter_map(|text| text.as_str()) {
        let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_' && char != ':');
        for word in words.filter(|word| word.starts_with("pointsman")) {
            assert!(series.contains(word), "no such metric: {word} in {text}");
            named.insert(word.to_owned());
        }
    }
    assert!(named.len() >= 15, "it looks at {named:?} only");
}

/// Every metric that the alerts ask for is one that there is, and Prometheus' own tool finds each fire when it should.
#[test]
fn the_alerts_use_only_existing_metrics_and_fire() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/prometheus");
    let alerts =
        std::fs::read_to_string(folder.join("alerts.yml")).expect("the alerts are in the repository");
    let tests = std::fs::read_to_string(folder.join("alerts-test.yml")).expect("so are their tests");
    let (mut collector, snapshot) = sample();
    let body = metrics(&collector.totals(NOW_MS), &snapshot, Exposition::OpenMetrics);
    let series = series_of(&body);
    let words = alerts.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    for word in words.filter(|word| word.starts_with("pointsman_")) {
        assert!(series.contains(word), "no such metric: {word}");
    }
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.matches(name).count() >= 2, "{name} has no test");
    }
    let Some(promtool) = promtool() else { return };
    let mut command = Command::new(promtool);
    let output = command.current_dir(&folder).args(["test", "rules", "alerts-test.yml"]).output();
    let output = output.expect("promtool runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}
