//! The effects of a crash: a panic ends one connection, a dead worker is replaced with the same tables, and a worker
//! without a master serves on until the next one.

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

#[test]
fn a_worker_without_a_master_serves_and_takes_no_orders() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let script = "local ok, why = ngx.shared.routes:set('k', 'green'); ngx.say(ok, ' ', why)";
    let beside = format!(
        "lua_shared_dict routes 64k; switch $http_x $tenant {{ default blue; dict routes; }}
         server {{ listen {free}; location / {{ content_by_lua_block {{ {script} }} }} }}"
    );
    let server = Server::start("", &beside);
    server.say(&["switch", "a.example", "green", "--switch", "live", "--confirm-within", "1h"]).done();
    server.say(&["hold", "held.example", "--switch", "live"]).done();
    let pid_file = || std::fs::read_to_string(server.path("logs/pointsman.pid")).unwrap();
    let (dead, worker) = (pid_file(), server.say(&["status", "--json"]).json()["pid"].clone());
    assert!(Command::new("kill").args(["-KILL", dead.trim()]).status().unwrap().success());
    let log = || std::fs::read_to_string(server.path("logs/error.log")).unwrap();
    server.until("it notices", || log().contains("the master process is gone: serving on for 600 s"));
    assert!(server.get("a.example").ends_with("green"));
    for words in [
        &["switch", "a.example", "blue"][..],
        &["split", "a.example", "green=1", "blue=9"],
        &["undo", "a.example"],
        &["confirm"],
        &["hold", "a.example"],
    ] {
        let refused = server.say(&[words, &["--switch", "live"]].concat());
        assert_eq!((refused.code, &*refused.out), (1, ""), "{words:?}: {}", refused.err);
        assert!(refused.err.contains("takes no orders"), "{words:?}: {}", refused.err);
    }
    let refused = server.say(&["switch", "a.example", "blue", "--switch", "live", "--json"]);
    assert_eq!(refused.json()["code"], "no_master");
    assert!(server.say(&["reload"]).err.contains("the master process is gone"));
    for verb in ["list", "status"] {
        let shown = server.say(&[verb]).done();
        assert!(shown.contains("no master process: takes no orders, and ends at "), "{shown}");
    }
    assert!(server.say(&["upgrade"]).err.contains("is not running"));
    let mut script = std::net::TcpStream::connect(free).unwrap();
    script.set_read_timeout(Some(PATIENCE)).unwrap();
    script.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    script.read_to_string(&mut text).unwrap();
    assert!(text.contains("nil") && text.contains("takes no orders"), "{text}");
    // What changes nothing is answered, and a hold can be ended.
    server.say(&["switch", "a.example", "blue", "--switch", "live", "--dry-run"]).done();
    server.say(&["release", "held.example", "--switch", "live"]).done();
    let status = server.say(&["status", "--json"]).json();
    assert_eq!(status["pid"], worker);
    // The next master takes the sockets over, and its worker takes orders.
    let open = server.connect();
    let mut next = command(server.folder.path(), &[]);
    let _next = ProcessGroup::start(next.stderr(Stdio::null())).unwrap();
    let mut confirmed = String::new();
    server.until("the next worker takes orders", || {
        let said = server.say(&["confirm", "--switch", "live"]);
        confirmed = said.out;
        said.code == 0
    });
    assert!(confirmed.starts_with("live: revision 2\n"), "{confirmed}");
    assert_ne!(pid_file(), dead);
    assert!(server.get("a.example").ends_with("green"));
    drop(open);
    let worker = worker.as_u64().unwrap();
    let stat = || std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
    server.until("the end of the old worker", || {
        stat().rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    });
}
