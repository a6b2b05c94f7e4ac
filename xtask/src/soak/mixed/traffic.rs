//! The clients: each connection does one kind of thing for the whole run, and knows what it must get.
//!
//! Owns what is sent and what is compared. Must never try a request again: a failure is written down as it is.

use super::boards::{Before, Boards, KEYS, host};
use super::frames::Frame;
use super::ledger::{Kind, Ledger, Seen};
use super::origin::Pattern;
use super::wire::{Fault, Head, Idle, Line, What};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What all clients share.
pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) boards: Boards,
    pub(super) pattern: Pattern,
    pub(super) front: SocketAddr,
    /// The side doors that are open for new connections now.
    pub(super) sides: RwLock<[Option<u16>; 2]>,
    /// Tunnels that began under an earlier number come to their end.
    pub(super) epoch: AtomicU64,
}

impl World {
    /// Looks whether an answer came from a right group, and counts that.
    fn judge(&self, key: usize, (seen, before): (Seen, Before), head: &Head) -> Result<(), Fault> {
        let two = self.ledger.had_two_processes(seen);
        let verdict = self.boards.judge(key, before, head.field("x-origin"), two)?;
        self.ledger.judged(verdict);
        Ok(())
    }
}

/// Random numbers from a seed.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// One client.
pub(super) struct Client<'a> {
    world: &'a World,
    kind: Kind,
    key: usize,
    line: Option<Line>,
    random: Random,
    /// A tunnel that lasts until it is asked to end: an upgrade can only follow another one when nobody is left on the
    /// server of the one before.
    stays: bool,
}

