//! gRPC between real clients and servers (grpcio): calls of all kinds, and streams over a switch.

use super::*;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;

/// How many streams are open when the switch is moved.
const STREAMS: usize = 1000;

/// Returns a Python that has grpcio: the one that `GRPC_PYTHON` names, or the usual one.
fn python() -> Option<String> {
    let python = std::env::var("GRPC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&python).args(["-c", "import grpc.aio"]).output().ok()?;
    found.status.success().then_some(python)
}

/// Returns ports that nothing listens on.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[test]
fn grpc_calls_of_all_kinds_pass_and_a_switch_closes_their_streams() {
    let Some(python) = python() else {
        eprintln!("skipped: no Python here has grpcio (GRPC_PYTHON names one that has)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for name in ["conf", "logs", "run"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let made = rcgen::generate_simple_self_signed(["front.test".to_owned()]).unwrap();
    let certificate = folder.path().join("conf/front.crt");
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("conf/front.key"), made.signing_key.serialize_pem()).unwrap();
    let [blue, green, front, tls_front] = free_ports();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let conf = format!(
        "user {}; worker_processes 2; worker_rlimit_nofile 4000; daemon off; events {{ worker_connections 4000; }}
         http {{
             upstream blue {{ server 127.0.0.1:{blue}; keepalive 8; }}
             upstream green {{ server 127.0.0.1:{green}; keepalive 8; }}
             switch $host $live {{ default blue; streams close; gate type=grpc; }}
             server {{
                 listen 127.0.0.1:{front};
                 listen 127.0.0.1:{tls_front} ssl;
                 http2 on;
                 http2_max_concurrent_streams 2000;
                 keepalive_requests 100000;
                 ssl_certificate front.crt;
                 ssl_certificate_key front.key;
                 client_max_body_size 0;
                 location / {{
                     grpc_pass grpc://$live;
                     health_check type=grpc interval=200ms fails=1000;
                     health_check type=grpc grpc_service=not.There interval=200ms fails=1000;
                 }}
             }}
         }}",
        user.trim()
    );
    std::fs::write(folder.path().join("conf/nginx.conf"), conf).unwrap();
    let mut process = command(folder.path(), &[]);
    let _process = ProcessGroup::start(process.stderr(Stdio::null())).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while say(folder.path(), &["list"]).code != 0 {
        assert!(Instant::now() < deadline, "it does not serve");
        std::thread::sleep(GLANCE);
    }
    let mut calls = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verbs/grpc_calls.py"))
        .args([blue, green, front, tls_front].map(|port| port.to_string()))
        .arg(&certificate)
        .arg(STREAMS.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(calls.stdout.take().unwrap()).lines();
    let mut next = || said.next().map(Result::unwrap).unwrap_or_default();
    let log = || std::fs::read_to_string(folder.path().join("logs/error.log")).unwrap_or_default();
    assert_eq!(next(), "called over TLS", "{}", log());
    assert_eq!(next(), "called in clear", "{}", log());
    assert_eq!(next(), "streaming", "{}", log());
    // What the checks have found by now.
    let status = || say(folder.path(), &["status", "--json"]).done();
    let deadline = Instant::now() + PATIENCE;
    while !["is SERVING", "answered grpc-status 5 (NOT_FOUND): no such service"]
        .iter()
        .all(|it| status().contains(it))
    {
        assert!(Instant::now() < deadline, "{}", status());
        std::thread::sleep(10 * GLANCE);
    }
    let switched = say(folder.path(), &["switch", "127.0.0.1", "green"]).done();
    assert!(switched.contains("green is up"), "{switched}");
    calls.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(next(), "switched", "{}", log());
    assert!(calls.wait().unwrap().success());
}
