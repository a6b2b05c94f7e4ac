//! The requests of a cell: each is sent as its kind of client sends it, and its answer is returned, complete or cut.
//!
//! Owns what "complete" means to a client: an orderly close may end an answer, a reset never does.

use std::net::SocketAddr;

use super::got::Got;
use super::http2::Streams;
use super::scene::Scene;
use super::script::{HELLO, PING, TUNNELLED, request_body};
use super::table::{Cell, Client, Fault, Stage};
use crate::answers::{Answer, Answers};
use crate::connection::{Connection, PATIENCE, PeerEnd};
use crate::message::position;

/// A client's connection to the proxy, and its streams if it speaks HTTP/2.
pub(crate) struct Wire(Connection, Option<Streams>);

impl Wire {
    pub(crate) fn connect(front: SocketAddr) -> Result<Wire, String> {
        let connection = Connection::connect(&front.into());
        connection.map(|connection| Wire(connection, None)).map_err(|e| format!("the proxy at {front}: {e}"))
    }

    /// Connects to speak HTTP/2.
    pub(crate) fn connect_http2(front: SocketAddr) -> Result<Wire, String> {
        Wire::connect(front).map(|wire| Wire(wire.0, Some(Streams::default())))
    }

    /// Sends; a proxy that has closed shows it in its answer.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.send(bytes);
    }

    /// Sends a request for a path, over HTTP/1.1 unless it speaks HTTP/2, and reads the answer.
    pub(crate) fn get(&mut self, path: &str) -> Got {
        if self.1.is_some() {
            return self.ask_http2("GET", path, b"");
        }
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        self.answer("GET")
    }

    fn ask_http2(&mut self, method: &str, path: &str, body: &[u8]) -> Got {
        let Wire(connection, Some(streams)) = self else {
            return Got::Wrong("it does not speak HTTP/2".to_owned());
        };
        let bytes = streams.request(method, path, body);
        // A proxy that has closed shows it in its answer.
        let _ = connection.send(&bytes);
        streams.answer(connection)
    }

    /// Reads the answer to a request of this method.
    pub(crate) fn answer(&mut self, method: &str) -> Got {
        loop {
            let Connection { buffer, end, .. } = &mut self.0;
            let mut found = Answers::read(buffer, &[method], *end == Some(PeerEnd::Closed), 1);
            buffer.drain(..found.used);
            if let Some(Answer { response, whole: true }) = found.answers.pop() {
                return Got::Whole(response.status, response.body);
            }
            if let (Some(why), None) = (found.fault, end) {
                return Got::Wrong(why);
            }
            if self.0.has_ended() {
                return self.cut();
            }
            let known = self.0.buffer.len();
            if !self.0.read_until(PATIENCE, |connection| connection.buffer.len() > known) {
                return Got::Wrong("no end of the answer".to_owned());
            }
        }
    }

    fn cut(&mut self) -> Got {
        let bytes = std::mem::take(&mut self.0.buffer);
        match position(&bytes, b"\r\n\r\n") {
            Some(end) => Got::Cut(status(&bytes), bytes[end + 4..].to_vec()),
            None if bytes.is_empty() => Got::Nothing,
            None => Got::Cut(0, bytes),
        }
    }
}

fn status(head: &[u8]) -> u16 {
    head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}

/// Returns the path of a cell's request.
pub(crate) fn path(cell: &Cell) -> String {
    format!("/c{}/fault", cell.number)
}

/// Returns the path of the request after it.
pub(crate) fn next_path(cell: &Cell) -> String {
    match cell.row.fault {
        Fault::Changes => format!("/c{}/fault/next", cell.number),
        _ => format!("/c{}/next", cell.number),
    }
}

