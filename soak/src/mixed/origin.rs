//! The servers behind the gateway: each answer names its group.
//!
//! They answer with small texts, generated bodies and the echo of frames. They close no connection before the run is
//! over, so that the gateway is responsible for each one that breaks.

use std::thread;
use std::time::Duration;

use crate::body::Pattern;
use crate::connection::{Connection, Fault, Framing, Head};
use crate::origin::{Origin, echo};

const PIECE: usize = 64 << 10;

impl Origin {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Frame;
    use std::net::{Ipv4Addr, SocketAddr};

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
