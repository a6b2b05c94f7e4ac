//! The origin behind the servers under test: it costs next to nothing and answers with the body that the path names.
//!
//! It runs on the thread of the load, a turn at a time, and never blocks. Bodies are made once.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Backlog, listen};

/// The bodies: paths, and the lengths of their answers.
pub(crate) const BODIES: [(&str, usize); 5] =
    [("/", 22), ("/1k", 1 << 10), ("/16k", 16 << 10), ("/100k", 100 << 10), ("/10m", 10 << 20)];

/// The numbers of listeners begin here, those of connections at 0.
const LISTENER: u64 = 1 << 32;
const READ_BYTES: usize = 128 * 1024;

struct Connection {
    stream: TcpStream,
    /// The start of a request's head.
    head: Vec<u8>,
    /// Bytes of a request's body that are still to come.
    body_left: u64,
    /// The reply that is due once the request is whole, and how much of it is sent.
    reply: Option<(usize, usize)>,
    /// The client sends no second request on this connection.
    ends: bool,
    waits: bool,
}

/// The origin and its connections.
pub(crate) struct Origin {
    listeners: Vec<TcpListener>,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Ready answers: each body for a connection that stays, and then each for one that ends.
    replies: Vec<Vec<u8>>,
}

impl Origin {
    /// Listens at a free port of 127.0.0.1 and the same one of 127.0.0.2, for groups of two servers.
    pub(crate) fn new() -> Result<Origin, String> {
        let told = |error: std::io::Error| format!("origin: {error}");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| format!("epoll: {e}"))?;
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(told)?;
        let port = first.local_addr().map_err(told)?.port();
        let listeners = vec![first, TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).map_err(told)?];
        for (listener, at) in listeners.iter().zip(LISTENER..) {
            // The standard library's queue of 128 is short for a thousand connections at once; listening again sets it.
            listen(listener, Backlog::MAXCONN).map_err(|e| format!("origin: {e}"))?;
            listener.set_nonblocking(true).map_err(told)?;
            epoll
                .add(listener, EpollEvent::new(EpollFlags::EPOLLIN, at))
                .map_err(|e| format!("epoll: {e}"))?;
        }
        let replies = [false, true].into_iter().flat_map(|ends| BODIES.map(|(_, bytes)| reply(bytes, ends)));
        Ok(Origin {
            listeners,
            epoll,
            events: vec![EpollEvent::empty(); 256],
            buffer: vec![0; READ_BYTES],
            connections: Vec::new(),
            free: Vec::new(),
            replies: replies.collect(),
        })
    }

    /// Returns where it listens first.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        self.listeners[0].local_addr().map_err(|e| format!("origin: {e}"))
    }

    /// Reads and writes whatever can be.
    pub(crate) fn turn(&mut self) -> Result<(), String> {
        let mut events = std::mem::take(&mut self.events);
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(format!("epoll: {error}")),
        };
        for event in &events[..count] {
            match event.data() {
                at if at >= LISTENER => self.accept((at - LISTENER) as usize)?,
                at => self.serve(at as usize, event.events())?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn accept(&mut self, listener: usize) -> Result<(), String> {
        loop {
            let stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("origin: {error}")),
            };
            stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .map_err(|e| format!("origin: {e}"))?;
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll
                .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, at as u64))
                .map_err(|e| format!("epoll: {e}"))?;
            let connection =
                Connection { stream, head: Vec::new(), body_left: 0, reply: None, ends: false, waits: false };
            self.connections[at] = Some(connection);
        }
    }

    fn serve(&mut self, at: usize, flags: EpollFlags) -> Result<(), String> {
        let Some(connection) = &mut self.connections[at] else { return Ok(()) };
        let mut stays = true;
        if flags.intersects(!EpollFlags::EPOLLOUT) {
            stays = connection.read(&mut self.buffer);
        }
        if stays {
            stays = connection.write(&self.replies);
        }
        if !stays {
            self.connections[at] = None;
            self.free.push(at);
            return Ok(());
        }
        let waits = connection.reply.is_some() && connection.body_left == 0;
        if waits != connection.waits {
            connection.waits = waits;
            let flags = if waits { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            self.epoll
                .modify(&connection.stream, &mut EpollEvent::new(flags, at as u64))
                .map_err(|e| format!("epoll: {e}"))?;
        }
        Ok(())
    }
}

