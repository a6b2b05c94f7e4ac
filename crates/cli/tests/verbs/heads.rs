//! The newest commits, told to other places (`notify`), and a history that is compared with what was told.

use super::*;
use std::net::{TcpListener, UdpSocket};

/// Returns a place that is told: answers each POST with what a function says of its number, and gives the bodies.
fn receiver(status: impl Fn(usize) -> u16 + Send + 'static) -> (String, std::sync::mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("http://{}/heads", listener.local_addr().unwrap());
    let (told, heads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut text = Vec::new();
            let body = loop {
                let mut part = [0; 4096];
                let count = stream.read(&mut part).unwrap_or(0);
                text.extend_from_slice(&part[..count]);
                let text = String::from_utf8_lossy(&text).into_owned();
                let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
                let lower = head.to_lowercase();
                let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                if count == 0 || length.is_some_and(|length| length.parse() == Ok(body.len())) {
                    assert!(head.starts_with("POST /heads HTTP/1.1"), "{head}");
                    break body.to_owned();
                }
            };
            let status = status(number);
            let _ = write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
            if status == 200 && told.send(serde_json::from_str(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (place, heads)
}

fn next(heads: &std::sync::mpsc::Receiver<Value>, switch: &str) -> Value {
    loop {
        let head = heads.recv_timeout(PATIENCE).expect("no head came");
        if head["switch"] == switch {
            return head;
        }
    }
}

#[test]
fn promise_19_the_newest_commit_is_told_elsewhere_and_shows_a_history_that_was_cut_off() {
    // The third one is not taken at first.
    let (place, heads) = receiver(|number| if number == 2 { 503 } else { 200 });
    let syslog = UdpSocket::bind("127.0.0.1:0").unwrap();
    syslog.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = syslog.local_addr().unwrap();
    let notify = format!("notify {place}; notify syslog:server={server},facility=local3,tag=edge;");
    let server = Server::start("", &notify);
    let begun = next(&heads, "live");
    assert_eq!((&begun["event"], &begun["revision"]), (&"head".into(), &0.into()), "{begun}");

    server.say(&["switch", "a.example", "green", "-m", "why"]).done();
    let first = next(&heads, "live");
    assert_eq!(
        (&first["event"], &first["revision"], &first["previous"]),
        (&"commit".into(), &1.into(), &begun["hash"])
    );
    server.say(&["switch", "a.example", "blue"]).done();
    let second = next(&heads, "live");
    assert_eq!((&second["revision"], &second["previous"]), (&2.into(), &first["hash"]), "{second}");
    assert!(second.get("missed").is_none(), "{second}");

    let mut message = [0; 2048];
    let told = loop {
        let count = syslog.recv(&mut message).unwrap();
        let text = String::from_utf8_lossy(&message[..count]).into_owned();
        let (head, body) = text.split_once(" head - ").unwrap();
        // local3 (19), informational (6).
        assert!(head.starts_with("<158>1 ") && head.contains(" edge "), "{text}");
        let head: Value = serde_json::from_str(body).unwrap();
        if head["switch"] == "live" && head["revision"] == 2 {
            break head;
        }
    };
    assert_eq!(told["hash"], second["hash"]);

    let known = format!("2:{}", second["hash"].as_str().unwrap());
    let contained = server.say(&["history", "--contains", &known]).done();
    assert!(contained.contains("live: has revision 2 with this hash; 2 commits verified"), "{contained}");
    let other = format!("1:{}", second["hash"].as_str().unwrap());
    let refused = server.say(&["history", "--contains", &other]);
    assert!(refused.code == 1 && refused.err.contains("its revision 1 has the hash"), "{}", refused.err);
    let later = format!("3:{}", second["hash"].as_str().unwrap());
    let refused = server.say(&["history", "--contains", &later]);
    assert!(refused.code == 1 && refused.err.contains("it has no revision 3"), "{}", refused.err);
    assert_eq!(server.say(&["history", "--contains", "2:abc"]).code, 2);

    // Of a history that was put back, the place is told when the server has taken it up.
    let backup = server.path("one.backup");
    server.say(&["backup", backup.to_str().unwrap()]).done();
    server.say(&["restore", backup.to_str().unwrap(), "-m", "put back"]).done();
    let restored = next(&heads, "live");
    assert_eq!(restored["revision"], 3, "{restored}");
}
