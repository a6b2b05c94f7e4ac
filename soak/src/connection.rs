//! A connection with a read buffer: heads, bodies by length or in chunks, frames. Clients and origins use it.
//!
//! It never retries: the caller counts failures.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use socket2::{SockAddr, Socket, Type};

/// Longer than anything takes on a machine, unless it hangs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a waiting thread of an origin checks whether it should end.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
const CHUNK: usize = 64 << 10;
/// The longest head.
const MAX_HEAD: usize = 16 << 10;

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// No connection was made.
    Refused,
    /// The connection broke.
    Lost,
    /// A connection that had been used and was idle broke before a byte of the answer came: the client sent while the
    /// server closed.
    Raced,
    /// Nothing came within the timeout.
    Silent,
    /// Something else came than expected.
    Wrong,
}

/// A failure, with a description.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) text: String,
}

impl From<Fault> for String {
    fn from(fault: Fault) -> String {
        fault.text
    }
}

impl Fault {
    pub(crate) fn wrong(text: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Wrong, text: text.into() }
    }

    fn lost(text: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Lost, text: text.into() }
    }

    fn of(stage: &str, error: &std::io::Error) -> Fault {
        let kind = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => FaultKind::Silent,
            _ => FaultKind::Lost,
        };
        Fault { kind, text: format!("{stage}: {error}") }
    }
}

/// The state of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    Open,
    Closed,
    /// Bytes came without a request.
    HasBytes,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// The head of a message in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Head(String);

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fits = |line: &&str| line.split_once(':').is_some_and(|(field, _)| field == name);
        self.0
            .split("\r\n")
            .skip(1)
            .find(fits)
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim())
    }

    /// Returns a word of the first line, by its number.
    pub(crate) fn word(&self, number: usize) -> &str {
        self.0.split("\r\n").next().and_then(|line| line.split(' ').nth(number)).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    pub(crate) fn framing(&self) -> Option<Framing> {
        if self.field("transfer-encoding") == Some("chunked") {
            return Some(Framing::Chunked);
        }
        self.field("content-length").and_then(|length| length.parse().ok()).map(Framing::Length)
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }

    /// Returns the head in one line, for reports.
    pub(crate) fn in_one_line(&self) -> String {
        self.0.replace("\r\n", " | ")
    }
}

/// A connection.
pub(crate) struct Connection {
    socket: Socket,
    bytes: Vec<u8>,
    /// Where the unread bytes begin.
    from: usize,
    /// For an origin: wait for bytes until this is set.
    stop: Option<Arc<AtomicBool>>,
    /// A byte has come since the last head was sent.
    pub(crate) answered: bool,
    /// The number of answers received.
    pub(crate) uses: u64,
}

impl Connection {
    /// Opens a client's connection over TCP.
    pub(crate) fn open(front: SocketAddr) -> Result<Connection, Fault> {
        Connection::connect(&front.into())
            .map_err(|e| Fault { kind: FaultKind::Refused, text: format!("connect: {e}") })
    }

    /// Opens a client's connection to a unix socket.
    pub(crate) fn open_unix(path: &Path) -> Result<Connection, Fault> {
        SockAddr::unix(path)
            .and_then(|address| Connection::connect(&address))
            .map_err(|e| Fault { kind: FaultKind::Refused, text: format!("{}: {e}", path.display()) })
    }

    fn connect(address: &SockAddr) -> std::io::Result<Connection> {
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        socket.connect(address)?;
        Connection::new(socket, TIMEOUT, None)
    }

    /// Takes over an accepted connection of an origin, which is given up when `stop` is set.
    pub(crate) fn accepted(stream: TcpStream, stop: &Arc<AtomicBool>) -> std::io::Result<Connection> {
        Connection::new(stream.into(), POLL_INTERVAL, Some(Arc::clone(stop)))
    }

    fn new(
        socket: Socket,
        read_timeout: Duration,
        stop: Option<Arc<AtomicBool>>,
    ) -> std::io::Result<Connection> {
        // Unix sockets have no such option.
        let _ = socket.set_tcp_nodelay(true);
        socket.set_read_timeout(Some(read_timeout))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        Ok(Connection { socket, bytes: Vec::new(), from: 0, stop, answered: false, uses: 0 })
    }

