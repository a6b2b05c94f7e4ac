//! The clients: each connection has one kind of traffic for the whole run. None repeats a request: every failure is counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::books::FIELD;
use crate::connection::{Connection, Fault, Idle};
use crate::frames::Frame;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Small requests on a kept connection.
    Small,
    /// A connection for each request.
    Fresh,
    /// Answers that take up to half a second.
    LongPoll,
    /// WebSockets that live for up to three seconds.
    Tunnel,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Small, "small requests"),
    (Kind::Fresh, "on connections of their own"),
    (Kind::LongPoll, "long polls"),
    (Kind::Tunnel, "WebSockets"),
];

/// The state of a run, shared by all clients.
pub(super) struct Run {
    pub(super) front: SocketAddr,
    /// The number of the last order that was acknowledged.
    pub(super) orders: AtomicU64,
    /// A server is out.
    pub(super) is_one_out: AtomicBool,
    pub(super) stop: AtomicBool,
    succeeded: [AtomicU64; 4],
    /// Those that began while a server was out.
    begun_while_out: AtomicU64,
    failed: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Run {
    pub(super) fn new(front: SocketAddr) -> Run {
        Run {
            front,
            orders: AtomicU64::new(0),
            is_one_out: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            succeeded: Default::default(),
            begun_while_out: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            faults: Mutex::default(),
        }
    }

    /// Returns the number of requests of all kinds so far.
    pub(super) fn answered(&self) -> u64 {
        self.succeeded.iter().map(|count| count.load(SeqCst)).sum()
    }

    /// Returns what was answered; fails if anything was not, or if a kind of traffic was missing.
    pub(super) fn close(&self) -> Result<String, String> {
        let failed = self.failed.load(SeqCst);
        if failed > 0 {
            let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(format!("{failed} requests failed: {}", faults.join("; ")));
        }
        let mut parts = Vec::new();
        for ((_, name), count) in KINDS.iter().zip(&self.succeeded) {
            match count.load(SeqCst) {
                0 => return Err(format!("no {name} were answered")),
                count => parts.push(format!("{count} {name}")),
            }
        }
        let while_out = self.begun_while_out.load(SeqCst);
        Ok(format!("{}; {while_out} of them began while a server was out", parts.join(", ")))
    }

    fn count(&self, kind: Kind, began_while_out: bool, result: Result<(), Fault>) {
        match result {
            Ok(()) => {
                let at = KINDS.iter().position(|(one, _)| *one == kind).unwrap_or_default();
                self.succeeded[at].fetch_add(1, SeqCst);
                self.begun_while_out.fetch_add(u64::from(began_while_out), SeqCst);
            }
            Err(fault) => {
                self.failed.fetch_add(1, SeqCst);
                let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
                if faults.len() < 5 {
                    faults.push(format!("{kind:?}: {}", fault.text));
                }
            }
        }
    }
}

/// One client.
pub(super) struct Client<'a> {
    run: &'a Run,
    kind: Kind,
    connection: Option<Connection>,
    random: Rng,
}

impl Client<'_> {
    /// Makes the client of this number: of eight, four send small requests, one opens connections, two poll, and one has a
    /// WebSocket.
    pub(super) fn new(run: &Run, number: u64) -> Client<'_> {
        let kind = match number % 8 {
            0..4 => Kind::Small,
            4 => Kind::Fresh,
            5 | 6 => Kind::LongPoll,
            _ => Kind::Tunnel,
        };
        Client { run, kind, connection: None, random: Rng::with_seed(number) }
    }

    /// Sends until the run is over.
    pub(super) fn send_all(mut self) {
        while !self.run.stop.load(SeqCst) {
            let is_one_out = self.run.is_one_out.load(SeqCst);
            let result = match self.kind {
                Kind::Tunnel => self.tunnel(),
                _ => self.request(),
            };
            self.run.count(self.kind, is_one_out, result);
            thread::sleep(Duration::from_millis(self.random.u64(..60)));
        }
    }

    /// Sends the head of a request with the number of the last acknowledged order.
    fn send(&self, connection: &mut Connection, target: &str, fields: &str) -> Result<(), Fault> {
        let orders = self.run.orders.load(SeqCst);
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: www.example.com\r\n{FIELD}: {orders}\r\n{fields}\r\n");
        connection.send(head.as_bytes())
    }

    fn request(&mut self) -> Result<(), Fault> {
        let kept = self.connection.take().filter(|connection| connection.idle() == Idle::Open);
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(self.run.front)?,
        };
        let (target, fields) = match self.kind {
            Kind::LongPoll => (format!("/late/{}", self.random.u64(50..500)), ""),
            Kind::Fresh => ("/small".to_owned(), "Connection: close\r\n"),
            _ => ("/small".to_owned(), ""),
        };
        self.send(&mut connection, &target, fields)?;
        let head = connection.head()?;
        if head.status() != 200 {
            return Err(Fault::wrong(format!("{target} is answered with {}", head.in_one_line())));
        }
        let framing = head.framing().ok_or_else(|| Fault::wrong("an answer without a length"))?;
        let mut text = Vec::new();
        connection.body(framing, &mut |piece| {
            text.extend_from_slice(piece);
            Ok(())
        })?;
        if text != b"pool" {
            return Err(Fault::wrong(format!("{target}: {}", String::from_utf8_lossy(&text))));
        }
        if !head.closes() {
            self.connection = Some(connection);
        }
        Ok(())
    }

    /// Opens a WebSocket, uses it and closes it: whatever becomes of its server meanwhile.
    fn tunnel(&mut self) -> Result<(), Fault> {
        let mut connection = Connection::open(self.run.front)?;
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        self.send(&mut connection, "/ws", fields)?;
        let head = connection.head()?;
        if head.status() != 101 {
            return Err(Fault::wrong(format!("no tunnel: {}", head.in_one_line())));
        }
        let (began, life) = (Instant::now(), Duration::from_millis(self.random.u64(500..3000)));
        while began.elapsed() < life {
            let frame = Frame::Binary((0..self.random.usize(..2000)).map(|byte| byte as u8).collect());
            connection.send(&frame.bytes(true))?;
            if Frame::read(&mut connection)? != frame {
                return Err(Fault::wrong("a frame came back changed"));
            }
            thread::sleep(Duration::from_millis(self.random.u64(..200)));
        }
        connection.send(&Frame::Close.bytes(true))?;
        match Frame::read(&mut connection)? {
            Frame::Close => Ok(()),
            Frame::Binary(_) => Err(Fault::wrong("a frame that was not sent")),
        }
    }
}
