//! Edits of the configuration that would move keys without an order: `-t`, a reload and a start say the same.

use super::*;

/// Replaces a part of the configuration.
fn edit(server: &Server, old: &str, new: &str) {
    let file = server.path("conf/nginx.conf");
    let conf = std::fs::read_to_string(&file).unwrap();
    assert!(conf.contains(old), "{conf}");
    std::fs::write(file, conf.replace(old, new)).unwrap();
}

/// Fails unless `-t` and a reload, with the same text, refuse the configuration.
fn refused(server: &Server, text: &str) {
    let tested = server.say(&["-t"]);
    assert_eq!(tested.code, 1, "{}", tested.err);
    assert!(tested.err.contains(text), "{}", tested.err);
    let reloaded = server.say(&["reload"]);
    assert_eq!(reloaded.code, 1, "{} {}", reloaded.out, reloaded.err);
    assert!(reloaded.err.contains(text), "{}", reloaded.err);
}

/// Stops the server, and returns what becomes of another start.
fn restarted(server: &Server) -> Said {
    server.say(&["-s", "stop"]);
    server.until("it has ended", || !server.path("run/pointsman.sock").exists());
    assert!(!server.path("logs/pointsman.pid").exists());
    server.say(&[])
}

/// Returns the name, size, inode and time of every file of the stores.
fn state_files(server: &Server) -> Vec<(PathBuf, u64, u64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(server.path("state")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| {
            let found = path.metadata().unwrap();
            (path, found.len(), found.ino(), found.mtime_nsec())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_test_refuses_a_lost_target_as_reload_and_start_do() {
    let server = Server::start("targets blue green;", "");
    server.say(&["switch", "a.example", "green"]).done();
    edit(&server, "targets blue green;", "targets blue;");
    let text = "switch \"live\" no longer has targets that keys lead to: a.example (green)";
    refused(&server, text);
    let started = restarted(&server);
    assert_eq!(started.code, 1, "{}", started.err);
    let log = std::fs::read_to_string(server.path("logs/error.log")).unwrap();
    assert!(log.contains(text), "{log}");
    // Without a server too, and without a trace beside the store.
    let before = state_files(&server);
    let tested = server.say(&["-t"]);
    assert_eq!(tested.code, 1);
    assert!(tested.err.contains(text), "{}", tested.err);
    assert_eq!(state_files(&server), before);
}

#[test]
fn a_switch_with_keys_is_not_renamed_in_silence() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    edit(&server, "$live", "$shop");
    let text =
        "switch \"live\" is gone from the configuration, and keys have routes in it: a.example (green)";
    refused(&server, text);
    edit(&server, "$host $shop {", "$host $shop from=live {");
    server.say(&["-t"]).done();
    server.say(&["reload"]).done();
    assert!(server.get("a.example").ends_with("green"));
    let shown = server.say(&["show", "a.example"]).done();
    assert!(shown.starts_with("a.example: green"), "{shown}");
    // The old name is not missed.
    server.say(&["reload"]).done();
}

#[test]
fn a_start_refuses_a_removed_switch_with_keys() {
    let server = Server::start("", "upstream red { server 127.0.0.1:1; }");
    server.say(&["switch", "a.example", "green"]).done();
    let block = "switch $host $live { default blue;  }";
    edit(&server, block, "");
    edit(&server, "http://$live", "http://blue");
    let text = "switch \"live\" is gone from the configuration";
    refused(&server, text);
    let started = restarted(&server);
    assert_eq!(started.code, 1, "{} {}", started.out, started.err);
    let log = std::fs::read_to_string(server.path("logs/error.log")).unwrap();
    assert!(log.contains(text) && log.contains("a.example (green)"), "{log}");
    assert!(server.say(&["-t"]).err.contains(text));
    edit(&server, "upstream red {", "switch_retired live; upstream red {");
    server.say(&["-t"]).done();
}

#[test]
fn promise_9_a_changed_default_is_gated_recorded_and_undone() {
    let server = Server::start("gate healthy=1;", "upstream red { server 127.0.0.1:1; }");
    let leads = |target: &str| {
        let shown = server.say(&["show", "a.example"]).done();
        assert!(shown.starts_with(&format!("a.example: {target}")), "{shown}");
    };
    edit(&server, "default blue;", "default red;");
    let reloaded = server.say(&["reload"]);
    let text = "switch \"live\": its default would be red now, and target \"red\" has 0 of 1 required healthy servers";
    assert!(reloaded.code != 0 && reloaded.err.contains(text), "{}", reloaded.err);
    leads("blue");
    assert!(!server.say(&["history"]).done().contains("reload  default"));
    edit(&server, "default red;", "default green;");
    server.say(&["reload"]).done();
    leads("green");
    assert!(server.get("a.example").ends_with("green"));
    let history = server.say(&["history"]).done();
    assert!(history.contains("reload  default") && history.contains("blue -> green"), "{history}");
    // It is undone as any commit; the same file does not commit it again.
    server.say(&["undo", "--commit", "1"]).done();
    leads("blue");
    let text = "default: file says green, table says blue since revision 2";
    for args in [&["list"][..], &["status"], &["reload"]] {
        let said = server.say(args).done();
        assert!(said.contains(text), "{args:?}: {said}");
    }
    let tested = server.say(&["-t"]);
    assert!(tested.code == 0 && tested.err.contains(text), "{}", tested.err);
    leads("blue");
}

#[test]
fn a_forced_reload_leaves_keys_behind_once() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    edit(&server, "events {}", "error_log logs/error.log warn; events {}");
    server.say(&["reload"]).done();
    edit(&server, "$live", "$shop");
    let left =
        "switch \"live\" is gone from the configuration, and keys have routes in it: a.example (green)";
    let reloaded = server.say(&["reload", "--force"]).done();
    assert!(reloaded.contains(&format!("forced: {left}")), "{reloaded}");
    // It is known afterwards, too.
    let log = std::fs::read_to_string(server.path("logs/error.log")).unwrap();
    assert!(log.contains("[warn]") && log.contains(&format!("the reload was forced: {left}")), "{log}");
    let history = server.say(&["history", "--kind", "reload"]).done();
    assert!(history.contains("forced: ") && history.contains("a.example (green)"), "{history}");
    let reloaded = server.say(&["reload"]).done();
    assert!(!reloaded.contains("forced"), "{reloaded}");
    let history = server.say(&["history", "--kind", "reload", "--limit", "1"]).done();
    assert!(!history.contains("forced"), "{history}");
    server.say(&["-t"]).done();
}

#[test]
fn a_test_says_that_there_is_no_store() {
    let server = Server::start("", "");
    assert!(!server.say(&["-t"]).err.contains("no store"), "the server has it open");
    server.say(&["-s", "stop"]);
    server.until("it has ended", || !server.path("run/pointsman.sock").exists());
    assert!(!server.say(&["-t"]).err.contains("no store"));
    std::fs::remove_dir_all(server.path("state")).unwrap();
    let tested = server.say(&["-t"]);
    let said = format!("switch \"live\": there is no store {} yet", server.path("state/live.db").display());
    assert!(tested.code == 0 && tested.err.contains(&said), "{}", tested.err);
    assert!(tested.err.contains("test is successful"), "{}", tested.err);
    assert_eq!(server.say(&["-t", "--strict"]).code, 0, "it was checked that there is none");
    assert!(!server.path("state").exists());
}

#[test]
fn a_switch_without_keys_may_be_removed() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    server.say(&["undo", "a.example"]).done();
    edit(&server, "$live", "$shop");
    server.say(&["-t"]).done();
    server.say(&["reload"]).done();
}

