//! The servers behind the gateway, in this process: each answer names its group.
//!
//! They answer with small texts, generated bodies and the echo of frames. They close no connection before the run is
//! over, so that the gateway is responsible for each one that breaks.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::frames::Frame;
use crate::body::Pattern;
use crate::connection::{Connection, Fault, Framing, Head};

const PIECE: usize = 64 << 10;
const STACK_BYTES: usize = 256 << 10;

/// A server that listens until it is dropped.
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
                // Without a thread the connection is dropped, which counts as a failure.
                let _ = connection.spawn(move || serve(stream, &stopped));
            }
        });
        Ok(Origin { port, stop })
    }

    /// Starts a server of this group.
    pub(super) fn of_group(group: &'static str, pattern: &Pattern) -> Result<Origin, String> {
        let pattern = pattern.clone();
        Origin::start(move |stream, stop| {
            if let Ok(connection) = Connection::accepted(stream, stop) {
                // The gateway may go away at any time; the client counts what that did to a request.
                let _ = answer_all(connection, group, &pattern);
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

fn answer_all(mut connection: Connection, group: &str, pattern: &Pattern) -> Result<(), Fault> {
    loop {
        let head = connection.head()?;
        if head.field("upgrade").is_some() {
            return echo(connection, group);
        }
        answer(&mut connection, &head, group, pattern)?;
    }
}

/// Answers a request; the last segments of the path, `/…/NAME/START/BYTES`, say with what.
fn answer(connection: &mut Connection, head: &Head, group: &str, pattern: &Pattern) -> Result<(), Fault> {
    let mut words = head.word(1).rsplit('/');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let fields = format!("HTTP/1.1 200 OK\r\nX-Origin: {group}\r\n");
    match (number(), number()) {
        (Some(bytes), Some(start)) if head.word(0) == "post" => {
            let framing = head.framing().unwrap_or(Framing::Length(0));
            let got = connection.body(framing, &mut pattern.compare(start));
            let text = match got {
                Ok(got) if got == bytes => format!("all {got} bytes"),
                Ok(got) => format!("{got} bytes and not {bytes}"),
                Err(fault) => fault.text,
            };
            connection.send(format!("{fields}Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes())
        }
        (Some(bytes), Some(start)) => give(connection, &fields, bytes, start, pattern),
        (Some(pause_ms), None) => {
            thread::sleep(Duration::from_millis(pause_ms));
            connection.send(format!("{fields}Content-Length: 5\r\n\r\nlate\n").as_bytes())
        }
        (None, _) => connection.send(format!("{fields}Content-Length: 6\r\n\r\nsmall\n").as_bytes()),
    }
}

/// Sends a generated body: with its length, or in chunks where the start is odd.
fn give(
    connection: &mut Connection,
    fields: &str,
    bytes: u64,
    start: u64,
    pattern: &Pattern,
) -> Result<(), Fault> {
    let chunked = start % 2 == 1;
    let framing = match chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {bytes}"),
    };
    connection.send(format!("{fields}{framing}\r\n\r\n").as_bytes())?;
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(PIECE as u64) as usize;
        let piece = pattern.piece(start, at, n);
        match chunked {
            true => {
                let mut chunk = format!("{n:x}\r\n").into_bytes();
                chunk.extend_from_slice(piece);
                chunk.extend_from_slice(b"\r\n");
                connection.send(&chunk)?;
            }
            false => connection.send(piece)?,
        }
        at += n as u64;
    }
    if chunked { connection.send(b"0\r\n\r\n") } else { Ok(()) }
}

/// Sends every frame back.
fn echo(mut connection: Connection, group: &str) -> Result<(), Fault> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nX-Origin: {group}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
    connection.send(head.as_bytes())?;
    loop {
        let frame = Frame::read(&mut connection)?;
        connection.send(&frame.bytes(false))?;
        if frame == Frame::Close {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn an_origin_answers_as_the_path_says() {
        let pattern = Pattern::new();
        let origin = Origin::of_group("blue", &pattern).expect("it listens");
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port));
        let mut connection = Connection::open(at).expect("it listens");
        for start in [6, 7] {
            let request = format!("GET /large/{start}/200000 HTTP/1.1\r\nHost: a\r\n\r\n");
            connection.send(request.as_bytes()).expect("it reads");
            let head = connection.head().expect("it answers");
            assert_eq!(head.field("x-origin"), Some("blue"));
            let framing = head.framing().expect("it has one");
            assert_eq!(framing == Framing::Chunked, start == 7);
            assert_eq!(connection.body(framing, &mut pattern.compare(start)).expect("the same"), 200_000);
        }
        connection
            .send(b"POST /upload/9/3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n")
            .expect("it reads");
        connection.send(pattern.piece(9, 0, 3)).expect("it reads");
        connection.send(b"\r\n0\r\n\r\n").expect("it reads");
        let head = connection.head().expect("it answers");
        let mut text = Vec::new();
        let framing = head.framing().expect("it has one");
        connection
            .body(framing, &mut |bytes| {
                text.extend_from_slice(bytes);
                Ok(())
            })
            .expect("whole");
        assert_eq!(text, b"all 3 bytes");
        connection.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").expect("it reads");
        assert_eq!(connection.head().expect("it answers").status(), 101);
        for length in [0, 125, 126, 70_000] {
            let frame = Frame::Binary(pattern.piece(1, 0, length).to_vec());
            connection.send(&frame.bytes(true)).expect("it reads");
            assert_eq!(Frame::read(&mut connection).expect("it comes back"), frame);
        }
    }
}