    /// Makes the connection end with a reset instead of an orderly close.
    pub(crate) fn reset_on_close(&self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    /// Ends the sending side.
    pub(crate) fn half_close(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Reads some bytes as they are.
    pub(crate) fn read_raw(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.socket.read(buffer)
    }

    /// Returns the state between two requests.
    pub(crate) fn idle(&self) -> Idle {
        if self.from < self.bytes.len() {
            return Idle::HasBytes;
        }
        if self.socket.set_nonblocking(true).is_err() {
            return Idle::Closed;
        }
        let peeked = self.socket.peek(&mut [MaybeUninit::uninit()]);
        if self.socket.set_nonblocking(false).is_err() {
            return Idle::Closed;
        }
        match peeked {
            Ok(0) => Idle::Closed,
            Ok(_) => Idle::HasBytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Idle::Open,
            Err(_) => Idle::Closed,
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.socket.write_all(bytes).map_err(|e| Fault::of("send", &e))
    }

    fn fill(&mut self, stage: &str) -> Result<(), Fault> {
        if self.from == self.bytes.len() {
            self.bytes.clear();
            self.from = 0;
        }
        let old = self.bytes.len();
        self.bytes.resize(old + CHUNK, 0);
        let read = loop {
            match self.socket.read(&mut self.bytes[old..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
                        && self.stop.as_ref().is_some_and(|stop| !stop.load(SeqCst)) => {}
                read => break read,
            }
        };
        self.bytes.truncate(old + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(Fault::lost(format!("closed inside the {stage}"))),
            Ok(_) => {
                self.answered = true;
                Ok(())
            }
            Err(error) => Err(Fault::of(stage, &error)),
        }
    }

    /// Reads the head of the next message.
    pub(crate) fn head(&mut self) -> Result<Head, Fault> {
        loop {
            let unread = &self.bytes[self.from..];
            if let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&unread[..end]).to_ascii_lowercase();
                self.from += end + 4;
                return Ok(Head(head));
            }
            if unread.len() > MAX_HEAD {
                return Err(Fault::wrong("a head without an end"));
            }
            self.fill("head")?;
        }
    }

    /// Passes the next bytes to `sink`, at most `most`; returns how many.
    fn some(&mut self, most: u64, sink: &mut dyn FnMut(&[u8]) -> Result<(), Fault>) -> Result<u64, Fault> {
        if self.from == self.bytes.len() {
            self.fill("body")?;
        }
        let n = most.min((self.bytes.len() - self.from) as u64) as usize;
        sink(&self.bytes[self.from..self.from + n])?;
        self.from += n;
        Ok(n as u64)
    }

    /// Reads the body of a message piece by piece; returns its length.
    pub(crate) fn body(
        &mut self,
        framing: Framing,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<u64, Fault> {
        let mut whole = 0;
        match framing {
            Framing::Length(length) => {
                while whole < length {
                    whole += self.some(length - whole, sink)?;
                }
            }
            Framing::Chunked => loop {
                let line = self.text_line()?;
                let size = u64::from_str_radix(line.trim(), 16)
                    .map_err(|_| Fault::wrong(format!("no chunk size: {line:?}")))?;
                let mut at = 0;
                while at < size {
                    at += self.some(size - at, sink)?;
                }
                whole += size;
                let end = self.text_line()?;
                if !end.is_empty() {
                    return Err(Fault::wrong(format!("after a chunk: {end:?}")));
                }
                if size == 0 {
                    break;
                }
            },
        }
        Ok(whole)
    }

    fn text_line(&mut self) -> Result<String, Fault> {
        loop {
            let unread = &self.bytes[self.from..];
            if let Some(end) = unread.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&unread[..end]).into_owned();
                self.from += end + 2;
                return Ok(line);
            }
            if unread.len() > MAX_HEAD {
                return Err(Fault::wrong("a line without an end"));
            }
            self.fill("chunk")?;
        }
    }

    /// Reads exactly `n` bytes.
    pub(crate) fn exactly(&mut self, n: usize) -> Result<Vec<u8>, Fault> {
        while self.bytes.len() - self.from < n {
            self.fill("frame")?;
        }
        self.from += n;
        Ok(self.bytes[self.from - n..self.from].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let line = Connection::open(listener.local_addr().expect("bound")).expect("it listens");
        (line, listener.accept().expect("it was called").0)
    }

    #[test]
    fn messages_are_read_and_idle_connections_differ_from_closed_ones() {
        let (mut line, mut peer) = pair();
        assert_eq!(line.idle(), Idle::Open);
        peer.write_all(
            b"HTTP/1.1 200 OK\r\nX-Origin: blue/1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .expect("it is read");
        let head = line.head().expect("whole");
        assert_eq!((head.status(), head.field("x-origin"), head.closes()), (200, Some("blue/1"), false));
        let mut got = Vec::new();
        let framing = head.framing().expect("it has one");
        let length = line.body(framing, &mut |bytes| {
            got.extend_from_slice(bytes);
            Ok(())
        });
        assert_eq!((length.expect("whole"), got), (3, b"abc".to_vec()));
        assert_eq!(line.idle(), Idle::Open);
        drop(peer);
        assert_eq!(line.head().expect_err("it is closed").kind, FaultKind::Lost);
        assert_eq!(line.idle(), Idle::Closed);
    }

    #[test]
    fn connecting_to_a_closed_port_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let at = listener.local_addr().expect("bound");
        drop(listener);
        assert_eq!(Connection::open(at).err().expect("it is closed").kind, FaultKind::Refused);
    }
}
