//! `upgrade`, and what holds while two masters share the sockets and the store.

use super::*;
use std::collections::BTreeMap;

/// Sends a signal to the process that a pid file names.
fn signal(server: &Server, pid_file: &str, signal: &str) {
    let pid = std::fs::read_to_string(server.path(pid_file)).unwrap();
    assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
}

/// Returns the revision that each master's worker serves, by the master's process number, as many answers show it. All are
/// asked at once: who accepts next is the system's choice, and often the one that did before.
fn revisions(server: &Server) -> BTreeMap<u64, u64> {
    let connect = |_| bounded(UnixStream::connect(server.path("run/pointsman.sock")).unwrap());
    let mut asked: Vec<UnixStream> = (0..12).map(connect).collect();
    // A process that ends just then takes no request, or does not answer it any more.
    asked.retain_mut(|stream| stream.write_all(b"GET /v1/status HTTP/1.0\r\nHost: x\r\n\r\n").is_ok());
    let state = |mut stream: UnixStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (_, body) = text.split_once("\r\n\r\n")?;
        let state: Value = serde_json::from_str(body).unwrap();
        Some((state["parent_pid"].as_u64()?, state["switches"][0]["revision"].as_u64()?))
    };
    asked.into_iter().filter_map(state).collect()
}

#[test]
fn two_processes_serve_the_same_table() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    signal(&server, "logs/pointsman.pid", "-USR2");
    server.until("both answer", || revisions(&server).len() == 2);
    for revision in 2..8 {
        let target = if revision % 2 == 0 { "blue" } else { "green" };
        // Either may take it: the other one follows.
        let said = server.say(&["switch", "a.example", target]).done();
        assert!(said.starts_with(&format!("live: revision {revision}\n")), "{said}");
        server.until("both are there", || {
            let known = revisions(&server);
            known.len() == 2 && known.values().all(|known| *known == revision)
        });
    }
    // All at once: the slower one repeats its order on top of the other's.
    let orders: Vec<ProcessGroup> = (0..8)
        .map(|number| {
            let words = ["switch", &format!("k{number}.example"), "green"];
            ProcessGroup::start(command(server.folder.path(), &words).stdout(Stdio::null())).unwrap()
        })
        .collect();
    assert!(orders.iter().all(|order| end_of(order) == 0));
    server.until("both have all", || {
        let known = revisions(&server);
        known.len() == 2 && known.values().all(|known| *known == 15)
    });
    // The new one goes, and nothing of it is lost.
    signal(&server, "logs/pointsman.pid", "-QUIT");
    server.until("one answers", || revisions(&server).len() == 1);
    let history = server.say(&["history", "--verify"]).done();
    assert!(history.contains("live: 15 commits verified"), "{history}");
    assert!(server.get("k7.example").ends_with("green"));
}

#[test]
fn another_binary_takes_over() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green", "--confirm-within", "1h"]).done();
    let copy = server.path("pointsman-next");
    std::fs::copy(env!("CARGO_BIN_EXE_pointsman"), &copy).unwrap();
    let before = std::fs::read_to_string(server.path("logs/pointsman.pid")).unwrap();
    let done = server.say(&["upgrade", "--binary", copy.to_str().unwrap(), "--json"]).json();
    assert_eq!(done["old_pid"].to_string(), before.trim());
    let pid = std::fs::read_to_string(server.path("logs/pointsman.pid")).unwrap();
    assert_eq!(done["new_pid"].to_string(), pid.trim());
    assert_eq!(std::fs::read_link(format!("/proc/{}/exe", pid.trim())).unwrap(), copy);
    assert!(server.get("a.example").ends_with("green"));
    // What awaits a confirmation goes on waiting for it.
    assert!(server.say(&["confirm"]).done().starts_with("live: revision 2\n"));
    let upgrades = server.say(&["history", "--kind", "upgrade"]).done();
    assert_eq!(upgrades.lines().count(), 1, "{upgrades}");
    let again = server.say(&["upgrade"]).done();
    assert!(again.starts_with("pointsman "), "{again}");
    assert!(server.get("a.example").ends_with("green"));
}

