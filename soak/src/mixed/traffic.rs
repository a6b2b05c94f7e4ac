//! The clients: each connection has one kind of traffic for the whole run, and checks every answer.
//!
//! A client never repeats a request: every failure is counted.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::ledger::{Ledger, Start, Traffic};
use super::verdicts::{Before, KEYS, SwitchCounts, host};
use crate::body::Pattern;
use crate::connection::{Connection, Fault, FaultKind, Head, Idle};
use crate::frames::Frame;

/// The state of a run, shared by all clients.
pub(super) struct Run {
    pub(super) ledger: Ledger,
    pub(super) switches: SwitchCounts,
    pub(super) pattern: Pattern,
    pub(super) front: SocketAddr,
    /// The side ports that accept new connections now.
    pub(super) sides: RwLock<[Option<u16>; 2]>,
    /// Tunnels that began with an earlier number end.
    pub(super) epoch: AtomicU64,
}

impl Run {
    /// Judges the group of an answer, and counts the verdict.
    fn judge(&self, key: usize, (start, before): (Start, Before), head: &Head) -> Result<(), Fault> {
        let two = self.ledger.had_two_processes(start);
        let verdict = self.switches.judge(key, before, head.field("x-origin"), two)?;
        self.ledger.judged(verdict);
        Ok(())
    }
}

/// One client.
pub(super) struct Client<'a> {
    run: &'a Run,
    traffic: Traffic,
    key: usize,
    connection: Option<Connection>,
    random: Rng,
    /// A tunnel that lasts until an upgrade needs it to end: the server before must have no connection left.
    stays: bool,
}

