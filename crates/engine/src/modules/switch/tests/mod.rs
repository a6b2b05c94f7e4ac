//! Switch blocks, the choices that requests get, and holds.

mod faults;

use super::{Choice, ClientPoint, Matched, Reach, StatePath, StreamsPolicy, look_up, look_up_apart};
use crate::Routing;
use crate::config::Config;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::modules;
use crate::phase::{self, Content, Effect, Step, Wake};
use crate::probe::{AnswerTest, GrpcProbe, HttpProbe, Probe, ProbeHost, Statuses};
use crate::testing::{TestHost, answer, config_of, exchange};
use std::rc::Rc;
use std::sync::Arc;
use switch::{Hold, HoldLimits, Key, KeyKind, Route, Table, Tables};

const GROUPS: &str =
    "upstream blue { server 127.0.0.1:1; server 127.0.0.1:2; } upstream green { server 127.0.0.1:3; }
    upstream Red { server 127.0.0.1:4; server 127.0.0.1:5; server 127.0.0.1:6; }";

fn config(http: &str, server: &str) -> Config {
    config_of(&format!("http {{ {GROUPS} {http} server {{ listen 80; server_name first; {server} }} }}"))
}

/// Tables with these entries in the first switch, at revision 7.
fn tables(kind: KeyKind, entries: &[(&str, &str)]) -> Rc<Routing> {
    let entries = entries.iter().map(|(key, route)| {
        (Key::parse(kind, key.as_bytes(), 255).unwrap(), Route::parse(route).unwrap(), 3)
    });
    let table = Arc::new(Table::from_entries(7, entries));
    Rc::new(Tables { tables: [table].into(), holds: Box::default(), number: 1 }.into())
}

fn asked(config: &Config, host: &mut TestHost, request: &str) -> (String, Vec<Choice>) {
    let mut exchange = exchange(config, host, request);
    let mut env = Env { config, host };
    match phase::advance(&mut exchange, &mut env) {
        Step::Serve(Content::Bytes(body)) => {
            (String::from_utf8(body).unwrap(), exchange.switches.choices().to_vec())
        }
        step => panic!("{step:?}"),
    }
}

#[test]
fn a_renamed_switch_keeps_its_store() {
    let text = "switch_retired old $older; switch $host $New watch=10s from=$Live { default blue; }";
    let config = config(text, "");
    assert_eq!(config.switches[0].watch_ms, 10_000);
    assert_eq!(config.switches[0].state, StatePath::File("/prefix/state/live.db".into()));
    assert_eq!(config.switches[0].from.as_deref(), Some("live"));
    let retired: Vec<&str> = config.control.retired_switches.iter().map(|one| &*one.name).collect();
    assert_eq!(retired, ["old", "older"]);
}

const LIVE: &str = "switch $host $live { default blue; targets blue green; }";

