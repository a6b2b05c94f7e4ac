//! Gates over real sockets.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;

/// Returns a server that answers every connection with these bytes. Gives its port.
fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap_or(0);
            let asked = String::from_utf8_lossy(&request[..count]).into_owned();
            if asked.starts_with("GET /health HTTP/1.1\r\nhost: green\r\n") {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    port
}

/// Returns a port that is not listened on.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start_with(servers: &str, gate: &str) -> (ControlHandle, Arc<FakeDataPlane>) {
    let http = format!(
        "upstream blue {{ server 127.0.0.1:1; }} upstream green {{ {servers} }}
         switch $host $live {{ default blue; state memory; {gate} }}"
    );
    let data_plane = FakeDataPlane::new();
    (open(&config(Path::new("/prefix"), &http), &data_plane).unwrap().0, data_plane)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_target_that_is_up_is_switched_to() {
    let (well, dead) = (server(OK), closed_port());
    let servers = format!(
        "server 127.0.0.1:{well}; server 127.0.0.1:{dead}; server 127.0.0.1:9 down; server 127.0.0.1:9 backup;"
    );
    let (control, _) = start_with(&servers, "gate healthy=1 timeout=2s uri=/health status=200;");
    let mut events = control.events(None).live;
    let receipt = set(&control, "a.example", "green").await.unwrap();
    let gate = &receipt.gate[0];
    assert_eq!((gate.passed, gate.healthy, gate.required, gate.servers.len()), (true, 1, 1, 2));
    assert_eq!(gate.servers[0].reason, "answered 200");
    assert_eq!(gate.servers[1].reason, "connection refused");
    assert_eq!(events.recv().await.unwrap().kind.name(), "gate");
    let filter = switch::Filter { limit: 1, ..Default::default() };
    let commit = control.history("live", filter).await.unwrap().remove(0);
    assert_eq!(commit.gate[0], format!("green 127.0.0.1:{well} healthy: answered 200"));
    control.stop();
}

#[tokio::test]
async fn a_target_that_is_not_up_is_refused_with_the_reason_of_each_server() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [
        (server("HTTP/1.1 503 No\r\n\r\n"), "answered 503"),
        (
            server("HTTP/1.1 500 No\r\nContent-Length: 27\r\n\r\n{\n  \"error\": \"migrating\"\n}"),
            "answered 500: { \"error\": \"migrating\" }",
        ),
        (server("SSH-2.0-x\r\n"), "the answer is not HTTP"),
        (server(""), "closed the connection without answering"),
        (closed_port(), "connection refused"),
        (silent.local_addr().unwrap().port(), "no answer within 150 ms"),
    ];
    let servers: String = ports.iter().map(|(port, _)| format!("server 127.0.0.1:{port}; ")).collect();
    let (control, data_plane) = start_with(&servers, "gate healthy=1 timeout=150ms uri=/health;");
    let refusal = set(&control, "a.example", "green").await.unwrap_err();
    assert_eq!(refusal.code, Code::GateFailed);
    let switch::Details::Servers(reasons) = &refusal.details else { panic!("{refusal:?}") };
    for ((port, reason), told) in ports.iter().zip(reasons) {
        assert_eq!((&*told.0, &*told.1), (&*format!("127.0.0.1:{port}"), *reason));
    }
    assert_eq!(data_plane.ask(|workers| workers.published.len()), 0);
    // A dry run says the same, and force overrules and is recorded.
    let rehearsed = Options { dry_run: true, ..Options::default() };
    let receipt = control.order("live", to(&[("a.example", "green")], meta()), rehearsed).await.unwrap();
    assert_eq!((receipt.outcome, receipt.refusal), (Outcome::WouldRefuse, Some(refusal.text)));
    let forced = Meta { force: true, ..meta() };
    let receipt =
        control.order("live", to(&[("a.example", "green")], forced), Options::default()).await.unwrap();
    assert!(receipt.forced && !receipt.gate[0].passed);
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("green"));
    control.stop();
}

