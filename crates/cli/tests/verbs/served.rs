//! The verbs against a running server.

use super::*;
use std::io::{BufRead, BufReader};

#[test]
fn the_environment_names_the_server() {
    let server = Server::start("", "");
    let elsewhere = tempfile::tempdir().unwrap();
    let socket = server.path("run/pointsman.sock").display().to_string();
    let prefix = server.folder.path().display().to_string();
    let list = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pointsman"));
        command.current_dir(elsewhere.path()).envs(variables.iter().copied()).args(words).arg("list");
        said(output_of(&mut command, PATIENCE).unwrap())
    };
    assert!(list(&[("POINTSMAN_CONTROL", &socket)], &[]).done().starts_with("live: "));
    assert!(list(&[("POINTSMAN_PREFIX", &prefix)], &[]).done().starts_with("live: "));
    // The command line outweighs it.
    assert!(list(&[("POINTSMAN_CONTROL", "nowhere")], &["-p", &prefix]).done().starts_with("live: "));
    assert_eq!(list(&[("POINTSMAN_CONTROL", "nowhere")], &[]).code, 3);
}

#[test]
fn a_timeline_is_searched() {
    let server = Server::start("", "switch $host $edge { default blue; targets blue green; state memory; }");
    let order = |switch: &str, key: &str, actor: &str| {
        server.say(&["--switch", switch, "switch", key, "green", "--actor", actor]).done();
    };
    order("live", "a.example", "anna");
    order("edge", "b.example", "ben");
    order("live", "c.example", "ben");
    server.say(&["--switch", "live", "undo", "a.example"]).done();
    let heads = |words: &[&str]| -> Vec<String> {
        let text = server.say(&[&["history"], words].concat()).done();
        let heads = text.lines().filter(|line| line.contains(':') && !line.starts_with(' '));
        heads.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(heads(&[]), ["live: 3", "live: 2", "edge: 1", "live: 1"]);
    assert_eq!(heads(&["--actor", "ben", "--since", "1h"]), ["live: 2", "edge: 1"]);
    assert_eq!(heads(&["--kind", "undo_keys", "--target", "green"]), ["live: 3"]);
    assert_eq!(heads(&["b.example"]), ["edge: 1"]);
    assert_eq!(heads(&["--limit", "1"]), ["live: 3"]);
    assert_eq!(server.say(&["--switch", "edge", "history", "--json"]).json()["commits"][0]["revision"], 1);
    let json = server.say(&["history", "--kind", "undo_keys", "--json"]).json();
    assert_eq!((&json["switch"], &json["revision"]), (&"live".into(), &3.into()));
}

#[test]
fn undo_alone_says_what_it_undoes() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green", "-m", "release 7", "--actor", "anna"]).done();
    server.say(&["switch", "b.example", "green"]).done();
    server.say(&["undo", "b.example"]).done();
    let undone = server.say(&["undo"]).done();
    let lines: Vec<&str> = undone.lines().collect();
    assert!(lines[0].starts_with("to undo, ") && lines[0].ends_with(" old:"), "{undone}");
    assert!(lines[1].contains("for anna  \"release 7\""), "{undone}");
    assert_eq!(lines[3], "on top of it, 2 newer commits:");
    assert!(undone.contains("a.example: green -> default (blue)"), "{undone}");
    assert_eq!(server.say(&["undo"]).code, 1, "nothing is left to undo");
    let listed = server.say(&["switch", "", "green"]);
    assert_eq!(listed.code, 1, "a host is never empty");
}