#[test]
fn switch_settings_have_defaults() {
    let config = config(
        &format!(
            "lua_shared_dict routes 1m; {LIVE} switch $arg_k $Other {{ default red; state /var/o.db;
             keys length=20 max=5; sticky $cookie_uid; testers $http_x_side; streams close spread=1m;
             gate healthy=1 timeout=2s uri=/health status=200-299,304; dict routes; }}
             switch x$host $third {{ default green; state memory; streams close after=30s; gate timeout=1s; }}"
        ),
        "",
    );
    let [live, other, third] = &config.switches[..] else { panic!("{:?}", config.switches) };
    assert_eq!((&*live.rules.name, &*live.rules.default, live.rules.kind), ("live", "blue", KeyKind::Host));
    assert_eq!(live.rules.targets.iter().map(|target| &**target).collect::<Vec<_>>(), ["blue", "green"]);
    assert_eq!((live.rules.max_keys, live.rules.max_key_len), (100_000, 255));
    assert_eq!(live.state, StatePath::File("/prefix/state/live.db".into()));
    assert!(live.gate.is_none() && live.testers.is_none() && live.dict.is_none());
    assert_eq!((live.streams, live.key_is_early), (StreamsPolicy::Keep, true));
    assert_eq!(&*live.place, "/etc/pointsman/nginx.conf:2");
    // The upstream's own spelling counts, whatever case the switch has.
    assert_eq!(
        (&*other.rules.name, &*other.rules.default, other.rules.kind),
        ("other", "Red", KeyKind::Text)
    );
    assert_eq!(other.rules.targets.len(), 3);
    assert_eq!((other.rules.max_keys, other.rules.max_key_len), (5, 20));
    assert_eq!(other.state, StatePath::File("/var/o.db".into()));
    assert_eq!(other.streams, StreamsPolicy::CloseSpread { ms: 60_000 });
    assert_eq!(other.dict.as_deref(), Some("routes"));
    let gate = other.gate.clone().unwrap();
    assert_eq!((gate.healthy, gate.timeout_ms), (1, 2000));
    let plain = HttpProbe {
        over_http2: false,
        uri: "/health".into(),
        expected: AnswerTest {
            statuses: Statuses { ranges: [200..=299, 304..=304].into(), are_refused: false },
            ..AnswerTest::default()
        },
        host: ProbeHost::Target,
        headers: [].into(),
    };
    assert_eq!(gate.probe, Probe::Http(plain.clone()));
    assert_eq!((gate.passes, gate.required(1), gate.required(9)), (1, 1, 1));
    let all = self::config(
        "switch $host $a { default blue; gate fraction=50% passes=3 interval=100ms uri=/up host=$key \
         'header=X-Probe: a b' header=Y:c match=~^ok; }",
        "",
    );
    let gate = all.switches[0].gate.clone().unwrap();
    assert_eq!((gate.passes, gate.interval_ms, gate.required(1), gate.required(5)), (3, 100, 1, 3));
    let Probe::Http(probe) = gate.probe else { panic!("{gate:?}") };
    assert_eq!((probe.host, probe.headers[0].1.as_ref(), probe.headers.len()), (ProbeHost::Key, "a b", 2));
    let body = probe.expected.body.unwrap().wanted;
    assert!(body.is_in(b"ok, up") && !body.is_in(b"not ok"));
    assert_eq!((third.rules.kind, &third.state), (KeyKind::Text, &StatePath::Memory));
    assert_eq!(third.streams, StreamsPolicy::CloseAfter { ms: 30_000 });
    assert_eq!(third.gate.as_ref().map(|gate| gate.probe.clone()), Some(Probe::Connect));
    let called = self::config(
        "switch $host $a { default blue; gate type=grpc host=$key grpc_service=a.B healthy=1; }",
        "",
    );
    let grpc = GrpcProbe { service: "a.B".into(), status: 0, host: ProbeHost::Key };
    assert_eq!(called.switches[0].gate.clone().unwrap().probe, Probe::Grpc(grpc));
    for (key, kind) in
        [("$http_host", KeyKind::Host), ("${server_name}", KeyKind::Host), ("$hostname", KeyKind::Text)]
    {
        let config = self::config(&format!("switch {key} $a {{ default blue; }}"), "");
        assert_eq!(config.switches[0].rules.kind, kind, "{key}");
    }
}