#[tokio::test]
async fn a_server_that_workers_leave_alone_is_asked_and_its_failures_are_forgotten() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    let (control, data_plane) = start_with(&format!("server {address};"), "gate healthy=1 timeout=2s;");
    data_plane.tell(|workers| workers.failed = vec![("green", address.clone())]);
    let rehearsed = Options { dry_run: true, ..Options::default() };
    let planned = control.order("live", to(&[("a.example", "green")], meta()), rehearsed).await.unwrap();
    assert!(planned.gate[0].passed);
    assert!(data_plane.ask(|workers| workers.forgiven.is_empty()), "a dry run changes nothing");
    let receipt = set(&control, "a.example", "green").await.unwrap();
    let reason = "accepts connections; 2 of 2 workers had it marked as failed (max_fails)";
    assert_eq!(receipt.gate[0].servers[0].reason, reason);
    assert_eq!(data_plane.ask(|workers| workers.forgiven.clone()), [address]);
    drop(port);
    let refusal = set(&control, "b.example", "green").await.unwrap_err();
    assert!(refusal.text.contains("connection refused"), "{refusal}");
    control.stop();
}

#[tokio::test]
async fn backups_are_asked_if_no_other_server_is_in_use_and_what_is_not_asked_is_named() {
    let (well, dead) = (server(OK), closed_port());
    for (servers, text) in [
        (format!("server 127.0.0.1:{dead} down; server 127.0.0.1:{well} backup;"), None),
        (
            format!("server 127.0.0.1:{dead}; server 127.0.0.1:{well} backup;"),
            Some(format!(
                "(127.0.0.1:{dead}: connection refused); not asked: 127.0.0.1:{well} (a backup, and others are in use)"
            )),
        ),
        (
            format!("server 127.0.0.1:{dead} down; server 127.0.0.1:{well} down;"),
            Some(format!(
                "0 of 1 required healthy servers; not asked: 127.0.0.1:{dead} (down), 127.0.0.1:{well} (down)"
            )),
        ),
    ] {
        let (control, _) = start_with(&servers, "gate healthy=1 timeout=2s uri=/health;");
        match (set(&control, "a.example", "green").await, text) {
            (Ok(receipt), None) => assert!(receipt.gate[0].passed),
            (Err(refusal), Some(text)) => assert!(refusal.text.contains(&text), "{refusal}"),
            (made, text) => panic!("{text:?}: {made:?}"),
        }
        control.stop();
    }
}

#[tokio::test]
async fn a_socket_of_the_file_system_is_asked_too() {
    let folder = folder();
    let path = folder.path().join("app.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (control, _) = start_with(&format!("server unix:{};", path.display()), "gate healthy=1 timeout=2s;");
    let receipt = set(&control, "a.example", "green").await.unwrap();
    assert_eq!(receipt.gate[0].servers[0].reason, "accepts connections");
    control.stop();
}

/// Returns a server that answers the requests one after the other, each with what the function says. Gives its port.
fn answering(answer: impl Fn(usize, &str) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(count) if count > 0 => request.extend_from_slice(&part[..count]),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer(number, &String::from_utf8_lossy(&request)).as_bytes());
        }
    });
    port
}