impl Client<'_> {
    /// The client of this number.
    pub(super) fn new(world: &World, kind: Kind, number: u64) -> Client<'_> {
        let key = number as usize % KEYS;
        Client { world, kind, key, line: None, random: Random::new(number), stays: number.is_multiple_of(4) }
    }

    /// Sends until the run is over.
    pub(super) fn live(mut self) {
        while !self.world.ledger.is_over() {
            match self.kind {
                Kind::Tunnel => self.tunnel(),
                Kind::Side => self.through_a_side(),
                _ => self.one(self.world.front),
            }
            let pause_ms = match self.kind {
                Kind::Small => 50,
                Kind::Thinking => 2000,
                Kind::Large => 1000,
                Kind::Upload => 500,
                Kind::Fresh => 200,
                Kind::Tunnel => 1000,
                Kind::Side | Kind::Rough => 100,
            };
            std::thread::sleep(Duration::from_millis(self.random.below(pause_ms)));
        }
    }

    /// One request, and its place in the ledger.
    fn one(&mut self, at: SocketAddr) {
        let seen = self.world.ledger.begin();
        let asked = self.connected(at).and_then(|line| self.ask_over(line, seen));
        self.write_down(seen, asked);
    }

    fn write_down(&mut self, seen: Seen, ended: Result<u64, Fault>) {
        let ledger = &self.world.ledger;
        match ended {
            Ok(bytes) => ledger.ended_well(self.kind, seen, bytes),
            Err(mut fault) => {
                if let Some(line) = self.line.take()
                    && fault.what == What::Lost
                    && line.uses > 0
                    && !line.answered
                {
                    fault.what = What::Raced;
                }
                ledger.failed(self.kind, seen, fault);
            }
        }
    }

    /// The connection that was kept, if it can be used, or a new one.
    fn connected(&mut self, at: SocketAddr) -> Result<Line, Fault> {
        match self.line.take().map(|line| (line.idle(), line)) {
            Some((Idle::Open, line)) => return Ok(line),
            Some((Idle::Talks, _)) => return Err(Fault::wrong("bytes that nobody asked for")),
            Some((Idle::Closed, _)) => {
                self.world.ledger.closed_idle.fetch_add(1, SeqCst);
            }
            None => {}
        }
        Line::open(at)
    }

    /// A request of this client's kind; the bytes of its body.
    fn ask_over(&mut self, line: Line, seen: Seen) -> Result<u64, Fault> {
        // It is kept here also when it fails, so that what it had seen can be told.
        let line = self.line.insert(line);
        line.answered = false;
        let before = self.world.boards.before(self.key);
        let random = &mut self.random;
        let start = random.below(1 << 20);
        let bytes = 1 + match self.kind {
            Kind::Large => (1 << 20) + random.below(3 << 20),
            _ => random.below(1 << 20),
        };
        let place = if random.below(2) == 0 { "" } else { "/streamed" };
        let host = host(self.key);
        // Half of those who need a connection for each request say so, the others just leave.
        let says_close = self.kind == Kind::Fresh && random.below(2) == 0;
        let target = match self.kind {
            Kind::Large => format!("{place}/large/{start}/{bytes}"),
            Kind::Upload => format!("{place}/upload/{start}/{bytes}"),
            Kind::Side => format!("/slow/{}", random.below(300)),
            _ => "/small".to_owned(),
        };
        let sent = match self.kind {
            Kind::Upload => {
                let head =
                    format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
                line.send(head.as_bytes())
                    .and_then(|()| send_chunks(line, &self.world.pattern, random, start, bytes))
            }
            _ => {
                let close = if says_close { "Connection: close\r\n" } else { "" };
                line.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n").as_bytes())
            }
        };
        sent?;
        let head = line.head()?;
        if head.status() != 200 {
            return Err(Fault::wrong(format!("{target} is answered with {}", head.0.replace("\r\n", " | "))));
        }
        self.world.judge(self.key, (seen, before), &head)?;
        let framing = head.framing().ok_or_else(|| Fault::wrong("an answer without a length"))?;
        let mut text = Vec::new();
        let mut compare = self.world.pattern.compare(start);
        let got = match self.kind {
            Kind::Large => line.body(framing, &mut compare)?,
            _ => line.body(framing, &mut |piece| {
                text.extend_from_slice(piece);
                Ok(())
            })?,
        };
        let right = match self.kind {
            Kind::Large => got == bytes,
            Kind::Upload => text == format!("all {bytes} bytes").as_bytes(),
            Kind::Side => text == b"late\n",
            _ => text == b"small\n",
        };
        if !right {
            return Err(Fault::wrong(format!(
                "{target}: {got} bytes of {bytes}, {}",
                String::from_utf8_lossy(&text)
            )));
        }
        line.uses += 1;
        if head.closes() || self.kind == Kind::Fresh {
            self.line = None;
        }
        Ok(if self.kind == Kind::Upload { bytes } else { got })
    }

    /// A WebSocket from its first byte to its last.
    fn tunnel(&mut self) {
        let seen = self.world.ledger.begin();
        let ended = self.frames(seen);
        self.write_down(seen, ended);
        self.line = None;
    }

    fn frames(&mut self, seen: Seen) -> Result<u64, Fault> {
        let line = Line::open(self.world.front)?;
        let line = self.line.insert(line);
        let before = self.world.boards.before(self.key);
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            host(self.key)
        );
        line.send(request.as_bytes())?;
        let head = line.head()?;
        if head.status() != 101 {
            return Err(Fault::wrong(format!("no tunnel: {}", head.0.replace("\r\n", " | "))));
        }
        self.world.judge(self.key, (seen, before), &head)?;
        let life = Duration::from_millis(5000 + self.random.below(15_000));
        let (began, epoch, mut bytes) = (Instant::now(), self.world.epoch.load(SeqCst), 0);
        while !self.world.ledger.is_over()
            && self.world.epoch.load(SeqCst) == epoch
            && (self.stays || began.elapsed() < life)
        {
            let length = match self.random.below(10) {
                0 => 10_000 + self.random.below(60_000),
                _ => self.random.below(2_000),
            };
            let start = self.random.below(1 << 20);
            let frame = Frame::Binary(self.world.pattern.piece(start, 0, length as usize).to_vec());
            line.send(&frame.bytes(true))?;
            if Frame::read(line)? != frame {
                return Err(Fault::wrong("a frame came back changed"));
            }
            bytes += 2 * length;
            std::thread::sleep(Duration::from_millis(self.random.below(500)));
        }
        line.send(&Frame::Close.bytes(true))?;
        match Frame::read(line)? {
            Frame::Close => Ok(bytes),
            Frame::Binary(_) => Err(Fault::wrong("a frame that nobody sent")),
        }
    }

    /// Two requests through a door that may be shut at any time: the first while it is certainly open, the second
    /// whenever it happens to come.
    fn through_a_side(&mut self) {
        let world = self.world;
        let doors = world.sides.read().unwrap_or_else(|e| e.into_inner());
        let Some(port) = doors[self.key % 2] else { return };
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.line = None;
        self.one(at);
        drop(doors);
        std::thread::sleep(Duration::from_millis(self.random.below(200)));
        let seen = world.ledger.begin();
        // A door that was shut behind us closes the connection; no other one can be had then.
        match self.line.take().map(|line| (line.idle(), line)) {
            Some((Idle::Open, line)) => {
                let asked = self.ask_over(line, seen);
                self.write_down(seen, asked);
            }
            Some((Idle::Closed, _)) => drop(world.ledger.closed_idle.fetch_add(1, SeqCst)),
            Some((Idle::Talks, _)) => {
                self.write_down(seen, Err(Fault::wrong("bytes that nobody asked for")));
            }
            None => {}
        }
        self.line = None;
    }
}

/// A body in chunks of all sizes.
fn send_chunks(
    line: &mut Line,
    pattern: &Pattern,
    random: &mut Random,
    start: u64,
    bytes: u64,
) -> Result<(), Fault> {
    let mut at = 0;
    while at < bytes {
        let most = if random.below(8) == 0 { 100 } else { 100_000 };
        let n = (1 + random.below(most)).min(bytes - at) as usize;
        let mut chunk = format!("{n:x}\r\n").into_bytes();
        chunk.extend_from_slice(pattern.piece(start, at, n));
        chunk.extend_from_slice(b"\r\n");
        line.send(&chunk)?;
        at += n as u64;
    }
    line.send(b"0\r\n\r\n")
}