#[test]
fn what_the_old_process_still_serves_is_neither_empty_nor_held() {
    let server = Server::start("", "");
    server.say(&["switch", "other.example", "green"]).done();
    let _request = server.ask("a.example");
    let mut blue = server.asked_blue();
    server.say(&["upgrade"]).done();
    let held = server.say(&["switch", "a.example", "green", "--hold", "--timeout", "2s"]);
    assert_eq!(held.code, 1, "{}", held.err);
    let left = "1 request still in flight after 2000 ms, 1 of them in another process of this server";
    assert!(held.err.contains(left), "{}", held.err);
    // Of another key nothing is left there: it need not wait for the old process.
    let other = server.say(&["switch", "other.example", "blue", "--hold", "--wait", "drained"]).done();
    assert!(other.contains("old side: empty"), "{other}");
    let waited = server.say(&["switch", "a.example", "green", "--wait", "drained", "--timeout", "2s"]);
    assert_eq!(waited.code, 4, "{}{}", waited.out, waited.err);
    assert!(waited.out.contains("old side: 1 request in flight, 1 in another process"), "{}", waited.out);
    let again = server.say(&["switch", "a.example", "green", "--wait", "drained", "--timeout", "100ms"]);
    assert_eq!(again.code, 4, "{}{}", again.out, again.err);
    let busy = server.say(&["server", "blue", "--json"]).json();
    let address = busy["servers"][0]["server"].as_str().unwrap();
    let drain = ["server", "blue", "drain", address, "--force", "--wait", "drained", "--timeout", "1s"];
    let drained = server.say(&drain);
    assert_eq!(drained.code, 4, "{}{}", drained.out, drained.err);
    assert!(drained.out.contains("1 request still there, 1 in another process"), "{}", drained.out);
    blue.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    let waited = server.say(&["wait", "--switch", "live", "3"]).done();
    assert!(waited.contains("old side: empty"), "{waited}");
}

/// Returns a stream of this host that goes on, and the end of it at blue.
fn stream(server: &Server, host: &str) -> (UnixStream, UnixStream) {
    let client = server.ask(host);
    let mut origin = server.asked_blue();
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    origin.write_all(head).unwrap();
    (&client).read_exact(&mut [0; 12]).unwrap();
    (client, origin)
}

