//! A server under test while it runs: its folder, its port, its start, reload and end.
//!
//! It ends all processes that it started, whatever happens, and removes the folder. It never signals what it did not
//! start.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::account::tree;
use super::cores::Cores;
use super::peer::{Kind, Peer};

const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(1);

/// A running server.
pub(super) struct Running {
    child: Child,
    folder: PathBuf,
    pub(super) front: SocketAddr,
    kind: Kind,
}

impl Running {
    /// Starts a server with files below its folder on these cores, and waits until it listens at the port.
    pub(super) fn start(
        peer: &Peer,
        name: &str,
        files: &[(&str, String)],
        port: u16,
        cores: (&Cores, &[usize]),
    ) -> Result<Running, String> {
        let folder = crate::root().join(format!("target/xtask/bench-{name}-{}", std::process::id()));
        for (file, text) in files.iter().chain([&("logs/.here", String::new())]) {
            write(&folder.join(file), text)?;
        }
        let told = folder.join("told.txt");
        let output = |path: &Path| {
            // Appending, so that the log goes on at its start when it is emptied.
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|e| format!("{}: {e}", path.display()))
        };
        let mut command = peer.command(&folder, nix::unistd::geteuid().is_root());
        command.stdin(Stdio::null()).stdout(output(&folder.join("logs/stdout.log"))?).stderr(output(&told)?);
        let (choice, on) = cores;
        let child = choice.with(on, || command.spawn())?;
        let child = child.map_err(|e| format!("{}: {e}", peer.binary.display()))?;
        let front = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Running { child, folder, front, kind: peer.kind };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(front).is_err() {
            if let Ok(Some(status)) = server.child.try_wait() {
                let told = fs::read_to_string(&told).unwrap_or_default();
                return Err(told_fault(&told).map_or(format!("it ended with {status}"), str::to_owned));
            }
            if Instant::now() > deadline {
                return Err(format!("nobody listens at {front}"));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(server)
    }

    /// The master's process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Empties the logs, so that no round pays for writing out those of earlier ones.
    pub(super) fn empty_logs(&self) {
        for entry in fs::read_dir(self.folder.join("logs")).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                // A log that cannot be emptied only grows.
                let _ = File::options().write(true).open(entry.path()).and_then(|file| file.set_len(0));
            }
        }
    }

    /// What its error log holds of these levels: the first line.
    pub(super) fn complaint(&self, levels: &[&str]) -> Option<String> {
        let log = fs::read_to_string(self.folder.join("logs/error.log")).unwrap_or_default();
        let bad = |line: &&str| levels.iter().any(|level| line.contains(&format!("[{level}]")));
        log.lines().find(bad).map(str::to_owned)
    }

    /// Writes another configuration and asks for it to be taken up; answers how long it took until a new connection was
    /// served by it, which `path` tells by answering `expected`.
    pub(super) fn reload(&self, conf: (&str, &str), path: &str, expected: &str) -> Result<Duration, String> {
        write(&self.folder.join(conf.0), conf.1)?;
        let signal = match self.kind {
            Kind::Haproxy => Signal::SIGUSR2,
            _ => Signal::SIGHUP,
        };
        let begin = Instant::now();
        self.signal(signal)?;
        while begin.elapsed() < PATIENCE {
            // While one generation follows the other, a connection may be refused or cut off.
            if ask(self.front, path).is_ok_and(|answer| answer.contains(expected)) {
                return Ok(begin.elapsed());
            }
            std::thread::sleep(PAUSE);
        }
        Err(format!("it has not taken up its new configuration: {path} does not say {expected}"))
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill(Pid::from_raw(self.child.id() as i32), signal).map_err(|e| format!("{signal}: {e}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let all = tree(self.child.id());
        let _ = self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE / 4;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        // What a master leaves behind when it is killed was started by us too, as long as it is still its child.
        if matches!(self.child.try_wait(), Ok(None)) {
            for pid in all {
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One request on a connection of its own, and all of the answer.
pub(super) fn ask(front: SocketAddr, path: &str) -> Result<String, String> {
    let told = |error: std::io::Error| format!("{path}: {error}");
    let mut stream = TcpStream::connect(front).map_err(told)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").map_err(told)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(told)?;
    Ok(answer)
}

/// A port of 127.0.0.1 that is free, below those that outgoing connections are given.
pub(super) fn free_port(taken: &mut Vec<u16>) -> Result<u16, String> {
    let start = 20_000 + (std::process::id() % 5_000) as u16;
    let free = |port: &u16| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = (start..start + 2_000).find(free).ok_or("no free port")?;
    taken.push(port);
    Ok(port)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    made.map_err(|e| format!("{}: {e}", path.display()))
}

/// Of what a server wrote when it did not start, the line that says why.
fn told_fault(told: &str) -> Option<&str> {
    let marks = ["[emerg]", "[ALERT]", "error"];
    let lines = || told.lines().map(str::trim).filter(|line| !line.is_empty());
    let marked = marks.iter().find_map(|mark| lines().find(|line| line.contains(mark)));
    marked.or_else(|| lines().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_why_is_found() {
        assert_eq!(told_fault("nginx: [warn] a\nnginx: [emerg] b\n"), Some("nginx: [emerg] b"));
        assert_eq!(told_fault("[NOTICE] x\n[ALERT] y : parsing\n"), Some("[ALERT] y : parsing"));
        assert_eq!(told_fault("\n  just this\n"), Some("just this"));
        assert_eq!(told_fault(""), None);
    }

    #[test]
    fn free_ports_differ() {
        let mut taken = Vec::new();
        let a = free_port(&mut taken).expect("there are some");
        let b = free_port(&mut taken).expect("there are some");
        assert_ne!(a, b);
    }
}
