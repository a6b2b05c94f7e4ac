//! The servers of a cell: one that breaks, and one that works.
//!
//! Owns their sockets and threads, which end with the scene. `script` has the bytes that they send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::conf::{Role, address};
use super::scene::{End, Request, Scene};
use super::script::{self, PING, body_byte, script};
use super::table::{Cell, Client, Fault, Framing, Stage};
use crate::connection::{Connection, PATIENCE, PeerEnd, accept_all, listen};
use crate::message::position;

/// An endless fault ends by itself after so many bytes: the proxy does not limit it.
const ENOUGH_BYTES: usize = 16 << 20;

/// The servers of one cell.
pub(crate) struct Origins {
    threads: Vec<JoinHandle<()>>,
    /// Connections that fill a queue.
    _fillers: Vec<Socket>,
    _full: Option<Socket>,
}

impl Origins {
    /// Listens at the addresses of the cell.
    pub(crate) fn start(cell: &Cell, port: u16, scene: &Arc<Scene>) -> Result<Origins, String> {
        let mut origins = Origins { threads: Vec::new(), _fillers: Vec::new(), _full: None };
        let at = |role| SocketAddr::from((address(cell, role), port));
        match (cell.row.stage, cell.row.fault) {
            (Stage::Connect, Fault::Hang) => {
                let show = |e: std::io::Error| format!("a full queue: {e}");
                let (full, fillers) = full_queue(at(Role::Primary)).map_err(show)?;
                (origins._full, origins._fillers) = (Some(full), fillers);
            }
            (Stage::Connect, _) => {}
            _ => origins.listen(cell, at(Role::Primary), Role::Primary, scene)?,
        }
        origins.listen(cell, at(Role::Backup), Role::Backup, scene)?;
        Ok(origins)
    }

    fn listen(&mut self, cell: &Cell, at: SocketAddr, role: Role, scene: &Arc<Scene>) -> Result<(), String> {
        let small = matches!(cell.row.fault, Fault::EarlyClose | Fault::EarlyDrain).then_some(4096);
        let listener = listen(&at.into(), small).map_err(|e| format!("{at}: {e}"))?;
        let (cell, scene) = (*cell, Arc::clone(scene));
        self.threads.push(std::thread::spawn(move || {
            accept_all(
                &listener,
                || scene.look().over,
                |connection, _| serve(connection, cell, role, &scene),
            );
        }));
        Ok(())
    }

    /// Waits for all threads; the scene must be over.
    pub(crate) fn finish(self) -> Result<(), String> {
        let mut ended = Ok(());
        for thread in self.threads {
            ended = thread.join().map_err(|_| "a server's thread panicked".to_owned()).and(ended);
        }
        ended
    }
}

/// Returns a listener whose queue is full: connecting to it gets no answer.
fn full_queue(at: SocketAddr) -> std::io::Result<(Socket, Vec<Socket>)> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.bind(&at.into())?;
    listener.listen(0)?;
    let first = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    first.connect(&at.into())?;
    let second = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    second.set_nonblocking(true)?;
    // It stays in progress.
    let _ = second.connect(&at.into());
    Ok((listener, vec![first, second]))
}

fn serve(mut connection: Connection, cell: Cell, role: Role, scene: &Scene) {
    let number = scene.open(role);
    if cell.row.fault == Fault::ResetAtOnce && role == Role::Primary {
        connection.reset();
        scene.note(|state| {
            state.links[number].end = Some(End::Own);
            state.acted = true;
        });
        return;
    }
    Link { wire: connection, scene, number, cell, role }.serve();
}

/// One connection of a server.
struct Link<'a> {
    wire: Connection,
    scene: &'a Scene,
    number: usize,
    cell: Cell,
    role: Role,
}

/// The behaviour of a connection after its fault.
enum Next {
    /// Further requests are answered.
    Serve,
    /// It is over.
    Over(End),
}

