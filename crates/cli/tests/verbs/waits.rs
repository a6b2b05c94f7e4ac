//! Waits for the old side: interrupted, and taken up again.

use super::*;

#[test]
fn promise_2_an_interrupted_wait_says_what_stays_and_how_to_go_on() {
    let server = Server::start("", "");
    let waiting = server.ask("a.example");
    let origin = server.asked_blue();
    let order = ["switch", "a.example", "green", "--wait", "drained", "--timeout", "1m"];
    for signal in ["-INT", "-TERM"] {
        let mut verb = command(server.folder.path(), &order);
        let verb = verb.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        server.until("it is switched", || server.say(&["list"]).done().contains("revision 1,"));
        let id = verb.id().to_string();
        // Its order is answered by nothing yet: the signal finds it waiting.
        std::thread::sleep(Duration::from_millis(300));
        Command::new("kill").args([signal, &id]).status().unwrap();
        let ended = said(verb.wait_with_output().unwrap());
        if signal == "-INT" {
            assert_eq!(ended.code, 4, "{}{}", ended.out, ended.err);
            let stays = "interrupted: the commit stays, as revision 1; old side: 1 request in flight";
            assert!(ended.err.contains(stays), "{}", ended.err);
            assert!(ended.err.contains("to go on waiting: pointsman wait 1\n"), "{}", ended.err);
        } else {
            // The repeated order waits as well, and made no commit of its own.
            assert_eq!(ended.code, 5, "{}{}", ended.out, ended.err);
        }
    }
    let wait = server.say(&["wait", "1", "--timeout", "50ms"]);
    assert_eq!(wait.code, 4, "{}{}", wait.out, wait.err);
    assert!(wait.out.contains("old side: 1 request in flight"), "{}", wait.out);
    assert!(wait.out.ends_with("\n  to go on waiting: pointsman wait 1\n"), "{}", wait.out);
    let again = server.say(&["switch", "a.example", "green", "--wait", "drained", "--timeout", "50ms"]);
    assert_eq!(again.code, 4, "{}{}", again.out, again.err);
    assert!(again.out.ends_with("\n  to go on waiting: pointsman wait 1\n"), "{}", again.out);
    drop((origin, waiting));
    assert!(server.say(&["wait"]).done().contains("old side: empty"));
}

/// Reads the head of a request.
fn head_of(stream: &mut UnixStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn promise_2_the_parting_words_of_a_wait_outlast_a_second_signal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let control = format!("--control=unix:{}", path.display());
    let order = ["switch", "a.example", "green", "--wait", "drained", "--timeout", "1m"];
    for (words, code) in [(&order[..], 5), (&["wait", "7"][..], 4)] {
        let words = [words, &["--switch", "live", &control]].concat();
        let mut verb = Command::new(env!("CARGO_BIN_EXE_pointsman"));
        let verb = verb.args(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let signal = || Command::new("kill").args(["-TERM", &verb.id().to_string()]).status().unwrap();
        // It waits for its answer when the first one comes, as `timeout` sends it.
        let mut waiting = bounded(listener.accept().unwrap().0);
        assert!(head_of(&mut waiting).contains("/v1/switches/live/"));
        std::thread::sleep(Duration::from_millis(200));
        signal();
        let mut asking = bounded(listener.accept().unwrap().0);
        assert!(head_of(&mut asking).starts_with("GET /v1/switches/live/receipts"));
        signal();
        std::thread::sleep(Duration::from_millis(200));
        let body = r#"{"code":"unknown_revision","text":"no commit","remedy":"","details":{}}"#;
        let answer = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        asking.write_all(answer.as_bytes()).unwrap();
        let ended = said(verb.wait_with_output().unwrap());
        assert_eq!(ended.code, code, "{words:?}: {}{}", ended.out, ended.err);
        assert!(ended.err.contains("interrupted") && ended.err.contains("pointsman wait"), "{}", ended.err);
    }
}

#[test]
fn a_wait_that_a_newer_commit_ends_is_no_success() {
    let server = Server::start("", "");
    let _waiting = server.ask("a.example");
    let _origin = server.asked_blue();
    let order =
        ["switch", "a.example", "green", "--confirm-within", "1s", "--wait", "drained", "--timeout", "1m"];
    let ended = server.say(&order);
    assert_eq!(ended.code, 4, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("revision 2 changed these keys"), "{}", ended.out);
    assert!(!ended.out.contains("unless confirmed") && !ended.out.contains("go on waiting"), "{}", ended.out);
    let reverted = server.say(&["receipt", "2"]).done();
    assert!(reverted.contains("\n  reverts revision 1: it was not confirmed in time\n"), "{reverted}");
}