#[test]
fn a_request_gets_its_key_s_target_and_the_choice_is_recorded() {
    let config = config(LIVE, "return 200 \"$live $live $switch_key $switch_target $switch_revision\";");
    let mut host = TestHost::new();
    let get = |host: &mut TestHost, name: &str| {
        asked(&config, host, &format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n"))
    };
    assert_eq!(get(&mut host, "shop.test").0, "blue blue shop.test blue 0");
    host.routing =
        Some(tables(KeyKind::Host, &[("shop.test", "green"), ("*.test", "green"), ("a.test", "blue")]));
    let choice = |key: &str, target: &str, matched| Choice {
        switch: 0,
        key: key.into(),
        target: target.to_owned(),
        revision: 7,
        route_revision: if matched == Matched::Entry { 3 } else { 0 },
        matched,
        client: ClientPoint::Address,
    };
    assert_eq!(
        get(&mut host, "Shop.Test:8080"),
        ("green green shop.test green 7".to_owned(), vec![choice("shop.test", "green", Matched::Entry)])
    );
    assert_eq!(get(&mut host, "x.test.").1, [choice("x.test", "green", Matched::Entry)]);
    assert_eq!(get(&mut host, "a.test").1, [choice("a.test", "blue", Matched::Entry)]);
    assert_eq!(get(&mut host, "other").1, [choice("other", "blue", Matched::Default)]);
}

#[test]
fn without_a_choice_the_variables_are_not_found() {
    let config = config(LIVE, "return 200 \"[$switch_key$switch_target$switch_revision]\";");
    let (body, choices) = asked(&config, &mut TestHost::new(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((body.as_str(), choices.len()), ("[]", 0));
}

#[test]
fn several_switches_each_have_their_choice() {
    let config = config(
        "switch $arg_k $a { default blue; } switch \"$a-$arg_k\" $b { default green; }",
        "return 200 \"$b $a $switch_target\";",
    );
    let mut host = TestHost::new();
    let first = &tables(KeyKind::Text, &[("k", "Red")]).tables.tables[0];
    let second = &tables(KeyKind::Text, &[("Red-k", "blue"), ("blue-k", "green")]).tables.tables[0];
    let both = [Arc::clone(first), Arc::clone(second)];
    host.routing = Some(Rc::new(Tables { tables: both.into(), ..Tables::default() }.into()));
    let (body, choices) = asked(&config, &mut host, "GET /?k=k HTTP/1.1\r\nHost: x\r\n\r\n");
    // The key of the second needs the first, which is asked before it.
    assert_eq!(body, "blue Red Red");
    let noted: Vec<_> = choices.iter().map(|choice| (choice.switch, choice.target.as_str())).collect();
    assert_eq!(noted, [(0, "Red"), (1, "blue")]);
}

#[test]
fn a_split_is_by_the_sticky_text_or_by_the_address() {
    let switch = "switch $host $live { default blue; targets blue green; sticky $cookie_uid; }";
    let config = config(switch, "return 200 $live;");
    let mut host = TestHost::new();
    host.routing = Some(tables(KeyKind::Host, &[("x", "green=30 blue=70")]));
    let mut of = |cookie: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{cookie}\r\n");
        asked(&config, &mut host, &request).0
    };
    let route = Route::parse("green=30 blue=70").unwrap();
    let mut green = 0;
    for uid in 0..400 {
        let target = of(&format!("Cookie: uid=u{uid}\r\n"));
        let point = switch::point_of(format!("u{uid}").as_bytes());
        assert_eq!(target, **route.pick(point));
        assert_eq!(of(&format!("Cookie: uid=u{uid}\r\n")), target);
        green += usize::from(target == "green");
    }
    assert!((80..160).contains(&green), "{green} of 400");
    let by_address = &**route.pick(switch::point_of(b"127.0.0.1"));
    assert_eq!(of(""), by_address);
    assert_eq!(of("Cookie: uid=\r\n"), by_address);
}

#[test]
fn a_tester_s_choice_must_be_a_target() {
    let switch = "switch $host $live { default blue; targets blue green; testers $http_x_side; }";
    let config = config(switch, "return 200 $live;");
    let mut host = TestHost::new();
    host.routing = Some(tables(KeyKind::Host, &[("x", "blue")]));
    let mut of = |side: &str| {
        asked(&config, &mut host, &format!("GET / HTTP/1.1\r\nHost: x\r\nX-Side: {side}\r\n\r\n"))
    };
    let (body, choices) = of("green");
    assert_eq!((body.as_str(), choices[0].matched), ("green", Matched::Tester));
    for other in ["", "Red", "greenish", "GREEN"] {
        let (body, choices) = of(other);
        assert_eq!((body.as_str(), choices[0].matched), ("blue", Matched::Entry), "{other}");
    }
}

#[test]
fn promise_1_tables_are_taken_at_the_first_question_and_kept() {
    let config = config(LIVE, "location / { set $a $arg_x; proxy_pass http://$live; }");
    let mut host = TestHost::new();
    host.routing = Some(tables(KeyKind::Host, &[("x", "green")]));
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    // It has begun and asked nothing: what is published meanwhile is what it gets.
    host.routing = Some(tables(KeyKind::Host, &[("x", "blue")]));
    let ask = |host: &mut TestHost, exchange: &mut Exchange| {
        let mut env = Env { config: &config, host };
        let mut value = Vec::new();
        let live = config.variables.find("live").unwrap();
        assert!(crate::variables::append(exchange, &mut env, live, &mut value));
        let mut read = Vec::new();
        look_up(0, b"x", exchange, &mut env, &mut read);
        assert_eq!(value, read);
        String::from_utf8(value).unwrap()
    };
    assert_eq!(ask(&mut host, &mut exchange), "blue");
    host.routing = Some(tables(KeyKind::Host, &[("x", "green")]));
    let mut env = Env { config: &config, host: &mut host };
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Serve(Content::Proxy)));
    assert_eq!(ask(&mut host, &mut exchange), "blue");
    // Nor is it asked anew after an internal redirect, as by `ngx.exec`.
    let mut env = Env { config: &config, host: &mut host };
    phase::redirect_internally(&mut exchange, &mut env, b"/other", b"").unwrap();
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Serve(Content::Proxy)));
    assert_eq!(ask(&mut host, &mut exchange), "blue");
    // When the exchange lies idle it holds no table.
    let weak = Rc::downgrade(exchange.switches.routing(0).unwrap());
    exchange.release();
    assert!(weak.upgrade().is_none() && exchange.switches.choices().is_empty());
}

