//! Clients that speak HTTP/2: the rules of its frames over a socket, and many streams on one connection while everything else
//! changes.

use super::*;
use http::h2::frame::{
    self, ACK, END_HEADERS, END_STREAM, FRAME_HEADER_BYTES, FrameHeader, FrameKind, PADDED, PREFACE,
};
use http::h2::hpack::{HpackDecoder, encode_field};
use std::collections::BTreeMap;

/// A client of HTTP/2 that has exchanged settings.
pub(super) struct Client {
    stream: UnixStream,
    decoder: HpackDecoder,
    unread: Vec<u8>,
}

pub(super) fn raw(kind: FrameKind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, kind, flags, stream, payload);
    out
}

pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        encode_field(&mut out, None, name.as_bytes(), value.as_bytes());
    }
    out
}

fn head(stream: u32, flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    raw(FrameKind::Headers, flags | END_HEADERS, stream, &block(&[&usual, more].concat()))
}

fn data(stream: u32, flags: u8, len: usize) -> Vec<u8> {
    raw(FrameKind::Data, flags, stream, &vec![b'x'; len])
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Client {
        let mut client = Client { stream, decoder: HpackDecoder::default(), unread: Vec::new() };
        let mut start = PREFACE.to_vec();
        frame::write_settings(&mut start, &[]);
        client.send(&start);
        client
    }

    pub(super) fn send(&mut self, frames: &[u8]) {
        self.stream.write_all(frames).unwrap();
    }

    pub(super) fn ask(&mut self, stream: u32, host: &str) {
        self.send(&head(stream, END_STREAM, &[(":authority", host)]));
    }

    /// Returns the next frame; `None` at the end of the connection.
    fn next(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            if let Some(header) = FrameHeader::parse(&self.unread) {
                let end = FRAME_HEADER_BYTES + header.len as usize;
                if self.unread.len() >= end {
                    let payload = self.unread[FRAME_HEADER_BYTES..end].to_vec();
                    self.unread.drain(..end);
                    return Some((header, payload));
                }
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).expect("a frame in time") {
                0 => return None,
                count => self.unread.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Returns the next frame of these kinds.
    pub(super) fn next_of(&mut self, kinds: &[FrameKind]) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            let (header, payload) = self.next()?;
            if kinds.contains(&header.kind) {
                return Some((header, payload));
            }
        }
    }

    /// Reads answers to so many streams to their ends; by stream, the status and the body.
    fn answers(&mut self, count: usize) -> BTreeMap<u32, (String, String)> {
        let mut answers: BTreeMap<u32, (String, String)> = BTreeMap::new();
        let mut ended = 0;
        while ended < count {
            let (header, payload) = self.next().expect("an answer");
            let answer = answers.entry(header.stream).or_default();
            match header.kind {
                FrameKind::Headers => answer.0 = self.status(&payload),
                FrameKind::Data => answer.1.push_str(&String::from_utf8_lossy(&payload)),
                FrameKind::RstStream | FrameKind::GoAway => panic!("{header:?} {payload:?}"),
                _ => continue,
            }
            ended += usize::from(header.has(END_STREAM));
        }
        answers.remove(&0);
        answers
    }

    pub(super) fn status(&mut self, block: &[u8]) -> String {
        let mut status = String::new();
        let decoded = self.decoder.decode(block, &mut Vec::new(), |name, value| {
            if name == b":status" {
                status = String::from_utf8_lossy(value).into_owned();
            }
        });
        decoded.unwrap();
        status
    }
}

