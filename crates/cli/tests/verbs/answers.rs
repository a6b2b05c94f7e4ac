//! The verbs against servers that do not answer as they should.

use super::*;

const RECEIPT: &str = r#"{"switch":"live","revision":3,"time_ms":1,"kind":"set","actor":"a","outcome":"repeated","changes":[],"changed_keys":0,"gate":[],"forced":false,"workers":[],"workers_asked":0}"#;

/// Answers each connection in turn: nothing is a connection that is closed without an answer. What was asked is sent on.
fn fake(answers: Vec<Option<String>>) -> (TempDir, String, std::sync::mpsc::Receiver<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fake.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            let whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request).into_owned();
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
                (body.len() >= length.parse().ok()?).then_some(text.clone())
            };
            let text = loop {
                match whole(&request) {
                    Some(text) => break text,
                    None => match stream.read(&mut piece).unwrap() {
                        0 => break String::from_utf8(request).unwrap(),
                        n => request.extend_from_slice(&piece[..n]),
                    },
                }
                // A question has no body.
                if request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n") {
                    break String::from_utf8(request).unwrap();
                }
            };
            sender.send(text).unwrap();
            if let Some(Some(body)) = answers.next() {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
        }
    });
    let place = path.display().to_string();
    (folder, place, asked)
}

fn key_of(request: &str) -> &str {
    request.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap()
}

#[test]
fn an_order_that_got_no_answer_is_sent_again_as_the_same_order() {
    let (folder, place, asked) = fake(vec![None, None, Some(RECEIPT.into())]);
    let words = ["switch", "a.example", "green", "--switch", "live", "--control", &place];
    let done = say(folder.path(), &words).done();
    assert_eq!(done, "live: already applied (same idempotency key), revision 3\n");
    let requests: Vec<String> = asked.try_iter().collect();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| key_of(request) == key_of(&requests[0])));
    assert!(requests[0].starts_with("PUT /v1/switches/live/keys/a.example HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].ends_with("\r\n\r\n{\"target\":\"green\",\"timeout\":\"30s\"}"), "{}", requests[0]);
}

#[test]
fn an_order_without_an_answer_is_exit_code_5() {
    let (folder, place, _asked) = fake(Vec::new());
    let words = ["hold", "a.example", "--switch", "live", "--control", &place];
    let unknown = say(folder.path(), &words);
    assert_eq!(unknown.code, 5, "{}", unknown.err);
    assert!(unknown.err.contains("pointsman history"), "{}", unknown.err);
    let question = say(folder.path(), &["list", "--json", "--control", &place]);
    assert_eq!(question.code, 3, "{}", question.out);
    assert_eq!(question.json()["code"], "no_answer");
}

#[test]
fn an_answer_that_is_no_json_is_exit_code_3() {
    let (folder, place, _asked) = fake(vec![Some("<html>".into())]);
    let strange = say(folder.path(), &["list", "--control", &place]);
    assert_eq!(strange.code, 3);
    assert!(strange.err.contains("unexpected answer"), "{}", strange.err);
}

#[test]
fn an_absent_server_is_exit_code_3_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let absent = say(folder.path(), &["list"]);
    assert_eq!(absent.code, 3);
    assert!(absent.err.contains("cannot read "), "{}", absent.err);
    assert!(absent.err.contains("--control"), "{}", absent.err);
    std::fs::create_dir(folder.path().join("conf")).unwrap();
    std::fs::write(folder.path().join("conf/nginx.conf"), "control unix:here.sock;").unwrap();
    let absent = say(folder.path(), &["status", "--json"]);
    assert_eq!((absent.code, &*absent.err), (3, ""));
    assert!(absent.json()["text"].as_str().unwrap().contains("/here.sock: No such file"), "{}", absent.out);
    drop(UnixListener::bind(folder.path().join("here.sock")).unwrap());
    let refused = say(folder.path(), &["status"]);
    assert_eq!(refused.code, 3);
    assert!(refused.err.contains("is not running"), "{}", refused.err);
}