#[test]
fn promise_1_each_switch_is_asked_in_the_tables_of_its_own_first_question() {
    let config = config("switch $host $a { default blue; } switch $host $b { default blue; }", "");
    let mut host = TestHost::new();
    let both = |to: &str| {
        let table = &tables(KeyKind::Host, &[("x", to)]).tables.tables[0];
        let tables = [Arc::clone(table), Arc::clone(table)].into();
        Some(Rc::new(Tables { tables, ..Tables::default() }.into()))
    };
    host.routing = both("blue");
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut ask = |host: &mut TestHost, number: usize| {
        let mut out = Vec::new();
        look_up(number, b"x", &mut exchange, &mut Env { config: &config, host }, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(ask(&mut host, 0), "blue");
    // A request that knows one switch is undecided about the other.
    host.routing = both("green");
    assert_eq!((ask(&mut host, 1), ask(&mut host, 0)), ("green".to_owned(), "blue".to_owned()));
}

#[test]
fn promise_1_a_request_whose_body_came_late_is_held_before_its_upstream() {
    let config = config(LIVE, "location / { proxy_pass http://$live; }");
    let mut host = TestHost::new();
    let plain = tables(KeyKind::Host, &[("x", "blue")]);
    host.routing = Some(Rc::clone(&plain));
    let request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";
    let mut exchange = exchange(&config, &mut host, request);
    let mut env = Env { config: &config, host: &mut host };
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Wait(Effect::ReadBody)));
    host.routing = Some(with_holds(&plain.tables, &["x"]));
    exchange.request.body = crate::exchange::Body::Memory(b"abc".to_vec());
    exchange.route.wake = Some(Wake::Done);
    let mut env = Env { config: &config, host: &mut host };
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Wait(Effect::AwaitRelease)));
    host.routing = Some(tables(KeyKind::Host, &[("x", "green")]));
    exchange.route.wake = Some(Wake::Done);
    let mut env = Env { config: &config, host: &mut host };
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Serve(Content::Proxy)));
    let mut value = Vec::new();
    let live = config.variables.find("live").unwrap();
    assert!(crate::variables::append(&mut exchange, &mut env, live, &mut value));
    assert_eq!(value, b"green");
}