impl Client<'_> {
    /// Makes the client of this number.
    pub(super) fn new(run: &Run, kind: Traffic, number: u64) -> Client<'_> {
        let key = number as usize % KEYS;
        let random = Rng::with_seed(number);
        Client { run, traffic: kind, key, connection: None, random, stays: number.is_multiple_of(4) }
    }

    /// Sends until the run is over.
    pub(super) fn send_all(mut self) {
        while !self.run.ledger.is_over() {
            match self.traffic {
                Traffic::Tunnel => self.tunnel(),
                Traffic::SidePort => self.use_side_port(),
                _ => self.request(self.run.front),
            }
            let pause_ms = match self.traffic {
                Traffic::Small => 50,
                Traffic::Thinking => 2000,
                Traffic::Large => 1000,
                Traffic::Upload => 500,
                Traffic::Fresh => 200,
                Traffic::Tunnel => 1000,
                Traffic::SidePort | Traffic::Misbehaving => 100,
            };
            std::thread::sleep(Duration::from_millis(self.random.u64(..pause_ms)));
        }
    }

    /// Sends one request, and counts its result.
    fn request(&mut self, at: SocketAddr) {
        let start = self.run.ledger.begin();
        let result = self.connected(at).and_then(|connection| self.request_over(connection, start));
        self.count(start, result);
    }

    fn count(&mut self, start: Start, result: Result<u64, Fault>) {
        let ledger = &self.run.ledger;
        match result {
            Ok(bytes) => ledger.succeeded(self.traffic, start, bytes),
            Err(mut fault) => {
                if let Some(connection) = self.connection.take()
                    && fault.kind == FaultKind::Lost
                    && connection.uses > 0
                    && !connection.answered
                {
                    fault.kind = FaultKind::Raced;
                }
                ledger.failed(self.traffic, start, fault);
            }
        }
    }

    /// Returns the connection that was kept, if it can be used, or a new one.
    fn connected(&mut self, at: SocketAddr) -> Result<Connection, Fault> {
        match self.connection.take().map(|connection| (connection.idle(), connection)) {
            Some((Idle::Open, connection)) => return Ok(connection),
            Some((Idle::HasBytes, _)) => return Err(Fault::wrong("bytes without a request")),
            Some((Idle::Closed, _)) => {
                self.run.ledger.closed_idle.fetch_add(1, SeqCst);
            }
            None => {}
        }
        Connection::open(at)
    }

    /// Sends a request of this kind of traffic; returns the length of its body.
    fn request_over(&mut self, connection: Connection, start: Start) -> Result<u64, Fault> {
        // It is kept when it fails, too: its counts say how it failed.
        let connection = self.connection.insert(connection);
        connection.answered = false;
        let before = self.run.switches.before(self.key);
        let random = &mut self.random;
        let offset = random.u64(..1 << 20);
        let bytes = 1 + match self.traffic {
            Traffic::Large => (1 << 20) + random.u64(..3 << 20),
            _ => random.u64(..1 << 20),
        };
        let location = if random.bool() { "" } else { "/streamed" };
        let host = host(self.key);
        // Half of the clients with a connection for each request announce the close, the others just close.
        let says_close = self.traffic == Traffic::Fresh && random.bool();
        let target = match self.traffic {
            Traffic::Large => format!("{location}/large/{offset}/{bytes}"),
            Traffic::Upload => format!("{location}/upload/{offset}/{bytes}"),
            Traffic::SidePort => format!("/slow/{}", random.u64(..300)),
            _ => "/small".to_owned(),
        };
        let sent = match self.traffic {
            Traffic::Upload => {
                let head =
                    format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
                connection
                    .send(head.as_bytes())
                    .and_then(|()| send_chunks(connection, &self.run.pattern, random, offset, bytes))
            }
            _ => {
                let close = if says_close { "Connection: close\r\n" } else { "" };
                connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n").as_bytes())
            }
        };
        sent?;
        let head = connection.head()?;
        if head.status() != 200 {
            return Err(Fault::wrong(format!("{target} is answered with {}", head.in_one_line())));
        }
        self.run.judge(self.key, (start, before), &head)?;
        let framing = head.framing().ok_or_else(|| Fault::wrong("an answer without a length"))?;
        let mut text = Vec::new();
        let mut compare = self.run.pattern.compare(offset);
        let got = match self.traffic {
            Traffic::Large => connection.body(framing, &mut compare)?,
            _ => connection.body(framing, &mut |piece| {
                text.extend_from_slice(piece);
                Ok(())
            })?,
        };
        let right = match self.traffic {
            Traffic::Large => got == bytes,
            Traffic::Upload => text == format!("all {bytes} bytes").as_bytes(),
            Traffic::SidePort => text == b"late\n",
            _ => text == b"small\n",
        };
        if !right {
            return Err(Fault::wrong(format!(
                "{target}: {got} bytes of {bytes}, {}",
                String::from_utf8_lossy(&text)
            )));
        }
        connection.uses += 1;
        if head.closes() || self.traffic == Traffic::Fresh {
            self.connection = None;
        }
        Ok(if self.traffic == Traffic::Upload { bytes } else { got })
    }

    /// Opens a WebSocket, uses it and closes it.
    fn tunnel(&mut self) {
        let start = self.run.ledger.begin();
        let result = self.frames(start);
        self.count(start, result);
        self.connection = None;
    }

    fn frames(&mut self, start: Start) -> Result<u64, Fault> {
        let connection = self.connection.insert(Connection::open(self.run.front)?);
        let before = self.run.switches.before(self.key);
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            host(self.key)
        );
        connection.send(request.as_bytes())?;
        let head = connection.head()?;
        if head.status() != 101 {
            return Err(Fault::wrong(format!("no tunnel: {}", head.in_one_line())));
        }
        self.run.judge(self.key, (start, before), &head)?;
        let life = Duration::from_millis(self.random.u64(5_000..20_000));
        let (began, epoch, mut bytes) = (Instant::now(), self.run.epoch.load(SeqCst), 0);
        while !self.run.ledger.is_over()
            && self.run.epoch.load(SeqCst) == epoch
            && (self.stays || began.elapsed() < life)
        {
            let length = match self.random.u8(..10) {
                0 => self.random.u64(10_000..70_000),
                _ => self.random.u64(..2_000),
            };
            let offset = self.random.u64(..1 << 20);
            let frame = Frame::Binary(self.run.pattern.piece(offset, 0, length as usize).to_vec());
            connection.send(&frame.bytes(true))?;
            if Frame::read(connection)? != frame {
                return Err(Fault::wrong("a frame came back changed"));
            }
            bytes += 2 * length;
            std::thread::sleep(Duration::from_millis(self.random.u64(..500)));
        }
        connection.send(&Frame::Close.bytes(true))?;
        match Frame::read(connection)? {
            Frame::Close => Ok(bytes),
            Frame::Binary(_) => Err(Fault::wrong("a frame that was not sent")),
        }
    }

    /// Sends two requests to a port that may close at any time: the first while it is certainly open, the second a
    /// moment later.
    fn use_side_port(&mut self) {
        let run = self.run;
        let sides = run.sides.read().unwrap_or_else(|e| e.into_inner());
        let Some(port) = sides[self.key % 2] else { return };
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.connection = None;
        self.request(at);
        drop(sides);
        std::thread::sleep(Duration::from_millis(self.random.u64(..200)));
        let start = run.ledger.begin();
        // If the port was closed meanwhile, so is the connection, and no other can be made.
        match self.connection.take().map(|connection| (connection.idle(), connection)) {
            Some((Idle::Open, connection)) => {
                let result = self.request_over(connection, start);
                self.count(start, result);
            }
            Some((Idle::Closed, _)) => drop(run.ledger.closed_idle.fetch_add(1, SeqCst)),
            Some((Idle::HasBytes, _)) => {
                self.count(start, Err(Fault::wrong("bytes without a request")));
            }
            None => {}
        }
        self.connection = None;
    }
}

/// Sends a body in chunks of all sizes.
fn send_chunks(
    connection: &mut Connection,
    pattern: &Pattern,
    random: &mut Rng,
    start: u64,
    bytes: u64,
) -> Result<(), Fault> {
    let mut at = 0;
    while at < bytes {
        let max = if random.u8(..8) == 0 { 100 } else { 100_000 };
        let n = (1 + random.u64(..max)).min(bytes - at) as usize;
        let mut chunk = format!("{n:x}\r\n").into_bytes();
        chunk.extend_from_slice(pattern.piece(start, at, n));
        chunk.extend_from_slice(b"\r\n");
        connection.send(&chunk)?;
        at += n as u64;
    }
    connection.send(b"0\r\n\r\n")
}