/// What a client gets for some frames: the code of GOAWAY or RST_STREAM, a status, or the answer to a PING behind them.
#[derive(Debug, PartialEq)]
enum Outcome {
    GoAway(u32),
    Reset(u32),
    Status(&'static str),
    Ping,
}

#[test]
fn http2_rules_of_frames_hold_over_a_socket() {
    use FrameKind::{Continuation, Headers, Ping, PushPromise, RstStream, Settings, WindowUpdate};
    use Outcome::{GoAway, Reset, Status};
    let server = Server::start("", "http2 on;");
    server.say(&["switch", "h", "green"]).done();
    let get = |stream, flags| head(stream, flags, &[(":authority", "h")]);
    let with = |field| head(1, END_STREAM, &[(":authority", "h"), field]);
    let part = || raw(Headers, END_STREAM, 1, &block(&[(":method", "GET")]));
    let table: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("a request", get(1, END_STREAM), Status("200")),
        ("§4.2 too large a frame", raw(Ping, 0, 0, &[0; 16_385]), GoAway(6)),
        ("§4.3 an undecodable block", raw(Headers, END_HEADERS | END_STREAM, 1, b"\x80"), GoAway(9)),
        ("§5.1 DATA on an idle stream", data(1, 0, 1), GoAway(1)),
        ("§5.1.1 an even number", get(2, END_STREAM), GoAway(1)),
        (
            "§6.1 padding that is too long",
            [get(1, 0), raw(FrameKind::Data, PADDED, 1, b"\x05abc")].concat(),
            GoAway(1),
        ),
        ("§6.2 another frame within a block", [part(), raw(Ping, 0, 0, &[0; 8])].concat(), GoAway(1)),
        ("§6.4 RST_STREAM on an idle stream", raw(RstStream, 0, 1, &[0; 4]), GoAway(1)),
        ("§6.5 SETTINGS on a stream", raw(Settings, 0, 1, &[]), GoAway(1)),
        ("§6.5.2 too large a window", raw(Settings, 0, 0, &[0, 4, 0x80, 0, 0, 0]), GoAway(3)),
        ("§6.6 PUSH_PROMISE", raw(PushPromise, END_HEADERS, 1, &[0; 4]), GoAway(1)),
        ("§6.7 PING of a wrong size", raw(Ping, 0, 0, &[0; 7]), GoAway(6)),
        ("§6.9 a window of nothing", raw(WindowUpdate, 0, 0, &[0; 4]), GoAway(1)),
        ("§6.9.1 too wide a window", raw(WindowUpdate, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), GoAway(3)),
        ("§6.10 CONTINUATION without a head", raw(Continuation, END_HEADERS, 1, b""), GoAway(1)),
        (
            "§6.10 nine CONTINUATION frames",
            [part(), raw(Continuation, 0, 1, b"").repeat(9)].concat(),
            GoAway(11),
        ),
        (
            "§8.2 a name in upper case",
            raw(Headers, END_HEADERS | END_STREAM, 1, b"\x82\x86\x84\x01\x01h\0\x01X\x01y"),
            Reset(1),
        ),
        ("§8.2.2 a field of HTTP/1", with(("connection", "close")), Reset(1)),
        ("§8.2.2 te", with(("te", "gzip")), Reset(1)),
        ("§8.3 an unknown pseudo-header", with((":other", "x")), Reset(1)),
        ("§8.3.1 another host", with(("host", "other")), Status("400")),
        ("§8.3.1 no host at all", head(1, END_STREAM, &[]), Status("400")),
        ("§8.1.1 a length without a body", with(("content-length", "5")), Reset(1)),
        ("RFC 8441 extended CONNECT", with((":protocol", "websocket")), Reset(1)),
        ("a head that is too large", with(("x", &"y".repeat(8_300))), Status("400")),
        (
            "an unknown frame",
            [raw(FrameKind::Unknown(77), 0, 5, b"x"), raw(Ping, 0, 0, &[1; 8])].concat(),
            Outcome::Ping,
        ),
        ("a flood of PING frames", raw(Ping, ACK, 0, &[0; 8]).repeat(2_100), GoAway(11)),
    ];
    for (rule, frames, expected) in table {
        let mut client = Client::new(server.connect());
        // The server may have closed before all of it has gone.
        let _ = client.stream.write_all(&frames);
        let kinds = [FrameKind::GoAway, RstStream, Headers, Ping];
        let (header, payload) = client.next_of(&kinds).unwrap_or_else(|| panic!("{rule}: no answer"));
        let outcome = match header.kind {
            FrameKind::GoAway => GoAway(frame::number(&payload[4..8]).unwrap()),
            RstStream => Reset(frame::number(&payload).unwrap()),
            Headers => Status(if client.status(&payload) == "200" { "200" } else { "400" }),
            _ => Outcome::Ping,
        };
        assert_eq!(outcome, expected, "{rule}");
        if let GoAway(_) = outcome {
            assert!(client.next_of(&[Headers]).is_none(), "{rule}: the connection ends");
        }
    }
}

/// Returns a stream of events from blue for a host, on its own stream of the connection.
fn event_stream(server: &Server, client: &mut Client, stream: u32, host: &str) -> UnixStream {
    client.ask(stream, host);
    let mut origin = server.asked_blue();
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").unwrap();
    origin
}