#[test]
fn a_key_is_switched_split_confirmed_listed_and_undone() {
    let server = Server::start("", "");
    let switched =
        server.say(&["switch", "Shop.Example.", "green", "-m", "release 7", "--actor", "Jürgen"]).done();
    assert!(
        switched.starts_with("live: revision 1\n  shop.example: default (blue) -> green\n"),
        "{switched}"
    );
    assert!(switched.contains("applied by all workers within"), "{switched}");
    assert!(server.get("shop.example").ends_with("green"));

    let shown = server.say(&["show", "shop.example"]).done();
    assert!(shown.starts_with("shop.example: green (since revision 1)\n"), "{shown}");
    assert!(shown.contains("for Jürgen  \"release 7\""), "{shown}");
    assert_eq!(server.say(&["show", "other.example"]).done(), "other.example: blue (by default)\n");

    let split = server.say(&["split", "*.example", "green=10", "blue=90", "--confirm-within", "1h"]).done();
    assert!(split.contains("*.example: default (blue) -> blue=90 green=10\n"), "{split}");
    assert!(split.contains("unless confirmed: pointsman confirm 2\n"), "{split}");
    let confirmed = server.say(&["confirm"]).done();
    assert!(confirmed.starts_with("live: revision 3\n  confirms revision 2 by "), "{confirmed}");
    assert!(confirmed.contains("\n    *.example: default -> blue=90 green=10\n"), "{confirmed}");
    assert_eq!(server.say(&["confirm", "2"]).code, 1);

    assert!(server.say(&["switch", "a.example", "b.example", "green"]).done().contains("revision 4"));
    let list = server.say(&["list"]).done();
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0].join(" "), "live: revision 4, 4 keys, default blue, targets blue green");
    assert_eq!(
        rows[2..],
        [
            vec!["*.example", "blue=90", "green=10", "2"],
            vec!["a.example", "green", "4"],
            vec!["b.example", "green", "4"],
            vec!["shop.example", "green", "1"]
        ]
    );
    for arguments in [&["list", "shop"][..], &["list", "--target", "blue", "--limit", "9"]] {
        let list = server.say(arguments).done();
        assert!(list.lines().count() == 4 && list.ends_with("\n  1 of 4 keys listed\n"), "{list}");
    }

    assert!(server.say(&["undo", "a.example"]).done().contains("a.example: green -> default (blue)"));
    assert!(server.say(&["undo", "--commit", "1"]).done().contains("shop.example: green -> default (blue)"));
    assert!(
        server
            .say(&["switch", "--default", "b.example"])
            .done()
            .contains("b.example: green -> default (blue)")
    );
    let history = server.say(&["history", "--verify"]).done();
    assert!(history.contains("undo of 1\n"), "{history}");
    assert!(history.contains("live: 7 commits verified"), "{history}");
    assert_eq!(
        server.say(&["history", "shop.example", "--json"]).json()["commits"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn refusals_come_with_a_remedy() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    for (words, text) in [
        (
            &["switch", "a.example", "red"][..],
            "pointsman: switch \"live\" has no target \"red\"\n  its targets are blue, green",
        ),
        (&["switch", "a b", "green"], "pointsman: invalid key \"a b\""),
        (
            &["switch", "a.example", "blue", "--expect", "0"],
            "pointsman: the switch is at revision 1, not 0\n",
        ),
        (&["undo", "--commit", "9"], "pointsman: there is no revision 9\n"),
        (&["release", "a.example"], "pointsman: "),
        (&["list", "--switch", "life"], "pointsman: there is no switch \"life\"\n"),
        (&["compare", "blue", "red"], "pointsman: unknown upstream group \"red\"\n  use one of blue, green"),
    ] {
        let refused = server.say(words);
        assert_eq!((refused.code, &*refused.out), (1, ""), "{words:?} {}", refused.err);
        assert!(refused.err.starts_with(text), "{words:?} {}", refused.err);
        let lines: Vec<&str> = refused.err.lines().collect();
        assert!(lines.len() > 1 && lines[1].starts_with("  "), "no remedy: {}", refused.err);
    }
    // Programs read all of it in one place.
    let refused = server.say(&["switch", "a.example", "red", "--json"]);
    assert_eq!((refused.code, &*refused.err), (1, ""));
    assert_eq!(refused.json()["code"], "unknown_target");
}

#[test]
fn a_failed_gate_fails_the_dry_run_and_the_order() {
    let server = Server::start("gate healthy=1 timeout=1s;", "");
    std::fs::remove_file(server.path("green")).unwrap();
    let plan = server.say(&["switch", "a.example", "green", "--dry-run"]);
    assert_eq!(plan.code, 1, "{}{}", plan.out, plan.err);
    assert!(
        plan.out.starts_with("live: the gate would refuse\n  a.example: default (blue) -> green"),
        "{}",
        plan.out
    );
    let refused = server.say(&["switch", "a.example", "green"]);
    assert_eq!(refused.code, 1);
    let green = format!("  unix:{}", server.path("green").display());
    assert!(refused.err.lines().any(|line| line.starts_with(&green)), "{}", refused.err);
    let forced = server.say(&["switch", "a.example", "green", "--force"]).done();
    assert!(forced.contains("overruled by --force"), "{forced}");
}

#[test]
fn a_list_of_changes_is_one_commit() {
    let server = Server::start("", "");
    let list = server.path("list.txt");
    std::fs::write(&list, "a.example green\nb.example green=1 blue=3\n").unwrap();
    let list = list.display().to_string();
    let plan = server.say(&["switch", "--from", &list, "-n"]).done();
    assert!(plan.starts_with("live: would switch\n"), "{plan}");
    let done = server.say(&["switch", "--from", &list, "--json"]).json();
    assert_eq!((&done["revision"], &done["changed_keys"]), (&1.into(), &2.into()));
    std::fs::write(server.path("list.txt"), "a.example green\nb.example\n").unwrap();
    let refused = server.say(&["switch", "--from", &list]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("list.txt:2: the target is missing"), "{}", refused.err);
}

#[test]
fn an_unfinished_drain_is_exit_code_4() {
    let server = Server::start("", "");
    let waiting = server.ask("a.example");
    let origin = server.asked_blue();
    let switched = server.say(&["switch", "a.example", "green", "--wait", "drained", "--timeout", "50ms"]);
    assert_eq!(switched.code, 4, "{}{}", switched.out, switched.err);
    assert!(switched.out.contains("old side: 1 request in flight"), "{}", switched.out);
    let plan = server.say(&["switch", "a.example", "blue", "--dry-run"]).done();
    assert!(plan.contains("in flight"), "{plan}");
    drop((origin, waiting));
    let back = server.say(&["switch", "a.example", "blue", "--wait", "drained"]);
    assert_eq!(back.code, 0, "{}{}", back.out, back.err);
}

#[test]
fn requests_wait_in_a_hold() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    let held = server.say(&["hold", "a.example", "--max", "3", "--timeout", "1m"]).done();
    assert_eq!(held, "a.example: held; up to 3 new requests wait, each for up to 60.0 s\n");
    let mut waiting = server.ask("a.example");
    server.until("it waits", || server.say(&["show", "a.example"]).done().contains(", 1 of 3 waiting"));
    assert!(server.say(&["list"]).done().contains("a.example: held since"));
    assert_eq!(
        server.say(&["release", "a.example", "--rate", "50"]).done(),
        "a.example: 1 waiting request goes on, 50 a second\n"
    );
    let mut text = String::new();
    waiting.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("green"), "{text}");
}

