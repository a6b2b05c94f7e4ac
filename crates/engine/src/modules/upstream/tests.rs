//! Groups as a configuration makes them.

use super::*;
use crate::testing::{TestHost, config_of, exchange, faults_of};
use upstream::TwoBy;

fn groups(http: &str) -> Vec<GroupEntry> {
    config_of(&format!("http {{ {http} }}")).groups
}

fn faults(http: &str) -> String {
    faults_of(&format!("http {{ {http} }}")).join("|").replace(" in /etc/pointsman/nginx.conf:1", "")
}

#[test]
fn a_ring_is_made_at_load_and_bounded() {
    let group = |weight: u64| {
        format!(
            "http {{ upstream a {{ hash $uri consistent; server 127.0.0.1 weight={weight}; server 127.0.0.2; }} }}"
        )
    };
    assert_eq!(faults_of(&group(3_000)), [] as [String; 0]);
    assert_eq!(
        faults_of(&group(1_000_000)),
        [
            "the weights make 160000160 points in the ring of \"hash ... consistent\" in /etc/pointsman/nginx.conf:1"
        ]
    );
}

#[test]
fn names_are_resolved_while_serving_by_the_group_s_or_http_s_name_servers() {
    let groups = groups(
        "upstream a { server app.test resolve weight=3; server 127.0.0.1 resolve; server b.test:81 resolve backup; }
         upstream b { server app.test service=http resolve; server app.test service=_x._udp resolve; resolver 127.0.0.9
         valid=3s; resolver_timeout 2s; min_servers 4; } resolver 127.0.0.8 ipv6=off; resolver_timeout 7s;",
    );
    let (a, b) = (&groups[0], &groups[1]);
    assert_eq!(a.spec.peers.len(), 1, "an address needs no name server");
    let of = |entry: &GroupEntry| -> Vec<String> {
        let source = |source: &Source| {
            let Place::Name(place) = &source.place else { panic!() };
            let servers = &place.resolver.servers;
            let (template, service) = (&source.template, place.service.as_deref().unwrap_or("-"));
            format!("{} {} {service} {} {}", source.text, template.address, servers[0].ip(), place.timeout_ms)
        };
        entry.discovery.sources.iter().map(source).collect()
    };
    assert_eq!(
        of(a),
        ["app.test resolve 0.0.0.0:80 - 127.0.0.8 7000", "b.test:81 resolve 0.0.0.0:81 - 127.0.0.8 7000"]
    );
    assert_eq!(
        of(b),
        [
            "app.test service=http resolve 0.0.0.0:80 _http._tcp.app.test 127.0.0.9 2000",
            "app.test service=_x._udp resolve 0.0.0.0:80 _x._udp.app.test 127.0.0.9 2000"
        ]
    );
    assert_eq!((a.discovery.min_servers, b.discovery.min_servers), (1, 4));
    for (inside, fault) in [
        ("server a.test resolve;", "no resolver defined to resolve names at run time in upstream \"a\""),
        ("server a.test service=http;", "service upstream \"a.test\" requires \"resolve\" parameter"),
        ("server a.test:80 service=http resolve;", "service upstream \"a.test:80\" may not have port"),
        ("server 127.0.0.1 service=http resolve;", "service upstream \"127.0.0.1\" requires domain name"),
        ("server a.test service= resolve;", "service is empty"),
        ("resolver 127.0.0.1; resolver 127.0.0.1; server 127.0.0.1;", "\"resolver\" directive is duplicate"),
        ("servers file=;", "invalid parameter \"file=\""),
        ("servers http=https://127.0.0.1/;", "https is not supported in \"servers\" directive"),
        ("servers http=127.0.0.1;", "invalid URL in \"servers\" directive"),
        ("servers file=a interval=1ms;", "invalid parameter \"interval=1ms\""),
        ("servers file=a timeout=1s;", "invalid parameter \"timeout=1s\""),
        ("resolver 127.0.0.1; server a.test resolve backup;", "no servers in upstream \"a\""),
    ] {
        assert_eq!(faults(&format!("upstream a {{ {inside} }}")), fault, "{inside}");
    }
}

