//! Names are resolved as nginx resolves them; the name servers are tasks beside the questions.

mod name_server;

use super::*;
use engine::modules::core::Resolver;
use name_server::*;
use std::net::Ipv4Addr;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{advance, pause, resume};

fn spec(servers: &[&NameServer]) -> Resolver {
    let servers = servers.iter().map(|s| s.address).collect();
    Resolver { servers, valid_ms: None, ipv4: true, ipv6: true }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap()
        .block_on(test);
}

/// Time goes by. No message is under way, or it may be late.
async fn pass(seconds: u64) {
    pause();
    advance(Duration::from_secs(seconds)).await;
    resume();
}

/// Longer than any of these tests takes.
const LONG_MS: u64 = 60_000;

#[test]
fn both_families_are_asked_and_ipv4_comes_first() {
    run(async {
        let server = NameServer::start(|_, kind| {
            Play::Records(if kind == A { vec![a(1, 60), a(2, 60)] } else { vec![aaaa(3, 60)] })
        })
        .await;
        let resolvers = Resolvers::default();
        let both = resolvers.lookup(&spec(&[&server]), "Shop.Example.COM.", LONG_MS).await;
        assert_eq!(both, Ok(vec![v4(1), v4(2), v6(3)]));
        assert_eq!(server.asked(), [("shop.example.com".into(), A), ("shop.example.com".into(), AAAA)]);

        let only_v4 = Resolver { ipv6: false, ..spec(&[&server]) };
        assert_eq!(resolvers.lookup(&only_v4, "a.test", LONG_MS).await, Ok(vec![v4(1), v4(2)]));
        let only_v6 = Resolver { ipv4: false, ..spec(&[&server]) };
        assert_eq!(resolvers.lookup(&only_v6, "b.test", LONG_MS).await, Ok(vec![v6(3)]));
        assert_eq!(server.asked()[..2], [("a.test".into(), A), ("b.test".into(), AAAA)]);
    });
}

#[test]
fn uncached_answers_have_a_lifetime_and_services_their_records() {
    run(async {
        let srv = |priority: u16, weight: u16, port: u16, target: &str| -> Record {
            let fields = [priority, weight, port].map(u16::to_be_bytes).concat();
            (33, 20, [fields, wire(target)].concat())
        };
        let server = NameServer::start(move |name, kind| match (name, kind) {
            ("_http._tcp.app.test", 33) => {
                Play::Records(vec![srv(1, 5, 8081, "One.test"), srv(9, 0, 80, "two.test")])
            }
            ("alias.test", A) => Play::Records(vec![cname("app.test", 5)]),
            ("app.test", A) => Play::Records(vec![a(2, 60), a(1, 60)]),
            ("failing.test", _) => Play::Code(2),
            ("gone.test", _) => Play::Code(3),
            _ => Play::Records(Vec::new()),
        })
        .await;
        let questions = UncachedResolver::new(spec(&[&server]));
        let s = |seconds| Some(Duration::from_secs(seconds));
        let addresses = |name: &'static str, family| questions.addresses(name, family);
        let told = addresses("app.test", AddressFamily::V4).await;
        assert_eq!(told, Ok(DnsAnswer { value: vec![v4(2), v4(1)], holds: s(60) }));
        // The least of all in the chain.
        assert_eq!(
            addresses("alias.test", AddressFamily::V4).await,
            Ok(DnsAnswer { value: vec![v4(2), v4(1)], holds: s(5) })
        );
        assert_eq!(
            addresses("app.test", AddressFamily::V6).await,
            Ok(DnsAnswer { value: Vec::new(), holds: None })
        );
        assert_eq!(addresses("failing.test", AddressFamily::V4).await, Err(ResolveFault::ServerFailure));
        assert_eq!(addresses("gone.test", AddressFamily::V6).await, Err(ResolveFault::HostNotFound));
        let told = questions.services("_http._tcp.app.test").await.unwrap();
        let record = |priority, weight, port, target: &str| ServiceRecord {
            priority,
            weight,
            port,
            target: target.to_owned(),
        };
        assert_eq!(told.value, [record(1, 5, 8081, "one.test"), record(9, 0, 80, "two.test")]);
        assert_eq!(told.holds, s(20));
        // `valid=` outweighs what they say, and each question is asked anew.
        let questions =
            UncachedResolver::new(Resolver { valid_ms: Some(9_000), ipv6: false, ..spec(&[&server]) });
        assert_eq!(questions.addresses("app.test", AddressFamily::V4).await.unwrap().holds, s(9));
        assert_eq!(questions.families().collect::<Vec<_>>(), [AddressFamily::V4]);
    });
}