#[test]
fn promise_3_streams_of_the_old_process_refuse_a_hold_or_are_closed() {
    let server = Server::start("", "");
    server.say(&["switch", "other.example", "green"]).done();
    let (mut client, _origin) = stream(&server, "a.example");
    server.say(&["upgrade"]).done();
    let refused = server.say(&["switch", "a.example", "green", "--hold"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("1 stream is open on the old side"), "{}", refused.err);
    server.say(&["switch", "a.example", "green", "--hold", "--hold-streams", "close"]).done();
    // It was closed before the commit.
    client.read_to_end(&mut Vec::new()).unwrap();
    assert!(server.get("a.example").ends_with("green"));
}

#[test]
fn promise_7_streams_of_the_old_process_are_closed_too() {
    let server = Server::start("streams close after=1s;", "");
    server.say(&["switch", "other.example", "green"]).done();
    let (mut client, _origin) = stream(&server, "a.example");
    let (mut stays, mut origin) = stream(&server, "b.example");
    server.say(&["upgrade"]).done();
    let waited = server.say(&["switch", "a.example", "green", "--wait", "drained"]).done();
    assert!(waited.contains("old side: empty"), "{waited}");
    client.read_to_end(&mut Vec::new()).unwrap();
    origin.write_all(b"data: 2\n\n").unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"data: 2\n\n") {
        let mut byte = [0];
        stays.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
}

#[test]
fn promise_11_requests_that_wait_in_the_old_process_are_counted_and_released() {
    let server = Server::start("", "");
    server.say(&["hold", "a.example", "--timeout", "60s"]).done();
    let mut client = server.ask("a.example");
    server.until("it waits", || server.say(&["list"]).done().contains("1 of 1000 waiting"));
    // Both processes serve until the old one has nothing left: it is asked to end, and cannot yet.
    server.say(&["upgrade"]).done();
    let counted = "1 of 1000 waiting, 1 of them in another process";
    server.until("it is counted", || server.say(&["list"]).done().contains(counted));
    // While the key is held nothing of it is left on either side.
    server.say(&["switch", "a.example", "green"]).done();
    let released = server.say(&["release", "a.example"]).done();
    assert_eq!(released, "a.example: 1 waiting request released, 1 of them in another process\n");
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    // It follows what was committed before it was released.
    assert!(answer.ends_with("green"), "{answer}");
}

#[test]
fn a_refused_upgrade_changes_nothing() {
    let server = Server::start("", "");
    let pid = || std::fs::read_to_string(server.path("logs/pointsman.pid")).unwrap();
    let before = pid();
    let conf = std::fs::read_to_string(server.path("conf/nginx.conf")).unwrap();
    let refused = |words: &[&str], text: &str| {
        let said = server.say(words);
        assert_eq!((said.code, &*said.out), (1, ""), "{}", said.err);
        assert!(said.err.contains(text), "{}", said.err);
        assert_eq!(pid(), before);
        assert!(!server.path("logs/pointsman.pid.oldbin").exists());
        assert!(server.say(&["list"]).done().starts_with("live: revision "));
    };
    refused(&["upgrade", "--binary", "/nonexistent"], "cannot run /nonexistent");
    std::fs::write(server.path("conf/nginx.conf"), conf.replace("events {}", "events { nonsense; }"))
        .unwrap();
    refused(&["upgrade"], "unknown directive \"nonsense\"");
    // It tests well, and cannot serve.
    std::fs::write(
        server.path("conf/nginx.conf"),
        conf.replace("http {", "http { init_by_lua_block { error('no') }"),
    )
    .unwrap();
    refused(&["upgrade"], "keeps serving");
    // It serves, without the switch.
    std::fs::write(server.path("conf/nginx.conf"), conf.replace("$live", "$dead")).unwrap();
    refused(&["upgrade", "--timeout", "1s"], "it has no switch \"live\"");
    std::fs::write(server.path("conf/nginx.conf"), &conf).unwrap();
    server.say(&["upgrade"]).done();
    assert_ne!(pid(), before);
}

#[test]
fn holds_that_only_this_process_has_refuse_another_one() {
    let server = Server::start("state memory;", "");
    server.say(&["hold", "a.example"]).done();
    let refused = server.say(&["upgrade"]);
    assert!(refused.code == 1 && refused.err.contains("are held"), "{}", refused.err);
    let path = server.path("conf/nginx.conf");
    let conf = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, conf.replace("worker_processes 2", "worker_processes 1")).unwrap();
    let refused = server.say(&["reload"]);
    assert!(refused.code == 1 && refused.err.contains("release them first"), "{}", refused.err);
    server.say(&["release", "a.example"]).done();
    server.say(&["reload"]).done();
}

