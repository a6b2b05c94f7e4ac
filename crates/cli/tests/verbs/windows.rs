//! The end of a confirmation window in a real process, which asks the servers of both sides.

use super::*;

impl Server {
    /// Answers those who ask blue at the moment.
    fn answer_blue(&self) {
        while let Ok((mut stream, _)) = self.blue.accept() {
            // The gate has given up on some of them.
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nblue");
        }
    }
}

#[test]
fn promise_6_a_window_with_a_dead_old_side_is_overdue_until_that_answers() {
    let server = Server::start("gate healthy=1 timeout=200ms uri=/;", "");
    server.say(&["switch", "a.example", "green", "--confirm-within", "1s"]).done();
    let mut listed = String::new();
    server.until("it is overdue", || {
        listed = server.say(&["list"]).done();
        listed.contains("revision 1 was not confirmed in time, and stays since ")
    });
    assert!(listed.contains("\n    ") && listed.contains("blue"), "it says what blue answered: {listed}");
    assert!(server.get("a.example").ends_with("green"));
    let journal = server.say(&["history", "--kind", "overdue"]).done();
    assert_eq!(journal.lines().count(), 1, "{journal}");
    // It is asked every ten seconds.
    server.until("it goes back", || {
        server.answer_blue();
        std::thread::sleep(Duration::from_millis(50));
        !server.say(&["list"]).done().contains("a.example")
    });
    let history = server.say(&["history", "a.example"]).done();
    assert!(history.contains("a.example: green -> default"), "{history}");
    assert!(!server.say(&["list"]).done().contains("not confirmed in time"), "nothing is overdue");
}
