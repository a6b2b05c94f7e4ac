//! An answer that ends after each of its bytes in turn, with a reset and with an orderly close.
//!
//! Owns an origin that ends where the path says. The expected answer follows from the framing alone: without a complete
//! head there is no answer, without a complete body no complete answer.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::Socket;

use super::got::Got;
use super::requests::Wire;
use super::table::Framing;
use crate::connection::{Connection, PATIENCE, accept_all};
use crate::message::position;
use crate::process::{Binary, Server, Setup};
use crate::test_dir::TestDir;

/// The body of every answer here.
const BODY: &[u8] = b"0123456789abcdefghij";

/// One way to end, over all the bytes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EachByte {
    framing: Framing,
    resets: bool,
}

impl EachByte {
    /// Returns all of them.
    pub fn all() -> Vec<EachByte> {
        let framings = [Framing::Length, Framing::Chunked, Framing::UntilClose];
        framings
            .into_iter()
            .flat_map(|framing| [true, false].map(|resets| EachByte { framing, resets }))
            .collect()
    }

    /// Returns the name of its test.
    pub fn name(self) -> String {
        let end = if self.resets { "reset" } else { "close" };
        format!("each-byte/{end}-{}", self.framing.title().replace(' ', "-"))
    }

    fn path(self, at: usize) -> String {
        let way = EachByte::all().iter().position(|way| *way == self).unwrap_or(0);
        format!("/{way}/{at}")
    }

    fn answer(self) -> Vec<u8> {
        let (field, body) = match self.framing {
            Framing::Length => ("Content-Length: 20", BODY.to_vec()),
            Framing::Chunked => {
                let (one, other) = BODY.split_at(7);
                let parts = [b"7\r\n", one, b"\r\nd\r\n", other, b"\r\n0\r\n\r\n"];
                ("Transfer-Encoding: chunked", parts.concat())
            }
            Framing::UntilClose => ("Connection: close", BODY.to_vec()),
        };
        [format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").as_bytes(), &body].concat()
    }

    /// Describes what is wrong with the client's answer after `at` bytes, if anything.
    fn judge(self, at: usize, got: &Got) -> Option<String> {
        let answer = self.answer();
        let head = position(&answer, b"\r\n\r\n").map_or(0, |end| end + 4);
        let body = at.saturating_sub(head);
        let is_whole = match self.framing {
            Framing::UntilClose => !self.resets,
            _ => at == answer.len(),
        };
        let good = match got {
            Got::Whole(502, _) => at < head,
            Got::Whole(200, came) if self.framing == Framing::UntilClose => {
                at >= head && is_whole && came == &BODY[..body]
            }
            Got::Whole(200, came) => at >= head && is_whole && came == BODY,
            Got::Cut(200, came) => {
                let in_order = self.framing != Framing::Length || BODY[..body].starts_with(came);
                at >= head && !is_whole && in_order
            }
            _ => false,
        };
        (!good).then(|| format!("after {at} of {} bytes ({head} of the head): {got:?}", answer.len()))
    }
}

/// Runs all of them on a program; returns the faults of each.
///
/// # Errors
/// The server could not be started, or did not end well.
pub fn run_each_byte(binary: &Binary) -> Result<Vec<(EachByte, Vec<String>)>, String> {
    let dir = TestDir::new("{port:front} {port:back}")?;
    let conf = dir.fill_in(
        "error_log logs/error.log; pid logs/nginx.pid; worker_processes 1; events { worker_connections 256; }\n\
         http { access_log logs/access.log; keepalive_requests 10000; proxy_http_version 1.1;\n\
         upstream u { server 127.0.0.1:{port:back} max_fails=0; }\n\
         server { listen 127.0.0.1:{port:front}; location / { proxy_pass http://u; } } }\n",
    );
    dir.write("conf/nginx.conf", conf.as_bytes(), 0o644)?;
    let show = |e: std::io::Error| e.to_string();
    let listener = TcpListener::bind(("127.0.0.1", dir.port("back")?)).map_err(show)?;
    let listener = Socket::from(listener);
    let setup = Setup { binary, dir: &dir, needs: &[], conf: "conf/nginx.conf", daemon: false };
    let server = Server::start(setup).map_err(|e| format!("{e}\n{}", dir.evidence()))?;
    let front = SocketAddr::from(([127, 0, 0, 1], dir.port("front")?));
    let over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| {
            accept_all(&listener, || over.load(Ordering::Relaxed), |connection, _| break_off(connection));
        });
        let ways = EachByte::all().into_iter().map(|way| (way, scope.spawn(move || each(way, front))));
        let threads: Vec<_> = ways.collect();
        let panicked = |_| vec!["the client panicked".to_owned()];
        let seen = threads.into_iter().map(|(way, thread)| (way, thread.join().unwrap_or_else(panicked)));
        let seen: Vec<_> = seen.collect();
        over.store(true, Ordering::Relaxed);
        seen
    });
    server.signal("QUIT", false)?;
    match server.wait() {
        Some(0) => Ok(seen),
        other => Err(format!("exit code {other:?} after QUIT\n{}", dir.evidence())),
    }
}

/// Requests every length of an answer, on one connection as long as it lasts.
fn each(way: EachByte, front: SocketAddr) -> Vec<String> {
    let mut faults = Vec::new();
    let mut wire = None;
    for at in 0..=way.answer().len() {
        let taken = match wire.take() {
            Some(wire) => Ok(wire),
            None => Wire::connect(front),
        };
        match taken {
            Ok(mut taken) => {
                let got = taken.get(&way.path(at));
                faults.extend(way.judge(at, &got));
                wire = matches!(got, Got::Whole(..)).then_some(taken);
            }
            Err(fault) => faults.push(fault),
        }
    }
    faults
}

/// Reads one request, and ends after as many bytes of its answer as its path says.
fn break_off(mut connection: Connection) {
    connection.read_until(PATIENCE, |connection| position(&connection.buffer, b"\r\n\r\n").is_some());
    let text = String::from_utf8_lossy(&connection.buffer).into_owned();
    let mut words = text.split(' ').nth(1).unwrap_or_default().split('/').skip(1);
    let mut number = || words.next().and_then(|word| word.parse::<usize>().ok());
    let (Some(way), Some(at)) = (number(), number()) else { return };
    let Some(way) = EachByte::all().get(way).copied() else { return };
    let _ = connection.send(&way.answer()[..at]);
    if way.resets {
        connection.reset();
        return;
    }
    connection.half_close();
    // The proxy ends its side when it has seen ours.
    connection.read_until(PATIENCE, |_| false);
}