#[test]
fn discovered_servers_follow_the_balancer_s_rules() {
    let found = |addresses: &[&str]| -> Vec<FoundServer> {
        let server = |text: &&str| {
            let (text, is_secondary) = text.strip_prefix('-').map_or((*text, false), |text| (text, true));
            let mut words = text.split(' ');
            let address = Address::Inet(words.next().unwrap().parse().unwrap());
            let mut params = switch::ServerParams::default();
            words.for_each(|word| params.read(word).unwrap());
            FoundServer { address, params, is_secondary }
        };
        addresses.iter().map(server).collect()
    };
    let peers = |inside: &str, addresses: &[&str]| -> Result<Vec<String>, String> {
        let group = groups(&format!("resolver 127.0.0.1; upstream a {{ {inside} }}")).remove(0);
        let found = found(addresses);
        let peers = group.peers_with(|_| &found)?;
        let shown = |peer: &PeerSpec| {
            let mark = if peer.backup { " backup" } else { "" };
            format!("{} w{} f{}{mark}", peer.name, peer.weight, peer.max_fails)
        };
        Ok(peers.iter().map(shown).collect())
    };
    let all = ["10.0.0.1:0 weight=2", "10.0.0.2:8080", "-10.0.0.3:0 weight=7", "10.0.0.9:81"];
    assert_eq!(
        peers("server 10.0.0.9:81; server a.test:81 resolve max_fails=4;", &all).unwrap(),
        ["10.0.0.9:81 w1 f1", "10.0.0.1:81 w2 f4", "10.0.0.2:8080 w1 f4", "10.0.0.3:81 w7 f4 backup"]
    );
    assert_eq!(
        peers("server 10.0.0.9:81; server a.test:81 resolve weight=5 backup;", &all).unwrap(),
        ["10.0.0.9:81 w1 f1", "10.0.0.1:81 w5 f1 backup", "10.0.0.2:8080 w5 f1 backup"]
    );
    assert_eq!(peers("hash $uri; server a.test resolve;", &all).unwrap().len(), 3, "it has no backups");
    let fault = peers("hash $uri; servers file=a;", &["10.0.0.1:0 backup"]).unwrap_err();
    assert!(fault.contains("has no \"backup\""), "{fault}");
    let fault = peers("hash $uri consistent; servers file=a;", &["10.0.0.1:0 weight=1000000"]).unwrap_err();
    assert!(fault.contains("160000000 points"), "{fault}");
}

#[test]
fn servers_have_parameters_and_nginx_s_defaults() {
    let groups = groups(
        "upstream a { server 127.0.0.1; server localhost:81 weight=2 max_conns=3 max_fails=4 fail_timeout=1m;
         server unix:/run/a.sock down; server [::1]:82 backup; }",
    );
    let spec = &groups[0].spec;
    assert_eq!((spec.balancer, spec.keepalive), (BalancerSpec::RoundRobin, KeepaliveSpec::default()));
    let shown: Vec<String> =
        spec.peers.iter().map(|peer| format!("{} {}", peer.name, peer.address)).collect();
    assert_eq!(
        shown,
        [
            "127.0.0.1 127.0.0.1:80",
            "localhost:81 127.0.0.1:81",
            "unix:/run/a.sock unix:/run/a.sock",
            "[::1]:82 [::1]:82"
        ]
    );
    let first = &spec.peers[0];
    assert_eq!((first.weight, first.max_conns, first.max_fails, first.fail_timeout_ms), (1, 0, 1, 10_000));
    let second = &spec.peers[1];
    assert_eq!(
        (second.weight, second.max_conns, second.max_fails, second.fail_timeout_ms),
        (2, 3, 4, 60_000)
    );
    assert!(spec.peers[2].down && spec.peers[3].backup && !first.backup && !first.down);
}

#[test]
fn balancers_keepalive_and_zones_are_configured() {
    let one = |inside: &str| groups(&format!("upstream a {{ {inside} server 127.0.0.1; }}")).remove(0);
    assert_eq!(one("least_conn;").spec.balancer, BalancerSpec::LeastConn);
    assert_eq!(one("ip_hash;").spec.balancer, BalancerSpec::IpHash);
    assert_eq!(one("hash $uri;").spec.balancer, BalancerSpec::Hash { consistent: false });
    assert_eq!(one("hash $uri consistent;").spec.balancer, BalancerSpec::Hash { consistent: true });
    assert_eq!(one("random;").spec.balancer, BalancerSpec::Random { two: None });
    assert_eq!(one("random two;").spec.balancer, BalancerSpec::Random { two: Some(TwoBy::LeastConn) });
    let kept =
        one("keepalive 64; keepalive_requests 5; keepalive_time 1m; keepalive_timeout 2s;").spec.keepalive;
    let expected =
        KeepaliveSpec { max_idle: 64, local: false, requests: 5, time_ms: 60_000, timeout_ms: 2000 };
    assert_eq!(kept, expected);
    assert_eq!(
        one("keepalive 8 local;").spec.keepalive,
        KeepaliveSpec { max_idle: 8, ..KeepaliveSpec::default() }
    );
    assert_eq!(one("keepalive 0;").spec.keepalive.max_idle, 0);
    assert!(one("zone a 32k;").shared && !one("").shared);
}

