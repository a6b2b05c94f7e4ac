//! Real nginx as the judge of request heads: the same random bytes go to it and to our decoder.
//!
//! Where no `nginx` is installed the test says so and passes.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg(unix)]

mod random;

use pointsman_http::{HeadError, HeadLimits, Method, Progress, RequestHead, framing};
use random::Xorshift;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Between the parts of the answer; no request holds it.
const MARK: char = '\u{1}';

const CONFIG: &str = "
daemon off; master_process off; pid nginx.pid; error_log error.log info; worker_rlimit_nofile 512;
events { worker_connections 64; }
http {
    access_log off; keepalive_timeout 0; default_type text/plain;
    client_body_temp_path body; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server {
        listen unix:usual.sock; server_name none;
        return 200 ANSWER;
    }
    server {
        listen unix:tight.sock; server_name none;
        connection_pool_size 128; client_header_buffer_size 60; large_client_header_buffers 2 128;
        return 200 ANSWER;
    }
    server {
        listen unix:loose.sock; server_name none;
        underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;
        return 200 ANSWER;
    }
}
";

const ANSWER: [&str; 11] = [
    "$request_method",
    "$request_uri",
    "$uri",
    "$args",
    "$host",
    "$server_protocol",
    "$request_length",
    "$request",
    "$http_x_spaces",
    "$http_bad_name",
    "$http_cookie",
];

/// How a request fared.
#[derive(Debug, PartialEq)]
enum Fate {
    /// The values of `ANSWER`; none for a request that is answered without a body.
    Served(Option<Vec<String>>),
    /// Status and log message up to what it quotes.
    Refused(u16, String),
    /// The head was not whole.
    Silence,
}