#[test]
fn addresses_are_not_asked_for() {
    run(async {
        let server = NameServer::start(|_, _| Play::Code(2)).await;
        let resolvers = Resolvers::default();
        assert_eq!(resolvers.lookup(&spec(&[&server]), "127.0.0.7", LONG_MS).await, Ok(vec![v4(7)]));
        assert_eq!(resolvers.lookup(&spec(&[&server]), "fd00::7", LONG_MS).await, Ok(vec![v6(7)]));
        assert_eq!(server.asked(), []);
    });
}

#[test]
fn invalid_host_names_are_not_found_and_not_asked_for() {
    run(async {
        let server = NameServer::start(|_, _| Play::Records(vec![a(1, 60)])).await;
        let resolvers = Resolvers::default();
        let long_label = "x".repeat(64);
        let long_name = ["x"; 128].join(".");
        for name in ["", ".", "a..b", ".a", "a..", &long_label, &long_name] {
            let found = resolvers.lookup(&spec(&[&server]), name, LONG_MS).await;
            assert_eq!(found, Err(ResolveFault::HostNotFound), "{name}");
        }
        assert_eq!(server.asked(), []);
        let longest = ["x"; 127].join(".");
        let v4_only = Resolver { ipv6: false, ..spec(&[&server]) };
        assert_eq!(resolvers.lookup(&v4_only, &longest, LONG_MS).await, Ok(vec![v4(1)]));
        assert_eq!(resolvers.lookup(&v4_only, &"x".repeat(63), LONG_MS).await, Ok(vec![v4(1)]));
    });
}

#[test]
fn aliases_resolve_within_one_answer_or_over_several() {
    run(async {
        let server = NameServer::start(|name, kind| match (name, kind) {
            ("www.test", A) => Play::Records(vec![cname("cdn.test", 60), a(1, 60)]),
            ("www.test", _) => Play::Records(vec![cname("cdn.test", 60)]),
            ("one.test", _) => Play::Records(vec![cname("TWO.test", 60)]),
            // By a pointer to the end of the question's name: three.test.
            ("two.test", _) => Play::Records(vec![(CNAME, 60, b"\x05three\xc0\x10".to_vec())]),
            ("three.test", A) => Play::Records(vec![a(3, 60)]),
            _ => Play::Records(vec![]),
        })
        .await;
        let resolvers = Resolvers::default();
        let spec = spec(&[&server]);
        assert_eq!(resolvers.lookup(&spec, "www.test", LONG_MS).await, Ok(vec![v4(1)]));
        assert_eq!(server.asked().len(), 2);
        assert_eq!(resolvers.lookup(&spec, "one.test", LONG_MS).await, Ok(vec![v4(3)]));
        assert_eq!(server.asked().len(), 8);
        // Each link is held.
        assert_eq!(resolvers.lookup(&spec, "two.test", LONG_MS).await, Ok(vec![v4(3)]));
        assert_eq!(server.asked().len(), 8);
    });
}

#[test]
fn circular_aliases_are_not_found() {
    run(async {
        let server = NameServer::start(|name, _| {
            Play::Records(vec![cname(if name == "a.test" { "b.test" } else { "a.test" }, 60)])
        })
        .await;
        let found = Resolvers::default().lookup(&spec(&[&server]), "a.test", LONG_MS).await;
        assert_eq!(found, Err(ResolveFault::HostNotFound));
        assert_eq!(server.asked().len(), 4);
    });
}

