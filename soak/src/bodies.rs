//! Bodies of 2 GiB through the proxy, up and down, with a slow peer on either side.
//!
//! A slow peer takes or gives its first part at a crawl and then stops for a while: whatever the other side does
//! meanwhile, the proxy must hold it back or put it on disk, never in memory. The rest goes at full speed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use testkit::proc::Memory;

use crate::Plan;
use crate::body::Pattern;
use crate::connection::{Connection, Fault, Framing};
use crate::server::{SEVERE, Server, address, prepare};

/// The most memory that all processes together may ever have.
const MAX_PEAK_KIB: u64 = 64 << 10;
/// How much a slow peer transfers slowly, how fast, and how long it stops afterwards.
const CRAWL_BYTES: u64 = 64 << 20;
const CRAWL_BYTES_PER_S: u64 = 24 << 20;
const STOP: Duration = Duration::from_secs(1);
const CHUNK: usize = 64 << 10;

const CONF: &str = "worker_processes 1;
pid logs/soak.pid;
events { worker_connections 256; }
http {
    access_log off;
    client_max_body_size 0;
    proxy_http_version 1.1;
    server {
        listen 127.0.0.1:{port:front};
        location /buffered { proxy_pass http://{origin}; }
        location /unbuffered { proxy_pass http://{origin}; proxy_buffering off; proxy_request_buffering off; }
    }
}
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Client,
    Origin,
}

/// One body, in one direction.
struct Transfer<'a> {
    upload: bool,
    buffered: bool,
    slow: Slow,
    size: u64,
    pattern: &'a Pattern,
}

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("bind: {e}"))?;
    let origin_at = origin.local_addr().map_err(|e| format!("bind: {e}"))?;
    let dir = prepare(&CONF.replace("{origin}", &origin_at.to_string()))?;
    let front = address(&dir, "front")?;
    let server = Server::start(&plan.program(), &dir, front)?;
    let pattern = Pattern::new();
    let mut peak_kib = 0;
    for n in 0..8 {
        let slow = if n & 4 == 0 { Slow::Client } else { Slow::Origin };
        let (upload, buffered) = (n & 1 == 0, n & 2 == 0);
        let transfer = Transfer { upload, buffered, slow, size: plan.mebibytes << 20, pattern: &pattern };
        let started = Instant::now();
        let (client, served) = std::thread::scope(|scope| {
            let serving = scope.spawn(|| transfer.serve(&origin));
            let client = transfer.send(front);
            if client.is_err() {
                // The origin may still wait for a connection that will not come.
                let _ = TcpStream::connect(origin_at);
            }
            (client, serving.join().unwrap_or_else(|_| Err(Fault::wrong("the origin panicked"))))
        });
        let name = transfer.name();
        client.map_err(|e| format!("{name}: client: {}", e.text))?;
        served.map_err(|e| format!("{name}: origin: {}", e.text))?;
        peak_kib = Memory::of(server.pid()).peak_rss_kib;
        println!("  {name}: {:.1} s, peak so far {peak_kib} KiB", started.elapsed().as_secs_f64());
        if peak_kib > MAX_PEAK_KIB {
            return Err(format!("{name}: peak memory {peak_kib} KiB is above {MAX_PEAK_KIB} KiB"));
        }
    }
    server.finish(&[&SEVERE[..], &["error"]].concat())?;
    Ok(format!("8 bodies of {} MiB, peak memory {peak_kib} KiB", plan.mebibytes))
}

impl Transfer<'_> {
    fn name(&self) -> String {
        format!(
            "{} {}, slow {}",
            if self.buffered { "buffered" } else { "unbuffered" },
            if self.upload { "upload" } else { "download" },
            if self.slow == Slow::Client { "client" } else { "origin" }
        )
    }

    /// Returns the client's side.
    fn send(&self, front: SocketAddr) -> Result<(), Fault> {
        let mut connection = Connection::open(front)?;
        let path = if self.buffered { "/buffered" } else { "/unbuffered" };
        let (method, length) = match self.upload {
            true => ("PUT", format!("Content-Length: {}\r\n", self.size)),
            false => ("GET", String::new()),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n{length}\r\n");
        connection.send(head.as_bytes())?;
        if self.upload {
            self.give(&mut connection, Slow::Client)?;
        }
        let head = connection.head()?;
        match (head.status(), self.upload, head.framing()) {
            (200, true, _) => Ok(()),
            (200, false, Some(Framing::Length(length))) if length == self.size => {
                self.take(&mut connection, Slow::Client)
            }
            _ => Err(Fault::wrong(format!("unexpected answer: {}", head.in_one_line()))),
        }
    }

    /// Returns the origin's side.
    fn serve(&self, listener: &TcpListener) -> Result<(), Fault> {
        let failed = |e: std::io::Error| Fault::wrong(format!("accept: {e}"));
        let (stream, _) = listener.accept().map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut connection = Connection::accepted(stream, &stop).map_err(failed)?;
        let head = connection.head()?;
        if head.word(0) != "put" {
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", self.size);
            connection.send(head.as_bytes())?;
            return self.give(&mut connection, Slow::Origin);
        }
        if head.framing() != Some(Framing::Length(self.size)) {
            return Err(Fault::wrong(format!("not {} bytes: {}", self.size, head.in_one_line())));
        }
        self.take(&mut connection, Slow::Origin)?;
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    }

    fn give(&self, to: &mut Connection, side: Slow) -> Result<(), Fault> {
        let mut pace = Pace::new(self.slow == side);
        let mut at = 0;
        while at < self.size {
            let n = (self.size - at).min(CHUNK as u64) as usize;
            to.send(self.pattern.piece(0, at, n))?;
            at += n as u64;
            pace.wait(at);
        }
        Ok(())
    }

    fn take(&self, from: &mut Connection, side: Slow) -> Result<(), Fault> {
        let mut pace = Pace::new(self.slow == side);
        let mut compare = self.pattern.compare(0);
        let mut at = 0;
        from.body(Framing::Length(self.size), &mut |bytes| {
            compare(bytes)?;
            at += bytes.len() as u64;
            pace.wait(at);
            Ok(())
        })?;
        Ok(())
    }
}

/// The pace of a peer.
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
