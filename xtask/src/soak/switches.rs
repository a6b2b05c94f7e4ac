//! Requests by the million while the group is switched under them.
//!
//! Whether an answer came from the right group is decided by counting: switches begun and switches done. A request
//! that saw no switch begin between its start and its end has one right group; one that did may be answered by either.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Plan;
use super::memory::{self, Memory};
use crate::server::{Server, free_ports};

const THREADS: u64 = 4;
const CONNECTIONS_PER_THREAD: usize = 64;
const SWITCHES: u64 = 50;
const GROUPS: [&str; 2] = ["default_upstream", "lua_upstream"];
/// Nothing on this machine takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory may be so much higher at the end than after the warm-up: a collector's waves, not a leak.
const WAVES_KIB: u64 = 1024;

/// A gateway that reads the group from a shared dict, notes response times, and the servers behind it.
const CONF: &str = include_str!("switches.conf");

/// What the load threads and the switching thread share.
#[derive(Default)]
struct Run {
    answered: AtomicU64,
    begun: AtomicU64,
    done: AtomicU64,
    /// Answers that had one right group; the others ran while a switch was under way.
    judged: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Run {
    fn fail(&self, text: String) {
        let mut failures = self.failures.lock().unwrap_or_else(|e| e.into_inner());
        failures.push(text);
        // One is enough to fail; a few show the pattern.
        if failures.len() >= 10 {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
}

/// Runs it, and gives the figures.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let (ports, text) = match &plan.conf {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
            ([80, 8081, 8082, 8083, 8084], text)
        }
        None => {
            let ports: [u16; 5] = free_ports()?;
            let names = ["{front}", "{a}", "{b}", "{c}", "{d}"];
            let text = names
                .iter()
                .zip(ports)
                .fold(CONF.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
            (ports, text)
        }
    };
    let mut files =
        vec![("conf/nginx.conf", text), ("conf/mime.types", "types { text/html html; }\n".to_owned())];
    for (file, port) in ["html81/index.html", "html82/index.html", "html83/index.html", "html84/index.html"]
        .iter()
        .zip(&ports[1..])
    {
        files.push((file, format!("server name {port}\n")));
    }
    let front = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
    let server = Server::start(&plan.program, "switches", &files, front)?;
    let started = Instant::now();
    let shared = Run::default();
    let groups = [[ports[1], ports[2]], [ports[3], ports[4]]];
    let share = plan.requests / THREADS;
    let samples = std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                if let Err(error) = load(&shared, front, groups, share) {
                    shared.fail(error);
                    shared.stop.store(true, Ordering::SeqCst);
                }
            });
        }
        switch_on(&shared, front, share * THREADS, server.pid())
    });
    let seconds = started.elapsed().as_secs_f64();
    let peak_kib = memory::of_tree(server.pid()).peak_kib;
    let bad = server.finish(&["alert", "emerg", "crit"])?;
    let answered = shared.answered.load(Ordering::SeqCst);
    let switched = shared.done.load(Ordering::SeqCst);
    let judged = shared.judged.load(Ordering::SeqCst);
    let failures = shared.failures.into_inner().unwrap_or_else(|e| e.into_inner());
    if !failures.is_empty() {
        return Err(format!("after {answered} answers: {}", failures.join("; ")));
    }
    if let Some(line) = bad.first() {
        return Err(format!("its error log says: {line}"));
    }
    if answered < share * THREADS || switched < SWITCHES {
        return Err(format!("only {answered} answers and {switched} switches"));
    }
    let (warm, end) = growth(&samples)?;
    Ok(format!(
        "{answered} answers in {seconds:.1} s, {switched} switches under way, {judged} answers with one right group and the rest \
         during a switch, none failed; memory {warm} KiB after warm-up, {end} KiB at the end, peak {peak_kib} KiB"
    ))
}

/// The highest memory soon after the warm-up and at the end; an error if it grew.
fn growth(samples: &[Memory]) -> Result<(u64, u64), String> {
    let part = |from: usize, to: usize| {
        let (from, to) = (samples.len() * from / 10, samples.len() * to / 10);
        samples[from..to].iter().map(|sample| sample.resident_kib).max().unwrap_or(0)
    };
    let (warm, end) = (part(2, 5), part(7, 10));
    if warm == 0 || end > warm + warm / 50 + WAVES_KIB {
        return Err(format!("memory grew from {warm} KiB after warm-up to {end} KiB"));
    }
    Ok((warm, end))
}