#[test]
fn http2_switch_of_one_key_touches_its_streams_alone() {
    let server = Server::start("streams close;", "http2 on;");
    let mut client = Client::new(server.connect());
    let host = |key: u32| format!("{key}.example");
    let mut origins = Vec::new();
    for number in 0..100 {
        let stream = 2 * number + 1;
        origins.push((stream, event_stream(&server, &mut client, stream, &host(number % 10))));
    }
    // All of them have begun.
    for _ in 0..100 {
        client.next_of(&[FrameKind::Data]).unwrap();
    }
    server.say(&["switch", "3.example", "green"]).done();
    let mut cut = Vec::new();
    for _ in 0..10 {
        let (header, payload) = client.next_of(&[FrameKind::RstStream, FrameKind::GoAway]).unwrap();
        assert_eq!((header.kind, frame::number(&payload)), (FrameKind::RstStream, Some(8)), "CANCEL");
        cut.push(header.stream);
    }
    cut.sort_unstable();
    let expected: Vec<u32> =
        (0..100).filter(|number| number % 10 == 3).map(|number| 2 * number + 1).collect();
    assert_eq!(cut, expected);
    // A reload changes nothing for them, and the next stream on the connection follows it.
    let conf = std::fs::read_to_string(server.path("conf/nginx.conf")).unwrap();
    std::fs::write(server.path("conf/nginx.conf"), conf.replace("return 200 green;", "return 200 greener;"))
        .unwrap();
    server.say(&["reload"]).done();
    client.ask(201, "3.example");
    assert_eq!(client.answers(1)[&201], ("200".into(), "greener".into()));
    for (_, origin) in origins.iter_mut().filter(|(stream, _)| !cut.contains(stream)) {
        origin.write_all(b"data: 2\n\n").unwrap();
    }
    for _ in 0..90 {
        let (header, _) = client.next_of(&[FrameKind::Data, FrameKind::RstStream]).unwrap();
        assert_eq!(header.kind, FrameKind::Data);
    }
}

#[test]
fn http2_streams_of_one_connection_are_answered_over_reloads_and_switches() {
    let server = Server::start("", "http2 on; keepalive_requests 100000;");
    let hosts: Vec<String> = (0..10).map(|key| format!("{key}.example")).collect();
    for host in &hosts {
        server.say(&["switch", host, "green"]).done();
    }
    let mut client = Client::new(server.connect());
    let mut stream = 1;
    for turn in 0..6 {
        let first = stream;
        for number in 0..100 {
            client.ask(stream, &hosts[number % 10]);
            stream += 2;
        }
        match turn % 2 {
            0 => server.say(&["reload"]).done(),
            // A commit, and so a new table for all keys.
            _ => server.say(&["switch", &format!("other{turn}.example"), "green"]).done(),
        };
        let answers = client.answers(100);
        assert_eq!(answers.len(), 100);
        assert!(
            answers
                .iter()
                .all(|(stream, (status, body))| *stream >= first && status == "200" && body == "green")
        );
    }
    // At the end the client is told twice: that there should be no more, and which stream was the last.
    client.ask(stream, "a.example");
    let mut origin = server.asked_blue();
    let mut request = [0; 16];
    origin.read_exact(&mut request).unwrap();
    server.say(&["-s", "quit"]).done();
    let last = |payload: &[u8]| frame::number(&payload[..4]).unwrap();
    let (_, payload) = client.next_of(&[FrameKind::GoAway]).unwrap();
    assert_eq!(last(&payload), (1 << 31) - 1);
    let (_, ping) = client.next_of(&[FrameKind::Ping]).unwrap();
    client.send(&raw(FrameKind::Ping, ACK, 0, &ping));
    let (_, payload) = client.next_of(&[FrameKind::GoAway]).unwrap();
    assert_eq!(last(&payload), stream);
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert_eq!(client.answers(1)[&stream], ("200".into(), "ok".into()));
    assert!(client.next().is_none(), "and then it is closed");
}

#[test]
fn http2_client_that_opens_no_window_is_given_up() {
    let server = Server::start("", "http2 on; send_timeout 300ms;");
    server.say(&["switch", "a.example", "green"]).done();
    let mut client = Client::new(server.connect());
    client.send(&raw(FrameKind::Settings, 0, 0, &[0, 4, 0, 0, 0, 0]));
    client.ask(1, "a.example");
    let (header, _) = client.next_of(&[FrameKind::Headers]).unwrap();
    assert!(!header.has(END_STREAM), "the head needs no window");
    let (header, payload) = client.next_of(&[FrameKind::RstStream, FrameKind::Data]).unwrap();
    assert_eq!((header.kind, frame::number(&payload)), (FrameKind::RstStream, Some(2)));
    // The connection goes on: one with a window is answered.
    client.send(&raw(FrameKind::Settings, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]));
    client.ask(3, "a.example");
    assert_eq!(client.answers(1)[&3], ("200".into(), "green".into()));
}

