//! Idle connections beside a load: each has had one answer.
//!
//! They live in a process of their own, because ten thousand of them for every side exceed the limit of one process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{TryRecvError, channel};

use crate::answer::Answer;
use crate::load::Beside;

/// The argument that makes this program that other process.
pub(crate) const ARGUMENT: &str = "--hold";
/// How many are opened at a time: fewer than fit into the queue of a listener.
const AT_ONCE: usize = 256;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
const ANSWER_BYTES: u64 = 22;
const READY: &str = "ready";

/// The process that holds them; they close with it.
pub(crate) struct IdleConnections(Child);

impl IdleConnections {
    /// Opens connections, while the origin goes on.
    pub(crate) fn open(front: SocketAddr, count: usize, beside: Beside) -> Result<IdleConnections, String> {
        let own = std::env::current_exe().map_err(|e| format!("the path of this program: {e}"))?;
        let mut command = Command::new(own);
        command.args([ARGUMENT, &front.to_string(), &count.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut held = IdleConnections(child.map_err(|e| format!("hold: {e}"))?);
        let output = held.0.stdout.take().ok_or("hold: no output")?;
        let (send, said) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // Without a receiver the caller has given up.
            let _ = BufReader::new(output).read_line(&mut line);
            let _ = send.send(line);
        });
        loop {
            match said.try_recv() {
                Ok(line) if line.trim() == READY => return Ok(held),
                Ok(line) => return Err(format!("hold: {}", line.trim())),
                Err(TryRecvError::Empty) => beside()?,
                Err(TryRecvError::Disconnected) => return Err("hold: no output".to_owned()),
            }
        }
    }
}

impl Drop for IdleConnections {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the other process: opens the connections, reports that, and keeps them until its input ends.
pub(crate) fn main(front: &str, count: &str) -> ExitCode {
    match hold(front, count) {
        Ok(streams) => {
            println!("{READY}");
            let _ = std::io::stdin().read(&mut [0]);
            drop(streams);
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(front: &str, count: &str) -> Result<Vec<TcpStream>, String> {
    let front: SocketAddr = front.parse().map_err(|_| format!("{front} is not an address"))?;
    let count: usize = count.parse().map_err(|_| format!("{count} is not a number"))?;
    let mut streams: Vec<TcpStream> = Vec::with_capacity(count);
    while streams.len() < count {
        let first = streams.len();
        for _ in 0..AT_ONCE.min(count - first) {
            let mut stream = TcpStream::connect(front).map_err(|e| format!("connect: {e}"))?;
            stream.write_all(REQUEST).map_err(|e| format!("send: {e}"))?;
            streams.push(stream);
        }
        for stream in &mut streams[first..] {
            let (mut answer, mut buffer) = (Answer::default(), [0; 4096]);
            loop {
                let count = stream.read(&mut buffer).map_err(|e| format!("receive: {e}"))?;
                if count == 0 {
                    return Err("closed instead of an answer".to_owned());
                }
                if answer.feed(&buffer[..count], ANSWER_BYTES)? {
                    break;
                }
            }
        }
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;

    #[test]
    fn every_connection_has_had_an_answer() {
        let mut origin = Origin::new().expect("it listens");
        let front = origin.address().expect("it has one").to_string();
        let holding = std::thread::spawn(move || hold(&front, "300"));
        while !holding.is_finished() {
            origin.turn().expect("it goes on");
        }
        assert_eq!(holding.join().expect("no panic").expect("all are answered").len(), 300);
        assert!(hold("nowhere", "1").is_err());
    }
}
