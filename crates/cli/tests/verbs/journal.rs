//! The journal, as `history` shows it.

use super::*;

#[test]
fn history_has_holds_and_reloads_between_the_commits() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    server.say(&["hold", "b.example", "--reason", "schema"]).done();
    server.say(&["release", "b.example"]).done();
    server.say(&["reload"]).done();
    server.say(&["switch", "a.example", "blue"]).done();
    let text = server.say(&["history", "--verify"]).done();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("        ")).collect();
    let words =
        ["     2  ", "reload done", "releases b.example of live", "holds b.example of live  \"schema\""];
    for (line, word) in lines.iter().zip(words) {
        assert!(line.contains(word), "{word}: {text}");
    }
    assert!(lines[4].starts_with("     1  ") && lines[5].contains("  start  \"pointsman "), "{text}");
    assert!(lines[6].starts_with("live: 2 commits verified"), "{text}");
    assert!(lines[7].starts_with("journal: 4 entries verified, last hash "), "{text}");

    let kinds = |words: &[&str]| {
        let text = server.say(&[&["history"], words].concat()).done();
        text.lines().filter(|line| !line.starts_with("        ")).count()
    };
    assert_eq!(kinds(&["--kind", "hold"]), 1);
    assert_eq!(kinds(&["--kind", "commit"]), 2);
    assert_eq!(kinds(&["--since", "1h"]), 6);
    assert_eq!(kinds(&["--limit", "2"]), 2);
    assert_eq!(kinds(&["b.example"]), 2);
    assert_eq!(kinds(&["a.example"]), 2);
    assert_eq!(kinds(&["--before", "2"]), 5, "all but the last commit");
    assert_eq!(kinds(&["--before", "1"]), 1, "the start");
    assert_eq!(kinds(&["--kind", "set"]), 2);
    assert_eq!(kinds(&["--target", "green", "--since", "1h"]), 2);
    assert_eq!(kinds(&["--actor", "unix:", "--kind", "release"]), 1);
    assert_eq!(kinds(&["--actor", "unix:", "--kind", "start"]), 0);
    let lines = server.say(&["history", "--since", "1h", "--limit", "2", "--json"]).done();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["revision"], &lines[1]["kind"]), (&2.into(), &"reload".into()));
    let json = server.say(&["history", "--json", "--verify"]).json();
    assert_eq!(
        (json["commits"].as_array().unwrap().len(), json["journal"].as_array().unwrap().len()),
        (2, 4)
    );
    assert_eq!(
        (&json["verified"]["intact"], &json["journal_verified"]["intact"]),
        (&true.into(), &true.into())
    );

    // An entry that was altered is found, with the histories intact.
    let alter = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                 c.execute(\"UPDATE entries SET actor = 'eve' WHERE kind = 'hold'\"); c.commit()";
    let mut python = Command::new("python3");
    python.arg("-c").arg(alter).arg(server.path("state/journal.db"));
    if python.status().is_ok_and(|status| status.success()) {
        let said = server.say(&["history", "--verify"]);
        assert_eq!(said.code, 1, "{}", said.out);
        assert!(said.out.contains("live: 2 commits verified"), "{}", said.out);
        assert!(said.out.contains("journal: NOT INTACT after 1 entry: entry 2 was altered"), "{}", said.out);
    }
}

#[test]
fn a_configuration_that_the_master_refuses_is_in_the_journal() {
    let server = Server::start("", "");
    let conf = std::fs::read_to_string(server.path("conf/nginx.conf")).unwrap();
    std::fs::write(server.path("conf/nginx.conf"), conf.replace("worker_processes 2;", "worker_process 2;"))
        .unwrap();
    let pid = std::fs::read_to_string(server.path("logs/pointsman.pid")).unwrap();
    assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
    let history = || server.say(&["history"]).done();
    server.until("the journal has it", || history().contains("  signal  reload refused"));
    let text = history();
    assert!(
        text.contains("worker_process\\") || text.contains("unknown directive \"worker_process\""),
        "{text}"
    );
    // One that a caller asked for is a refusal of that caller, and no second reload.
    assert_eq!(server.say(&["reload"]).code, 1);
    assert_eq!(history().matches("reload refused").count(), 1, "{}", history());
    std::fs::write(server.path("conf/nginx.conf"), conf).unwrap();
    assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
    server.until("the next one is done", || history().contains("  signal  reload done"));
}

#[test]
fn a_journal_that_cannot_be_written_stops_nothing() {
    let server = Server::start("", "");
    server.say(&["hold", "b.example"]).done();
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(server.path(&format!("state/journal.db{ending}")));
    }
    std::fs::create_dir(server.path("state/journal.db")).unwrap();
    server.say(&["release", "b.example"]).done();
    server.say(&["switch", "a.example", "green"]).done();
    assert!(server.get("a.example").ends_with("green"));
    server.until("it is said", || {
        let log = std::fs::read_to_string(server.path("logs/error.log")).unwrap();
        log.contains("the journal") && log.contains("1 entries were lost so far")
    });
    let text = server.say(&["history"]).done();
    assert!(text.contains("a.example: ") && text.contains("journal: cannot be read: "), "{text}");
    let said = server.say(&["history", "--verify"]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("live: 1 commit verified"), "{}", said.out);
    let json = server.say(&["history", "--json"]).json();
    assert!(json["commits"].as_array().unwrap().len() == 1 && json["journal_fault"].is_string(), "{json}");
    std::fs::remove_dir(server.path("state/journal.db")).unwrap();
    server.say(&["hold", "b.example"]).done();
    let text = server.say(&["history"]).done();
    assert!(text.contains("  1 entry lost") && text.contains("holds b.example"), "{text}");
    assert!(text.contains("journal: 1 entry was lost since the server began"), "{text}");
}
