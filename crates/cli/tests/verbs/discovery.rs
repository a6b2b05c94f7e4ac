//! Servers that are looked up, in a running server: what an answer leaves alone that is the same.

use super::*;
use crate::name_server::NameServer;
use std::net::TcpListener;

/// Answers each connection on loopback's n-th address with that address.
fn origin(listener: TcpListener) {
    let name = listener.local_addr().unwrap().ip().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                head.push(byte[0]);
            }
            let length = name.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{name}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
}

/// Returns the same port of two addresses of loopback, and a third one's on which nothing listens.
fn origins() -> u16 {
    loop {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        let is_free = |address: &str| TcpListener::bind((address, port)).ok();
        if let (Some(two), Some(_)) = (is_free("127.0.0.2"), is_free("127.0.0.3")) {
            [one, two].into_iter().for_each(origin);
            return port;
        }
    }
}

#[test]
fn an_unchanged_answer_leaves_turns_failures_and_rings_alone() {
    let records = |order: [u8; 3]| order.map(|number| format!("app A 127.0.0.{number}\n")).concat();
    let Some(names) = NameServer::start(&records([1, 2, 3])) else { return };
    let port = origins();
    let resolver = format!("resolver 127.0.0.1:{}; server app.example:{port} resolve", names.port);
    let server = Server::start(
        "targets blue green;",
        &format!(
            "upstream app {{ zone app 64k; {resolver} max_fails=1 fail_timeout=1h; keepalive 0; }}
             upstream ring {{ zone ring 64k; hash $arg_k consistent; {resolver} max_fails=0; keepalive 0; }}
             server {{ listen unix:{{folder}}/app; location / {{ proxy_pass http://app; }}
                 location /ring {{ proxy_pass http://ring; proxy_next_upstream off; }} }}"
        ),
    );
    let ask = |path: &str| {
        let mut stream = bounded(UnixStream::connect(server.path("app")).unwrap());
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        match text.starts_with("HTTP/1.1 200") {
            true => text.rsplit('\n').next().unwrap().to_owned(),
            false => text.split(' ').nth(1).unwrap_or_default().to_owned(),
        }
    };
    let source = || server.say(&["server", "app", "--json"]).json()["sources"][0].clone();
    server.until("all are found", || source()["servers"] == 3);
    let ring = || (0..60).map(|key| ask(&format!("/ring?k={key}"))).collect::<Vec<_>>();
    let places = ring();
    assert!(places.contains(&"502".to_owned()) && places.contains(&"127.0.0.2".to_owned()), "{places:?}");
    // The third fails once, and is left alone for an hour.
    (0..6).for_each(|_| drop(ask("/")));
    let (mut last, mut asked, mut age, mut turns) = (ask("/"), 0, 0, 0);
    for (serial, order) in (2..).zip([[3, 2, 1], [2, 1, 3], [1, 3, 2]]) {
        names.set(&records(order), serial);
        let seen = asked;
        // It has been asked at least twice since.
        server.until("it is asked again", || {
            let next = ask("/");
            assert_ne!(next, last, "after {turns} turns");
            (last, turns) = (next, turns + 1);
            let now = source()["age_ms"].as_u64().unwrap();
            asked += u32::from(now < age);
            age = now;
            asked >= seen + 2
        });
    }
    assert_eq!(ring(), places);
    let log = std::fs::read_to_string(server.path("logs/error.log")).unwrap();
    let failed = format!("upstream: \"http://127.0.0.3:{port}/\"");
    assert_eq!(log.lines().filter(|line| line.contains(&failed)).count(), 1, "{log}");
}

#[test]
fn what_cannot_be_looked_up_is_in_status_with_its_age() {
    let lists = tempfile::tempdir().unwrap();
    let file = lists.path().join("app.servers");
    std::fs::write(&file, "server 127.0.0.1:9;\n").unwrap();
    let place = format!("servers file={}", file.display());
    let beside = format!("upstream app {{ {place} interval=100ms; }}");
    let server = Server::start("targets blue green;", &beside);
    let status = || server.say(&["status"]).done();
    server.until("it is found", || server.say(&["server", "app"]).done().contains("127.0.0.1:9"));
    assert!(!status().contains(&place), "{}", status());
    std::fs::remove_file(&file).unwrap();
    server.until("it is said", || status().contains(&format!("app {place}: 1 server, seen ")));
    assert!(status().contains("    fails: ") && status().contains("No such file"), "{}", status());
    let json = server.say(&["status", "--json"]).json();
    assert_eq!(json["failing_lookups"][0]["group"], "app", "{json}");
    let exported = server.say(&["server", "app", "export"]).done();
    assert_eq!(exported, format!("{place} interval=100ms;\n# found there: 127.0.0.1:9\n"));
    std::fs::write(&file, "server 127.0.0.1:9;\n").unwrap();
    server.until("it is over", || !status().contains(&place));
}
