//! The server under load: its directory, its start and its end.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use testkit::{ProcessGroup, TestDir, proc};

use crate::connection::TIMEOUT;

const NGINX_MODULES: [&str; 2] =
    ["/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so"];

/// The program to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) binary: PathBuf,
    /// It is nginx: ndk and ngx_lua are loaded.
    pub(crate) is_nginx: bool,
}

impl Program {
    /// Returns the command that runs it with the files of a directory, in the background if `daemon`.
    pub(crate) fn command(&self, dir: &TestDir, daemon: bool) -> Command {
        let mut globals = if daemon { String::new() } else { "daemon off;".to_owned() };
        if nix::unistd::geteuid().is_root() {
            // The workers may read what root wrote.
            globals.push_str(" user root;");
        }
        if self.is_nginx {
            globals.extend(NGINX_MODULES.map(|module| format!(" load_module {module};")));
        }
        let mut command = Command::new(&self.binary);
        command.arg("-p").arg(dir.prefix()).args(["-c", "conf/nginx.conf", "-e", "logs/error.log"]);
        command.args(["-g", &globals]).stdin(Stdio::null());
        command
    }
}

/// A directory that a server and its owner share; removed when neither uses it any more.
pub(crate) type SharedDir = Rc<TestDir>;

/// Makes a directory with a configuration, whose `{port:NAME}` placeholders get free ports.
pub(crate) fn prepare(conf: &str) -> Result<SharedDir, String> {
    let dir = test_dir(conf)?;
    dir.write("conf/nginx.conf", dir.fill_in(conf).as_bytes(), 0o644)?;
    Ok(Rc::new(dir))
}

/// Makes a directory with ports for the placeholders of a configuration. It is on disk, not in memory.
pub(crate) fn test_dir(conf: &str) -> Result<TestDir, String> {
    TestDir::new_in(&crate::root().join("target/soak"), conf)
}

/// Returns the address of a port of a directory on 127.0.0.1.
pub(crate) fn address(dir: &TestDir, port: &str) -> Result<SocketAddr, String> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, dir.port(port)?)))
}

/// A running server. It is killed when it is dropped.
pub(crate) struct Server {
    group: ProcessGroup,
    dir: SharedDir,
}

impl Server {
    /// Starts the server and waits until it listens at `front`.
    pub(crate) fn start(program: &Program, dir: &SharedDir, front: SocketAddr) -> Result<Server, String> {
        Server::start_with(program, dir, front, &[])
    }

    /// Starts the server with additional environment variables.
    pub(crate) fn start_with(
        program: &Program,
        dir: &SharedDir,
        front: SocketAddr,
        environment: &[(&str, &str)],
    ) -> Result<Server, String> {
        let mut command = program.command(dir, false);
        let group = ProcessGroup::start(command.envs(environment.iter().copied()));
        let group = group.map_err(|e| format!("{}: {e}", program.binary.display()))?;
        let server = Server { group, dir: Rc::clone(dir) };
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(front).is_err() {
            if let Some(code) = server.group.code() {
                return Err(format!("the server did not start: exit code {code}"));
            }
            if Instant::now() > deadline {
                return Err(format!("the server does not listen at {front}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Returns the process id of the master.
    pub(crate) fn pid(&self) -> u32 {
        self.group.pid().as_raw().cast_unsigned()
    }

    /// Returns the process id of the worker, if there is one.
    pub(crate) fn worker(&self) -> Option<u32> {
        let is_worker = |pid: &u32| proc::title(*pid).contains("worker process") && proc::is_running(*pid);
        proc::children(self.pid()).into_iter().find(is_worker)
    }

    /// Kills all its processes at once.
    pub(crate) fn kill_all(&self) -> Result<(), String> {
        killpg(self.group.pid(), Signal::SIGKILL).map_err(|e| format!("kill: {e}"))
    }

    /// Ends the server with SIGTERM; fails if it does not exit with 0, or logged one of `levels`.
    pub(crate) fn finish(self, levels: &[&str]) -> Result<(), String> {
        self.group.signal(Signal::SIGTERM).map_err(|e| format!("kill: {e}"))?;
        match self.group.wait(TIMEOUT) {
            Some(0) => {}
            Some(code) => return Err(format!("the server exited with code {code}")),
            None => return Err("the server does not exit".to_owned()),
        }
        match log_lines(&self.dir, levels).first() {
            Some(line) => Err(format!("its error log says: {line}")),
            None => Ok(()),
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    kill(Pid::from_raw(pid.cast_signed()), signal).map_err(|e| format!("kill({pid}, {signal}): {e}"))
}

/// Waits until a condition holds, and returns what it found.
pub(crate) fn until<T>(what: &str, holds: impl FnMut() -> Option<T>) -> Result<T, String> {
    testkit::until(Instant::now() + TIMEOUT, holds).ok_or_else(|| format!("timeout while waiting for {what}"))
}

/// Returns the lines of the error log with one of these levels.
pub(crate) fn log_lines(dir: &TestDir, levels: &[&str]) -> Vec<String> {
    let log = fs::read_to_string(dir.prefix().join("logs/error.log")).unwrap_or_default();
    let matches = |line: &&str| levels.iter().any(|level| line.contains(&format!("[{level}]")));
    log.lines().filter(matches).map(str::to_owned).collect()
}

/// Levels that no soak test may cause.
pub(crate) const SEVERE: [&str; 3] = ["alert", "emerg", "crit"];