/// Writes a program that runs this script with the path of the real one in `$real`.
fn script(server: &Server, text: &str) -> String {
    let path = server.path("wrapper");
    let real = env!("CARGO_BIN_EXE_pointsman");
    let pid_file = server.path("logs/pointsman.pid");
    let header = format!(
        "#!/bin/sh\nreal={real}; pid_file={}; folder={}\n",
        pid_file.display(),
        server.path("").display()
    );
    std::fs::write(&path, format!("{header}{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Returns true while one of the processes in a file runs.
fn any_runs(server: &Server, file: &str) -> bool {
    let pids = std::fs::read_to_string(server.path(file)).unwrap();
    assert!(!pids.is_empty());
    pids.split_whitespace().any(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    })
}

/// Upgrades to a script that cannot take over, and checks that nothing has changed.
fn taken_back(text: &str, timeout: &str, error: &str) {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    let before = std::fs::read_to_string(server.path("logs/pointsman.pid")).unwrap();
    let binary = script(&server, text);
    let said = server.say(&["upgrade", "--binary", &binary, "--timeout", timeout]);
    assert_eq!((said.code, &*said.out), (1, ""), "{}", said.err);
    assert!(said.err.contains(error), "{}", said.err);
    assert_eq!(std::fs::read_to_string(server.path("logs/pointsman.pid")).unwrap(), before);
    assert!(!server.path("logs/pointsman.pid.oldbin").exists());
    if server.path("pids").exists() {
        server.until("its processes have ended", || !any_runs(&server, "pids"));
    }
    server.until("the old one alone", || {
        revisions(&server).into_keys().eq([before.trim().parse::<u64>().unwrap()])
    });
    assert!(server.get("a.example").ends_with("green"));
    assert!(server.say(&["reload"]).done().starts_with("the new configuration is active\n"));
    server.say(&["upgrade", "--binary", env!("CARGO_BIN_EXE_pointsman")]).done();
    assert_ne!(std::fs::read_to_string(server.path("logs/pointsman.pid")).unwrap(), before);
    assert!(server.get("a.example").ends_with("green"));
}

#[test]
fn a_test_that_hangs_ends_with_the_timeout() {
    let text = "trap '' TERM; sleep 100 & echo $$ $! > $folder/pids; wait; wait";
    taken_back(text, "500ms", "did not test the configuration in time");
}

#[test]
fn a_program_that_hangs_at_its_start_is_killed_with_its_children() {
    let text = "case \"$*\" in *-t*) exit 0;; esac
        trap '' TERM; sleep 100 & echo $$ $! > $folder/pids; while :; do wait; done";
    taken_back(text, "500ms", "the new process did not start; the old one keeps serving");
}

#[test]
fn a_master_that_hangs_is_killed_with_its_worker() {
    let text = "case \"$*\" in *-t*) exit 0;; esac
        (until [ \"$(cat $pid_file)\" = $$ ]; do sleep 0.01; done
         kill -STOP $$; all=$$
         # The worker first: the last one is this subshell.
         for pid in $(cat /proc/$$/task/$$/children); do all=\"$pid $all\"; done
         echo $all > $folder/pids; kill -STOP $all) 2>/dev/null &
        exec $real \"$@\"";
    taken_back(text, "3s", "the new process did not serve");
}

#[test]
fn a_master_that_dies_after_its_start_is_replaced_by_the_old_one() {
    let text = "case \"$*\" in *-t*) exit 0;; esac
        (until [ \"$(cat $pid_file)\" = $$ ]; do sleep 0.01; done; echo $$ > $folder/pids; kill -KILL $$) 2>/dev/null &
        exec $real \"$@\"";
    // It may be gone before it is seen: then it "did not start", else "it has exited".
    taken_back(text, "20s", "keeps serving");
}

#[test]
fn a_reload_says_what_came_of_it() {
    let server = Server::start("", "");
    let path = server.path("conf/nginx.conf");
    let conf = std::fs::read_to_string(&path).unwrap();
    assert!(server.say(&["reload"]).done().starts_with("the new configuration is active\n"));
    std::fs::write(&path, conf.replace("events {}", "events { nonsense; }\nother;")).unwrap();
    let refused = server.say(&["reload"]);
    assert_eq!((refused.code, &*refused.out), (1, ""));
    for text in [
        "stays active",
        "unknown directive \"nonsense\"",
        "unknown directive \"other\"",
        "fix the findings, and reload again",
    ] {
        assert_eq!(refused.err.matches(text).count(), 1, "{}", refused.err);
    }
    // What only the worker can find.
    server.say(&["switch", "a.example", "green"]).done();
    std::fs::write(&path, conf.replace("default blue;", "default blue; targets blue;")).unwrap();
    let refused = server.say(&["reload", "--json"]).json();
    assert_eq!(refused["code"], "config_refused");
    assert!(
        refused["details"]["findings"].to_string().contains("that keys lead to: a.example (green)"),
        "{refused}"
    );
    assert!(server.get("a.example").ends_with("green"));
    // One that needs another process is answered before the old one ends. That process holds what this one holds.
    server.say(&["hold", "b.example"]).done();
    std::fs::write(&path, conf.replace("worker_processes 2", "worker_processes 1")).unwrap();
    let before = server.say(&["status", "--json"]).json()["pid"].clone();
    assert!(server.say(&["reload"]).done().starts_with("the new configuration is active\n"));
    server.until("the other process alone", || server.say(&["status", "--json"]).json()["pid"] != before);
    assert!(server.get("a.example").ends_with("green"));
    assert!(server.say(&["list"]).done().contains("b.example: held since"));
}