#[test]
fn http2_what_a_script_has_flushed_is_sent_though_it_fails_then() {
    let server = Server::start(
        "",
        "http2 on;
         server {
             listen unix:{folder}/script;
             location / { content_by_lua_block { ngx.say('one') ngx.flush(true) ngx.say('two') error('x') } }
         }",
    );
    let mut client = Client::new(UnixStream::connect(server.folder.path().join("script")).unwrap());
    client.ask(1, "a.example");
    let kinds = [FrameKind::Headers, FrameKind::Data, FrameKind::RstStream];
    let mut next = || client.next_of(&kinds).unwrap();
    let (header, _) = next();
    assert_eq!(header.kind, FrameKind::Headers);
    let (header, payload) = next();
    assert_eq!((header.kind, &payload[..]), (FrameKind::Data, &b"one\n"[..]));
    let (header, payload) = next();
    assert_eq!((header.kind, frame::number(&payload)), (FrameKind::RstStream, Some(2)));
}

#[test]
fn http2_stream_of_a_held_key_waits_alone() {
    let server = Server::start("", "http2 on;");
    for host in ["a.example", "b.example"] {
        server.say(&["switch", host, "green"]).done();
    }
    let mut client = Client::new(server.connect());
    server.say(&["hold", "a.example"]).done();
    // Its body fills its own window, and not the connection's.
    client.send(&head(1, 0, &[(":authority", "a.example")]));
    for _ in 0..4 {
        client.send(&data(1, 0, 16_000));
    }
    for stream in (3..40).step_by(2) {
        client.send(&head(stream, 0, &[(":authority", "b.example")]));
        client.send(&data(stream, END_STREAM, 16_000));
        assert_eq!(client.answers(1)[&stream], ("200".into(), "green".into()));
    }
    server.say(&["release", "a.example"]).done();
    client.send(&data(1, END_STREAM, 0));
    assert_eq!(client.answers(1)[&1], ("200".into(), "green".into()));
}

/// Returns how many descriptors of all processes lead to a file whose path begins so.
fn descriptors(beginning: &str) -> usize {
    let folders = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|it| std::fs::read_dir(it.path().join("fd")).ok());
    let links =
        folders.flat_map(|folder| folder.flatten()).filter_map(|it| std::fs::read_link(it.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with(beginning)).count()
}