/// Switches whenever the next share of the answers is in, and looks at the memory each time.
fn switch_on(shared: &Run, front: SocketAddr, total: u64, pid: u32) -> Vec<Memory> {
    let mut samples = Vec::new();
    let mut last = Instant::now();
    let mut seen = 0;
    for number in 1..=SWITCHES {
        loop {
            let answered = shared.answered.load(Ordering::SeqCst);
            if answered >= total * number / (SWITCHES + 1) {
                break;
            }
            if answered > seen {
                (seen, last) = (answered, Instant::now());
            } else if last.elapsed() > PATIENCE {
                shared.fail("no answer any more".to_owned());
                shared.stop.store(true, Ordering::SeqCst);
            }
            if shared.stop.load(Ordering::SeqCst) {
                return samples;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        samples.push(memory::of_tree(pid));
        let to = GROUPS[(number % 2) as usize];
        shared.begun.store(number, Ordering::SeqCst);
        let answer = Connection::open(front)
            .and_then(|mut connection| connection.ask(&format!("/_switch_upstream?upstream={to}")));
        match answer {
            Ok(answer) if answer.status == 200 && answer.body.contains(to) => {}
            Ok(answer) => shared.fail(format!("switch {number}: {} {}", answer.status, answer.body)),
            Err(error) => shared.fail(format!("switch {number}: {error}")),
        }
        shared.done.store(number, Ordering::SeqCst);
    }
    samples
}

/// One thread's requests: one under way on each of its connections.
fn load(shared: &Run, front: SocketAddr, groups: [[u16; 2]; 2], requests: u64) -> Result<(), String> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS_PER_THREAD {
        connections.push(Connection::open(front)?);
    }
    let mut left = requests;
    while left > 0 && !shared.stop.load(Ordering::SeqCst) {
        let round = left.min(connections.len() as u64);
        let before = shared.done.load(Ordering::SeqCst);
        for connection in connections.iter_mut().take(round as usize) {
            connection.send("/")?;
        }
        for connection in connections.iter_mut().take(round as usize) {
            let answer = connection.answer()?;
            let after = shared.begun.load(Ordering::SeqCst);
            if let Err(text) = judge(&answer, groups, before, after) {
                shared.fail(text);
            }
            shared.judged.fetch_add(u64::from(before == after), Ordering::SeqCst);
            shared.answered.fetch_add(1, Ordering::SeqCst);
            if answer.closes {
                *connection = Connection::open(front)?;
            }
        }
        left -= round;
    }
    Ok(())
}

/// Is it an answer of a group that was current between `before` switches done and `after` switches begun?
fn judge(answer: &Answer, groups: [[u16; 2]; 2], before: u64, after: u64) -> Result<(), String> {
    if answer.status != 200 {
        return Err(format!("status {}: {}", answer.status, answer.body));
    }
    let port = answer.body.trim_end().strip_prefix("server name ").and_then(|port| port.parse().ok());
    let group = port.and_then(|port| groups.iter().position(|group| group.contains(&port)));
    match group {
        Some(group) if after > before || group as u64 == before % 2 => Ok(()),
        Some(group) => Err(format!("after switch {before} {} answered", GROUPS[group])),
        None => Err(format!("no server says {:?}", answer.body)),
    }
}

/// An answer, as far as it matters.
struct Answer {
    status: u16,
    body: String,
    closes: bool,
}

/// A client connection with at most one request under way.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(front: SocketAddr) -> Result<Connection, String> {
        let stream = TcpStream::connect(front).map_err(|e| format!("connect: {e}"))?;
        let ready = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
        ready.map_err(|e| format!("connect: {e}"))?;
        Ok(Connection { stream, buffer: Vec::with_capacity(4096) })
    }

    fn ask(&mut self, target: &str) -> Result<Answer, String> {
        self.send(target)?;
        self.answer()
    }

    fn send(&mut self, target: &str) -> Result<(), String> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        self.stream.write_all(request.as_bytes()).map_err(|e| format!("send: {e}"))
    }

    fn answer(&mut self) -> Result<Answer, String> {
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

    const PORTS: [[u16; 2]; 2] = [[1, 2], [3, 4]];

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.to_owned(), closes: false }
    }

    #[test]
    fn an_answer_of_the_group_before_is_right_only_while_the_switch_is_under_way() {
        let old = answer(200, "server name 2\n");
        assert!(judge(&old, PORTS, 0, 0).is_ok());
        assert!(judge(&old, PORTS, 0, 1).is_ok());
        assert!(judge(&old, PORTS, 1, 1).is_err());
        assert!(judge(&old, PORTS, 2, 2).is_ok());
        assert!(judge(&answer(200, "server name 3\n"), PORTS, 1, 1).is_ok());
        assert!(judge(&answer(200, "server name 9\n"), PORTS, 0, 1).is_err());
        assert!(judge(&answer(502, "server name 2\n"), PORTS, 0, 0).is_err());
    }

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

    #[test]
    fn growth_is_told_from_waves() {
        let of = |resident_kib| Memory { resident_kib, peak_kib: 0 };
        let flat: Vec<Memory> = (0..50).map(|i| of(10_000 + i % 3 * 300)).collect();
        assert!(growth(&flat).is_ok());
        let leak: Vec<Memory> = (0..50).map(|i| of(10_000 + i * 100)).collect();
        assert!(growth(&leak).is_err());
        assert!(growth(&[]).is_err());
    }
}