#[test]
fn a_moved_store_is_refused() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    edit(&server, "default blue;", "default blue; state state/other.db;");
    refused(&server, "switch \"live\" no longer uses its store");
}

#[test]
fn a_store_that_cannot_be_checked_is_said_and_fails_a_strict_test() {
    let server = Server::start("", "");
    edit(&server, "events {}", "events {} control off;");
    let tested = server.say(&["-t"]);
    assert_eq!(tested.code, 0, "{}", tested.err);
    assert!(tested.err.contains("stores of switches not checked"), "{}", tested.err);
    assert_eq!(server.say(&["-t", "--strict"]).code, 1);
}

#[test]
fn requests_from_before_a_switch_was_renamed_are_still_its_own() {
    let server = Server::start("", "");
    server.say(&["switch", "other.example", "green"]).done();
    let _waiting = server.ask("a.example");
    let mut blue = server.asked_blue();
    edit(&server, "$host $live {", "$host $shop from=live {");
    edit(&server, "http://$live", "http://$shop");
    server.say(&["reload"]).done();
    let held = server.say(&["switch", "a.example", "green", "--hold", "--timeout", "300ms"]);
    assert!(held.code == 1 && held.err.contains("1 request still in flight"), "{}{}", held.out, held.err);
    let waited = server.say(&["switch", "a.example", "green", "--wait", "drained", "--timeout", "300ms"]);
    assert_eq!(waited.code, 4, "{}", waited.out);
    blue.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(server.say(&["wait"]).done().contains("old side: empty"));
}
