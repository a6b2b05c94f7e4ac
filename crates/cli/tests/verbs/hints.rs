//! What answers suggest can be done as it stands there, and what cannot be done says why.

use super::*;

#[test]
fn commands_that_answers_suggest_name_their_switch() {
    let server = Server::start("", "switch $http_x_key $other { default blue; targets blue green dynamic; }");
    let done =
        server.say(&["switch", "a.example", "green", "--switch", "live", "--confirm-within", "1h"]).done();
    let shown = server.say(&["list"]).done();
    for (text, command) in [
        (&done, "pointsman receipt --switch live 1"),
        (&done, "pointsman confirm --switch live 1"),
        (&shown, "pointsman confirm --switch live 1"),
    ] {
        assert!(text.contains(command), "{text}");
    }
    assert!(shown.contains("targets blue green dynamic\n"), "{shown}");
    let history = server.say(&["history", "--kind", "commit"]).done();
    assert!(history.starts_with("live:     1  "), "{history}");
    server.say(&["confirm", "--switch", "live", "1"]).done();
    let added = server.say(&["server", "green", "add", "127.0.0.1:9"]).done();
    assert!(!added.contains("--hold"), "{added}");
}

#[test]
fn one_switch_needs_no_name_in_commands() {
    let server = Server::start("", "");
    let done = server.say(&["switch", "a.example", "green", "--confirm-within", "1h"]).done();
    assert!(done.contains("pointsman receipt 1\n") && done.contains("pointsman confirm 1\n"), "{done}");
}

#[test]
fn verbs_about_keys_refuse_the_groups() {
    let server = Server::start("", "");
    for words in [
        &["show", "teal"][..],
        &["show"],
        &["show", "--at", "1"],
        &["switch", "a.example", "green"],
        &["split", "a.example", "green=1", "blue=1"],
        &["hold", "teal"],
        &["release", "teal"],
    ] {
        let said = server.say(&[words, &["--switch", "groups"]].concat());
        assert_eq!(said.code, 2, "{words:?}: {}", said.err);
        assert!(
            said.err.contains("\"groups\" has no keys") && said.err.contains("pointsman server"),
            "{}",
            said.err
        );
    }
    let listed = server.say(&["list", "--switch", "groups"]).done();
    assert!(listed.starts_with("group  ") && listed.contains("switch \"live\""), "{listed}");
    for (verb, has_holds) in [("switch", true), ("undo", true), ("server", false)] {
        let help = server.say(&[verb, "--help"]).done();
        assert_eq!(help.contains("--hold"), has_holds, "{help}");
    }
    assert!(!server.say(&["group", "create", "--help"]).done().contains("--hold"));
}

#[test]
fn mistyped_targets_are_suggested_and_file_lines_are_named() {
    let server = Server::start("targets blue green;", "");
    let mistyped = server.say(&["switch", "a.example", "Gren"]);
    assert!(mistyped.code == 1 && mistyped.err.contains("did you mean \"green\"?"), "{}", mistyped.err);
    let list = server.path("list.txt");
    std::fs::write(&list, "a.example green\nb.example red\n").unwrap();
    let refused = server.say(&["switch", "--from", list.to_str().unwrap()]);
    let place = format!("{}:2: b.example: switch \"live\" has no target \"red\"", list.display());
    assert!(refused.code == 1 && refused.err.contains(&place), "{}", refused.err);
    for words in [&["history", "--actor", "nobody"][..], &["history", "a.example"]] {
        let none = server.say(words);
        assert_eq!((none.code, &*none.out), (0, ""), "{words:?}");
        assert!(none.err.contains("no commit and no entry of the journal fits"), "{}", none.err);
    }
    let made = server.say(&["group", "create", "teal", "--server", "127.0.0.1:9"]).done();
    assert!(made.contains("note: no switch admits groups made at run time"), "{made}");
    server.say(&["hold", "a.example"]).done();
    let moved = server.say(&["switch", "a.example", "green"]).done();
    assert!(moved.contains("note: a.example is held by"), "{moved}");
    let accepted = server.say(&["restore", "--accept", "-m", "why"]);
    assert!(accepted.code == 1 && accepted.err.contains("there is nothing to accept"), "{}", accepted.err);
    let unchanged = server.say(&["switch", "a.example", "green", "--json"]).json();
    assert!(unchanged.get("time_ms").is_none(), "{unchanged}");
    let late = server.say(&["switch", "a.example", "blue", "--confirm-within", "400d"]);
    assert!(late.err.contains("use at most 30 days"), "{}", late.err);
}
