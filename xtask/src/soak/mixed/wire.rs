//! A connection with a read buffer: heads, bodies by length or in chunks, frames. Both ends of the soak use it.
//!
//! Owns the bytes of one connection and what became of it. Must never try again: what failed is the caller's to count.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// Nothing on this machine takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a server's thread that waits looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(500);
const CHUNK: usize = 64 << 10;
/// More than any head here.
const MOST_HEAD: usize = 16 << 10;

/// How something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// No connection was made.
    Refused,
    /// The connection broke.
    Lost,
    /// A connection that had been used and was idle broke before a byte of the answer came: the client sent while the
    /// server closed.
    Raced,
    /// Nothing came for a long time.
    Silent,
    /// What came was not what should have come.
    Wrong,
}

/// A failure, with words.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) what: What,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn wrong(text: impl Into<String>) -> Fault {
        Fault { what: What::Wrong, text: text.into() }
    }

    fn lost(text: impl Into<String>) -> Fault {
        Fault { what: What::Lost, text: text.into() }
    }

    fn of(stage: &str, error: &std::io::Error) -> Fault {
        let what = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => What::Silent,
            _ => What::Lost,
        };
        Fault { what, text: format!("{stage}: {error}") }
    }
}

/// What an idle connection is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    Open,
    Closed,
    /// There are bytes that nobody asked for.
    Talks,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// A message's head in lower case.
#[derive(Clone, Debug)]
pub(super) struct Head(pub(super) String);

impl Head {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let fits = |line: &&str| line.split_once(':').is_some_and(|(field, _)| field == name);
        self.0
            .split("\r\n")
            .skip(1)
            .find(fits)
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim())
    }

    /// The first line's word of this number.
    pub(super) fn word(&self, number: usize) -> &str {
        self.0.split("\r\n").next().and_then(|line| line.split(' ').nth(number)).unwrap_or_default()
    }

    pub(super) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    pub(super) fn framing(&self) -> Option<Framing> {
        if self.field("transfer-encoding") == Some("chunked") {
            return Some(Framing::Chunked);
        }
        self.field("content-length").and_then(|length| length.parse().ok()).map(Framing::Length)
    }

    pub(super) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

/// A connection.
pub(super) struct Line {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Where what is unread begins.
    from: usize,
    /// A server's: it waits until this is set.
    until: Option<Arc<AtomicBool>>,
    /// A byte has come since the last send of a head.
    pub(super) answered: bool,
    /// Answers it has had.
    pub(super) uses: u64,
}

impl Line {
    /// A client's connection.
    pub(super) fn open(at: SocketAddr) -> Result<Line, Fault> {
        let refused = |e: std::io::Error| Fault { what: What::Refused, text: format!("connect: {e}") };
        let stream = TcpStream::connect(at).map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(refused)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(refused)?;
        Ok(Line { stream, bytes: Vec::new(), from: 0, until: None, answered: false, uses: 0 })
    }

    /// A server's connection, which is given up when `until` is set.
    pub(super) fn accepted(stream: TcpStream, until: &Arc<AtomicBool>) -> std::io::Result<Line> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GLANCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let until = Some(Arc::clone(until));
        Ok(Line { stream, bytes: Vec::new(), from: 0, until, answered: false, uses: 0 })
    }

    /// The socket, for what is not HTTP.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What it is between two requests.
    pub(super) fn idle(&self) -> Idle {
        if self.from < self.bytes.len() {
            return Idle::Talks;
        }
        if self.stream.set_nonblocking(true).is_err() {
            return Idle::Closed;
        }
        let peeked = self.stream.peek(&mut [0]);
        if self.stream.set_nonblocking(false).is_err() {
            return Idle::Closed;
        }
        match peeked {
            Ok(0) => Idle::Closed,
            Ok(_) => Idle::Talks,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Idle::Open,
            Err(_) => Idle::Closed,
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(bytes).map_err(|e| Fault::of("send", &e))
    }

    fn fill(&mut self, stage: &str) -> Result<(), Fault> {
        if self.from == self.bytes.len() {
            self.bytes.clear();
            self.from = 0;
        }
        let old = self.bytes.len();
        self.bytes.resize(old + CHUNK, 0);
        let read = loop {
            match self.stream.read(&mut self.bytes[old..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
                        && self.until.as_ref().is_some_and(|until| !until.load(SeqCst)) => {}
                read => break read,
            }
        };
        self.bytes.truncate(old + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(Fault::lost(format!("closed within the {stage}"))),
            Ok(_) => {
                self.answered = true;
                Ok(())
            }
            Err(error) => Err(Fault::of(stage, &error)),
        }
    }

    /// The next message's head.
    pub(super) fn head(&mut self) -> Result<Head, Fault> {
        loop {
            let unread = &self.bytes[self.from..];
            if let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&unread[..end]).to_ascii_lowercase();
                self.from += end + 4;
                return Ok(Head(head));
            }
            if unread.len() > MOST_HEAD {
                return Err(Fault::wrong("a head without an end"));
            }
            self.fill("head")?;
        }
    }

    /// The next bytes, at most so many.
    fn some(&mut self, most: u64, sink: &mut dyn FnMut(&[u8]) -> Result<(), Fault>) -> Result<u64, Fault> {
        if self.from == self.bytes.len() {
            self.fill("body")?;
        }
        let n = most.min((self.bytes.len() - self.from) as u64) as usize;
        sink(&self.bytes[self.from..self.from + n])?;
        self.from += n;
        Ok(n as u64)
    }

    /// A message's body, piece by piece; answers its length.
    pub(super) fn body(
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
            if unread.len() > MOST_HEAD {
                return Err(Fault::wrong("a line without an end"));
            }
            self.fill("chunk")?;
        }
    }

    /// Exactly so many bytes.
    pub(super) fn exactly(&mut self, n: usize) -> Result<Vec<u8>, Fault> {
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

    fn pair() -> (Line, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let line = Line::open(listener.local_addr().expect("bound")).expect("it listens");
        (line, listener.accept().expect("it was called").0)
    }

    #[test]
    fn messages_are_read_and_an_idle_connection_is_told_from_a_closed_one() {
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
        assert_eq!(line.head().expect_err("it is closed").what, What::Lost);
        assert_eq!(line.idle(), Idle::Closed);
    }

    #[test]
    fn nobody_there_is_a_refusal() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let at = listener.local_addr().expect("bound");
        drop(listener);
        assert_eq!(Line::open(at).err().expect("nobody").what, What::Refused);
    }
}
