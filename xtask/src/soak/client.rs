//! A client that says what it wants and reads the answer: one request under way on a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Nothing on this machine takes so long, unless it hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, as far as it matters.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) closes: bool,
}

/// What bytes go to and come from.
pub(super) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// A client connection with at most one request under way.
pub(super) struct Connection {
    stream: Box<dyn Wire + Send>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn open(front: SocketAddr) -> Result<Connection, String> {
        let stream = TcpStream::connect(front).map_err(|e| format!("connect: {e}"))?;
        let ready = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
        ready.map_err(|e| format!("connect: {e}"))?;
        Ok(Connection { stream: Box::new(stream), buffer: Vec::with_capacity(4096) })
    }

    /// A connection to a unix socket.
    pub(super) fn open_at(path: &Path) -> Result<Connection, String> {
        let fault = |e: std::io::Error| format!("{}: {e}", path.display());
        let stream = UnixStream::connect(path).map_err(fault)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(fault)?;
        Ok(Connection { stream: Box::new(stream), buffer: Vec::with_capacity(4096) })
    }

    pub(super) fn ask(&mut self, target: &str) -> Result<Answer, String> {
        self.send(target)?;
        self.answer()
    }

    pub(super) fn send(&mut self, target: &str) -> Result<(), String> {
        self.send_all("GET", target, &[], "")
    }

    /// Sends a request for something of another host.
    pub(super) fn send_to(&mut self, target: &str, host: &str) -> Result<(), String> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).map_err(|e| format!("send: {e}"))
    }

    /// Sends a request with more fields and a body.
    pub(super) fn send_all(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Result<(), String> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        request.push_str(body);
        self.stream.write_all(request.as_bytes()).map_err(|e| format!("send: {e}"))
    }

    pub(super) fn answer(&mut self) -> Result<Answer, String> {
        loop {
            if let Some((answer, length)) = read_answer(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(answer);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the connection was closed before the answer was whole".to_owned()),
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) => return Err(format!("receive: {error}")),
            }
        }
    }
}

/// The answer at the start of the bytes and how long it is, if it is whole.
fn read_answer(bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("no answer: {head}"))?;
    let field = |name: &str| head.split("\r\n").find_map(|line| line.strip_prefix(name)).map(str::trim);
    let closes = field("connection:") == Some("close");
    let rest = &bytes[end + 4..];
    let (body, length) = match field("content-length:") {
        Some(length) => {
            let length = length.parse::<usize>().map_err(|_| format!("no length: {head}"))?;
            if rest.len() < length {
                return Ok(None);
            }
            (rest[..length].to_vec(), length)
        }
        // The switch's own answers are written piece by piece.
        None => match unchunked(rest)? {
            Some(body) => body,
            None => return Ok(None),
        },
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some((Answer { status, body, closes }, end + 4 + length)))
}

/// A chunked body without extensions and trailers, and its length on the wire, if it is whole.
fn unchunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let Some(line) = bytes[at..].windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
        let size = String::from_utf8_lossy(&bytes[at..at + line]);
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| format!("no chunk size: {size}"))?;
        let from = at + line + 2;
        if bytes.len() < from + size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&bytes[from..from + size]);
        at = from + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let text = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..text.len() {
            assert!(read_answer(&text[..cut]).expect("good").is_none(), "{cut}");
        }
        let (answer, length) = read_answer(text).expect("good").expect("whole");
        assert_eq!(
            (answer.status, answer.body.as_str(), answer.closes, length),
            (200, "hello", true, text.len())
        );
        let text =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP";
        let (answer, length) = read_answer(text).expect("good").expect("whole");
        assert_eq!((answer.body.as_str(), answer.closes, length), ("abcde", false, text.len() - 4));
        assert!(read_answer(b"hello\r\n\r\n").is_err());
    }
}
