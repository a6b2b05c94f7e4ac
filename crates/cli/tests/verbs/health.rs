//! Health checks of a running server: out in time, back in time, over reloads, in what is shown, and at the gate.

use super::*;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const WELL: u8 = 0;
const ILL: u8 = 1;
const HANGING: u8 = 2;
const DEAD: u8 = 3;

/// A server of a group: it answers `/health` as its mode says, and everything else with its name.
struct Origin {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
}

impl Origin {
    fn start(mode: u8) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(AtomicU8::new(mode));
        let shared = Arc::clone(&mode);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mode) = (stream.unwrap(), shared.load(Ordering::SeqCst));
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while mode != DEAD && !head.ends_with(b"\r\n\r\n") {
                        if stream.read(&mut byte).unwrap_or(0) == 0 {
                            return;
                        }
                        head.push(byte[0]);
                    }
                    let is_check = head.starts_with(b"GET /health ");
                    match mode {
                        HANGING if is_check => std::thread::sleep(PATIENCE),
                        DEAD => return,
                        _ => {}
                    }
                    let status = if is_check && mode == ILL { "503 No" } else { "200 OK" };
                    let body = address.to_string();
                    let length = body.len();
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
                    let _ = stream.write_all(answer.as_bytes());
                });
            }
        });
        Origin { address, mode }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }
}

