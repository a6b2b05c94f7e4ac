//! Checks and probes over real sockets.

use crate::{ProbeAnswer, ProbeRequest, Prober};
use engine::Config;
use engine::config::{Inputs, NoNames, build};
use engine::probe::{AnswerTest, HttpProbe, Probe, ProbeHost};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use upstream::Group;
use upstream::health::Health;

const PATIENCE: Duration = Duration::from_secs(20);

fn config(http: &str) -> Arc<Config> {
    let parsed =
        conf::parse_text("/etc/nginx.conf", format!("events {{}} http {{ {http} }}"), &conf::NoFiles);
    let inputs = Inputs {
        loader: &conf::NoFiles,
        names: &NoNames,
        prefix: Path::new("/").to_owned(),
        file: "/etc/nginx.conf".into(),
        identity: Default::default(),
    };
    Arc::new(build(&parsed, &inputs).expect("a configuration").0)
}

/// Returns a prober at work on a configuration, with the groups whose peers refer to the entries.
pub(crate) fn at_work(http: &str) -> (Prober, Vec<Group>) {
    let (prober, config) = (Prober::new(Instant::now()), config(http));
    prober.configure(&config, &Default::default());
    let group = |entry: &engine::modules::upstream::GroupEntry| {
        Group::checked(Arc::clone(&entry.spec), Some(prober.health().group(&entry.spec.name)))
    };
    let groups = config.groups.iter().map(group).collect();
    (prober, groups)
}

pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns a server that treats each connection with this function on a thread of its own.
fn server(address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (serve, stream) = (Arc::clone(&serve), stream.unwrap());
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads a request, if one comes.
fn read(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        request.push(byte[0]);
    }
    String::from_utf8(request).ok()
}