#[test]
fn several_switches_need_a_name() {
    let server = Server::start("", "switch $arg_k $other { default green; state memory; }");
    let unclear = server.say(&["switch", "a.example", "green"]);
    assert_eq!(unclear.code, 2);
    assert!(unclear.err.contains("live, other"), "{}", unclear.err);
    server.say(&["--switch", "other", "switch", "a/b c", "blue"]).done();
    assert!(
        server
            .say(&["show", "a/b c", "--switch", "other"])
            .done()
            .starts_with("a/b c: blue (since revision 1)")
    );
    let list = server.say(&["list"]).done();
    assert!(list.starts_with("live: revision 0") && list.contains("\n\nother: revision 1"), "{list}");
}

#[test]
fn events_are_watched() {
    let server = Server::start("", "");
    let mut watch =
        ProcessGroup::start(command(server.folder.path(), &["watch"]).stdout(Stdio::piped())).unwrap();
    let mut lines = BufReader::new(watch.child().stdout.take().unwrap()).lines();
    // Events before the listener is connected are not sent to it.
    let mut n = 0;
    let (heard, listen) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || heard.send(lines.next().unwrap().unwrap()));
    server.until("an event is heard", || {
        n += 1;
        server.say(&["switch", "a.example", ["green", "blue"][n % 2], "-m", "why"]).done();
        listen.try_recv().map(|line| assert!(line.contains("  live  "), "{line}")).is_ok()
    });
    watch.end().unwrap();
    reader.join().unwrap().unwrap();
    let mut past = command(server.folder.path(), &["watch", "--after", "0", "--json"]);
    let mut past = ProcessGroup::start(past.stdout(Stdio::piped())).unwrap();
    let mut lines = BufReader::new(past.child().stdout.take().unwrap()).lines();
    let (heard, listen) = std::sync::mpsc::channel();
    std::thread::spawn(move || heard.send(lines.next().unwrap().unwrap()));
    let line = listen.recv_timeout(PATIENCE).unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&event["event"], &event["revision"], &event["reason"]),
        (&"committed".into(), &1.into(), &"why".into())
    );
}

#[test]
fn figures_are_shown() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    for _ in 0..30 {
        assert!(server.get("a.example").ends_with("green"));
    }
    let status = server.say(&["status", "--window", "1h"]).done();
    let row = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{status}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<String>>()
    };
    // Name, rate, errors, and so on; nothing is in flight.
    let green = row("green ");
    assert_eq!((&*green[2], &*green[3], &**green.last().unwrap()), ("0", "%", "0"), "{status}");
    assert_eq!(row("a.example ")[1], "green", "{status}");
    assert_eq!(server.say(&["status", "--json"]).json()["groups"][1]["traffic"]["total"], 30);
    let compared = server.say(&["compare", "blue", "green", "--window", "1m"]).done();
    let other = server.say(&["status", "--switch", "other"]).done();
    assert!(status.contains("live: revision 1") && !other.contains("live: revision 1"), "{other}");
    assert!(compared.contains("too few requests"), "{compared}");
}

#[test]
fn a_location_is_a_way_in_too() {
    let front = Server::start("", "");
    // The front listens on a socket, and --control takes a network address: one that passes everything on.
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = proxy.local_addr().unwrap().port();
    let to = front.path("front");
    std::thread::spawn(move || {
        for client in proxy.incoming() {
            let (mut client, mut server) = (client.unwrap(), UnixStream::connect(&to).unwrap());
            let (mut from, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut server));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    let place = format!("http://127.0.0.1:{port}/control/");
    let done = front.say(&["switch", "a.example", "green", "--control", &place, "--json"]).json();
    assert!(done["actor"].as_str().unwrap().starts_with("http:"), "{done}");
    assert!(front.say(&["show", "a.example", "--control", &place]).done().starts_with("a.example: green"));
}