/// Returns a server whose group red has these origins and this check.
fn server(origins: &[Origin], check: &str) -> Server {
    let servers: String =
        origins.iter().map(|origin| format!("server {} max_fails=0;", origin.address)).collect();
    Server::start(
        "targets blue red dynamic; gate uri=/health;",
        &format!(
            "upstream red {{ {servers} keepalive 0; }}
             server {{ listen unix:{{folder}}/red;
                 location / {{ proxy_pass http://red; proxy_next_upstream off; health_check {check}; }}
                 location /state {{ proxy_pass http://red; add_header X-Health $upstream_health; }}
                 location /live {{ proxy_pass http://$live; proxy_next_upstream off; }}
                 location /metrics {{ metrics; }} }}"
        ),
    )
}

/// Sends a request, and returns the whole answer.
fn ask(server: &Server, path: &str) -> String {
    let mut stream = bounded(UnixStream::connect(server.path("red")).unwrap());
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Returns the bodies, or else the statuses, of twenty requests.
fn answers(server: &Server) -> BTreeSet<String> {
    answers_at(server, "/")
}

fn answers_at(server: &Server, path: &str) -> BTreeSet<String> {
    let answer = |_| {
        let text = ask(server, path);
        match text.starts_with("HTTP/1.1 200") {
            true => text.rsplit('\n').next().unwrap().to_owned(),
            false => text.split(' ').nth(1).unwrap().to_owned(),
        }
    };
    (0..20).map(answer).collect()
}

fn names(origins: &[&Origin]) -> BTreeSet<String> {
    origins.iter().map(|origin| origin.address.to_string()).collect()
}

#[test]
fn a_dead_hanging_or_ill_server_is_out_and_back_in_time() {
    let origins = [Origin::start(WELL), Origin::start(WELL)];
    let check = "interval=200ms jitter=50ms fails=2 passes=2 timeout=150ms uri=/health";
    let server = server(&origins, check);
    let (both, first) = (names(&[&origins[0], &origins[1]]), names(&[&origins[0]]));
    server.until("both serve", || answers(&server) == both);
    assert!(ask(&server, "/state").contains("\r\nX-Health: up\r\n"));
    for (mode, reasons) in [
        // Its end may come with a reset.
        (DEAD, ["closed the connection without answering", "connection broke"]),
        (HANGING, ["no answer within 150 ms"; 2]),
        (ILL, ["answered 503"; 2]),
    ] {
        let began = Instant::now();
        origins[1].set(mode);
        server.until("it is out", || answers(&server) == first);
        assert!(began.elapsed() < Duration::from_millis(250 * 2 + 150 + 1000), "{:?}", began.elapsed());
        let status = server.say(&["status"]).done();
        assert!(status.contains("degraded") && status.contains("GET /health: "), "{status}");
        assert!(reasons.iter().any(|reason| status.contains(reason)), "{status}");
        let began = Instant::now();
        origins[1].set(WELL);
        server.until("it is back", || answers(&server) == both);
        assert!(began.elapsed() < Duration::from_millis(250 * 2 + 1000), "{:?}", began.elapsed());
    }
    origins.iter().for_each(|origin| origin.set(ILL));
    server.until("none is left", || answers(&server) == BTreeSet::from(["502".to_owned()]));
    assert!(server.say(&["status"]).done().contains("down"));
}

#[test]
fn a_reload_keeps_what_checks_have_found_out() {
    let origins = [Origin::start(WELL), Origin::start(ILL)];
    let server = server(&origins, "interval=300ms uri=/health");
    let first = names(&[&origins[0]]);
    server.until("the second is out", || answers(&server) == first);
    let path = server.path("conf/nginx.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    // From now on a server needs ten passed checks, so nothing but its state keeps it out.
    std::fs::write(&path, text.replace("interval=300ms", "interval=300ms passes=1000 mandatory")).unwrap();
    origins[1].set(WELL);
    server.say(&["reload"]).done();
    for _ in 0..10 {
        assert_eq!(answers(&server), first);
    }
}

#[test]
fn a_mandatory_check_passes_before_the_first_request() {
    let origins = [Origin::start(HANGING), Origin::start(HANGING)];
    let server = server(&origins, "interval=1s timeout=1s mandatory uri=/health");
    let none = BTreeSet::from(["502".to_owned()]);
    assert_eq!(answers(&server), none);
    origins[0].set(WELL);
    server.until("the first has passed", || answers(&server) == names(&[&origins[0]]));
}

#[test]
fn a_gate_knows_what_checks_have_found_out() {
    let origins = [Origin::start(ILL)];
    let server = server(&origins, "interval=100ms uri=/health");
    server.until("it is out", || answers(&server) == BTreeSet::from(["502".to_owned()]));
    let refused = server.say(&["switch", "a.example", "red"]);
    assert_ne!(refused.code, 0);
    let reason = format!("answered 503: {} (health check GET /health, ", origins[0].address);
    assert!(refused.err.contains(&reason), "{}", refused.err);
    origins[0].set(WELL);
    server.until("it is back", || answers(&server) == names(&[&origins[0]]));
    let receipt = server.say(&["switch", "a.example", "red", "--json"]).json();
    let reason = receipt["gate"][0]["servers"][0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.starts_with("answered 200 (health check GET /health, "), "{receipt}");
}

#[test]
fn an_order_that_leads_to_a_group_which_is_down_or_degraded_says_so() {
    let origins = [Origin::start(WELL), Origin::start(ILL)];
    let [well, ill] = [&origins[0], &origins[1]].map(|origin| origin.address.to_string());
    let server = Server::start(
        "targets blue red;",
        &format!(
            "upstream red {{ server {well}; server {ill}; }}
             server {{ listen unix:{{folder}}/red;
                 location / {{ proxy_pass http://red; health_check interval=100ms uri=/health; }}
                 location /metrics {{ metrics; }} }}"
        ),
    );
    let state_is = |state: &str| {
        let shown = server.say(&["group", "list", "--json"]).json();
        let groups = shown["groups"].as_array().unwrap();
        groups.iter().any(|group| group["name"] == "red" && group["state"] == state)
    };
    server.until("the second is out", || state_is("degraded"));
    let degraded = format!("red is degraded, 1 of 2 servers up: {ill} is unhealthy (answered 503: {ill})");
    let dry = server.say(&["switch", "a.example", "red", "--dry-run", "--json"]).json();
    assert_eq!(dry["notes"][0], *degraded, "{dry}");
    let switched = server.say(&["switch", "a.example", "red"]).done();
    assert!(switched.contains(&format!("\n  note: {degraded}\n")), "{switched}");
    origins[0].set(ILL);
    server.until("none is left", || state_is("down"));
    let down = format!(
        "red is down: {well} is unhealthy (answered 503: {well}), {ill} is unhealthy (answered 503: {ill})"
    );
    for words in [&["split", "b.example", "red=10", "blue=90"][..], &["hold", "a.example"]] {
        let said = server.say(words).done();
        assert!(said.contains(&format!("\n  note: {down}\n")), "{said}");
    }
    server.say(&["release", "a.example"]).done();
    let back = server.say(&["switch", "a.example", "blue"]).done();
    assert!(!back.contains("down"), "{back}");

    // What keeps a server out is told apart, with since when.
    let row = || {
        let shown = server.say(&["server", "red"]).done();
        assert!(shown.contains("since") && shown.contains("last check"), "{shown}");
        let row =
            shown.lines().find(|line| line.contains(&format!("  {ill} "))).unwrap_or_default().to_owned();
        (row, server.say(&["server", "red", "--json"]).json()["servers"][1].clone())
    };
    let (shown, json) = row();
    let found = format!("GET /health: answered 503: {ill}");
    assert!(shown.contains("unhealthy") && shown.contains(&found), "{shown}");
    let ill_since = json["since_ms"].as_u64().unwrap();
    let series = |name: &str, labels: &str| {
        let begin = format!("{name}{{upstream=\"red\",peer=\"{ill}\"{labels}}} ");
        let metrics = ask(&server, "/metrics");
        metrics.lines().find_map(|line| line.strip_prefix(&begin)?.trim().parse::<u64>().ok())
    };
    assert_eq!(series("pointsman_upstream_peer_state", ",state=\"unhealthy\""), Some(1));
    let counted = series("pointsman_upstream_peer_since_timestamp_seconds", "").unwrap();
    assert!(counted.abs_diff(ill_since / 1000) <= 1, "{counted} {ill_since}");
    for (act, state) in [("drain", "draining"), ("down", "down")] {
        server.say(&["server", "red", act, &ill]).done();
        let (shown, json) = row();
        assert!(shown.contains(state) && json["since_ms"].as_u64().unwrap() > ill_since, "{shown} {json}");
        assert_eq!(series("pointsman_upstream_peer_state", &format!(",state=\"{state}\"")), Some(1));
        assert_eq!(series("pointsman_upstream_peer_since_timestamp_seconds", ""), None, "{state}");
    }
}

#[test]
fn a_group_made_at_run_time_is_checked_as_the_one_it_is_like_and_its_checks_are_counted() {
    let (red, one, two, three) =
        ([Origin::start(WELL)], Origin::start(WELL), Origin::start(WELL), Origin::start(WELL));
    let server = server(&red, "interval=150ms fails=2 passes=2 uri=/health");
    let [first, second, third] = [&one, &two, &three].map(|origin| origin.address.to_string());
    server.say(&["group", "create", "teal", "--like", "red", "--server", &first, "--server", &second]).done();
    server.say(&["switch", "a.example", "teal"]).done();
    let live = || answers_at(&server, "/live");
    server.until("both serve", || live() == names(&[&one, &two]));
    two.set(ILL);
    server.until("the second is out", || live() == names(&[&one]));
    let status = server.say(&["group", "list", "--json"]).json();
    let groups = status["groups"].as_array().unwrap();
    let teal = groups.iter().find(|group| group["name"] == "teal").unwrap();
    assert_eq!(teal["state"], "degraded", "{teal}");
    let out = teal["servers"].as_array().unwrap().iter().find(|one| one["server"] == second).unwrap();
    assert_eq!(out["state"], "unhealthy", "{out}");
    assert!(out["checks"][0]["failed"].as_u64().unwrap() >= 2, "{out}");

    // A server that joins while the group serves, too.
    server.say(&["server", "teal", "add", &third]).done();
    server.until("it serves", || live() == names(&[&one, &three]));
    three.set(ILL);
    let counted = |address: &str, result: &str| {
        let series = format!(
            "pointsman_upstream_peer_checks_total{{upstream=\"teal\",peer=\"{address}\",check=\"GET /health\",result=\"{result}\"}} "
        );
        let metrics = ask(&server, "/metrics");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse::<u64>().ok());
        count.unwrap_or_default()
    };
    server.until("its checks have failed", || counted(&third, "failed") >= 2);
    server.until("it is out", || live() == names(&[&one]));
    assert!(counted(&first, "passed") >= 1 && counted(&first, "failed") == 0);
    [&two, &three].iter().for_each(|origin| origin.set(WELL));
    server.until("all serve", || live() == names(&[&one, &two, &three]));

    // Another process checks them, too.
    server.replace_worker();
    two.set(ILL);
    server.until("the second is out again", || live() == names(&[&one, &three]));

    server.say(&["switch", "a.example", "red"]).done();
    server.say(&["group", "remove", "teal"]).done();
    server.until("nothing is counted any more", || counted(&second, "failed") == 0);
}

/// One server has a certificate of the authority that its location trusts, the other one of another.
#[test]
fn gates_and_checks_speak_tls_as_their_locations_do() {
    let files = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    files.iter().for_each(|files| drop(super::control_tls::write_certificates(files.path())));
    let [trusted, other] = files.each_ref().map(|files| files.path().display());
    let [good, bad] = [(), ()].map(|()| testkit::ports::reserve().unwrap());
    let to = "proxy_ssl_verify on; proxy_ssl_name localhost; proxy_next_upstream off;";
    let conf = |at: &dyn Fn(&str) -> String, user: &str| {
        format!(
            "user {user}; worker_processes 2; daemon off; events {{}}
             http {{
                 proxy_ssl_trusted_certificate {trusted}/ca.pem;
                 upstream red {{ server 127.0.0.1:{good}; }}
                 upstream grey {{ server 127.0.0.1:{bad}; }}
                 upstream both {{ server 127.0.0.1:{good}; server 127.0.0.1:{bad}; }}
                 switch $host $live {{ default red; targets red grey; gate uri=/; }}
                 server {{
                     listen unix:{};
                     location / {{ proxy_pass https://$live; {to} }}
                     location /both {{ proxy_pass https://both; {to} health_check interval=200ms uri=/; }}
                 }}
                 server {{ listen 127.0.0.1:{good} ssl;
                     ssl_certificate {trusted}/server.pem; ssl_certificate_key {trusted}/server.pem;
                     location / {{ return 200 $scheme; }} }}
                 server {{ listen 127.0.0.1:{bad} ssl;
                     ssl_certificate {other}/server.pem; ssl_certificate_key {other}/server.pem;
                     location / {{ return 200 $scheme; }} }}
             }}",
            at("front"),
            good = good.number,
            bad = bad.number,
        )
    };
    let server = Server::start_from(conf, &[]);
    server.say(&["switch", "a.example", "red"]).done();
    assert!(server.get("a.example").ends_with("https"), "{}", server.get("a.example"));
    let refused = server.say(&["switch", "a.example", "grey"]);
    assert_eq!(refused.code, 1, "{}{}", refused.out, refused.err);
    assert!(refused.err.contains("certificate"), "{}{}", refused.out, refused.err);
    let name = format!("127.0.0.1:{}", bad.number);
    server.until("the other one is out", || {
        let status = server.say(&["status"]).done();
        status.contains("degraded") && status.contains(&name) && status.contains("certificate")
    });
}