/// Sends a cell's request and reads the answer. `is_stuck` says when a client that aborts should leave.
pub(crate) fn talk(cell: &Cell, wire: &mut Wire, scene: &Scene, is_stuck: &dyn Fn() -> bool) -> Got {
    let path = path(cell);
    let line = |method: &str, version: &str| format!("{method} {path} HTTP/{version}\r\nHost: x\r\n");
    let upgrade = "Upgrade: echo\r\nConnection: upgrade\r\n\r\n";
    match cell.client {
        Client::Get => wire.send(format!("{}\r\n", line("GET", "1.1")).as_bytes()),
        Client::Get10 => wire.send(format!("{}\r\n", line("GET", "1.0")).as_bytes()),
        Client::Head => wire.send(format!("{}\r\n", line("HEAD", "1.1")).as_bytes()),
        Client::Post | Client::Put | Client::PostStreamed | Client::PostChunked => {
            send_body(cell, wire, scene, &line);
        }
        Client::Pipelined => {
            let next = next_path(cell);
            let both = format!("{}\r\nGET {next} HTTP/1.1\r\nHost: x\r\n\r\n", line("GET", "1.1"));
            wire.send(both.as_bytes());
        }
        Client::Aborts => {
            let end = if cell.row.stage == Stage::Tunnel { upgrade } else { "\r\n" };
            wire.send(format!("{}{end}", line("GET", "1.1")).as_bytes());
            return leave(cell, wire, is_stuck);
        }
        Client::WebSocket => wire.send(format!("{}{upgrade}", line("GET", "1.1")).as_bytes()),
        Client::Http2 => return wire.ask_http2("GET", &path, b""),
        Client::Http2Post => return wire.ask_http2("POST", &path, &request_body(&cell.row)),
    }
    match wire.answer(if cell.client == Client::Head { "HEAD" } else { "GET" }) {
        Got::Whole(101, _) => through_tunnel(cell, wire),
        got => got,
    }
}

fn send_body(cell: &Cell, wire: &mut Wire, scene: &Scene, line: &dyn Fn(&str, &str) -> String) {
    let body = request_body(&cell.row);
    let method = if cell.client == Client::Put { "PUT" } else { "POST" };
    let head = line(method, "1.1");
    if cell.client == Client::PostChunked {
        let (one, other) = body.split_at(body.len() / 2);
        wire.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
        for part in [one, other] {
            wire.send(&[format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
        }
        wire.send(b"0\r\n\r\n");
        return;
    }
    let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    if cell.client != Client::PostStreamed {
        wire.send(&[head.as_bytes(), &body].concat());
        return;
    }
    // The second half is sent when the first has passed the proxy, or there is an answer without it. An early answer is
    // awaited: whether it overtakes the body would be random.
    let early = matches!(cell.row.fault, Fault::EarlyClose | Fault::EarlyDrain);
    let (one, other) = body.split_at(body.len() / 2);
    wire.send(&[head.as_bytes(), one].concat());
    wire.0.read_until(PATIENCE, |wire| !wire.buffer.is_empty() || (!early && scene.look().head_seen));
    wire.send(other);
}

/// Waits until the upstream hangs, and leaves.
fn leave(cell: &Cell, wire: &mut Wire, is_stuck: &dyn Fn() -> bool) -> Got {
    let has_head = |wire: &Connection| position(&wire.buffer, b"\r\n\r\n").is_some();
    let in_answer = matches!(cell.row.stage, Stage::AfterHead | Stage::InBody | Stage::AtEnd | Stage::Tunnel);
    let came = wire.0.read_until(PATIENCE, |wire| is_stuck() && (!in_answer || has_head(wire)));
    match (came, wire.0.end) {
        (true, None) => Got::Left,
        (true, Some(_)) => Got::Wrong("the connection ended before the client could leave".to_owned()),
        (false, _) => Got::Wrong("the client could not leave: the upstream never hung".to_owned()),
    }
}

/// After `101`: expects a greeting and an echo, or that the tunnel breaks.
fn through_tunnel(cell: &Cell, wire: &mut Wire) -> Got {
    let mut awaited = HELLO.to_vec();
    wire.0.read_until(PATIENCE, |wire| wire.buffer.len() >= HELLO.len());
    wire.send(PING);
    let in_tunnel = cell.row.stage == Stage::Tunnel;
    if in_tunnel && cell.row.fault == Fault::Trickle {
        awaited.extend_from_slice(TUNNELLED);
    }
    awaited.extend_from_slice(PING);
    let in_time = wire.0.read_until(PATIENCE, |wire| wire.buffer.len() >= awaited.len());
    if wire.0.buffer == awaited {
        return Got::Whole(101, Vec::new());
    }
    match in_time {
        true => Got::Cut(101, std::mem::take(&mut wire.0.buffer)),
        false => Got::Wrong("the tunnel is silent".to_owned()),
    }
}
