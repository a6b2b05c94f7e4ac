//! Starting, signalling and ending the server under test.
//!
//! Owns the child process, which ends with the case. It must never touch a process that it did not start, except the
//! children of one.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use regex::Regex;

use crate::case::Kind;
use crate::connection::PATIENCE;
use crate::process_group::ProcessGroup;
use crate::test_dir::TestDir;

/// A program that reads nginx.conf.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The executable.
    pub path: PathBuf,
    /// The kind.
    pub kind: Kind,
}

/// The directory of nginx's dynamic modules on Debian.
const MODULES: &str = "/usr/lib/nginx/modules";
/// What a case may need of them, with their files.
const MODULE_FILES: [(&str, &[&str]); 3] = [
    ("lua", &["ndk_http_module.so", "ngx_http_lua_module.so"]),
    ("headers-more", &["ngx_http_headers_more_filter_module.so"]),
    ("brotli", &["ngx_http_brotli_filter_module.so", "ngx_http_brotli_static_module.so"]),
];

/// The interval of polling.
const GLANCE: Duration = Duration::from_millis(3);

impl Binary {
    /// Returns why this program cannot fulfil a requirement of a case here, if it cannot.
    pub(crate) fn lacks(&self, need: &str) -> Option<String> {
        let there = match need {
            "lua" | "headers-more" | "brotli" => {
                self.kind == Kind::Pointsman
                    || module_files(&[need.to_owned()]).all(|m| Path::new(MODULES).join(m).exists())
            }
            // Debian's nginx opens /var/log/nginx/access.log unless every server says otherwise.
            "default-log" => self.kind == Kind::Pointsman || nix::unistd::geteuid().is_root(),
            "root" => nix::unistd::geteuid().is_root(),
            // Its thread has a network of its own, or it is not run at all: see `suite`.
            "namespace" => crate::namespace::is_permitted(),
            "ipv6" => std::net::TcpListener::bind("[::1]:0").is_ok(),
            _ => return Some(format!("unknown need \"{need}\"")),
        };
        (!there).then(|| format!("needs {need}"))
    }
}

/// The options for starting the program.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) binary: &'a Binary,
    pub(crate) dir: &'a TestDir,
    /// The requirements of the case, nginx's modules among them.
    pub(crate) needs: &'a [String],
    /// The configuration file, below the prefix.
    pub(crate) conf: &'a str,
    /// The program goes into the background by itself.
    pub(crate) daemon: bool,
}

/// Returns the files of the modules that are needed.
fn module_files(needs: &[String]) -> impl Iterator<Item = &'static str> {
    let is_needed = |name: &str| needs.iter().any(|need| need == name);
    MODULE_FILES.iter().filter(move |(name, _)| is_needed(name)).flat_map(|(_, files)| files.iter().copied())
}

/// Returns the command line of the program under test for one case.
pub(crate) fn command(setup: Setup<'_>) -> Command {
    let Setup { binary, dir, needs, .. } = setup;
    let conf = fs::read_to_string(dir.prefix().join(setup.conf)).unwrap_or_default();
    let mut globals = String::new();
    if !setup.daemon && !has_directive(&conf, "daemon") {
        globals.push_str("daemon off; ");
    }
    if !has_directive(&conf, "pid") {
        globals.push_str("pid logs/nginx.pid; ");
    }
    if binary.kind == Kind::Nginx {
        for module in module_files(needs) {
            globals.push_str(&format!("load_module {MODULES}/{module}; "));
        }
    }
    let mut prefix: OsString = dir.prefix().into();
    prefix.push("/");
    let mut command = Command::new(&binary.path);
    command.arg("-p").arg(prefix).args(["-c", setup.conf, "-e", "logs/error.log", "-g", globals.trim_end()]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TZ", "UTC").stdin(Stdio::null());
    // Its own process group, so that everything it started can be ended with it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

fn has_directive(conf: &str, name: &str) -> bool {
    conf.lines().any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split([';', '{', '}']).any(|d| d.split_whitespace().next() == Some(name))
    })
}

/// A running server.
pub(crate) struct Server {
    /// None of a daemon.
    group: Option<ProcessGroup>,
    /// The master's process id.
    pid: Pid,
}

