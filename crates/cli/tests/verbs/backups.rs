//! Backups, and a store that is damaged under a running server.

use super::*;
use std::os::unix::fs::FileExt;

#[test]
fn a_damaged_store_stops_no_traffic_and_is_restored() {
    let server = Server::start("", "");
    let backup = server.path("monday.backup").display().to_string();
    server.say(&["switch", "a.example", "green"]).done();
    let saved = server.say(&["backup", &backup]).done();
    assert!(saved.starts_with("saved revision 1, last hash "), "{saved}");
    server.say(&["switch", "b.example", "green"]).done();

    // All of the file but its first page.
    let store = server.path("state/live.db");
    let file = std::fs::OpenOptions::new().write(true).open(&store).unwrap();
    let length = file.metadata().unwrap().len() as usize;
    file.write_all_at(&vec![0; length - 4096], 4096).unwrap();
    let pid = server.say(&["status", "--json"]).json()["pid"].clone();
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    server.until("the next worker", || {
        let said = server.say(&["status", "--json"]);
        said.code == 0 && said.json()["pid"] != pid
    });
    // The next worker follows the second file, to the last order.
    for (host, side) in [("a.example", "green"), ("b.example", "green")] {
        assert!(server.get(host).ends_with(side), "{host}");
    }
    let refused = server.say(&["switch", "a.example", "blue"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("store_damaged") || refused.err.contains("is damaged"), "{}", refused.err);
    let list = server.say(&["list"]).done();
    assert!(list.contains("traffic follows revision 2 of the second file"), "{list}");

    let restored = server.say(&["restore", &backup, "--reason", "the disk"]).done();
    assert!(
        restored.starts_with("restored revision 1 in place of revision 2: now revision 3, epoch 2"),
        "{restored}"
    );
    assert!(restored.contains("the server has reloaded"), "{restored}");
    assert!(server.get("a.example").ends_with("green"));
    server.say(&["switch", "b.example", "green"]).done();
    assert!(server.get("b.example").ends_with("green"));
    let history = server.say(&["history", "--verify"]).done();
    assert!(history.contains("restore") && history.contains("live: 3 commits verified"), "{history}");
    assert!(!server.say(&["list"]).done().contains("store:"));
}

#[test]
fn a_store_that_is_lost_with_its_second_file_refuses_its_own_requests_alone() {
    let other = "server { listen unix:{folder}/other; location / { return 200 other; } }";
    let server = Server::start("", other);
    server.say(&["switch", "a.example", "green"]).done();
    for name in ["live.db", "live.db-anchor"] {
        let path = server.path("state").join(name);
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&vec![0; length], 0).unwrap();
    }
    let pid = server.say(&["status", "--json"]).json()["pid"].clone();
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    server.until("the next worker", || {
        let said = server.say(&["status", "--json"]);
        said.code == 0 && said.json()["pid"] != pid
    });
    let asked = |socket: &str| {
        let mut stream = UnixStream::connect(server.path(socket)).map(bounded).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(asked("front").starts_with("HTTP/1.1 503"), "{}", asked("front"));
    assert!(asked("other").ends_with("other"));
    let list = server.say(&["list"]).done();
    assert!(list.contains("no table can be trusted"), "{list}");
}