#[test]
fn the_access_log_shows_the_choice() {
    let config = config(
        &format!(
            "{LIVE} log_format s '$switch_key $switch_target $switch_revision'; access_log a json; access_log b s;"
        ),
        "return 200 $live;",
    );
    let mut host = TestHost::new();
    host.routing = Some(tables(KeyKind::Host, &[("x", "green")]));
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: X\r\n\r\n");
    let mut env = Env { config: &config, host: &mut host };
    let _ = phase::advance(&mut exchange, &mut env);
    modules::log::access(&mut exchange, &mut env);
    let [json, text] = &host.access_lines[..] else { panic!("{:?}", host.access_lines) };
    assert_eq!(text, "x green 7\n");
    let part = "\"pointsman.switch.name\":\"live\",\"pointsman.switch.key\":\"x\",\
                \"pointsman.switch.target\":\"green\",\"pointsman.switch.revision\":7";
    assert!(json.contains(part), "{json}");
}

#[test]
fn a_dict_reads_entries_and_the_request_s_own_key_is_recorded() {
    let config = config(LIVE, "");
    let mut host = TestHost::new();
    host.routing = Some(tables(KeyKind::Host, &[("x", "green"), ("*.w", "blue")]));
    let pinned = host.routing.clone().unwrap();
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut env = Env { config: &config, host: &mut host };
    let mut get = |exchange: &mut Exchange, text: &str| {
        let mut out = Vec::new();
        let found = look_up(0, text.as_bytes(), exchange, &mut env, &mut out);
        found.map(|reach| (reach, String::from_utf8(out).unwrap()))
    };
    assert_eq!(get(&mut exchange, "a.w"), None, "a wildcard is for the request's own key");
    assert_eq!(get(&mut exchange, "*.w"), Some((Reach::Own, "blue".to_owned())));
    assert_eq!(get(&mut exchange, "none"), None);
    assert_eq!(get(&mut exchange, "not a host"), None);
    assert_eq!(exchange.switches.choices(), []);
    assert_eq!(get(&mut exchange, "X:80"), Some((Reach::Own, "green".to_owned())));
    let noted = |exchange: &Exchange| {
        let [choice] = exchange.switches.choices() else { panic!("one choice") };
        (String::from_utf8(choice.key.clone()).unwrap(), choice.target.clone(), choice.matched)
    };
    assert_eq!(noted(&exchange), ("x".to_owned(), "green".to_owned(), Matched::Entry));
    let mut other = self::exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: Other\r\n\r\n");
    let mut env = Env { config: &config, host: &mut host };
    assert_eq!(look_up(0, b"other:80", &mut other, &mut env, &mut Vec::new()), None);
    assert_eq!(noted(&other), ("other".to_owned(), "blue".to_owned(), Matched::Default));
    let mut wild = self::exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: a.w\r\n\r\n");
    let mut env = Env { config: &config, host: &mut host };
    assert_eq!(look_up(0, b"a.w", &mut wild, &mut env, &mut Vec::new()), Some(Reach::Wildcard));
    let rules = &config.switches[0].rules;
    let mut out = Vec::new();
    assert_eq!(look_up_apart(0, b"X.", &pinned.tables, rules, &mut out), Some(Reach::Own));
    assert_eq!(
        (&out[..], look_up_apart(1, b"x", &pinned.tables, rules, &mut Vec::new())),
        (&b"green"[..], None)
    );
    // A star is for hosts; what is none has no entry.
    let star = tables(KeyKind::Host, &[("*", "green")]);
    assert_eq!(look_up_apart(0, b"any", &star.tables, rules, &mut Vec::new()), Some(Reach::Wildcard));
    assert_eq!(look_up_apart(0, b"a b", &star.tables, rules, &mut Vec::new()), None);
}

