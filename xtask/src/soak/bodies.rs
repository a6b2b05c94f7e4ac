//! Bodies of 2 GiB through the proxy, up and down, with a slow peer on either side.
//!
//! A slow peer takes or gives its first part at a crawl and then stops for a while: whatever the other side does
//! meanwhile, the proxy must hold it back or put it on disk, never in memory. The rest goes at full speed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::Plan;
use super::memory;
use crate::server::{Server, free_ports};

const PATIENCE: Duration = Duration::from_secs(60);
/// All processes together, for the whole run.
const PEAK_KIB: u64 = 64 << 10;
/// How much a slow peer does slowly, how fast, and how long it then stops.
const CRAWL_BYTES: u64 = 64 << 20;
const CRAWL_BYTES_PER_S: u64 = 24 << 20;
const STOP: Duration = Duration::from_secs(1);
const CHUNK: usize = 64 << 10;
/// A prime: no buffer of anybody's has a size that would hide a slip.
pub(super) const PERIOD: usize = 1_048_583;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Client,
    Origin,
}

/// Runs it, and gives the figures.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("bind: {e}"))?;
    let origin_at = origin.local_addr().map_err(|e| format!("bind: {e}"))?;
    let [port] = free_ports()?;
    let front = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let files = [("conf/nginx.conf", conf(front, origin_at))];
    let server = Server::start(&plan.program, "bodies", &files, front)?;
    let pattern = pattern();
    let mut told = Vec::new();
    for (up, buffered, slow) in
        (0..8).map(|n| (n & 1 == 0, n & 2 == 0, if n & 4 == 0 { Slow::Client } else { Slow::Origin }))
    {
        let name = format!(
            "{} {} a slow {}",
            if up { "up" } else { "down" },
            if buffered { "buffered, with" } else { "unbuffered, with" },
            if slow == Slow::Client { "client" } else { "origin" }
        );
        let started = Instant::now();
        let path = if buffered { "/buffered" } else { "/unbuffered" };
        let (client, served) = std::thread::scope(|scope| {
            let serving = scope.spawn(|| serve_one(&origin, plan.body_bytes, slow == Slow::Origin, &pattern));
            let client = transfer(front, path, up, plan.body_bytes, slow == Slow::Client, &pattern);
            if client.is_err() {
                // The origin may still wait for a connection that will not come.
                let _ = TcpStream::connect(origin_at);
            }
            (client, serving.join().unwrap_or_else(|_| Err("the origin panicked".to_owned())))
        });
        let memory = memory::of_tree(server.pid());
        client.map_err(|e| format!("{name}: client: {e}"))?;
        served.map_err(|e| format!("{name}: origin: {e}"))?;
        println!("  {name}: {:.1} s, peak so far {} KiB", started.elapsed().as_secs_f64(), memory.peak_kib);
        if memory.peak_kib > PEAK_KIB {
            return Err(format!("{name}: peak memory {} KiB is above {PEAK_KIB} KiB", memory.peak_kib));
        }
        told.push(memory.peak_kib);
    }
    let bad = server.finish(&["alert", "emerg", "crit", "error"])?;
    if let Some(line) = bad.first() {
        return Err(format!("its error log says: {line}"));
    }
    let peak = told.iter().max().copied().unwrap_or(0);
    Ok(format!("{} bodies of {} MiB, peak memory {peak} KiB", told.len(), plan.body_bytes >> 20))
}

fn conf(front: SocketAddr, origin: SocketAddr) -> String {
    format!(
        "worker_processes 1;\npid logs/soak.pid;\nevents {{ worker_connections 256; }}\nhttp {{\n\
         \x20 access_log off;\n\x20 client_max_body_size 0;\n\x20 proxy_http_version 1.1;\n\
         \x20 server {{\n\x20   listen {front};\n\
         \x20   location /buffered {{ proxy_pass http://{origin}; }}\n\
         \x20   location /unbuffered {{ proxy_pass http://{origin}; proxy_buffering off; proxy_request_buffering off; }}\n\
         \x20 }}\n}}\n"
    )
}

/// The bytes of a body, twice over, so that every stretch of it stands in one piece.
pub(super) fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes: Vec<u8> = (0..PERIOD)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 56) as u8
        })
        .collect();
    bytes.extend_from_within(..);
    bytes
}

/// The client's side of one transfer.
fn transfer(
    front: SocketAddr,
    path: &str,
    up: bool,
    size: u64,
    slow: bool,
    pattern: &[u8],
) -> Result<(), String> {
    let stream = open(front).map_err(|e| format!("connect: {e}"))?;
    let mut writer = stream.try_clone().map_err(|e| format!("connect: {e}"))?;
    let head = match up {
        true => format!(
            "PUT {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
        ),
        false => format!("GET {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n"),
    };
    writer.write_all(head.as_bytes()).map_err(|e| format!("send: {e}"))?;
    if up {
        give(&mut writer, size, slow, pattern)?;
    }
    let mut reader = BufReader::with_capacity(CHUNK, stream);
    let head = read_head(&mut reader)?;
    if !head.starts_with("http/1.1 200 ") {
        return Err(format!("it answers {head}"));
    }
    match up {
        true => Ok(()),
        false if length_of(&head) != Some(size) => Err(format!("not {size} bytes: {head}")),
        false => take(&mut reader, size, slow, pattern),
    }
}