#[test]
fn http2_streams_that_wait_hold_few_files_open() {
    let beside = "http2 on;
        server {
            listen unix:{folder}/files;
            root {folder};
            location /proxied { proxy_pass http://unix:{folder}/files:/large; proxy_temp_path {folder}/spooled; }
        }";
    let server = Server::start("", beside);
    let body = "0123456789abcdef".repeat(16 << 10);
    std::fs::write(server.path("large"), &body).unwrap();
    for (path, held) in [("/large", "large"), ("/proxied", "spooled")] {
        let mut client = Client::new(UnixStream::connect(server.path("files")).unwrap());
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(&raw(FrameKind::Settings, 0, 0, &[0, 4, 0, 0, 0, 0]));
        let streams = || (1..200).step_by(2);
        for stream in streams() {
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")];
            client.send(&raw(FrameKind::Headers, END_HEADERS | END_STREAM, stream, &block(&fields)));
        }
        client.send(&raw(FrameKind::Ping, 0, 0, &[0; 8]));
        client.next_of(&[FrameKind::Ping]).unwrap();
        let held = server.path(held).display().to_string();
        let open = || descriptors(&held);
        server.until("few are open", || (1..=16).contains(&open()));
        // Those that were closed go on where they were.
        client.send(&raw(FrameKind::WindowUpdate, 0, 0, &(1_u32 << 30).to_be_bytes()));
        client.send(&raw(FrameKind::Settings, 0, 0, &[0, 4, 0, 0x10, 0, 0]));
        let answers = client.answers(100);
        assert!(streams().all(|stream| answers[&stream].1 == body), "{path}");
        server.until("all are closed", || open() == 0);
    }
}

#[test]
fn http2_early_hints_of_an_upstream_reach_the_stream_before_its_answer() {
    for version in ["1.1", "2"] {
        let port = testkit::ports::reserve().unwrap();
        let origin = std::net::TcpListener::bind(("127.0.0.1", port.number)).unwrap();
        let server = Server::start(
            "",
            &format!(
                "http2 on; early_hints 1;
                 server {{
                     listen unix:{{folder}}/hints; proxy_http_version {version};
                     location / {{ proxy_pass http://127.0.0.1:{}; }}
                 }}",
                port.number
            ),
        );
        let mut client = Client::new(bounded(UnixStream::connect(server.path("hints")).unwrap()));
        client.ask(1, "a.example");
        let mut peer = origin.accept().unwrap().0;
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let answer = |status: &str, flags: u8| {
            let fields = [(":status", status), ("link", "</a.css>; rel=preload"), ("server", "x")];
            raw(FrameKind::Headers, END_HEADERS | flags, 1, &block(&fields))
        };
        let (hints, last) = match version {
            "2" => {
                let mut settings = Vec::new();
                frame::write_settings(&mut settings, &[]);
                (
                    [&settings[..], &answer("103", 0), &answer("102", 0)].concat(),
                    [answer("200", 0), data(1, END_STREAM, 2)].concat(),
                )
            }
            _ => (
                b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nServer: x\r\n\r\nHTTP/1.1 102 \r\n\r\n".to_vec(),
                b"HTTP/1.1 200 OK\r\nLink: </a.css>; rel=preload\r\nContent-Length: 2\r\n\r\nxx".to_vec(),
            ),
        };
        // The request has come when its first byte has.
        peer.read_exact(&mut [0]).unwrap();
        peer.write_all(&hints).unwrap();
        let (header, payload) = client.next_of(&[FrameKind::Headers]).unwrap();
        assert!(!header.has(END_STREAM));
        let mut fields = Vec::new();
        let field = |name: &[u8], value: &[u8]| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            fields.push(format!("{}={}", text(name), text(value)));
        };
        client.decoder.decode(&payload, &mut Vec::new(), field).unwrap();
        assert_eq!(fields, [":status=103", "link=</a.css>; rel=preload"], "HTTP/{version}");
        peer.write_all(&last).unwrap();
        assert_eq!(client.answers(1)[&1], ("200".into(), "xx".into()), "HTTP/{version}");
    }
}

/// The load of a real client: h2load (Debian's package `nghttp2-client`), 100 streams at a time on each of two connections.
#[test]
fn http2_load_of_h2load_goes_on_over_reloads_and_switches() {
    if Command::new("h2load").arg("--version").stdout(Stdio::null()).status().is_err() {
        let must = std::env::var("CI").as_deref() == Ok("true");
        assert!(!must, "h2load is missing, and CI has it load the server");
        eprintln!("skipped: h2load is not installed");
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let pem = files.path().join("a.pem");
    std::fs::write(&pem, made.pem() + &key.serialize_pem()).unwrap();
    let port = testkit::ports::reserve().unwrap();
    let server = Server::start(
        "",
        &format!(
            "log_format load '$connection $status $ssl_session_reused';
             server {{
                 listen 127.0.0.1:{} ssl; http2 on; keepalive_requests 1000000;
                 ssl_certificate {pem}; ssl_certificate_key {pem};
                 access_log {{folder}}/logs/load.log load;
                 location / {{ proxy_pass http://$live; }}
             }}",
            port.number,
            pem = pem.display()
        ),
    );
    server.say(&["switch", "127.0.0.1", "green"]).done();
    let url = format!("https://127.0.0.1:{}/", port.number);
    let (mut changes, mut rounds) = (0, 0);
    while changes < 20 {
        rounds += 1;
        let mut load = Command::new("h2load");
        load.args(["-n", "4000", "-c", "2", "-m", "100", &url]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut load = load.spawn().unwrap();
        while load.try_wait().unwrap().is_none() {
            server.say(&["reload"]).done();
            server.say(&["switch", &format!("{changes}.example"), "green"]).done();
            changes += 1;
        }
        let output = load.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let wanted = "4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(text.contains(wanted), "{text}");
    }
    // Each of the connections has shaken hands once.
    let lines = || std::fs::read_to_string(server.path("logs/load.log")).unwrap();
    server.until("all requests are logged", || lines().lines().count() == rounds * 4000);
    let text = lines();
    let connections: std::collections::BTreeSet<&str> =
        text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(connections.len(), rounds * 2);
}
