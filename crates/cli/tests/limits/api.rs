//! The control API under clients that open too much, send half of it, or do not read.

use super::*;

/// Starts a server with the API in a location and a switch. The token of a viewer is `viewer`.
fn start(main: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    // The SHA-256 of "viewer".
    let tokens = "ann:viewer:d35ca5051b82ffc326a3b0b6574a9a3161dee16b9478a199ee39cd803ce5b799\n";
    std::fs::write(folder.path().join("tokens"), tokens).unwrap();
    let http = "control_tokens {folder}/tokens;
        upstream blue { server 127.0.0.1:1; } upstream green { server 127.0.0.1:2; }
        switch $host $live { default blue; state memory; }
        server { listen unix:{folder}/front; location / { return 200 here; } location /api/ { control_api; } }";
    Server::start_in(folder, Setup { main, http, ..Setup::default() })
}

fn events(server: &Server) -> (u16, UnixStream) {
    let mut stream = server.connect();
    let request = "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer viewer\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    (String::from_utf8_lossy(&head[9..]).parse().unwrap(), stream)
}

/// A viewer who opens one event stream after another gets some, and takes no connection from the traffic.
#[test]
fn event_streams_leave_the_connections_to_the_traffic() {
    let server = start("events { worker_connections 17; }");
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..520 {
        match events(&server) {
            (200, stream) => open.push(stream),
            (status, stream) => {
                let text = rest_of_answer(stream);
                assert!(text.contains("application/problem+json"), "{text}");
                assert_eq!((status, text.contains("\"too_many_calls\"")), (429, true), "{text}");
                refused += 1;
            }
        }
    }
    assert_eq!((open.len(), refused), (16, 504));
    // All of `worker_connections` are still there.
    let kept: Vec<_> = (0..15).map(|_| server.connect()).collect();
    assert!(server.get("/").ends_with("here"), "{}", server.log());
    assert_eq!(server.said("worker_connections"), 0, "{}", server.log());
    drop(kept);
    assert!(server.say(&["list"]).status.success());
    open.truncate(15);
    server.until("a place is free again", || events(&server).0 == 200);
}

/// Reads an answer with a `Content-Length`.
fn rest_of_answer(mut stream: UnixStream) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.ends_with('}') {
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    text
}

/// Half-sent requests fill the control socket's connections, and make room for whole ones.
#[test]
fn half_sent_requests_leave_room_on_the_control_socket() {
    let server = start("");
    let path = server.path("run/pointsman.sock");
    let mut half = Vec::new();
    for _ in 0..768 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n").unwrap();
        half.push(stream);
        if half.len() % 100 == 0 {
            let listed = server.say(&["list"]);
            assert!(listed.status.success(), "{listed:?}");
        }
    }
    let began = Instant::now();
    let switched = server.say(&["switch", "a.example", "green"]);
    assert!(switched.status.success(), "{switched:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    // Those that came last are still there, and can go on.
    let mut last = half.pop().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    last.write_all(b"\r\n").unwrap();
    let mut head = [0; 15];
    last.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

/// A client of the control socket that asks and reads nothing costs the server its buffers, and no other client anything.
#[test]
fn clients_that_read_no_answer_leave_the_control_socket_to_others() {
    let server = start("");
    let path = server.path("run/pointsman.sock");
    let request = "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let deaf: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(request.as_bytes());
            stream
        })
        .collect();
    for _ in 0..5 {
        let listed = server.say(&["list"]);
        assert!(listed.status.success(), "{listed:?}");
    }
    drop(deaf);
}
