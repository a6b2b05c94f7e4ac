//! A server under test while it runs: its directory, its start, reload and end.
//!
//! It signals no process that it did not start.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testkit::{ProcessGroup, TestDir};

use crate::cores::Cores;
use crate::peer::{Kind, Peer};

const TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(1);

/// A running server.
pub(crate) struct Server {
    // Dropped first: the processes use the directory.
    group: ProcessGroup,
    dir: TestDir,
    pub(crate) front: SocketAddr,
    kind: Kind,
}

impl Server {
    /// Starts a server on these cores with files whose ports are placeholders, and waits until it listens.
    pub(crate) fn start(
        peer: &Peer,
        files: &[(&str, String)],
        (cores, on): (&Cores, &[usize]),
    ) -> Result<Server, String> {
        let dir = TestDir::new("")?;
        for (file, text) in files {
            dir.write(file, dir.fill_in(text).as_bytes(), 0o644)?;
        }
        let output = |path: &Path| {
            // Appending, so that the log restarts at its beginning when it is emptied.
            let opened = File::options().create(true).append(true).open(path);
            opened.map_err(|e| format!("{}: {e}", path.display()))
        };
        let stderr = dir.prefix().join("stderr");
        let mut command = peer.command(dir.prefix(), nix::unistd::geteuid().is_root());
        command.stdout(output(&dir.prefix().join("logs/stdout.log"))?).stderr(output(&stderr)?);
        let group = cores.with(on, || ProcessGroup::start(&mut command))?;
        let group = group.map_err(|e| format!("{}: {e}", peer.binary.display()))?;
        let front = SocketAddr::from((Ipv4Addr::LOCALHOST, dir.port("front")?));
        let server = Server { group, dir, front, kind: peer.kind };
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(front).is_err() {
            if let Some(code) = server.group.code() {
                let text = fs::read_to_string(&stderr).unwrap_or_default();
                return Err(reason(&text).map_or(format!("it exited with code {code}"), str::to_owned));
            }
            if Instant::now() > deadline {
                return Err(format!("it does not listen at {front}"));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(server)
    }

    /// Returns the process id of the master.
    pub(crate) fn pid(&self) -> u32 {
        self.group.pid().as_raw().cast_unsigned()
    }

    /// Empties the logs, so that no round pays for writing out those of earlier ones.
    pub(crate) fn empty_logs(&self) {
        for entry in fs::read_dir(self.dir.prefix().join("logs")).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                // A log that cannot be emptied only grows.
                let _ = File::options().write(true).open(entry.path()).and_then(|file| file.set_len(0));
            }
        }
    }

    /// Returns the first line of its error log with one of these levels.
    pub(crate) fn complaint(&self, levels: &[&str]) -> Option<String> {
        let log = fs::read_to_string(self.dir.prefix().join("logs/error.log")).unwrap_or_default();
        let matches = |line: &&str| levels.iter().any(|level| line.contains(&format!("[{level}]")));
        log.lines().find(matches).map(str::to_owned)
    }

    /// Writes another configuration and reloads; returns how long it took until a new connection was served by it, which
    /// `path` shows by answering `expected`.
    pub(crate) fn reload(
        &self,
        (file, text): (&str, &str),
        path: &str,
        expected: &str,
    ) -> Result<Duration, String> {
        self.dir.write(file, self.dir.fill_in(text).as_bytes(), 0o644)?;
        let signal = match self.kind {
            Kind::Haproxy => Signal::SIGUSR2,
            _ => Signal::SIGHUP,
        };
        let begin = Instant::now();
        self.group.signal(signal).map_err(|e| format!("{signal}: {e}"))?;
        while begin.elapsed() < TIMEOUT {
            // While one generation follows the other, a connection may be refused or cut off.
            if get(self.front, path).is_ok_and(|answer| answer.contains(expected)) {
                return Ok(begin.elapsed());
            }
            std::thread::sleep(PAUSE);
        }
        Err(format!("the new configuration is not active: {path} does not answer {expected}"))
    }
}

/// Sends one request on a new connection; returns the whole answer.
pub(crate) fn get(front: SocketAddr, path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{path}: {error}");
    let mut stream = TcpStream::connect(front).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    Ok(answer)
}

/// Finds the line that says why a server did not start.
fn reason(stderr: &str) -> Option<&str> {
    let marks = ["[emerg]", "[ALERT]", "error"];
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let marked = marks.iter().find_map(|mark| lines().find(|line| line.contains(mark)));
    marked.or_else(|| lines().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_among_other_lines() {
        assert_eq!(reason("nginx: [warn] a\nnginx: [emerg] b\n"), Some("nginx: [emerg] b"));
        assert_eq!(reason("[NOTICE] x\n[ALERT] y : parsing\n"), Some("[ALERT] y : parsing"));
        assert_eq!(reason("\n  just this\n"), Some("just this"));
        assert_eq!(reason(""), None);
    }
}
