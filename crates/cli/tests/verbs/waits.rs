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
    let again = server.say(&["switch", "a.example", "green", "--wait", "drained", "--timeout", "50ms"]);
    assert_eq!(again.code, 4, "{}{}", again.out, again.err);
    drop((origin, waiting));
    assert!(server.say(&["wait"]).done().contains("old side: empty"));
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
    assert!(ended.out.contains("revision 2 has changed these keys since"), "{}", ended.out);
    assert!(!ended.out.contains("unless confirmed"), "{}", ended.out);
}