#[test]
fn refusals_read_as_in_nginx_and_are_not_held() {
    run(async {
        let server = NameServer::start(|name, kind| match (name, kind) {
            ("none.test", _) => Play::Code(3),
            ("fails.test", _) => Play::Code(2),
            ("half.test" | "fails-v6.test", A) => Play::Records(vec![a(1, 60)]),
            ("fails-v4.test", AAAA) => Play::Records(vec![aaaa(1, 60)]),
            ("fails-v4.test" | "fails-v6.test", _) => Play::Code(2),
            ("unknown.test", _) => Play::Code(4),
            ("secret.test", _) => Play::Code(5),
            _ => Play::Records(vec![]),
        })
        .await;
        let resolvers = Resolvers::default();
        let spec = spec(&[&server]);
        for (name, text) in [
            ("none.test", "3: Host not found"),
            ("empty.test", "3: Host not found"),
            ("fails.test", "2: Server failure"),
            ("fails-v4.test", "2: Server failure"),
            ("fails-v6.test", "2: Server failure"),
            ("unknown.test", "4: Unimplemented"),
            ("secret.test", "5: Operation refused"),
        ] {
            for _ in 0..2 {
                let fault = resolvers.lookup(&spec, name, LONG_MS).await.unwrap_err();
                assert_eq!(fault.to_string(), text, "{name}");
            }
        }
        assert_eq!(server.asked().len(), 7 * 2 * 2);
        assert_eq!(resolvers.lookup(&spec, "half.test", LONG_MS).await, Ok(vec![v4(1)]));
    });
}

#[test]
fn silence_is_a_timeout_and_so_is_what_cannot_be_read() {
    run(async {
        let server = NameServer::start(|name, _| match name {
            "cannot.test" => Play::Code(1),
            "strange.test" => Play::Code(9),
            // A response with one question, which is not there.
            "broken.test" => Play::Bytes(vec![0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 3]),
            _ => Play::Silence,
        })
        .await;
        let resolvers = Resolvers::default();
        for name in ["silent.test", "cannot.test", "strange.test", "broken.test"] {
            let fault = resolvers.lookup(&spec(&[&server]), name, 20).await.unwrap_err();
            assert_eq!(fault.to_string(), "110: Operation timed out", "{name}");
        }
    });
}

#[test]
fn replies_to_other_questions_do_not_count() {
    run(async {
        let server = NameServer::start(|_, _| Play::AfterForgeries(vec![a(1, 60)])).await;
        let spec = Resolver { ipv6: false, ..spec(&[&server]) };
        assert_eq!(Resolvers::default().lookup(&spec, "a.test", LONG_MS).await, Ok(vec![v4(1)]));
    });
}

#[test]
fn a_truncated_answer_is_asked_for_over_tcp() {
    run(async {
        let all: Vec<Ipv4Addr> = (0..4_000).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n)).collect();
        let records: Vec<Record> = all.iter().map(|ip| (A, 60, ip.octets().to_vec())).collect();
        let server = NameServer::start(move |_, _| Play::Records(records.clone())).await;
        let resolvers = Resolvers::default();
        let spec = Resolver { ipv6: false, ..spec(&[&server]) };
        let found = resolvers.lookup(&spec, "many.test", LONG_MS).await.unwrap();
        assert_eq!(found, all.into_iter().map(IpAddr::from).collect::<Vec<_>>());
        assert_eq!(server.asked(), [("many.test".into(), A), ("tcp many.test".into(), A)]);
        let mut again = resolvers.lookup(&spec, "many.test", LONG_MS).await.unwrap();
        again.sort();
        assert_eq!(again, found);
        assert_eq!(server.asked().len(), 2);
    });
}

#[test]
fn an_answer_holds_for_its_least_time_to_live() {
    run(async {
        let server = NameServer::start(|_, kind| {
            Play::Records(if kind == A { vec![a(1, 60), a(2, 20)] } else { vec![aaaa(3, 10)] })
        })
        .await;
        let resolvers = Resolvers::default();
        let spec = spec(&[&server]);
        for (after, questions) in [(0, 2), (9, 2), (1, 4), (9, 4), (60, 6)] {
            pass(after).await;
            let mut found = resolvers.lookup(&spec, "a.test", LONG_MS).await.unwrap();
            found.sort();
            assert_eq!(found, [v4(1), v4(2), v6(3)]);
            assert_eq!(server.asked().len(), questions);
        }
    });
}