/// Returns the tables with holds on keys of the first switch.
fn with_holds(tables: &Tables, keys: &[&str]) -> Rc<Routing> {
    let limits = HoldLimits { max: 10, timeout_ms: 1000, max_bytes: 1000 };
    let hold = |key: &&str| Hold::new(0, Key::parse(KeyKind::Text, key.as_bytes(), 255).unwrap(), limits);
    Rc::new(Tables { holds: keys.iter().map(hold).collect(), ..tables.clone() }.into())
}

const HELD: &str =
    "set $server_wide 1; location / { if ($live = green) { set $was_green 1; } proxy_pass http://$live; }
    location /page { return 200 page; } location /api { control_api; } location /status { upstream_status; }
    location /files { root html; } location /late { set $k $arg_k; proxy_pass http://$late; }";

#[test]
fn a_held_key_waits_before_the_location_s_rewrites_and_sees_the_newest_tables() {
    let config = config(&format!("{LIVE} switch $k $late {{ default blue; }}"), HELD);
    let mut host = TestHost::new();
    let plain = tables(KeyKind::Host, &[("x", "blue")]);
    host.routing = Some(with_holds(&plain.tables, &["other", "x"]));
    let request = "GET / HTTP/1.1\r\nHost: X\r\n\r\n";
    let mut exchange = exchange(&config, &mut host, request);
    let mut env = Env { config: &config, host: &mut host };
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Wait(Effect::AwaitRelease)));
    assert_eq!(exchange.switches.choices(), []);
    // Even while the hold is still there for those who come, it has let this one go.
    host.routing = Some(with_holds(&tables(KeyKind::Host, &[("x", "green")]).tables, &["x"]));
    let mut env = Env { config: &config, host: &mut host };
    exchange.route.wake = Some(Wake::Done);
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Serve(Content::Proxy)));
    assert_eq!(exchange.switches.choices()[0].target, "green");
    let was_green = config.variables.find("was_green").unwrap();
    assert!(crate::variables::append(&mut exchange, &mut env, was_green, &mut Vec::new()));
}

#[test]
fn a_hold_that_times_out_sends_retry_after() {
    let config = config(LIVE, HELD.split(" location /late").next().unwrap());
    for (status, line, again) in [(503, "503 Service Temporarily Unavailable", true), (499, "499", false)] {
        let mut host = TestHost::new();
        host.routing = Some(with_holds(&tables(KeyKind::Host, &[]).tables, &["x"]));
        let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut env = Env { config: &config, host: &mut host };
        assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Wait(Effect::AwaitRelease)));
        exchange.route.wake = Some(Wake::Failed(status));
        let Step::Serve(_) = phase::advance(&mut exchange, &mut env) else { panic!("it is refused") };
        crate::output::write_head(&mut exchange, &mut env).unwrap();
        let head = String::from_utf8_lossy(&exchange.output.wire).into_owned();
        assert!(head.starts_with(&format!("HTTP/1.1 {line}")), "{head}");
        assert_eq!(head.contains("\r\nRetry-After: 1\r\n"), again, "{head}");
    }
}

