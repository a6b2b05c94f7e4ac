//! The server under test as a daemon: its masters, which follow each other by upgrades, and their workers.
//!
//! Owns its processes: whatever happens, they are ended. Must never touch a process that is not below one of its
//! masters.

use super::super::memory;
use crate::server::{Folder, Program, runs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
pub(super) struct Fleet {
    folder: Folder,
    /// All masters there ever were.
    masters: Vec<u32>,
}

/// What all its processes hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) processes: u64,
    /// Proportional: what is shared counts once.
    pub(super) memory_kib: u64,
    pub(super) descriptors: u64,
}

impl Fleet {
    /// Starts it. A binary is changed only below a daemon, as with nginx.
    pub(super) fn start(program: &Program, folder: &Folder) -> Result<Fleet, String> {
        let binary =
            fs::canonicalize(&program.binary).map_err(|e| format!("{}: {e}", program.binary.display()))?;
        let mut command = Command::new(&binary);
        command.arg("-p").arg(folder.path());
        command.args(["-c", "conf/nginx.conf", "-e", "logs/error.log", "-g", "user root;"]);
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let started = started.map_err(|e| format!("{}: {e}", binary.display()))?;
        if !started.success() {
            let log = fs::read_to_string(folder.path().join("logs/error.log")).unwrap_or_default();
            return Err(format!("the server did not start: {started}; {log}"));
        }
        let mut fleet = Fleet { folder: folder.clone(), masters: Vec::new() };
        let master = fleet.master()?;
        fleet.masters.push(master);
        until("a first worker", || fleet.worker(master).is_some())?;
        Ok(fleet)
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("logs/soak.pid")
    }

    /// The process that the pid file names.
    pub(super) fn master(&self) -> Result<u32, String> {
        let path = self.pid_file();
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        text.trim().parse().map_err(|_| format!("{}: {text:?}", path.display()))
    }

    /// Another master is in force.
    pub(super) fn follow(&mut self, master: u32) {
        self.masters.push(master);
    }

    /// The youngest worker of a master.
    pub(super) fn worker(&self, master: u32) -> Option<u32> {
        let mut workers = children(master);
        workers.retain(|pid| title(*pid).contains("worker process") && runs(&pid.to_string()));
        workers.into_iter().max_by_key(|pid| started_at(*pid))
    }

    /// All processes.
    pub(super) fn processes(&self) -> Vec<u32> {
        let mut all = self.masters.clone();
        let mut looked = 0;
        while looked < all.len() {
            for child in children(all[looked]) {
                if !all.contains(&child) {
                    all.push(child);
                }
            }
            looked += 1;
        }
        // One that is on its way out has no title any more, and is its children's parent still.
        let ours = |title: &str| title.is_empty() || title.starts_with("pointsman");
        all.retain(|pid| runs(&pid.to_string()) && ours(&title(*pid)));
        all
    }

    /// What they hold now.
    pub(super) fn held(&self) -> Held {
        let mut held = Held::default();
        for pid in self.processes() {
            held.processes += 1;
            held.memory_kib += memory::proportional_kib(pid);
            held.descriptors += fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64);
        }
        held
    }

    /// The lines of its log of these levels.
    pub(super) fn log(&self, levels: &[&str]) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("logs/error.log")).unwrap_or_default();
        let bad = |line: &&str| levels.iter().any(|level| line.contains(&format!("[{level}]")));
        log.lines().filter(bad).map(str::to_owned).collect()
    }

    /// Waits until one master with one worker is all there is.
    pub(super) fn settle(&self) -> Result<(), String> {
        until("the end of the old processes", || self.processes().len() == 2)
            .map_err(|error| format!("{error}: {:?}", self.described()))
    }

    fn described(&self) -> Vec<String> {
        self.processes().iter().map(|pid| format!("{pid} {}", title(*pid))).collect()
    }

    /// Asks it to finish, and waits until nothing of it is left.
    pub(super) fn finish(&self) -> Result<(), String> {
        signal(self.master()?, Signal::SIGQUIT)?;
        until("the end of the server", || self.processes().is_empty())
            .map_err(|error| format!("{error}: {:?}", self.described()))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = signal(pid, Signal::SIGKILL);
        }
    }
}

/// Sends a signal to a process that must be there.
pub(super) fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    kill(Pid::from_raw(pid as i32), signal).map_err(|e| format!("kill({pid}, {signal}): {e}"))
}

/// Waits until it is so.
pub(super) fn until(what: &str, mut so: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        if Instant::now() > deadline {
            return Err(format!("{what} is waited for in vain"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn title(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

/// When a process began, in the system's ticks.
fn started_at(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(19).and_then(|field| field.parse().ok()).unwrap_or(0)
}