#[tokio::test]
async fn promise_17_a_flapping_server_does_not_pass() {
    let flapping = answering(|number, _| {
        if number % 2 == 0 {
            OK.to_owned()
        } else {
            "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
    });
    let gate = "gate healthy=1 passes=3 interval=10ms timeout=2s uri=/health;";
    let (control, _) = start_with(&format!("server 127.0.0.1:{flapping};"), gate);
    for _ in 0..6 {
        let refusal = set(&control, "a.example", "green").await.unwrap_err();
        assert!(refusal.text.contains("answered 503"), "{refusal}");
    }
    control.stop();
    let steady = server(OK);
    let (control, _) = start_with(&format!("server 127.0.0.1:{steady};"), gate);
    let receipt = set(&control, "a.example", "green").await.unwrap();
    assert_eq!(receipt.gate[0].servers[0].reason, "answered 200, 3 times");
    control.stop();
}

#[tokio::test]
async fn a_gate_asks_as_a_client_does() {
    let echo = answering(|_, request| {
        let body = request.to_ascii_lowercase().replace("\r\n", " ");
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let servers = format!("server 127.0.0.1:{echo};");
    for (gate, passes) in [
        ("host=shop.test match='http/1.1 host: shop.test '", true),
        ("host=$key match='host: a.example '", true),
        ("match='host: green '", true),
        ("header=X-Probe:up match=~'x-probe: u. '", true),
        ("match=elsewhere", false),
    ] {
        let (control, _) = start_with(&servers, &format!("gate timeout=2s uri=/health {};", quoted(gate)));
        match set(&control, "a.example", "green").await {
            Ok(receipt) => {
                assert!(passes, "{gate}");
                assert_eq!(receipt.gate[0].servers[0].reason, "answered 200, and its body matches");
            }
            Err(refusal) => {
                assert!(!passes, "{gate}: {refusal}");
                let wanted = "answered 200, and its body does not match \"elsewhere\": get /health http/1.1 host: green";
                assert!(refusal.text.contains(wanted), "{refusal}");
            }
        }
        control.stop();
    }
}

/// Returns a parameter that holds spaces is quoted as a whole.
fn quoted(gate: &str) -> String {
    match gate.split_once("match=") {
        Some((before, text)) => format!("{before}'match={}'", text.replace('\'', "")),
        None => gate.to_owned(),
    }
}

#[tokio::test]
async fn a_fraction_of_the_servers_must_be_well() {
    let (well, dead) = (server(OK), closed_port());
    let servers =
        format!("server 127.0.0.1:{well}; server 127.0.0.1:{dead}; server 127.0.0.1:{};", closed_port());
    for (fraction, required) in [("33%", 1), ("34%", 2)] {
        let (control, _) = start_with(&servers, &format!("gate fraction={fraction} timeout=2s uri=/health;"));
        match set(&control, "a.example", "green").await {
            Ok(receipt) => assert_eq!((receipt.gate[0].required, required), (1, 1)),
            Err(refusal) => assert!(refusal.text.contains("has 1 of 2 required"), "{refusal}"),
        }
        control.stop();
    }
}

#[tokio::test]
async fn a_server_that_joins_is_asked_by_the_gates_of_all_switches_that_lead_to_its_group() {
    let half = answering(|_, request| {
        let status = if request.starts_with("GET /a ") { "200 OK" } else { "503 No" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let folder = folder();
    let http = "upstream blue { server 127.0.0.1:1; } upstream green { server 127.0.0.1:2; }
        switch $host $live { default blue; state memory; gate uri=/a timeout=2s; }
        switch $host $edge { default blue; state memory; gate uri=/b timeout=2s; }
        switch $host $back { default blue; state memory; gate uri=/a timeout=2s; }";
    let (control, _) = open(&config(folder.path(), http), &FakeDataPlane::new()).unwrap();
    let server = format!("127.0.0.1:{half}");
    let order = |verb: switch::ServerVerb| {
        let order = switch::ServerOrder { group: "green".into(), server: server.clone(), verb };
        let order = Order { action: Action::Servers(vec![order]), meta: meta() };
        control.order("groups", order, Options::default())
    };
    let add = || order(switch::ServerVerb::Add(switch::ServerParams::default()));
    let lead = |switch: &'static str, target: &'static str| {
        let forced = Meta { force: true, ..meta() };
        control.order(switch, to(&[("a.example", target)], forced), Options::default())
    };
    let refused = format!(
        "target \"green\" has 0 of 1 required healthy servers ({server}: answered 503 (gate of switch \"edge\"))"
    );
    // None leads there: the first one that may asks.
    assert!(add().await.unwrap().gate[0].passed);
    order(switch::ServerVerb::Remove).await.unwrap();
    lead("edge", "green").await.unwrap();
    assert_eq!(add().await.unwrap_err().text, refused);
    // All that do ask, in any order of theirs, and the strictest counts.
    for switch in ["live", "back"] {
        lead(switch, "green").await.unwrap();
        assert_eq!(add().await.unwrap_err().text, refused, "{switch}");
    }
    // What would come back if a commit is not confirmed leads there, too.
    let window = Meta { force: true, confirm_within_ms: Some(600_000), ..meta() };
    control.order("edge", to(&[("a.example", "blue")], window), Options::default()).await.unwrap();
    assert_eq!(add().await.unwrap_err().text, refused);
    control.confirm("edge", None, meta()).await.unwrap();
    let receipt = add().await.unwrap();
    assert_eq!((receipt.gate[0].passed, receipt.gate[0].servers.len()), (true, 1));
    control.stop();
}