#[test]
fn a_request_without_upstream_is_never_held() {
    let config = config(&format!("{LIVE} switch $k $late {{ default blue; }}"), HELD);
    let mut host = TestHost::new().file("/prefix/html/files", "f");
    host.routing = Some(with_holds(&tables(KeyKind::Host, &[]).tables, &["x"]));
    for (target, wanted) in [
        ("/page", "page"),
        ("/api", "<Control(Api)>"),
        ("/status", "<Report(UpstreamStatus(Text))>"),
        ("/files", "f"),
    ] {
        let shown = answer(&config, &mut host, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(shown.ends_with(wanted), "{target}: {shown}");
    }
}

#[test]
fn a_key_that_rewrites_make_is_held_after_them() {
    let config = config(&format!("error_log e warn; switch $k $late {{ default blue; }} {LIVE}"), HELD);
    let mut host = TestHost::new();
    let both = [Arc::default(), Arc::default()];
    let plain = Routing::from(Tables { tables: both.into(), ..Tables::default() });
    host.routing = Some(with_holds(&plain.tables, &["k"]));
    let mut exchange = exchange(&config, &mut host, "GET /late?k=k HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut env = Env { config: &config, host: &mut host };
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Wait(Effect::AwaitRelease)));
    assert_eq!(exchange.route.cursor.phase, phase::Phase::PreAccess);
    exchange.route.wake = Some(Wake::Done);
    assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Serve(Content::Proxy)));
    // A variable that is not set yet pins no choice.
    assert_eq!(host.error_lines, [""; 0]);
}

#[test]
fn a_request_with_a_target_is_not_held_again() {
    let config = config(LIVE, "set $side $live; location / { proxy_pass http://$live; }");
    let mut host = TestHost::new();
    host.routing = Some(with_holds(&tables(KeyKind::Host, &[]).tables, &["x"]));
    assert_eq!(answer(&config, &mut host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "<proxy>");
}

#[test]
fn a_target_is_a_group_and_never_a_name_to_resolve() {
    use crate::modules::proxy::{Target, plan};
    let locations = "error_log e; location / { resolver 127.0.0.1; proxy_pass http://$live; }";
    let config = config(LIVE, locations);
    let mut host = TestHost::new();
    let table = &tables(KeyKind::Host, &[("x", "Extra")]).tables.tables[0];
    let routing = |names: &[&str]| {
        let blue = &config.groups[config.group(b"blue").unwrap()].spec;
        let sets = names.iter().map(|name| upstream::GroupSet {
            spec: Arc::new(upstream::GroupSpec {
                name: (*name).to_owned(),
                ..upstream::GroupSpec::clone(blue)
            }),
            like: None,
        });
        let tables = Tables { tables: [Arc::clone(table)].into(), ..Tables::default() };
        Some(Rc::new(Routing { tables, groups: sets.collect() }))
    };
    let go = |host: &mut TestHost, then: Option<Rc<Routing>>| {
        let mut exchange = exchange(&config, host, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut env = Env { config: &config, host };
        assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Serve(Content::Proxy)));
        let mut out = Vec::new();
        look_up(0, b"x", &mut exchange, &mut env, &mut out);
        host.routing = then.or(host.routing.take());
        plan(&mut exchange, &mut Env { config: &config, host }).map(|plan| plan.target)
    };
    let made = Ok(Target::Made((*b"Extra").into()));
    host.routing = routing(&["extra"]);
    assert_eq!(go(&mut host, None), made);
    assert_eq!(go(&mut host, routing(&[])), made, "it was there when the request asked the switch");
    assert_eq!(go(&mut host, None), Err(502));
    let line = host.error_lines.pop().unwrap();
    assert!(line.starts_with("[error] no upstream \"Extra\": the switch \"live\" routes there"), "{line}");
}

