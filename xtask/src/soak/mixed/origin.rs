//! The servers behind the gateway, in this process: each answer says whose it is.
//!
//! Owns small answers, generated bodies both ways, and the echo of frames. Must never close a connection before the
//! run is over: a connection that breaks is then the gateway's doing.

use super::super::bodies::{PERIOD, pattern};
use super::frames::Frame;
use super::wire::{Fault, Framing, Head, Line};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const PIECE: usize = 64 << 10;
const STACK_BYTES: usize = 256 << 10;

/// The bytes of a body of any length, from any start.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Arc<Vec<u8>>);

impl Pattern {
    pub(super) fn new() -> Pattern {
        Pattern(Arc::new(pattern()))
    }

    /// So many bytes of the body that begins at `start`, from `at` on; at most a period.
    pub(super) fn piece(&self, start: u64, at: u64, length: usize) -> &[u8] {
        let from = ((start + at) % PERIOD as u64) as usize;
        &self.0[from..from + length]
    }

    /// Compares what arrives with the body that begins at `start`.
    pub(super) fn compare(&self, start: u64) -> impl FnMut(&[u8]) -> Result<(), Fault> + '_ {
        let mut at = 0;
        move |bytes| {
            let same = bytes == self.piece(start, at, bytes.len());
            at += bytes.len() as u64;
            match same {
                true => Ok(()),
                false => {
                    Err(Fault::wrong(format!("the {} bytes before {at} are not what was sent", bytes.len())))
                }
            }
        }
    }
}

/// A server that listens until its owner is gone.
pub(super) struct Origin {
    pub(super) port: u16,
    stop: Arc<AtomicBool>,
}

impl Origin {
    /// Listens, and serves each connection with `serve` on a thread of its own.
    pub(super) fn start(
        serve: impl Fn(TcpStream, &Arc<AtomicBool>) + Send + Sync + 'static,
    ) -> Result<Origin, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("bind: {e}"))?;
        let port = listener.local_addr().map_err(|e| format!("bind: {e}"))?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (serve, stopped) = (Arc::clone(&serve), Arc::clone(&stopped));
                let connection = thread::Builder::new().stack_size(STACK_BYTES);
                // A connection that finds no thread is dropped, which is seen as a failure.
                let _ = connection.spawn(move || serve(stream, &stopped));
            }
        });
        Ok(Origin { port, stop })
    }

    /// A server of this group.
    pub(super) fn of_group(group: &'static str, pattern: &Pattern) -> Result<Origin, String> {
        let pattern = pattern.clone();
        Origin::start(move |stream, stop| {
            if let Ok(line) = Line::accepted(stream, stop) {
                // The gateway may go away at any time; what that did to a request is the client's to say.
                let _ = answer_all(line, group, &pattern);
            }
        })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn answer_all(mut line: Line, group: &str, pattern: &Pattern) -> Result<(), Fault> {
    loop {
        let head = line.head()?;
        if head.field("upgrade").is_some() {
            return echo(line, group);
        }
        answer(&mut line, &head, group, pattern)?;
    }
}

/// `/…/NAME/START/BYTES`: what is asked for stands in the last words of the path.
fn answer(line: &mut Line, head: &Head, group: &str, pattern: &Pattern) -> Result<(), Fault> {
    let mut words = head.word(1).rsplit('/');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let fields = format!("HTTP/1.1 200 OK\r\nX-Origin: {group}\r\n");
    match (number(), number()) {
        (Some(bytes), Some(start)) if head.word(0) == "post" => {
            let framing = head.framing().unwrap_or(Framing::Length(0));
            let got = line.body(framing, &mut pattern.compare(start));
            let text = match got {
                Ok(got) if got == bytes => format!("all {got} bytes"),
                Ok(got) => format!("{got} bytes and not {bytes}"),
                Err(fault) => fault.text,
            };
            line.send(format!("{fields}Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes())
        }
        (Some(bytes), Some(start)) => give(line, &fields, bytes, start, pattern),
        (Some(pause_ms), None) => {
            thread::sleep(Duration::from_millis(pause_ms));
            line.send(format!("{fields}Content-Length: 5\r\n\r\nlate\n").as_bytes())
        }
        (None, _) => line.send(format!("{fields}Content-Length: 6\r\n\r\nsmall\n").as_bytes()),
    }
}

/// A generated body: with its length, or in chunks where the start is odd.
fn give(line: &mut Line, fields: &str, bytes: u64, start: u64, pattern: &Pattern) -> Result<(), Fault> {
    let chunked = start % 2 == 1;
    let framing = match chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {bytes}"),
    };
    line.send(format!("{fields}{framing}\r\n\r\n").as_bytes())?;
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(PIECE as u64) as usize;
        let piece = pattern.piece(start, at, n);
        match chunked {
            true => {
                let mut chunk = format!("{n:x}\r\n").into_bytes();
                chunk.extend_from_slice(piece);
                chunk.extend_from_slice(b"\r\n");
                line.send(&chunk)?;
            }
            false => line.send(piece)?,
        }
        at += n as u64;
    }
    if chunked { line.send(b"0\r\n\r\n") } else { Ok(()) }
}

/// Every frame goes back.
fn echo(mut line: Line, group: &str) -> Result<(), Fault> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nX-Origin: {group}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
    line.send(head.as_bytes())?;
    loop {
        let frame = Frame::read(&mut line)?;
        line.send(&frame.bytes(false))?;
        if frame == Frame::Close {
            let _ = line.stream().flush();
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn an_origin_answers_as_it_is_asked() {
        let pattern = Pattern::new();
        let origin = Origin::of_group("blue", &pattern).expect("it listens");
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port));
        let mut line = Line::open(at).expect("it listens");
        for start in [6, 7] {
            let request = format!("GET /large/{start}/200000 HTTP/1.1\r\nHost: a\r\n\r\n");
            line.send(request.as_bytes()).expect("it reads");
            let head = line.head().expect("it answers");
            assert_eq!(head.field("x-origin"), Some("blue"));
            let framing = head.framing().expect("it has one");
            assert_eq!(framing == Framing::Chunked, start == 7);
            assert_eq!(line.body(framing, &mut pattern.compare(start)).expect("the same"), 200_000);
        }
        line.send(b"POST /upload/9/3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n")
            .expect("it reads");
        line.send(pattern.piece(9, 0, 3)).expect("it reads");
        line.send(b"\r\n0\r\n\r\n").expect("it reads");
        let head = line.head().expect("it answers");
        let mut text = Vec::new();
        let framing = head.framing().expect("it has one");
        line.body(framing, &mut |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })
        .expect("whole");
        assert_eq!(text, b"all 3 bytes");
        line.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").expect("it reads");
        assert_eq!(line.head().expect("it answers").status(), 101);
        for length in [0, 125, 126, 70_000] {
            let frame = Frame::Binary(pattern.piece(1, 0, length).to_vec());
            line.send(&frame.bytes(true)).expect("it reads");
            assert_eq!(Frame::read(&mut line).expect("it comes back"), frame);
        }
        let mut slip = pattern.compare(5);
        assert!(slip(pattern.piece(6, 0, 10)).is_err());
    }
}