/// The origin's side of one transfer.
fn serve_one(listener: &TcpListener, size: u64, slow: bool, pattern: &[u8]) -> Result<(), String> {
    let (stream, _) = listener.accept().map_err(|e| format!("accept: {e}"))?;
    let ready =
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    ready.map_err(|e| format!("accept: {e}"))?;
    let mut writer = stream.try_clone().map_err(|e| format!("accept: {e}"))?;
    let mut reader = BufReader::with_capacity(CHUNK, stream);
    let head = read_head(&mut reader)?;
    if head.starts_with("put ") {
        if length_of(&head) != Some(size) {
            return Err(format!("not {size} bytes: {head}"));
        }
        take(&mut reader, size, slow, pattern)?;
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        return writer.write_all(answer).map_err(|e| format!("answer: {e}"));
    }
    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n");
    writer.write_all(answer.as_bytes()).map_err(|e| format!("answer: {e}"))?;
    give(&mut writer, size, slow, pattern)
}

fn open(at: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A message's head in lower case.
fn read_head(reader: &mut impl BufRead) -> Result<String, String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        let read = reader.read_line(&mut head).map_err(|e| format!("head: {e}"))?;
        if read == 0 {
            return Err(format!("closed within the head: {head:?}"));
        }
        if head[before..].trim_end().is_empty() {
            return Ok(head.to_ascii_lowercase());
        }
    }
}

fn length_of(head: &str) -> Option<u64> {
    head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()
}

/// Sends a body.
fn give(to: &mut impl Write, size: u64, slow: bool, pattern: &[u8]) -> Result<(), String> {
    let mut pace = Pace::new(slow);
    let mut at = 0;
    while at < size {
        let n = (size - at).min(CHUNK as u64) as usize;
        let from = (at % PERIOD as u64) as usize;
        to.write_all(&pattern[from..from + n]).map_err(|e| format!("send at {at}: {e}"))?;
        at += n as u64;
        pace.wait(at);
    }
    Ok(())
}

/// Receives a body and compares it.
fn take(from: &mut impl Read, size: u64, slow: bool, pattern: &[u8]) -> Result<(), String> {
    let mut pace = Pace::new(slow);
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        let n = from.read(&mut chunk).map_err(|e| format!("receive at {at}: {e}"))?;
        let expected = (at % PERIOD as u64) as usize;
        if n == 0 || n as u64 > size - at || chunk[..n] != pattern[expected..expected + n] {
            return Err(format!("{n} bytes at {at} are not what was sent"));
        }
        at += n as u64;
        pace.wait(at);
    }
    Ok(())
}

/// What makes a peer slow.
struct Pace {
    slow: bool,
    stopped: bool,
    started: Instant,
}

impl Pace {
    fn new(slow: bool) -> Pace {
        Pace { slow, stopped: false, started: Instant::now() }
    }

    /// Waits until so many bytes may have passed.
    fn wait(&mut self, bytes: u64) {
        if !self.slow || self.stopped {
            return;
        }
        let due = Duration::from_secs_f64(bytes as f64 / CRAWL_BYTES_PER_S as f64);
        std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        if bytes >= CRAWL_BYTES {
            self.stopped = true;
            std::thread::sleep(STOP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_arrives_as_it_was_sent_and_a_slip_is_seen() {
        let pattern = pattern();
        let size = 3 * PERIOD as u64 + 17;
        let mut wire = Vec::new();
        give(&mut wire, size, false, &pattern).expect("memory takes all");
        assert_eq!(wire.len() as u64, size);
        assert!(take(&mut &wire[..], size, false, &pattern).is_ok());
        assert!(take(&mut &wire[..wire.len() - 1], size, false, &pattern).is_err());
        assert!(take(&mut &wire[..], size - 1, false, &pattern).is_err());
        wire[PERIOD + 5] ^= 1;
        assert!(take(&mut &wire[..], size, false, &pattern).is_err());
        wire[PERIOD + 5] ^= 1;
        wire.remove(PERIOD);
        assert!(take(&mut &wire[..], size, false, &pattern).is_err());
    }

    #[test]
    fn heads_are_read() {
        let mut text = &b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nrest"[..];
        let head = read_head(&mut text).expect("whole");
        assert_eq!(length_of(&head), Some(12));
        assert_eq!(text, b"rest");
        assert!(read_head(&mut &b"HTTP/1.1 200 OK\r\n"[..]).is_err());
    }
}