#[test]
fn a_switch_admits_groups_made_at_run_time_if_its_targets_say_so() {
    let groups = "upstream Pink adopt { server 127.0.0.1:9; }";
    let http = format!(
        "{groups} switch $host $live {{ default blue; targets blue dynamic; testers $arg_side; }}
         switch $host $closed {{ default blue; testers $arg_side; state state/c.db; }}"
    );
    let config = config(&http, "location / { return 200 \"$live $closed\"; }");
    let (live, closed) = (&config.switches[0].rules, &config.switches[1].rules);
    assert_eq!(live.targets.iter().map(|one| &**one).collect::<Vec<_>>(), ["blue"]);
    assert!(live.run_time.is_admitted && !closed.run_time.is_admitted);
    let groups = super::SwitchSpec::of_groups(&config).rules;
    assert_eq!(*groups.run_time.users, ["switch \"live\"".to_owned()]);
    assert_eq!(
        groups.groups.iter().map(|group| group.adopts).collect::<Vec<_>>(),
        [false, false, false, true]
    );
    // A tester goes to a group that is there, and to no other.
    let spec = upstream::GroupSpec {
        name: "teal".to_owned(),
        ..upstream::GroupSpec::clone(&config.groups[config.group(b"blue").unwrap()].spec)
    };
    let set = upstream::GroupSet { spec: Arc::new(spec), like: None };
    let table = Arc::new(switch::Table::default());
    let tables = Tables { tables: [Arc::clone(&table), table].into(), ..Tables::default() };
    let mut host = TestHost::new();
    host.routing = Some(Rc::new(Routing { tables, groups: [set].into_iter().collect() }));
    let mut side = |side: &str| {
        let request = format!("GET /?side={side} HTTP/1.1\r\nHost: x\r\n\r\n");
        let (_, choices) = asked(&config, &mut host, &request);
        choices.iter().map(|choice| choice.target.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(side("teal"), ["teal", "blue"]);
    assert_eq!(side("gone"), ["blue", "blue"]);
    assert_eq!(side("Pink"), ["blue", "Pink"], "a block is a target where it is named");
}

#[test]
fn a_choice_allocates_nothing_once_the_connection_is_warm() {
    let config = config(LIVE, "");
    let mut host = TestHost::new();
    host.routing = Some(tables(KeyKind::Host, &[("shop.test", "green")]));
    let request = "GET / HTTP/1.1\r\nHost: Shop.test\r\n\r\n";
    let mut exchange = exchange(&config, &mut host, request);
    let mut out = Vec::new();
    let mut buffers = Vec::new();
    for _ in 0..3 {
        exchange.switches.reset();
        out.clear();
        let mut env = Env { config: &config, host: &mut host };
        super::append(0, &mut exchange, &mut env, &mut out);
        assert_eq!(out, b"green");
        let choice = &exchange.switches.choices()[0];
        buffers.push((choice.key.as_ptr(), choice.target.as_ptr(), out.as_ptr()));
    }
    assert_eq!(buffers[0], buffers[1]);
    assert_eq!(buffers[1], buffers[2]);
}

#[test]
fn requests_that_ask_a_switch_without_a_trusted_table_are_refused() {
    let locations = "location /proxied { proxy_pass http://$live; } location /said { return 200 $live; }
        location /other { return 200 other; }";
    let refusing = config(LIVE, locations);
    let defaulting = config(&LIVE.replace("targets", "on-damage default; targets"), locations);
    for (config, proxied, said) in
        [(&refusing, "HTTP/1.1 503", "HTTP/1.1 503"), (&defaulting, "<proxy>", "HTTP/1.1 200")]
    {
        let mut host = TestHost::new();
        let table = Arc::new(Table::untrusted());
        host.routing = Some(Rc::new(Tables { tables: [table].into(), ..Tables::default() }.into()));
        let mut ask = |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            answer(config, &mut host, &request)
        };
        assert!(ask("/said").starts_with(said), "{}", ask("/said"));
        assert!(ask("/other").starts_with("HTTP/1.1 200"), "others are untouched");
        // Where it goes is asked when the request is passed on.
        assert_eq!(ask("/proxied"), "<proxy>");
        let mut exchange = exchange(config, &mut host, "GET /proxied HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut env = Env { config, host: &mut host };
        assert!(matches!(phase::advance(&mut exchange, &mut env), Step::Serve(Content::Proxy)));
        let plan = modules::proxy::plan(&mut exchange, &mut env).map(drop);
        assert_eq!(plan, if proxied == "<proxy>" { Ok(()) } else { Err(503) });
    }
}
