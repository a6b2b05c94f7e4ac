//! Lua libraries as they are published, on our own binary, against the real servers that they are for: those that Debian
//! packages (`lua-nginx-redis` and its kin are lua-resty-redis and its kin under another name).
//!
//! A test whose library or server is missing says so and passes, but in CI (`CI=true`) it fails.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod disturbed;
mod others;
mod redis;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::ProcessGroup;

/// The longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether something has happened.
const GLANCE: Duration = Duration::from_millis(2);

/// Where Debian puts the libraries.
const LIBRARIES: &str = "/usr/share/lua/5.1/nginx";

/// Returns true if all of these files are there; otherwise the test is skipped, but not in CI.
fn are_there(files: &[&str]) -> bool {
    let missing: Vec<&&str> = files.iter().filter(|file| !Path::new(file).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "missing: {missing:?}");
    eprintln!("skipped: missing {missing:?}");
    false
}

/// A server beside ours, stopped when this is dropped.
struct Beside(Child);

impl Beside {
    fn start(program: &str, words: &[&str]) -> Beside {
        let mut command = Command::new(program);
        Beside(command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Redis at `redis` in the folder, once it answers.
fn redis(folder: &Path) -> Beside {
    let socket = folder.join("redis");
    let _ = std::fs::remove_file(&socket);
    let words = ["--port", "0", "--unixsocket", socket.to_str().unwrap(), "--save", "", "--appendonly", "no"];
    let unsafe_words = ["--unixsocketperm", "777", "--dir", folder.to_str().unwrap()];
    let started = Beside::start("/usr/bin/redis-server", &[&words[..], &unsafe_words[..]].concat());
    until("redis listens", || UnixStream::connect(&socket).is_ok());
    started
}

/// Returns the user who starts the tests owns the folders.
fn user() -> String {
    let user = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(user.stdout).unwrap().trim().to_owned()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(GLANCE);
    }
}

/// A server that runs the text as the inside of its `http`; `{folder}` is the prefix. Its first server listens on
/// `unix:{folder}/front`. Libraries are found as `resty.NAME`.
struct Server {
    /// Dropped first: its files are in the folder.
    _process: ProcessGroup,
    folder: TempDir,
}

impl Server {
    fn start(http: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        for name in ["conf", "logs", "run", "html", "lua"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(LIBRARIES, folder.path().join("lua/resty")).unwrap();
        let conf = format!(
            "user {}; worker_processes 1; daemon off; error_log logs/error.log warn; events {{}}
             http {{ lua_package_path \"{place}/lua/?.lua;;\"; {} }}",
            user(),
            http.replace("{folder}", &place)
        );
        std::fs::write(folder.path().join("conf/nginx.conf"), conf).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
        command.args(["-p", &place]);
        let process = ProcessGroup::start(command.stderr(Stdio::null())).unwrap();
        let server = Server { _process: process, folder };
        until("the server listens", || UnixStream::connect(server.path("front")).is_ok());
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the status and body of the answer to a request; a connection that ends without one is status 0.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.path("front")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), body.to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("logs/error.log")).unwrap_or_default()
    }

    /// Returns the number of the worker process.
    fn worker(&self) -> Option<u32> {
        let master: u32 = self.master()?;
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    fn master(&self) -> Option<u32> {
        std::fs::read_to_string(self.path("logs/pointsman.pid")).ok()?.trim().parse().ok()
    }

    /// Returns how many descriptors the worker process has open.
    fn descriptors(&self) -> usize {
        let worker = self.worker().unwrap();
        std::fs::read_dir(format!("/proc/{worker}/fd")).map_or(0, Iterator::count)
    }

    fn reload(&self) {
        let master = self.master().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", "HUP", &master]).status().unwrap().success());
    }
}