#[test]
fn valid_overrules_the_time_to_live() {
    run(async {
        let server = NameServer::start(|name, _| {
            Play::Records(vec![a(1, if name == "short.test" { 0 } else { 3_600 })])
        })
        .await;
        let resolvers = Resolvers::default();
        let spec = Resolver { valid_ms: Some(5_000), ipv6: false, ..spec(&[&server]) };
        for (after, questions) in [(0, 2), (4, 2), (1, 4)] {
            pass(after).await;
            for name in ["short.test", "long.test"] {
                assert_eq!(resolvers.lookup(&spec, name, LONG_MS).await, Ok(vec![v4(1)]));
            }
            assert_eq!(server.asked().len(), questions);
        }
        // Another line, another memory; and with 0 it is the time to live again.
        let none = Resolver { valid_ms: Some(0), ..spec };
        for (name, questions) in [("short.test", 5), ("short.test", 6), ("long.test", 7), ("long.test", 7)] {
            assert_eq!(resolvers.lookup(&none, name, LONG_MS).await, Ok(vec![v4(1)]));
            assert_eq!(server.asked().len(), questions);
        }
    });
}

#[test]
fn held_addresses_are_rotated() {
    run(async {
        let server = NameServer::start(|_, kind| {
            Play::Records(if kind == A { (1..=3).map(|n| a(n, 60)).collect() } else { vec![aaaa(9, 60)] })
        })
        .await;
        let resolvers = Resolvers::default();
        let spec = spec(&[&server]);
        let mut first = std::collections::BTreeSet::new();
        resolvers.lookup(&spec, "a.test", LONG_MS).await.unwrap();
        for _ in 0..200 {
            let mut found = resolvers.lookup(&spec, "a.test", LONG_MS).await.unwrap();
            first.insert(found[0]);
            found.sort();
            assert_eq!(found, [v4(1), v4(2), v4(3), v6(9)]);
        }
        assert_eq!(first.len(), 4, "in 200 draws: {first:?}");
        assert_eq!(server.asked().len(), 2);
    });
}

#[test]
fn callers_for_one_name_share_a_query_that_outlives_the_first() {
    run(async {
        let gate = Rc::new(Notify::new());
        let server =
            NameServer::start_gated(Some(Rc::clone(&gate)), |_, _| Play::Records(vec![a(1, 0)])).await;
        let resolvers = Rc::new(Resolvers::default());
        let spec = Resolver { ipv6: false, ..spec(&[&server]) };
        let ask = || {
            let (resolvers, spec) = (Rc::clone(&resolvers), spec.clone());
            spawn_local(async move { resolvers.lookup(&spec, "a.test", LONG_MS).await })
        };
        let first = ask();
        server.heard.notified().await;
        let others: Vec<_> = (0..100).map(|_| ask()).collect();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        gate.notify_one();
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(vec![v4(1)]));
        }
        assert_eq!(server.asked(), [("a.test".into(), A)]);
        // No question is open, and what is not valid is not held.
        gate.notify_one();
        assert_eq!(ask().await.unwrap(), Ok(vec![v4(1)]));
        assert_eq!(server.asked().len(), 2);
    });
}

#[test]
fn an_answer_is_held_after_its_callers_left() {
    run(async {
        let gate = Rc::new(Notify::new());
        let server =
            NameServer::start_gated(Some(Rc::clone(&gate)), |_, _| Play::Records(vec![a(1, 60)])).await;
        let resolvers = Resolvers::default();
        let spec = Resolver { ipv6: false, ..spec(&[&server]) };
        assert_eq!(resolvers.lookup(&spec, "a.test", 20).await, Err(ResolveFault::TimedOut));
        gate.notify_one();
        assert_eq!(resolvers.lookup(&spec, "a.test", LONG_MS).await, Ok(vec![v4(1)]));
        assert_eq!(server.asked().len(), 1);
    });
}