struct Nginx {
    dir: PathBuf,
    child: Child,
    log: File,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Nginx {
    fn start() -> Option<Nginx> {
        if Command::new("nginx").arg("-v").output().is_err() {
            eprintln!("skipped: no nginx here to compare with");
            return None;
        }
        // A short path: those of Unix sockets are limited.
        let dir = std::env::temp_dir().join(format!("http-oracle-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let answer = format!("\"{}\"", ANSWER.join(&MARK.to_string()));
        let config = CONFIG.replace("ANSWER", &answer).replace("unix:", &format!("unix:{}/", dir.display()));
        fs::write(dir.join("nginx.conf"), config).unwrap();
        let log = File::create(dir.join("error.log")).unwrap();
        drop(log);
        let mut nginx = Command::new("nginx");
        let child = nginx.args(["-e", "error.log", "-c", "nginx.conf", "-p"]).arg(&dir).spawn().unwrap();
        let log = File::open(dir.join("error.log")).unwrap();
        let nginx = Nginx { dir, child, log };
        let patience = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(nginx.dir.join("loose.sock")).is_err() {
            assert!(Instant::now() < patience, "nginx did not start");
            std::thread::yield_now();
        }
        Some(nginx)
    }

    fn fate(&mut self, socket: &str, request: &[u8]) -> Fate {
        let mut stream = UnixStream::connect(self.dir.join(socket)).unwrap();
        // nginx may have answered and closed before it has read everything.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let mut logged = Vec::new();
        self.log.read_to_end(&mut logged).unwrap();
        let logged = String::from_utf8_lossy(&logged).into_owned();
        let sent = logged.lines().filter(|line| !line.contains("invalid header line") || !is_dropped(line));
        let mut sent = sent.filter_map(|line| line.split_once("client sent ").map(|(_, words)| words));
        let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status: u16 = status.map_or(0, |digits| String::from_utf8_lossy(digits).parse().unwrap());
        if let Some(words) = sent.next() {
            let words = words.split_once(", client: ").map_or(words, |(words, _)| words);
            return Fate::Refused(status, unquoted(words));
        }
        if answer.is_empty() {
            return Fate::Silence;
        }
        let text = String::from_utf8_lossy(&answer);
        let body = if status == 0 { Some(&*text) } else { text.split_once("\r\n\r\n").map(|(_, body)| body) };
        let values = body.filter(|body| !body.is_empty());
        Fate::Served(values.map(|body| body.split(MARK).map(str::to_owned).collect()))
    }
}

/// A line that nginx dropped and went on: its message ends with the quoted line, without a byte and dots.
fn is_dropped(line: &str) -> bool {
    !line.contains("...\", client: ") && !line.contains("...\" while")
}

/// The message up to the colon before what it quotes.
fn unquoted(words: &str) -> String {
    let end = words.find(": \"").or_else(|| words.find(" while reading")).unwrap_or(words.len());
    words[..end].split(" while reading").next().unwrap().to_owned()
}

/// Our fate of a request, and how many of its bytes are the head.
fn ours(request: &[u8], limits: &HeadLimits) -> (Fate, usize) {
    let mut head = RequestHead::new();
    let result = head.decode(request, limits);
    let end = if let Ok(Progress::Complete { consumed }) = result { consumed } else { request.len() };
    (fate(&head, result, limits), end)
}

fn fate(head: &RequestHead, result: Result<Progress, HeadError>, limits: &HeadLimits) -> Fate {
    let refused = |error: HeadError| {
        let status = if error.status() == 494 { 400 } else { error.status() };
        Fate::Refused(status, error.words().strip_prefix("client sent ").unwrap().to_owned())
    };
    match result {
        Ok(Progress::Complete { .. }) => {}
        Ok(Progress::Partial) => return Fate::Silence,
        Err(error) => return refused(error),
    }
    let mut path = Vec::new();
    let Ok(query) = head.split_target(limits.merge_slashes, &mut path) else {
        return refused(HeadError::InvalidRequest);
    };
    let body = match framing::request_body(head) {
        Ok(body) => body,
        Err(error) => return Fate::Refused(error.status(), error.words().to_owned()),
    };
    if let Err(error) = framing::check_method(head, body, false) {
        return refused(error);
    }
    if head.method == Method::Head {
        return Fate::Served(None);
    }
    let length = head.len().to_string();
    let host = if head.host().is_empty() { b"none" } else { head.host() };
    // nginx before 1.23 shows the first of several.
    let first = |name: &[u8]| head.headers.find_underscored(name).unwrap_or_default();
    let cookies = head.headers.find_all(b"cookie").collect::<Vec<_>>().join(&b"; "[..]);
    let values = [
        head.method_bytes(),
        head.target(),
        &path,
        query,
        host,
        head.protocol(),
        length.as_bytes(),
        head.request_line(),
        first(b"x_spaces"),
        first(b"bad_name"),
        &cookies,
    ];
    Fate::Served(Some(values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()))
}

/// Where we follow a later nginx than the one that may be installed, or are stricter on purpose.
fn is_wanted_difference(request: &[u8], ours: &Fate) -> bool {
    // CONNECT has an authority since 1.29; hosts are held to RFC 3986 since then.
    let invalid_host = matches!(ours, Fate::Refused(_, words) if words.starts_with("invalid host"));
    let connect = request.windows(8).any(|window| window == b"CONNECT ");
    invalid_host || connect
}

#[test]
fn random_requests_fare_as_with_nginx() {
    let Some(mut nginx) = Nginx::start() else { return };
    let usual = HeadLimits::default();
    let tight = HeadLimits { client_header_buffer_size: 60, large_client_header_buffers: (2, 128), ..usual };
    let loose = HeadLimits {
        underscores_in_headers: true,
        ignore_invalid_headers: false,
        merge_slashes: false,
        ..usual
    };
    let servers = [("usual.sock", usual), ("tight.sock", tight), ("loose.sock", loose)];
    let mut random = Xorshift(0x1234_5678_9ABC_DEF1);
    let (mut served, mut refused, mut silent) = (0, 0, 0);
    for round in 0..6_000 {
        let request = random::request(&mut random);
        let (socket, limits) = &servers[round % 3];
        let (ours, end) = ours(&request, limits);
        // What follows the head would be a body, or another request.
        let theirs = nginx.fate(socket, &request[..end]);
        match &theirs {
            Fate::Served(_) => served += 1,
            Fate::Refused(..) => refused += 1,
            Fate::Silence => silent += 1,
        }
        let same = match (&ours, &theirs) {
            // An answer in HTTP/0.9 has no status.
            (Fate::Refused(_, ours), Fate::Refused(0, theirs)) => ours == theirs,
            (ours, theirs) => ours == theirs,
        };
        if !same && !is_wanted_difference(&request, &ours) {
            let name = bstr::BStr::new(&request);
            panic!("{socket} {name:?}\n ours {ours:?}\ntheirs {theirs:?}");
        }
    }
    assert!(served > 1000 && refused > 1000 && silent > 0, "{served} {refused} {silent}");
    fs::remove_dir_all(&nginx.dir).unwrap();
}
