//! Request heads compared with real nginx: the same random bytes go to it and to our decoder.
//!
//! Where no `nginx` is installed the test says so and passes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![cfg(unix)]

mod nginx;
mod random;

use nginx::Nginx;
use pointsman_http::{HeadError, HeadLimits, Method, Progress, RequestHead, args, cookie, framing};
use random::Xorshift;

/// Between the parts of the answer; no request holds it.
const MARK: char = '\u{1}';

const SERVERS: &str = "
server {
    listen unix:DIR/usual; server_name none;
    return 200 ANSWER;
}
server {
    listen unix:DIR/tight; server_name none;
    connection_pool_size 128; client_header_buffer_size 60; large_client_header_buffers 2 128;
    return 200 ANSWER;
}
server {
    listen unix:DIR/ready; server_name none;
    underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;
    return 200 ANSWER;
}
";

const ANSWER: [&str; 13] = [
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
    "$arg_a",
    "$cookie_a",
];

const TARGET_PIECES: [&str; 24] = [
    "/", "/", "/.", "/..", ".", "..", "a", "b", "%2f", "%2F", "%2e", "%2E", "%25", "%3f", "%23", "%41", "%",
    "%0", "?", "#", "&", "a=", "A=1&", "=",
];

const COOKIE_PIECES: [&str; 8] = ["a", "A", "=", ";", "; ", " ", "b", "\"x\""];

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

/// Returns nginx's fate of a request.
fn theirs(nginx: &mut Nginx, socket: &str, request: &[u8]) -> Fate {
    let (answer, logged) = nginx.ask(socket, request);
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

/// Returns a line that nginx dropped and went on: its message ends with the quoted line, without a byte and dots.
fn is_dropped(line: &str) -> bool {
    !line.contains("...\", client: ") && !line.contains("...\" while")
}

/// Returns the message up to the colon before what it quotes.
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
    let first = |name: &[u8]| head.headers.find_all_underscored(name).next().unwrap_or_default();
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
        args::find(query, b"a").unwrap_or_default(),
        cookie::find(head.headers.find_all(b"cookie"), b"a").unwrap_or_default(),
    ];
    Fate::Served(Some(values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()))
}

/// Returns where we follow a later nginx than the one that may be installed, or are stricter on purpose.
fn is_wanted_difference(request: &[u8], ours: &Fate) -> bool {
    // CONNECT has an authority since 1.29; hosts are held to RFC 3986 since then.
    let invalid_host = matches!(ours, Fate::Refused(_, words) if words.starts_with("invalid host"));
    let connect = request.windows(8).any(|window| window == b"CONNECT ");
    // A lone LF in a head that began with CR LF, and CRs without LF where nginx skips them: RFC 9112 §2.2.
    let lone = |at: usize| request[at] == b'\n' && (at == 0 || request[at - 1] != b'\r');
    let lone_cr = |at: usize| request[at] == b'\r' && request.get(at + 1) != Some(&b'\n');
    let lone_end = (0..request.len()).any(|at| lone(at) || lone_cr(at));
    let refused = matches!(ours, Fate::Refused(400, words) if words == "invalid header line" || words == "invalid request");
    invalid_host || connect || (lone_end && refused)
}

/// Puts one request after the other before both. How many were served, refused and not answered.
fn judge(test: &str, rounds: usize, mut request: impl FnMut() -> Vec<u8>) -> Option<[usize; 3]> {
    let answer = format!("\"{}\"", ANSWER.join(&MARK.to_string()));
    let mut nginx = Nginx::start(test, &SERVERS.replace("ANSWER", &answer))?;
    let usual = HeadLimits::default();
    let tight = HeadLimits { client_header_buffer_size: 60, large_client_header_buffers: (2, 128), ..usual };
    let loose = HeadLimits {
        underscores_in_headers: true,
        ignore_invalid_headers: false,
        merge_slashes: false,
        ..usual
    };
    let servers = [("usual", usual), ("tight", tight), ("ready", loose)];
    let mut counts = [0; 3];
    for round in 0..rounds {
        let request = request();
        let (socket, limits) = &servers[round % 3];
        let (ours, end) = ours(&request, limits);
        // What follows the head would be a body, or another request.
        let theirs = theirs(&mut nginx, socket, &request[..end]);
        counts[match &theirs {
            Fate::Served(_) => 0,
            Fate::Refused(..) => 1,
            Fate::Silence => 2,
        }] += 1;
        let same = match (&ours, &theirs) {
            // An answer in HTTP/0.9 has no status.
            (Fate::Refused(_, ours), Fate::Refused(0, theirs)) => ours == theirs,
            (ours, theirs) => ours == theirs,
        };
        if !same && !is_wanted_difference(&request, &ours) {
            let name = bstr::BStr::new(&request);
            panic!("{socket} {name:?}\n  ours {ours:?}\ntheirs {theirs:?}");
        }
    }
    Some(counts)
}

#[test]
fn random_requests_match_nginx() {
    let mut random = Xorshift(0x1234_5678_9ABC_DEF1);
    if let Some([served, refused, silent]) = judge("heads", 6_000, || random::request(&mut random)) {
        assert!(served > 1000 && refused > 1000 && silent > 0, "{served} {refused} {silent}");
    }
}

#[test]
fn random_targets_match_nginx() {
    let mut random = Xorshift(0x0F1E_2D3C_4B5A_6978);
    let request = || {
        let target = random.text(&TARGET_PIECES, 9);
        let cookie = random.text(&COOKIE_PIECES, 9);
        format!("GET /{target} HTTP/1.0\r\nCookie: {cookie}\r\n\r\n").into_bytes()
    };
    if let Some([served, refused, _]) = judge("targets", 6_000, request) {
        assert!(served > 1000 && refused > 1000, "{served} {refused}");
    }
}