fn ask(answer: &'static str, expected: AnswerTest) -> Result<String, String> {
    let address = server("127.0.0.1:0", move |mut stream| {
        if read(&mut stream).is_some() {
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let probe = HttpProbe {
        uri: "/up".into(),
        expected,
        host: ProbeHost::Target,
        headers: Box::default(),
        over_http2: false,
    };
    let probe_request = ProbeRequest {
        address: address.into(),
        probe: Arc::new(Probe::Http(probe)),
        host: "blue".into(),
        agent: "test",
        tls: None,
        connect: None,
        total: Duration::from_secs(5),
        keepalive: Duration::ZERO,
    };
    let ProbeAnswer { outcome, .. } = Prober::new(Instant::now()).ask(probe_request).blocking_recv().unwrap();
    outcome
}

#[test]
fn answers_are_judged_in_words() {
    let expected = |tests: &str| {
        let text =
            format!("match m {{ {tests} }} upstream blue {{ server 127.0.0.1:1; health_check match=m; }}");
        match config(&text).groups[0].checks[0].probe.clone() {
            Probe::Http(probe) => probe.expected,
            Probe::Connect | Probe::Grpc(_) => panic!(),
        }
    };
    for (tests, answer, found) in [
        ("", "HTTP/1.1 204 No\r\n\r\n", Ok("answered 204")),
        ("", "HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Ok("answered 200")),
        ("", "HTTP/1.0 404 No\r\n\r\nnot\n here", Err("answered 404: not here")),
        ("status ! 404;", "HTTP/1.0 404 No\r\n\r\n", Err("answered 404")),
        ("header X-A = b;", "HTTP/1.1 200 OK\r\nx-a: b\r\n\r\n", Ok("answered 200")),
        ("header X-A = b;", "HTTP/1.1 200 OK\r\n\r\n", Err("answered 200, and its field X-A is not \"b\"")),
        ("header X-A;", "HTTP/1.1 200 OK\r\n\r\n", Err("answered 200, and has no field X-A")),
        ("header ! X-A;", "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n", Err("answered 200, and has a field X-A")),
        (
            "header X-A ~ ^c;",
            "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n",
            Err("answered 200, and its field X-A does not match \"^c\""),
        ),
        (
            "body ~ ready;",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n",
            Ok("answered 200, and its body matches"),
        ),
        (
            "body ~ ready;",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbusy",
            Err("answered 200, and its body does not match \"ready\": busy"),
        ),
        (
            "body !~ busy;",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbusy",
            Err("answered 200, and its body matches \"busy\": busy"),
        ),
        (
            "body ~ y;",
            "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\ny",
            Err("closed the connection within its answer"),
        ),
        (
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbusy",
            Err("the answer is not HTTP: duplicate header line: \"Content-Length\""),
        ),
        ("", "SSH-2.0-x\r\n", Err("the answer is not HTTP")),
        ("", "", Err("closed the connection without answering")),
    ] {
        let found = found.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(ask(answer, expected(tests)), found, "{tests} {answer:?}");
    }
}

#[test]
fn many_servers_are_checked_with_bounded_concurrency() {
    const SERVERS: usize = 400;
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (Arc::clone(&open), Arc::clone(&most));
    // One listener is a server at each address of the loopback network.
    let port = server("0.0.0.0:0", move |mut stream| {
        let now = counted.fetch_add(1, Ordering::SeqCst) + 1;
        highest.fetch_max(now, Ordering::SeqCst);
        let asked = read(&mut stream);
        std::thread::sleep(Duration::from_millis(60));
        counted.fetch_sub(1, Ordering::SeqCst);
        if asked.is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    })
    .port();
    let lines: String = (0..SERVERS)
        .map(|number| format!("server 127.0.{}.{}:{port};", number / 200 + 1, number % 200 + 1))
        .collect();
    let (_prober, groups) =
        at_work(&format!("upstream blue {{ {lines} health_check interval=20s mandatory; }}"));
    let is_up = |peer: &upstream::Peer| peer.is_healthy();
    assert!(!groups[0].peers().iter().any(is_up), "none has passed yet");
    until("all have passed", || groups[0].peers().iter().all(is_up));
    let most = most.load(Ordering::SeqCst);
    assert!((2..=256).contains(&most), "{most} at once");
}

#[test]
fn a_kept_connection_carries_many_checks() {
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (opened, asked) = (Arc::clone(&connections), Arc::clone(&requests));
    let address = server("127.0.0.1:0", move |mut stream| {
        opened.fetch_add(1, Ordering::SeqCst);
        // The first connection ends after three requests, as a server may.
        let last = if opened.load(Ordering::SeqCst) == 1 { 3 } else { usize::MAX };
        for _ in 0..last {
            let Some(request) = read(&mut stream) else { return };
            asked.lock().unwrap().push(request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let (_prober, groups) = at_work(&format!(
        "upstream blue {{ server {address}; health_check interval=150ms keepalive_time=1m host=a.test; }}"
    ));
    until("eight checks", || requests.lock().unwrap().len() >= 8);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    let view = groups[0].peers()[0].health().unwrap().view();
    assert_eq!((view.health, view.since_ms), (Health::Healthy, 0), "an ended connection is no failure");
    let request = requests.lock().unwrap()[0].clone();
    assert_eq!(request, "GET / HTTP/1.1\r\nhost: a.test\r\nuser-agent: pointsman (health check)\r\n\r\n");
}

#[test]
fn a_server_that_comes_while_serving_is_checked_and_one_that_goes_is_not() {
    let checked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checked);
    let address = server("127.0.0.1:0", move |mut stream| {
        if read(&mut stream).is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 500 No\r\n\r\n");
        }
    });
    let (prober, mut groups) =
        at_work("upstream blue { server 127.0.0.1:1; health_check interval=20ms fails=2; }");
    let group = groups.remove(0);
    let mut spec = upstream::GroupSpec::clone(group.spec());
    spec.peers.push(upstream::PeerSpec::new(address.to_string(), address.into()));
    let mut group = group;
    group.replace_peers(Arc::new(spec.clone()));
    until("it is unhealthy", || !group.peers()[1].is_healthy());
    assert!(checked.load(Ordering::SeqCst) >= 2);
    spec.peers.pop();
    group.replace_peers(Arc::new(spec));
    until("it is forgotten", || prober.health().group("blue").servers().len() == 1);
}