#[test]
fn the_hash_key_is_evaluated_per_request() {
    let config = config_of(
        "http { upstream a { hash $uri$arg_k consistent; server 127.0.0.1; } upstream b { server 127.0.0.1; }
         server { listen 80; } }",
    );
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET /p?k=v HTTP/1.1\r\nHost: a\r\n\r\n");
    let env = &mut Env { config: &config, host: &mut host };
    let mut key = b"old".to_vec();
    hash_key(&mut exchange, env, 0, &mut key);
    assert_eq!(key, b"/pv");
    hash_key(&mut exchange, env, 1, &mut key);
    assert_eq!(key, b"");
}

#[test]
fn a_proxy_pass_implies_a_group_or_names_one_that_comes_later() {
    let groups = groups(
        "server { location / { proxy_pass http://Later; } location /b { proxy_pass http://localhost:81/x; }
         location /c { proxy_pass http://LOCALHOST:81; } location /d { proxy_pass http://localhost; }
         location /e { proxy_pass http://unix:/run/a.sock:/; } location /f { proxy_pass http://10.0.0.1:82; } }
         upstream later { server 127.0.0.1:9; }",
    );
    let shown: Vec<String> =
        groups.iter().map(|group| format!("{} {}", group.spec.name, group.spec.peers[0].address)).collect();
    assert_eq!(
        shown,
        [
            "later 127.0.0.1:9",
            "localhost 127.0.0.1:81",
            "localhost 127.0.0.1:80",
            "/run/a.sock unix:/run/a.sock",
            "10.0.0.1 10.0.0.1:82"
        ]
    );
    assert_eq!(groups[1].spec.keepalive, KeepaliveSpec::OFF);
    assert_eq!(groups[0].origin, Origin::Block);
}

#[test]
fn every_parameter_with_a_fault_is_named() {
    for (text, parameters) in [
        (
            "server { listen 80 quic proxy_protocol backlog=x sideways; }",
            &["quic", "backlog=x", "sideways"][..],
        ),
        ("upstream a { server 1.1.1.1 weight=0 backup route=a; server 1.1.1.2; }", &["weight=0", "route"]),
    ] {
        let faults = crate::testing::faults_of(&format!("http {{ {text} }}"));
        assert_eq!(faults.len(), parameters.len(), "{faults:?}");
        for (fault, parameter) in faults.iter().zip(parameters) {
            assert!(fault.contains(&format!("\"{parameter}\"")), "{fault} {parameter}");
        }
    }
}

#[test]
fn faults_have_nginx_s_words() {
    let unsupported = |name: &str| {
        format!("the \"{name}\" parameter of \"server\" is known to nginx, not supported by pointsman")
    };
    let cases = [
        ("upstream a { server 1.1.1.1 backup; }", "no servers in upstream \"a\"".to_owned()),
        ("upstream a { server 1.1.1.1; } upstream A { server 1.1.1.1; }", "duplicate upstream \"A\"".to_owned()),
        ("upstream a { server http://1.1.1.1; }", "invalid host in upstream \"http://1.1.1.1\"".to_owned()),
        ("upstream a { server 1.1.1.1:0; }", "invalid port in upstream \"1.1.1.1:0\"".to_owned()),
        ("upstream a { server nosuch:8; }", "host not found in upstream \"nosuch:8\"".to_owned()),
        ("upstream a { server unix:; }", "no path in the unix domain socket in upstream \"unix:\"".to_owned()),
        ("upstream a { server 1.1.1.1 weight=0; }", "invalid parameter \"weight=0\"".to_owned()),
        ("upstream a { server 1.1.1.1 wieght=1; }", "invalid parameter \"wieght=1\"".to_owned()),
        ("upstream a { server 1.1.1.1 fail_timeout=5ms; }", "invalid parameter \"fail_timeout=5ms\"".to_owned()),
        ("upstream a { server 1.1.1.1 route=a; }", unsupported("route")),
        ("upstream a { server 1.1.1.1 slow_start=x; }", "invalid parameter \"slow_start=x\"".to_owned()),
        ("upstream a { ip_hash; server 1.1.1.1 slow_start=5s; }",
         "balancing method does not support parameter \"slow_start\"".to_owned()),
        ("upstream a { server 1.1.1.1 slow_start=5s; random; }",
         "balancing method does not support parameter \"slow_start\"".to_owned()),
        ("upstream a { hash $uri consistent; server 1.1.1.1 slow_start=5s; }",
         "balancing method does not support parameter \"slow_start\"".to_owned()),
        ("upstream a { least_conn; server 1.1.1.1 slow_start=5s; }", String::new()),
        ("upstream a { ip_hash; server 1.1.1.1; server 1.1.1.2 backup; }",
         "balancing method does not support parameter \"backup\"".to_owned()),
        ("upstream a { server 1.1.1.2 backup; server 1.1.1.1; random; }",
         "balancing method does not support parameter \"backup\"".to_owned()),
        ("upstream a { least_conn; ip_hash; server 1.1.1.1; }", "load balancing method redefined".to_owned()),
        ("upstream a { hash $uri evenly; server 1.1.1.1; }", "invalid parameter \"evenly\"".to_owned()),
        ("upstream a { random three; server 1.1.1.1; }", "invalid parameter \"three\"".to_owned()),
        ("upstream a { keepalive x; server 1.1.1.1; }", "invalid value \"x\" in \"keepalive\" directive".to_owned()),
        ("upstream a { keepalive 1; keepalive 2; server 1.1.1.1; }", "\"keepalive\" directive is duplicate".to_owned()),
        ("upstream a { zone z 1k; server 1.1.1.1; }", "zone \"z\" is too small".to_owned()),
        ("upstream a { zone z; server 1.1.1.1; }", "zero size shared memory zone \"z\"".to_owned()),
        ("upstream a { zone z 32k; server 1.1.1.1; } upstream b { zone z; server 1.1.1.1; }", String::new()),
        ("upstream a { zone z 32k; server 1.1.1.1; } upstream b { zone z 64k; server 1.1.1.1; }",
         "the size 65536 of shared memory zone \"z\" conflicts with already declared size 32768".to_owned()),
        ("server { location / { proxy_pass http://a:81; } } upstream a { server 1.1.1.1; }",
         "upstream \"a\" may not have port 81".to_owned()),
        ("upstream a { listen 80; server 1.1.1.1; }", "\"listen\" directive is not allowed here".to_owned()),
        ("upstream a { sticky cookie x; server 1.1.1.1; }",
         "directive \"sticky\" is known to nginx (ngx_http_upstream_sticky_module), not supported by pointsman".to_owned()),
    ];
    for (http, fault) in cases {
        assert_eq!(faults(http), fault, "{http}");
    }
}

#[test]
fn a_group_is_found_by_a_variable_s_value() {
    let config = config_of(
        "http { upstream Blue { server 127.0.0.1:9; } server { location / { proxy_pass http://10.0.0.1:82; }
         location /u { proxy_pass http://unix:/run/a.sock; } location /d { proxy_pass http://10.0.0.2; } } }",
    );
    let found = |text: &str| {
        let url = Url::parse(text.as_bytes(), DEFAULT_PORT, true).unwrap();
        block(&config, &url).or_else(|| implied(&config, &url))
    };
    assert_eq!(found("blue/x"), Some(0));
    assert_eq!(found("BLUE"), Some(0));
    assert_eq!(found("blue:80"), None);
    assert_eq!(found("10.0.0.1:82"), Some(1));
    assert_eq!(found("10.0.0.1"), None);
    assert_eq!(found("unix:/run/a.sock:/x"), Some(2));
    assert_eq!(found("10.0.0.2"), Some(3));
    assert_eq!(found("10.0.0.2:80"), Some(3));
}

#[test]
fn a_line_that_says_where_servers_are_is_kept_as_it_is_written() {
    let lines = [
        "server app.test:8080 resolve weight=2 max_fails=3;",
        "server app.test service=http backup resolve;",
        "servers \"file=/run/a b;{.servers\" interval=2s;",
        "servers \"http=http://127.0.0.1:8500/x?a=$b\" timeout=1s;",
    ];
    let kept = |lines: &[&str]| -> Vec<String> {
        let text = format!("resolver 127.0.0.1; upstream a {{ server 127.0.0.1:1; {} }}", lines.join(" "));
        let groups = groups(&text);
        groups[0].discovery.sources.iter().map(|source| source.line.to_string()).collect()
    };
    let first = kept(&lines);
    assert_eq!(first, lines);
    // Written otherwise, they mean the same.
    let others = ["server 'app.test:8080'  resolve weight=2 max_fails=3 ;", lines[1], lines[2], lines[3]];
    assert_eq!(kept(&others), lines);
}
