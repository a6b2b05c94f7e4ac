//! First configurations: `init` and `run`, up to a switch.

use super::*;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use testkit::ports;

/// Returns a server that answers every connection with this text, until the test ends.
fn origin(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let length = text.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
            );
        }
    });
    address
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(GLANCE);
    }
}

/// Returns a folder that a worker of another user can pass through.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn run_serves_without_a_configuration_and_keeps_the_switch() {
    let folder = folder();
    let port = ports::reserve().unwrap();
    let listen = format!("127.0.0.1:{}", port.number);
    let groups = [format!("blue={}", origin("blue")), format!("green={}", origin("green"))];
    let words = ["run", "--listen", &listen, &groups[0], &groups[1]];
    let start = || {
        let mut process = command(folder.path(), &words);
        process.stdout(Stdio::null()).stderr(Stdio::null());
        ProcessGroup::start(&mut process).unwrap()
    };
    let mut process = start();
    until("blue answers", || get(port.number).as_deref() == Some("blue"));
    say(folder.path(), &["switch", "localhost", "green"]).done();
    assert_eq!(get(port.number).as_deref(), Some("green"));
    process.end().unwrap();
    let mut process = start();
    until("green answers after a restart", || get(port.number).as_deref() == Some("green"));
    process.end().unwrap();

    // A configuration that somebody has written is not replaced.
    std::fs::write(folder.path().join("conf/nginx.conf"), "events {}").unwrap();
    let refused = say(folder.path(), &words);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("is a configuration of your own"), "{}", refused.err);
}

#[test]
fn init_writes_a_configuration_that_passes_its_test_and_overwrites_none() {
    let folder = folder();
    let path = folder.path().join("gateway");
    let at = path.display().to_string();
    let words = ["init", "--dir", &at, "--listen", ":8080", "blue=127.0.0.1:3000", "green=127.0.0.1:3001"];
    let written = say(folder.path(), &words).done();
    assert!(written.contains(&format!("pointsman -t -p {at}\n")), "{written}");
    assert_eq!(say(&path, &["-t"]).code, 0);
    let before = std::fs::read(path.join("conf/nginx.conf")).unwrap();
    let refused = say(folder.path(), &words);
    assert_eq!((refused.code, std::fs::read(path.join("conf/nginx.conf")).unwrap()), (2, before));
    // There is no terminal to ask on here.
    let asked = say(folder.path(), &["init", "--dir", "elsewhere"]);
    assert!(asked.code == 2 && asked.err.contains("no group is named"), "{}", asked.err);
}