impl Link<'_> {
    fn serve(mut self) {
        let mut served = 0;
        let end = loop {
            let Some(head) = self.head(served) else {
                break if self.wire.has_ended() { End::Proxy } else { End::Never };
            };
            let faulty = self.role == Role::Primary
                && head.path.ends_with("/fault")
                && self.cell.row.stage != Stage::LookUp
                && (self.cell.row.stage != Stage::Reused || (served > 0 && !self.is_idle_fault()));
            self.scene.note(|state| {
                state.head_seen = true;
                let link = &mut state.links[self.number];
                link.after_fault = link.after_fault.map(|n| n + 1);
                link.requests.push(Request { path: head.path.clone(), body: 0, whole: false, right: true });
                if faulty {
                    link.after_fault = Some(0);
                }
            });
            if !faulty {
                self.body(&head);
                self.answer(&head);
            } else if let Next::Over(end) = self.play(&head) {
                break end;
            }
            served += 1;
        };
        drop(self.wire);
        self.scene.note(|state| {
            state.links[self.number].end = Some(end);
            state.acted |= end == End::Own;
        });
    }

    fn is_idle_fault(&self) -> bool {
        matches!(self.cell.row.fault, Fault::IdleClose | Fault::IdleReset | Fault::IdleGarbage)
    }

    /// Reads the head of the next request; `None` if the proxy has ended, or the scene is over.
    fn head(&mut self, served: usize) -> Option<Head> {
        loop {
            if let Some(end) = position(&self.wire.buffer, b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.wire.buffer[..end]).into_owned();
                self.wire.buffer.drain(..end + 4);
                return Some(Head::read(&text));
            }
            if self.wire.has_ended() {
                return None;
            }
            if !self.wire.read() {
                let (over, idle) = {
                    let state = self.scene.look();
                    (state.over, state.idle && !state.acted)
                };
                if over {
                    return None;
                }
                if idle && served > 0 && self.role == Role::Primary && self.is_idle_fault() {
                    self.idle_fault();
                }
            }
        }
    }

    fn idle_fault(&mut self) {
        match self.cell.row.fault {
            Fault::IdleClose => {
                self.wire.half_close();
            }
            Fault::IdleReset => self.wire.reset(),
            _ => {
                let _ = self.wire.send(script::GARBAGE);
            }
        }
        self.scene.note(|state| {
            state.acted = true;
            state.links[self.number].after_fault = Some(0);
        });
    }

    /// Reads a request's body as far as it comes, and records it.
    fn body(&mut self, head: &Head) {
        let deadline = Instant::now() + PATIENCE;
        while self.wire.buffer.len() < head.length && !self.wire.has_ended() && Instant::now() < deadline {
            if !self.wire.read() && self.scene.look().over {
                break;
            }
        }
        let came = self.wire.buffer.len().min(head.length);
        let right = self.wire.buffer[..came].iter().enumerate().all(|(at, byte)| *byte == body_byte(at));
        self.wire.buffer.drain(..came);
        self.scene.note(|state| {
            if let Some(request) = state.links[self.number].requests.last_mut() {
                (request.body, request.whole, request.right) = (came, came == head.length, right);
            }
        });
    }

    fn answer(&mut self, head: &Head) {
        if !head.upgrades {
            // A proxy that is gone shows it in its answer.
            let _ = self.wire.send(&script::healthy(&head.path, head.method == "HEAD"));
            return;
        }
        let _ = self.wire.send(&script::switching());
        self.echo();
    }

    /// Sends all bytes back, until the other side ends.
    fn echo(&mut self) {
        loop {
            if !self.wire.buffer.is_empty() {
                let bytes = std::mem::take(&mut self.wire.buffer);
                let _ = self.wire.send(&bytes);
            }
            if self.wire.has_ended() || (!self.wire.read() && self.scene.look().over) {
                return;
            }
        }
    }

    /// Plays the cell's fault.
    fn play(&mut self, head: &Head) -> Next {
        let row = self.cell.row;
        let mut script = script(&self.cell);
        let early = matches!(row.fault, Fault::EarlyClose | Fault::EarlyDrain);
        let streams = row.stage == Stage::BeforeHead && self.cell.client == Client::PostStreamed;
        if !(early || streams) {
            self.body(head);
        }
        if head.method == "HEAD" && row.fault == Fault::Extra && row.framing == Framing::Length {
            // Bytes behind the head of an answer to HEAD are too many already.
            script.before.extend_from_slice(b"!");
        }
        if !self.send_before(row.fault, row.stage, &script.before) {
            return Next::Serve;
        }
        if row.stage == Stage::Tunnel && matches!(row.fault, Fault::Reset | Fault::Close) {
            while position(&self.wire.buffer, PING).is_none() && !self.wire.has_ended() {
                if !self.wire.read() && self.scene.look().over {
                    return Next::Over(End::Never);
                }
            }
        }
        match row.fault {
            Fault::Reset => {
                self.wire.reset();
                return Next::Over(End::Own);
            }
            Fault::EarlyClose => return Next::Over(End::Own),
            Fault::Close | Fault::CloseAfter => {
                self.wire.half_close();
            }
            Fault::Hang => self.scene.note(|state| state.reached = true),
            Fault::Trickle => {
                self.trickle(&script.rest);
                if row.framing == Framing::UntilClose {
                    self.wire.half_close();
                }
            }
            Fault::Garbage => {
                let _ = self.wire.send(&script.rest);
            }
            Fault::Storm | Fault::Endless => self.flood(&script.rest),
            _ => {}
        }
        self.scene.note(|state| state.acted = true);
        if row.fault == Fault::EarlyDrain {
            self.body(head);
        }
        if head.upgrades && row.fault == Fault::Trickle {
            self.echo();
        }
        Next::Serve
    }

    /// Sends the bytes before the fault. A close right behind the last byte is sent with it, so that nothing comes between.
    fn send_before(&mut self, fault: Fault, stage: Stage, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        if stage == Stage::AtEnd && matches!(fault, Fault::Close | Fault::CloseAfter) {
            // The kernel expects more bytes, and the close follows.
            const MSG_MORE: i32 = 0x8000;
            let sent = self.wire.socket().send_with_flags(bytes, MSG_MORE);
            return sent.is_ok_and(|count| count == bytes.len());
        }
        self.wire.send(bytes).is_ok()
    }

    fn trickle(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.wire.send(&[*byte]).is_err() || self.scene.look().over {
                return;
            }
            // The pause is the fault.
            std::thread::sleep(Duration::from_micros(1500));
        }
    }

    /// Repeats the same bytes until the proxy closes.
    fn flood(&mut self, bytes: &[u8]) {
        let many = bytes.repeat(64);
        let mut sent = 0;
        while sent < ENOUGH_BYTES && self.wire.send(&many).is_ok() {
            sent += many.len();
        }
        if sent < ENOUGH_BYTES {
            self.wire.end = Some(PeerEnd::Closed);
        }
    }
}

/// The relevant parts of a request's head.
#[derive(Debug)]
struct Head {
    method: String,
    path: String,
    length: usize,
    upgrades: bool,
}

impl Head {
    fn read(text: &str) -> Head {
        let mut words = text.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let field = |name: &str| {
            let line = text.lines().find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
            Some(line[name.len() + 1..].trim().to_owned())
        };
        Head {
            method: method.to_owned(),
            path: path.to_owned(),
            length: field("content-length").and_then(|v| v.parse().ok()).unwrap_or(0),
            upgrades: field("upgrade").is_some(),
        }
    }
}
