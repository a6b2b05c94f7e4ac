//! The effects of a crash: a panic ends one connection, a dead worker is replaced with the same tables.

use super::*;

#[test]
fn a_panic_ends_one_connection() {
    let server = Server::start_with("", "", &[("POINTSMAN_PANIC_AT", "/panic")]);
    server.say(&["switch", "a.example", "green"]).done();
    // Both threads' worth of connections that are open meanwhile.
    let mut kept: Vec<UnixStream> = (0..8).map(|_| server.connect()).collect();
    let ask = |stream: &mut UnixStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let mut text = Vec::new();
        let mut byte = [0; 512];
        while !text.ends_with(b"green") {
            let read = stream.read(&mut byte).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&byte[..read]);
        }
    };
    kept.iter_mut().for_each(ask);
    let pid = server.say(&["status", "--json"]).json()["pid"].clone();
    for _ in 0..4 {
        let mut stream = server.connect();
        stream.write_all(b"GET /panic HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let mut text = Vec::new();
        // Closed without an answer; a reset is as good.
        let _ = stream.read_to_end(&mut text);
        assert!(text.is_empty(), "{}", String::from_utf8_lossy(&text));
    }
    kept.iter_mut().for_each(ask);
    assert!(server.get("a.example").ends_with("green"));
    let status = server.say(&["status", "--json"]).json();
    assert_eq!(status["pid"], pid, "the process goes on");
    // Nothing is counted as open that is not: the kept ones, and the one that asks just now.
    server.until("the figures", || {
        let connections = &server.say(&["status", "--json"]).json()["connections"];
        let count = |name: &str| connections[name].as_u64().unwrap();
        (count("active"), count("reading"), count("writing"), count("waiting")) == (8, 0, 0, 8)
    });
    let log = std::fs::read_to_string(server.path("logs/error.log")).unwrap();
    assert_eq!(log.matches("[alert]").count(), 4, "{log}");
    assert!(log.contains("panic in thread worker-"), "{log}");
}

#[test]
fn a_dead_worker_is_replaced_with_the_same_tables() {
    let server = Server::start("", "");
    let tmp = server.path("client_body_temp");
    for revision in 1..=3_u64 {
        let target = if revision % 2 == 0 { "blue" } else { "green" };
        server.say(&["switch", "a.example", target]).done();
        let pid = server.say(&["status", "--json"]).json()["pid"].to_string();
        let left = tmp.join(format!("{pid}-0123456789abcdef"));
        std::fs::write(&left, "left").unwrap();
        // The first request is routed by the table: nothing is accepted before it is loaded.
        assert!(Command::new("kill").args(["-ABRT", &pid]).status().unwrap().success());
        if target == "green" {
            server.until("an answer", || {
                let mut text = String::new();
                let asked = UnixStream::connect(server.path("front")).map(bounded).and_then(|mut stream| {
                    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")?;
                    stream.read_to_string(&mut text)
                });
                // What the dead one had accepted is lost with it.
                assert!(asked.is_err() || text.is_empty() || text.ends_with("green"), "{text}");
                text.ends_with("green")
            });
        }
        let state = server.say(&["status", "--json"]).json();
        assert_eq!(state["switches"][0]["revision"], revision);
        assert_ne!(state["pid"].to_string(), pid);
        assert!(!left.exists(), "what it had left is tidied up");
    }
    assert!(server.say(&["history", "--verify"]).done().contains("live: 3 commits verified"));
}