impl Server {
    /// Starts the server and waits until every `listen` of its configuration listens and its pid file is there.
    pub(crate) fn start(setup: Setup<'_>) -> Result<Server, String> {
        let Setup { binary, dir, .. } = setup;
        let create =
            |name: &str| fs::File::create(dir.prefix().join(name)).map_err(|e| format!("{name}: {e}"));
        let mut command = command(setup);
        command.stdout(create("stdout")?).stderr(create("stderr")?);
        let conf = fs::read_to_string(dir.prefix().join(setup.conf)).map_err(|e| e.to_string())?;
        let failed = |e| format!("{}: {e}", binary.path.display());
        let deadline = Instant::now() + PATIENCE;
        if setup.daemon {
            let mut child = command.spawn().map_err(failed)?;
            let code = wait_for_exit(&mut child, deadline).ok_or("it did not go into the background")?;
            if code != 0 {
                return Err(format!("it exited with code {code} instead of going into the background"));
            }
            let pid = until(deadline, || pid_in_file(dir, &conf)).ok_or("no pid file")?;
            return Ok(Server { group: None, pid });
        }
        let group = ProcessGroup::start(&mut command).map_err(failed)?;
        let pid = group.pid();
        let server = Server { group: Some(group), pid };
        let alone = conf.contains("master_process off");
        loop {
            let listening = missing_listeners(dir, &conf).is_empty();
            if listening && pid_in_file(dir, &conf) == Some(pid) && (alone || !children(pid).is_empty()) {
                return Ok(server);
            }
            if let Some(code) = server.exited() {
                return Err(format!("it did not start: exit code {code}"));
            }
            if Instant::now() >= deadline {
                let missing = missing_listeners(dir, &conf).join(", ");
                return Err(format!("it did not get ready in time; not listening: [{missing}]"));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Sends a signal to the master, or to its first child.
    pub(crate) fn signal(&self, name: &str, worker: bool) -> Result<(), String> {
        let signal: Signal = format!("SIG{name}").parse().map_err(|_| format!("no signal SIG{name}"))?;
        let to = if worker { *children(self.pid).first().ok_or("there is no worker")? } else { self.pid };
        kill(to, signal).map_err(|e| e.to_string())
    }

    /// Waits for the end; returns the exit code, 0 for a daemon, or `None` on timeout.
    pub(crate) fn wait(&self) -> Option<i32> {
        match &self.group {
            Some(group) => group.wait(PATIENCE),
            None => until(Instant::now() + PATIENCE, || (!is_alive(self.pid)).then_some(0)),
        }
    }

    fn exited(&self) -> Option<i32> {
        self.group.as_ref()?.code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process group ends by itself.
        if self.group.is_none() && is_alive(self.pid) {
            for worker in children(self.pid) {
                let _ = kill(worker, Signal::SIGKILL);
            }
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// Runs a program to its end; fails on timeout.
pub(crate) fn run_to_end(mut command: Command, dir: &TestDir) -> Result<(i32, String, String), String> {
    let path = |name: &str| dir.prefix().join(name);
    let create = |name: &str| fs::File::create(path(name)).map_err(|e| format!("{name}: {e}"));
    command.stdout(create("run.out")?).stderr(create("run.err")?);
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let Some(code) = wait_for_exit(&mut child, Instant::now() + PATIENCE) else {
        let _ = killpg(Pid::from_raw(i32::try_from(child.id()).map_err(|e| e.to_string())?), Signal::SIGKILL);
        let _ = child.wait();
        return Err("it did not exit".to_owned());
    };
    let read = |name: &str| {
        fs::read(path(name)).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    };
    Ok((code, read("run.out"), read("run.err")))
}

/// Polls a condition until it holds or the deadline passes.
pub fn until<T>(deadline: Instant, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(GLANCE);
    }
}

fn wait_for_exit(child: &mut Child, deadline: Instant) -> Option<i32> {
    until(deadline, || child.try_wait().ok().flatten().map(code_of))
}

fn code_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn pid_in_file(dir: &TestDir, conf: &str) -> Option<Pid> {
    static PID: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?m)^\s*pid\s+([^;\s]+)").ok());
    let named = PID.as_ref().and_then(|r| r.captures(conf)).map(|c| c[1].to_owned());
    let text = fs::read_to_string(dir.prefix().join(named.as_deref().unwrap_or("logs/nginx.pid"))).ok()?;
    text.trim().parse().ok().map(Pid::from_raw)
}

/// Returns the `listen` addresses of a configuration that are not open yet.
fn missing_listeners(dir: &TestDir, conf: &str) -> Vec<String> {
    static LISTEN: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?:^|[\s;{])listen\s+([^;\s]+)").ok());
    let mut out = Vec::new();
    let Some(listen) = LISTEN.as_ref() else { return out };
    let mut seen = HashSet::new();
    for line in conf.lines().filter(|l| !l.trim_start().starts_with('#')) {
        for found in listen.captures_iter(line) {
            let address = &found[1];
            // Hundreds of servers may have the same one.
            if !seen.insert(address.to_owned()) {
                continue;
            }
            let there = if let Some(path) = address.strip_prefix("unix:") {
                let full = dir.prefix().join(path);
                listens("/proc/thread-self/net/unix", |l| {
                    l.split_whitespace().nth(7).is_some_and(|p| Path::new(p) == full)
                })
            } else {
                let port = address.rsplit(':').next().and_then(|p| p.parse::<u16>().ok());
                let Some(port) = port else { continue };
                has_listener(port)
            };
            if !there {
                out.push(address.to_owned());
            }
        }
    }
    out
}

/// Returns true if a TCP port is listened on.
pub(crate) fn has_listener(port: u16) -> bool {
    let port = format!("{port:04X}");
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"].iter().any(|table| {
        listens(table, |line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().and_then(|a| a.rsplit(':').next());
            local == Some(port.as_str()) && words.nth(1) == Some("0A")
        })
    })
}

fn listens(table: &str, is_it: impl Fn(&str) -> bool) -> bool {
    fs::read_to_string(table).unwrap_or_default().lines().any(is_it)
}

/// Returns the children of a process, without zombies, lowest first.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let mut out = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if state_and_parent(pid).is_some_and(|(state, of)| state != "Z" && of == parent.as_raw()) {
            out.push(Pid::from_raw(pid));
        }
    }
    out.sort();
    out
}

fn is_alive(pid: Pid) -> bool {
    state_and_parent(pid.as_raw()).is_some_and(|(state, _)| state != "Z")
}

fn state_and_parent(pid: i32) -> Option<(String, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain anything; the fields behind the last one are fixed.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_found_by_name() {
        assert!(has_directive("events {} daemon on;", "daemon"));
        assert!(has_directive("pid x;\n", "pid"));
        assert!(!has_directive("# pid x;\nhttp { set $pid 1; }", "pid"));
    }

    #[test]
    fn a_child_is_seen_until_it_ends() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        assert!(children(Pid::this()).contains(&pid));
        drop(child.stdin.take());
        assert_eq!(wait_for_exit(&mut child, Instant::now() + PATIENCE), Some(0));
        assert!(!is_alive(pid));
    }
}