impl Connection {
    /// Reads once; says whether the connection goes on.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        let mut bytes = match (&self.stream).read(buffer) {
            Ok(0) => return false,
            Ok(count) => &buffer[..count],
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        if self.reply.is_none() {
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else { return true };
            let Some(request) = Request::read(&self.head[..end]) else { return false };
            bytes = &bytes[bytes.len() - (self.head.len() - end - 4)..];
            self.reply = Some((request.reply, 0));
            self.body_left = request.body_bytes;
            self.ends = request.ends;
            self.head.clear();
        }
        // More than the body would be a second request before the answer to the first: no proxy sends that.
        match self.body_left.checked_sub(bytes.len() as u64) {
            Some(left) => self.body_left = left,
            None => return false,
        }
        true
    }

    /// Writes what is due; says whether the connection goes on.
    fn write(&mut self, replies: &[Vec<u8>]) -> bool {
        let Some((which, sent)) = &mut self.reply else { return true };
        if self.body_left > 0 {
            return true;
        }
        let index = *which + if self.ends { BODIES.len() } else { 0 };
        let bytes = &replies[index];
        while *sent < bytes.len() {
            match (&self.stream).write(&bytes[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        self.reply = None;
        !self.ends
    }
}

/// The parts of a request that count here.
struct Request {
    reply: usize,
    body_bytes: u64,
    ends: bool,
}

impl Request {
    /// Reads a head; nothing of one that asks for what is not there.
    fn read(head: &[u8]) -> Option<Request> {
        let head = std::str::from_utf8(head).ok()?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (_, path, version) = (words.next()?, words.next()?, words.next()?);
        let reply = BODIES.iter().position(|(known, _)| *known == path)?;
        let mut request = Request { reply, body_bytes: 0, ends: version == "HTTP/1.0" };
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                request.body_bytes = value.parse().ok()?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return None;
            } else if name.eq_ignore_ascii_case("connection") {
                request.ends |= value.eq_ignore_ascii_case("close");
            }
        }
        Some(request)
    }
}

/// Returns an answer as an application gives it.
fn reply(bytes: usize, ends: bool) -> Vec<u8> {
    let connection = if ends { "close" } else { "keep-alive" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {bytes}\r\nConnection: {connection}\r\nCache-Control: no-cache\r\n\r\n"
    );
    let mut reply = head.into_bytes();
    reply.resize(reply.len() + bytes, b'x');
    reply
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::{Load, Requests, Until};

    fn requests(text: &[u8], answer_bytes: u64, closes: bool) -> Requests {
        Requests { texts: vec![text.to_vec()], answer_bytes, closes }
    }

    #[test]
    fn the_load_gets_what_it_asks_of_the_origin() {
        let mut origin = Origin::new().expect("it listens");
        let front = origin.address().expect("it has one");
        let mut upload = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n".to_vec();
        upload.resize(upload.len() + 1_048_576, b'u');
        let cases = [
            requests(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 22, false),
            requests(b"GET /10m HTTP/1.1\r\nHost: x\r\n\r\n", 10 << 20, false),
            requests(b"GET /16k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 16 << 10, true),
            requests(b"GET /1k HTTP/1.0\r\n\r\n", 1 << 10, true),
            requests(&upload, 22, false),
        ];
        for requests in &cases {
            let mut load = Load::new(front, requests, 3).expect("a load");
            let closed = load.closed(Until::answers(20), &mut || origin.turn()).expect("all are answered");
            assert_eq!(closed.answers, 20);
        }
    }

    #[test]
    fn an_answer_that_is_not_the_expected_one_is_an_error() {
        let mut origin = Origin::new().expect("it listens");
        let front = origin.address().expect("it has one");
        for requests in [
            requests(b"GET /1k HTTP/1.1\r\nHost: x\r\n\r\n", 22, false),
            requests(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 22, false),
        ] {
            let mut load = Load::new(front, &requests, 1).expect("a load");
            assert!(load.closed(Until::answers(1), &mut || origin.turn()).is_err());
        }
    }

    /// An origin that stands still for a tenth of the round: those who were due meanwhile have waited.
    #[test]
    fn an_offered_rate_is_kept_and_a_standstill_is_seen() {
        let mut origin = Origin::new().expect("it listens");
        let front = origin.address().expect("it has one");
        let requests = requests(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 22, false);
        let mut load = Load::new(front, &requests, 4).expect("a load");
        load.closed(Until::answers(4), &mut || origin.turn()).expect("it is warm");
        let begin = std::time::Instant::now();
        let still = Duration::from_millis(200)..Duration::from_millis(300);
        let mut beside = || match still.contains(&begin.elapsed()) {
            true => Ok(()),
            false => origin.turn(),
        };
        let open = load.open(1_000.0, Duration::from_secs(1), 11, &mut beside).expect("all are answered");
        assert_eq!(open.unanswered, 0);
        assert!((850..1_150).contains(&open.latencies_ns.len()), "{}", open.latencies_ns.len());
        // A hundred were due in the standstill: half of them waited for more than half of it. Four connections alone
        // would have told of four.
        let late = open.latencies_ns.count_between(50_000_001, u64::MAX);
        assert!(late > 25, "{late}");
    }

    #[test]
    fn a_server_that_never_answers_leaves_no_request_out() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("it listens");
        let front = listener.local_addr().expect("it has one");
        let requests = requests(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 22, false);
        let mut load = Load::new(front, &requests, 2).expect("a load");
        let open = load.open(1_000.0, Duration::from_millis(100), 5, &mut || Ok(())).expect("it ends");
        assert_eq!(open.unanswered as u64, open.latencies_ns.len());
        assert!(open.unanswered > 50);
    }
}
