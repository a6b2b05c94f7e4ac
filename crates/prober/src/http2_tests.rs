//! Probes over HTTP/2, to a server that speaks it.

use crate::tests::{at_work, until};
use crate::{ProbeRequest, Prober};
use engine::probe::{AnswerTest, BodyMatch, BodyTest, GrpcProbe, HttpProbe, Probe, ProbeHost};
use http::h2::hpack::{encode_field, encode_status};
use http::h2::{H2Connection, H2Limits, HeadSlot, ReadContext, Received};
use http::{HeadLimits, Known, RequestHead};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use upstream::health::Health;

/// An answer: the status, fields, a body, and fields behind it.
#[derive(Clone, Default)]
struct Said {
    status: u16,
    fields: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    trailers: Vec<(&'static str, &'static str)>,
    /// An interim response comes first.
    early: bool,
    /// GOAWAY follows.
    last: bool,
}

/// What was asked: method, path, authority, fields that matter, and the body.
type Asked = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Returns a server of HTTP/2 that gives this answer to all, and notes what it was asked, and over how many connections.
fn server(said: Said) -> (SocketAddr, Asked, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, connections) = (Asked::default(), Arc::new(AtomicUsize::new(0)));
    let (notes, count) = (Arc::clone(&asked), Arc::clone(&connections));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            let (said, notes) = (said.clone(), Arc::clone(&notes));
            std::thread::spawn(move || serve(stream.unwrap(), &said, &notes));
        }
    });
    (address, asked, connections)
}

fn serve(mut stream: TcpStream, said: &Said, notes: &Asked) {
    let mut codec = H2Connection::new(H2Limits::default());
    let (mut unread, mut body) = (Vec::new(), Vec::new());
    let mut head = RequestHead::new();
    loop {
        let mut ended = None;
        loop {
            let limits = HeadLimits::default();
            let heads = HeadSlot::Request { head: &mut head, limits: &limits };
            let mut cx = ReadContext { heads, scratch: &mut Vec::new(), now_ms: 0 };
            let step = codec.receive(&unread, &mut cx).unwrap();
            match step.received {
                Received::Partial if step.consumed == 0 => break,
                Received::Request { stream, ends, .. } if ends => ended = Some(stream),
                Received::Data { stream, range, ends } => {
                    body.extend_from_slice(&unread[range]);
                    ended = ends.then_some(stream);
                }
                _ => {}
            }
            unread.drain(..step.consumed);
        }
        let mut out = std::mem::take(codec.control());
        if let Some(id) = ended {
            let text =
                |known| String::from_utf8_lossy(head.headers.get(known).unwrap_or_default()).into_owned();
            let line = format!(
                "{} {} {} {} {}",
                String::from_utf8_lossy(head.method_bytes()),
                String::from_utf8_lossy(head.target()),
                text(Known::Host),
                text(Known::ContentType),
                text(Known::Te)
            );
            notes.lock().unwrap().push((line, std::mem::take(&mut body)));
            head.clear();
            if said.early {
                let mut block = Vec::new();
                encode_status(&mut block, 103);
                codec.write_head(id, &block, false, &mut out);
            }
            let block = |first: Option<u16>, fields: &[(&str, &str)]| {
                let mut block = Vec::new();
                first.into_iter().for_each(|status| encode_status(&mut block, status));
                for (name, value) in fields {
                    encode_field(&mut block, None, name.as_bytes(), value.as_bytes());
                }
                block
            };
            let is_bare = said.body.is_empty() && said.trailers.is_empty();
            codec.write_head(id, &block(Some(said.status), &said.fields), is_bare, &mut out);
            if !said.body.is_empty() {
                codec.write_data(id, &said.body, said.trailers.is_empty(), &mut out);
            }
            if !said.trailers.is_empty() {
                codec.write_head(id, &block(None, &said.trailers), true, &mut out);
            }
            codec.finish(id);
            if said.last {
                codec.name_last();
            }
            out.append(codec.control());
        }
        if stream.write_all(&out).is_err() {
            return;
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => unread.extend_from_slice(&chunk[..count]),
            _ => return,
        }
    }
}

fn probe_request(address: SocketAddr, probe: Probe) -> ProbeRequest {
    ProbeRequest {
        address: address.into(),
        probe: Arc::new(probe),
        host: "blue".into(),
        agent: "test",
        tls: None,
        connect: None,
        total: Duration::from_secs(10),
        keepalive: Duration::ZERO,
    }
}

fn outcome(said: Said, probe: Probe) -> Result<String, String> {
    let (address, ..) = server(said);
    Prober::new(Instant::now()).ask(probe_request(address, probe)).blocking_recv().unwrap().outcome
}

fn call(service: &str, status: u8) -> Probe {
    Probe::Grpc(GrpcProbe { service: service.into(), status, host: ProbeHost::Target })
}

/// Returns the answer of a health service that is in this state.
fn in_state(state: u8) -> Said {
    let message = if state == 0 { vec![0, 0, 0, 0, 0] } else { vec![0, 0, 0, 0, 2, 8, state] };
    let fields = vec![("content-type", "application/grpc")];
    Said { status: 200, fields, body: message, trailers: vec![("grpc-status", "0")], ..Said::default() }
}