#[test]
fn the_next_server_is_asked_after_five_seconds_while_a_caller_waits() {
    run(async {
        let silent = NameServer::start(|_, _| Play::Silence).await;
        let good = NameServer::start(|_, _| Play::Records(vec![a(1, 0)])).await;
        let resolvers = Rc::new(Resolvers::default());
        let spec = Resolver { ipv6: false, ..spec(&[&silent, &good]) };
        let waiting = {
            let (resolvers, spec) = (Rc::clone(&resolvers), spec.clone());
            spawn_local(async move { resolvers.lookup(&spec, "a.test", LONG_MS).await })
        };
        silent.heard.notified().await;
        pass(5).await;
        assert_eq!(waiting.await.unwrap(), Ok(vec![v4(1)]));
        // The servers take turns to be the first.
        assert_eq!(resolvers.lookup(&spec, "b.test", LONG_MS).await, Ok(vec![v4(1)]));
        assert_eq!(silent.asked(), [("a.test".into(), A)]);
        // No caller waits when it is time to ask again.
        assert_eq!(resolvers.lookup(&spec, "c.test", 20).await, Err(ResolveFault::TimedOut));
        pass(5).await;
        tokio::task::yield_now().await;
        assert_eq!(resolvers.directory(&spec).asked.borrow().len(), 0);
        assert_eq!(good.asked(), [("a.test".into(), A), ("b.test".into(), A)]);
    });
}

#[test]
fn a_late_answer_counts_after_the_next_server_was_asked() {
    run(async {
        let gate = Rc::new(Notify::new());
        let slow = NameServer::start_gated(Some(Rc::clone(&gate)), |_, _| Play::Records(vec![a(1, 0)])).await;
        let silent = NameServer::start(|_, _| Play::Silence).await;
        let spec = Resolver { ipv6: false, ..spec(&[&slow, &silent]) };
        let waiting = spawn_local(async move { Resolvers::default().lookup(&spec, "a.test", LONG_MS).await });
        slow.heard.notified().await;
        pass(5).await;
        silent.heard.notified().await;
        gate.notify_one();
        assert_eq!(waiting.await.unwrap(), Ok(vec![v4(1)]));
    });
}

#[test]
fn an_unreachable_server_is_skipped_at_once() {
    run(async {
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let cannot = NameServer::start(|_, _| Play::Code(1)).await;
        let good = NameServer::start(|_, _| Play::Records(vec![a(1, 0)])).await;
        let mut spec = Resolver { ipv6: false, ..spec(&[&cannot, &good]) };
        spec.servers.insert(0, gone);
        let resolvers = Resolvers::default();
        // Less than the five seconds, from whichever server on.
        for name in ["a.test", "b.test", "c.test"] {
            assert_eq!(resolvers.lookup(&spec, name, 4_000).await, Ok(vec![v4(1)]), "{name}");
        }
    });
}

#[test]
fn directories_of_removed_lines_are_dropped() {
    run(async {
        let server = NameServer::start(|_, _| Play::Records(vec![a(1, 60)])).await;
        let resolvers = Resolvers::default();
        for valid_ms in [1_000, 2_000, 3_000] {
            let spec = Resolver { valid_ms: Some(valid_ms), ipv6: false, ..spec(&[&server]) };
            assert_eq!(resolvers.lookup(&spec, "a.test", LONG_MS).await, Ok(vec![v4(1)]));
        }
        assert_eq!(resolvers.directories.borrow().len(), 3);
        pass(2).await;
        let spec = Resolver { valid_ms: Some(4_000), ipv6: false, ..spec(&[&server]) };
        assert_eq!(resolvers.lookup(&spec, "a.test", LONG_MS).await, Ok(vec![v4(1)]));
        assert_eq!(resolvers.directories.borrow().len(), 2);
    });
}

#[test]
fn arbitrary_replies_are_read_without_a_fault() {
    let query = Query::new(7, b"a.test", RecordType::A).unwrap();
    let whole = reply(query.datagram(), 0, &[cname("b.test", 60), a(1, 60), aaaa(2, 60)]);
    let mut random = 1_u64;
    let mut answers = 0;
    for length in 0..=whole.len() {
        for _ in 0..200 {
            let mut message = whole[..length].to_vec();
            for byte in message.iter_mut().skip(2) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if random >> 60 == 0 {
                    *byte = (random >> 32) as u8;
                }
            }
            answers += usize::from(matches!(query.read(&message), Some(message::Reply::Answer(_))));
        }
    }
    assert!(answers > 0);
    // A name that points to itself.
    let circle = reply(query.datagram(), 0, &[(CNAME, 60, vec![0xc0, 36])]);
    assert_eq!(circle.len(), 38);
    assert_eq!(query.read(&circle), Some(message::Reply::Useless));
}
