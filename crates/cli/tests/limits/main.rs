//! What holds when clients flood, scripts run wild and the machine runs out of something: our own binary, over real
//! sockets, with the limits that hold by default or are set lower so that they are reached soon.
//!
//! Every test says what the attack does, what the others still get, and that all is well once it is over.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod api;
mod exhausted;
mod floods;
mod parked;
mod sandbox;
mod scripts;
mod unit;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::{ProcessGroup, output_of};

/// The longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether something has happened.
const GLANCE: Duration = Duration::from_millis(2);

/// How a server is started.
#[derive(Default)]
struct Setup<'a> {
    /// Directives of the top, the block `events` included.
    main: &'a str,
    /// What stands in `http`; `{folder}` is the prefix. The first server listens on `unix:{folder}/front`.
    http: &'a str,
    /// A command that starts the program: its words come before the program's.
    through: &'a [&'a str],
}

/// A server that runs.
struct Server {
    /// Dropped first: its files are in the folder.
    _process: ProcessGroup,
    folder: TempDir,
}

impl Server {
    fn start(setup: Setup<'_>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        Server::start_in(folder, setup)
    }

    fn start_in(folder: TempDir, setup: Setup<'_>) -> Server {
        let place = folder.path().display().to_string();
        for name in ["conf", "logs", "run", "html"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let events = if setup.main.contains("events") { "" } else { "events {}" };
        let user = if setup.main.contains("user ") { String::new() } else { format!("user {};", user()) };
        let conf = format!(
            "{user} worker_processes 1; daemon off; error_log logs/error.log notice; {} {events} http {{ {} }}",
            setup.main, setup.http
        );
        std::fs::write(folder.path().join("conf/nginx.conf"), conf.replace("{folder}", &place)).unwrap();
        let program = env!("CARGO_BIN_EXE_pointsman");
        let words: Vec<_> = setup.through.iter().map(|word| word.replace("{folder}", &place)).collect();
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.extend([program, "-p", &place]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("PROGRAM", program).env("PREFIX", &place);
        let process = ProcessGroup::start(command.stderr(Stdio::null())).unwrap();
        let server = Server { _process: process, folder };
        server.until("it listens", || UnixStream::connect(server.path("front")).is_ok());
        server.until("it has a worker", || server.worker().is_some());
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Calls the program for this server.
    fn say(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
        command.arg("-p").arg(self.folder.path()).args(words).env_remove("SUDO_USER");
        output_of(&mut command, PATIENCE).unwrap()
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path("front")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request on a connection of its own, which stays open.
    fn ask(&self, path: &str) -> UnixStream {
        let mut stream = self.connect();
        let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
        // A server that has no room may have closed already.
        let _ = stream.write_all(request.as_bytes());
        stream
    }

    /// Returns a request and all that comes of it.
    fn get(&self, path: &str) -> String {
        rest_of(self.ask(path))
    }

    fn status(&self, path: &str) -> u16 {
        self.get(path).split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("logs/error.log")).unwrap_or_default()
    }

    /// Returns the lines of the error log with this text.
    fn said(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", self.log());
            std::thread::sleep(GLANCE);
        }
    }

    fn master(&self) -> Option<u32> {
        std::fs::read_to_string(self.path("logs/pointsman.pid")).ok()?.trim().parse().ok()
    }

    /// Returns the number of the worker process.
    fn worker(&self) -> Option<u32> {
        let master = self.master()?;
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Returns a line of /proc/PID/status of the worker process.
    fn worker_status(&self, name: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.worker().unwrap())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// Memory of the worker process in KiB.
    fn memory_kib(&self) -> u64 {
        self.worker_status("VmRSS").split(' ').next().unwrap().parse().unwrap()
    }

    /// Returns the most that it ever was.
    fn most_memory_kib(&self) -> u64 {
        self.worker_status("VmHWM").split(' ').next().unwrap().parse().unwrap()
    }
}

/// Returns all that comes until the end.
fn rest_of(mut stream: UnixStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the user who starts the tests owns the folders.
fn user() -> String {
    let user = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(user.stdout).unwrap().trim().to_owned()
}

/// May this machine be asked for namespaces? Where it may not, the test says that it is skipped.
fn has_namespaces(test: &str) -> bool {
    let tried = Command::new("unshare").args(["--mount", "--net", "true"]).stderr(Stdio::null()).status();
    let there = tried.is_ok_and(|status| status.success());
    if !there {
        eprintln!("{test}: skipped, needs root and unshare(1)");
    }
    there
}