#[test]
fn health_service_of_grpc_is_asked_and_judged() {
    let (address, asked, _) = server(Said { early: true, ..in_state(1) });
    let long = "x".repeat(150);
    for service in ["", "a.B", &long] {
        let probe = probe_request(address, call(service, 0));
        let answer = Prober::new(Instant::now()).ask(probe).blocking_recv().unwrap();
        assert_eq!(answer.outcome, Ok("is SERVING".to_owned()));
    }
    let asked = asked.lock().unwrap();
    let line = "POST /grpc.health.v1.Health/Check blue application/grpc trailers";
    assert!(asked.iter().all(|(asked, _)| asked == line), "{asked:?}");
    assert_eq!(asked[0].1, [0, 0, 0, 0, 0]);
    assert_eq!(asked[1].1, [&[0, 0, 0, 0, 5, 0x0a, 3][..], b"a.B"].concat());
    assert_eq!(asked[2].1[..8], [0, 0, 0, 0, 153, 0x0a, 0x96, 1]);
    let bare = |status, fields: &[(&'static str, &'static str)]| Said {
        status,
        fields: fields.to_vec(),
        ..Said::default()
    };
    let broken = Said { body: vec![0, 0, 0, 0, 9, 8, 1], ..in_state(1) };
    let unknown_field = Said { body: vec![0, 0, 0, 0, 7, 0x12, 1, b'x', 8, 1, 0x18, 3], ..in_state(1) };
    for (said, status, found) in [
        (in_state(0), 0, Err("is UNKNOWN")),
        (in_state(2), 0, Err("is NOT_SERVING")),
        (in_state(3), 0, Err("is SERVICE_UNKNOWN")),
        (in_state(9), 0, Err("is in an unknown state")),
        (unknown_field, 0, Ok("is SERVING")),
        (broken, 0, Err("answered with no HealthCheckResponse")),
        (bare(200, &[]), 0, Err("answered without a grpc-status")),
        (bare(503, &[("grpc-status", "0")]), 0, Err("answered 503, and not gRPC")),
        (in_state(1), 12, Err("answered grpc-status 0 (OK)")),
        (bare(200, &[("grpc-status", "14")]), 12, Err("answered grpc-status 14 (UNAVAILABLE)")),
        (
            bare(200, &[("grpc-status", "7"), ("grpc-message", "not for you")]),
            0,
            Err("answered grpc-status 7 (PERMISSION_DENIED): not for you"),
        ),
        (bare(200, &[("grpc-status", "99")]), 0, Err("answered grpc-status 99 (an unknown status)")),
    ] {
        let found = found.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(outcome(said, call("", status)), found);
    }
    let words = "answered grpc-status 12 (UNIMPLEMENTED)";
    let without = bare(200, &[("grpc-status", "12")]);
    assert_eq!(outcome(without.clone(), call("", 12)), Ok(words.to_owned()));
    assert_eq!(outcome(without, call("", 0)), Err(words.to_owned()));
}

fn get(body: Option<&str>) -> Probe {
    let test =
        |text: &str| BodyTest { wanted: BodyMatch::Text(text.into()), is_refused: false, most_bytes: 100 };
    let expected = AnswerTest { body: body.map(test), ..AnswerTest::default() };
    Probe::Http(HttpProbe {
        uri: "/up?x".into(),
        expected,
        host: ProbeHost::Target,
        headers: [("X-Probe".into(), "1".into())].into(),
        over_http2: true,
    })
}

#[test]
fn get_over_http2_is_judged_as_over_http1() {
    let ok = Said { status: 200, body: b"all is ready".to_vec(), ..Said::default() };
    assert_eq!(outcome(ok.clone(), get(None)), Ok("answered 200".to_owned()));
    assert_eq!(outcome(ok.clone(), get(Some("ready"))), Ok("answered 200, and its body matches".to_owned()));
    let lacks = "answered 200, and its body does not match \"green\": all is ready";
    assert_eq!(outcome(ok.clone(), get(Some("green"))), Err(lacks.to_owned()));
    let long = Said { body: vec![b'x'; 60_000], ..ok.clone() };
    assert!(outcome(long, get(Some("y"))).is_err());
    let down = Said { status: 503, body: b"not\n here".to_vec(), ..Said::default() };
    assert_eq!(outcome(down, get(None)), Err("answered 503: not here".to_owned()));
    let (address, asked, _) = server(ok);
    Prober::new(Instant::now()).ask(probe_request(address, get(None))).blocking_recv().unwrap();
    assert_eq!(asked.lock().unwrap()[0].0, "GET /up?x blue  ");
}

#[test]
fn kept_connection_carries_many_calls_until_the_server_ends_it() {
    for (last, many) in [(false, true), (true, false)] {
        let (address, asked, connections) = server(Said { last, ..in_state(1) });
        let check = "health_check type=grpc interval=150ms keepalive_time=1m;";
        let (_prober, groups) = at_work(&format!(
            "upstream blue {{ server {address}; {check} }}
            server {{ location / {{ grpc_pass blue; }} }}"
        ));
        until("eight calls", || asked.lock().unwrap().len() >= 8);
        let connections = connections.load(Ordering::Relaxed);
        assert!(if many { connections <= 2 } else { connections >= 8 }, "{connections}");
        let view = groups[0].peers()[0].health().unwrap().view();
        assert_eq!((view.health, view.since_ms), (Health::Healthy, 0), "{view:?}");
    }
}

#[test]
fn server_of_http1_alone_is_not_well_over_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 24]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 100]);
    });
    let answer =
        Prober::new(Instant::now()).ask(probe_request(address, call("", 0))).blocking_recv().unwrap();
    let fault = answer.outcome.unwrap_err();
    assert!(fault.starts_with("the answer is not HTTP/2: it "), "{fault}");
}
