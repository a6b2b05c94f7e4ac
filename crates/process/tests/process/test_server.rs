//! A prefix with a configuration, and the server that was started there.

use crate::ARGS;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A prefix of its own for a test. Its server is killed when it is dropped.
pub struct TestServer {
    folder: tempfile::TempDir,
    foreground: Option<Child>,
}

impl TestServer {
    pub fn new(conf: &str) -> TestServer {
        let folder = tempfile::tempdir().unwrap();
        // Writable for the worker, which may not be root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let server = TestServer { folder, foreground: None };
        server.configure(conf);
        server
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the configuration in one step, since the server may be reading it.
    pub fn configure(&self, conf: &str) {
        fs::write(self.path("nginx.conf.new"), conf).unwrap();
        fs::rename(self.path("nginx.conf.new"), self.path("nginx.conf")).unwrap();
    }

    pub fn command(&self, action: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut arguments = self.folder.path().to_str().unwrap().to_owned();
        if !action.is_empty() {
            arguments = format!("{arguments}\n{action}");
        }
        command.env(ARGS, arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end. A daemon that it starts must not hold its output open.
    pub fn run(&self, action: &str) -> Output {
        let (out, err) = (self.path("stdout"), self.path("stderr"));
        let mut command = self.command(action);
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let status = status_of(command);
        Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() }
    }

    /// Starts the daemon.
    pub fn start(&self) {
        let output = self.run("");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the daemon with one pipe for its standard output and standard error.
    pub fn start_piped(&self) -> (ExitStatus, Piped) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = self.command("");
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        (status_of(command), Piped { reader, text: String::new() })
    }

    /// Starts the server in the foreground, and waits for its pid file.
    pub fn start_in_foreground(&mut self) {
        let child = self.command("").stderr(fs::File::create(self.path("stderr")).unwrap()).spawn().unwrap();
        self.foreground = Some(child);
        self.pid();
    }

    pub fn foreground(&mut self) -> &mut Child {
        self.foreground.as_mut().unwrap()
    }

    /// Returns the number in the pid file, which is empty for a moment.
    pub fn pid(&self) -> i32 {
        let mut pid = None;
        until("a number in the pid file", || {
            pid = self.read("pid").strip_suffix('\n').and_then(|text| text.parse().ok());
            pid.is_some()
        });
        pid.unwrap()
    }

    pub fn kill(&self, signal: nix::sys::signal::Signal) {
        kill(self.pid(), signal);
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until a file contains a text.
    pub fn await_text(&self, name: &str, text: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while !self.read(name).contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {name}:\n{}", self.read(name));
            pause();
        }
    }

    /// Sends a line to the server at a unix socket.
    pub fn ask(&self, name: &str) -> Reply {
        Reply::parse(&hello(UnixStream::connect(self.path(name)).unwrap()))
    }

    pub fn ended(&self, pid: i32) {
        until("the end of the server", || !alive(pid));
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // The older master first: it would restore its pid file when the newer one dies.
        let pids = ["pid.oldbin", "pid"].map(|name| {
            // A test may have put something else there, and reading a FIFO would block.
            let is_file = self.path(name).metadata().is_ok_and(|found| found.is_file());
            let pid = if is_file { self.read(name).trim_end().parse().unwrap_or(0) } else { 0 };
            // It may be the number of any other process.
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let own = std::env::current_exe().unwrap();
            if line.starts_with("pointsman: ") || line.starts_with(own.to_str().unwrap()) { pid } else { 0 }
        });
        pids.into_iter().for_each(|pid| self.kill_master(pid));
    }
}

impl TestServer {
    fn kill_master(&mut self, pid: i32) {
        if let Some(child) = &mut self.foreground {
            let _ = child.kill();
            let _ = child.wait();
        }
        if pid > 1 && alive(pid) {
            // Its worker would serve on.
            pointsman_process::ProcessTree::of(pid.cast_unsigned()).kill();
        }
    }
}

/// The read end of a pipe that is the standard output and standard error of a server.
pub struct Piped {
    reader: std::io::PipeReader,
    text: String,
}

impl Piped {
    /// Waits until the write end is closed in all processes. Returns everything that was written.
    pub fn until_end(&mut self) -> String {
        let deadline = Instant::now() + TIMEOUT;
        while self.read(deadline) {}
        self.text.clone()
    }

    /// Waits for a text before the end.
    pub fn until_text(&mut self, text: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while !self.text.contains(text) {
            assert!(self.read(deadline), "the end without {text:?}:\n{}", self.text);
        }
    }

    /// Reads what has arrived, and waits if there is nothing; false at the end.
    fn read(&mut self, deadline: Instant) -> bool {
        use nix::poll::{PollFd, PollFlags, poll};
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&self.reader), PollFlags::POLLIN)];
        let ready = poll(&mut fds, u16::try_from(left.as_millis()).unwrap()).unwrap();
        assert_ne!(ready, 0, "the pipe is held open, and nothing comes:\n{}", self.text);
        let mut bytes = [0; 4096];
        let read = std::io::Read::read(&mut self.reader, &mut bytes).unwrap();
        self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        read > 0
    }
}

/// A reply of the server.
#[derive(Debug, PartialEq)]
pub struct Reply {
    pub word: String,
    pub generation: u64,
    pub pid: i32,
    pub uid: u32,
    pub env: String,
}

impl Reply {
    pub fn parse(line: &str) -> Reply {
        let mut words = line.trim_end().split(' ');
        let word = words.next().unwrap().to_owned();
        let mut field = || words.next().unwrap_or_else(|| panic!("{line:?}")).split_once('=').unwrap().1;
        Reply {
            word,
            generation: field().parse().unwrap(),
            pid: field().parse().unwrap(),
            uid: field().parse().unwrap(),
            env: field().to_owned(),
        }
    }
}

/// A connection with a timeout.
pub trait Stream: std::io::Read + Write {
    fn bound(&self);
}

impl Stream for UnixStream {
    fn bound(&self) {
        self.set_read_timeout(Some(TIMEOUT)).unwrap();
    }
}

impl Stream for std::net::TcpStream {
    fn bound(&self) {
        self.set_read_timeout(Some(TIMEOUT)).unwrap();
    }
}

/// Sends a line and reads the reply; empty if the connection ends without one.
pub fn hello<S: Stream>(mut stream: S) -> String {
    match stream.write_all(b"hello\n") {
        Ok(()) => read_line(stream),
        Err(_) => String::new(),
    }
}

/// Reads a line; empty if the connection ends without one.
pub fn read_line<S: Stream>(stream: S) -> String {
    stream.bound();
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer in time"),
        _ => line,
    }
}

/// Runs a command to its end, with a timeout.
pub fn status_of(mut command: Command) -> ExitStatus {
    end_of(&mut command.spawn().unwrap())
}

/// Waits for the end of a process, with a timeout.
pub fn end_of(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("process {} did not end in time", child.id());
        }
        pause();
    }
}

/// Stops threads when it is dropped, so that joining them ends in a failed test too.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Returns an address that is free at the moment.
pub fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Returns true while a process runs. A zombie does not.
pub fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

const TIMEOUT: Duration = Duration::from_secs(20);

/// Waits until a condition holds, with a timeout.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        pause();
    }
}

/// Pauses between two checks of a condition.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub fn owner_of(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap())
}
