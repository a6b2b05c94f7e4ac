//! Verbs that need no server: errors in the command line, help, completions, manual pages.

use super::*;

fn alone(words: &[&str]) -> Said {
    say(Path::new("/nonexistent"), words)
}

#[test]
fn wrong_command_lines_are_code_two() {
    for words in [
        &["switch"][..],
        &["switch", "a.example"],
        &["switch", "a.example", "green", "--expect", "x"],
        &["switch", "a.example", "green", "--timeout", "soon"],
        &["switch", "a.example", "green", "--wait", "long"],
        &["switch", "a.example", "green", "--hold-max", "3"],
        &["switch", "a.example", "green", "--from", "x"],
        &["split", "a.example"],
        &["split", "a.example", "green"],
        &["undo", "a.example", "--commit", "3"],
        &["status", "--window", "2m"],
        &["list", "-t"],
        &["top"],
        &["frobnicate"],
        &["switch", "a.example", "green=10", "blue=90"],
    ] {
        let refused = alone(words);
        assert_eq!(refused.code, 2, "{words:?}: {}", refused.err);
        assert!(refused.out.is_empty() && !refused.err.is_empty(), "{words:?}");
    }
}

#[test]
fn nginx_flags_are_nginx_flags() {
    let start = alone(&["-t", "start"]);
    assert_eq!((start.code, &*start.err), (1, "pointsman: invalid option: \"start\"\n"));
    assert_eq!(alone(&["-v"]).code, 0);
    let help = alone(&["-h"]).done();
    assert!(help.contains("  -t ") && help.contains("\n  switch  "), "{help}");
    assert!(alone(&["--help"]).done().contains("Exit codes:"));
    assert!(alone(&["help", "undo"]).done().contains("pointsman undo --commit 17"));
}

#[test]
fn a_wrong_verb_names_the_right_one() {
    let typo = alone(&["-p", "/nonexistent", "swich", "a", "b"]);
    let meant = "pointsman: unknown verb \"swich\"\n  did you mean: pointsman switch? `pointsman --help` lists the verbs\n";
    assert_eq!((typo.code, &*typo.err), (2, meant));
    assert!(alone(&["stop"]).err.contains("pointsman -s stop"));
    let split = alone(&["switch", "a.example", "green=10", "blue=90"]);
    assert!(split.err.ends_with("pointsman split a.example green=10 blue=90\n"), "{}", split.err);
    assert!(alone(&["--version"]).done().starts_with("pointsman "));
}

#[test]
fn completions_are_accepted_by_the_shells() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = alone(&["completions", shell]).done();
        assert!(text.contains("confirm-within"), "{shell}");
        let mut check =
            match Command::new(shell).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn() {
                Ok(check) => check,
                // A shell that is not installed checks nothing.
                Err(_) => continue,
            };
        check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let checked = check.wait_with_output().unwrap();
        assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn each_verb_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    alone(&["man", &folder.path().display().to_string()]).done();
    let help = alone(&["--help"]).done();
    let verbs = help.lines().skip_while(|line| *line != "Verbs:").skip(1).take_while(|line| !line.is_empty());
    let mut pages = 1;
    for verb in verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help") {
        let page = std::fs::read_to_string(folder.path().join(format!("pointsman-{verb}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(&format!("pointsman\\-{verb}")), "{verb}");
        pages += 1;
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), pages);
    let first = std::fs::read_to_string(folder.path().join("pointsman.1")).unwrap();
    assert_eq!(alone(&["man"]).done(), first);
    assert!(first.contains("Exit codes"));
    assert_eq!(alone(&["man", "/nonexistent/folder"]).code, 2);
}
