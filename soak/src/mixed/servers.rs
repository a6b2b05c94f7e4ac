//! The server under test as a daemon: its masters, which follow each other by upgrades, and their workers.
//!
//! Owns these processes and ends them in any case. It touches no process that is not below one of its masters.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;

use nix::sys::signal::Signal;
use testkit::proc;

use crate::server::{self, Program, SharedDir, log_lines, signal};

/// A running server.
pub(super) struct Servers {
    dir: SharedDir,
    /// All masters that ever ran.
    masters: Vec<u32>,
}

/// The resources of all its processes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resources {
    pub(super) processes: u64,
    /// Pages that processes share count once.
    pub(super) memory_kib: u64,
    pub(super) descriptors: u64,
}

impl Servers {
    /// Starts it as a daemon: as with nginx, only a daemon can be upgraded.
    pub(super) fn start(program: &Program, dir: &SharedDir) -> Result<Servers, String> {
        let binary =
            fs::canonicalize(&program.binary).map_err(|e| format!("{}: {e}", program.binary.display()))?;
        let mut command = Program { binary: binary.clone(), ..program.clone() }.command(dir, true);
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let started = started.map_err(|e| format!("{}: {e}", binary.display()))?;
        if !started.success() {
            return Err(format!("the server did not start: {started}; {}", dir.evidence()));
        }
        let mut servers = Servers { dir: Rc::clone(dir), masters: Vec::new() };
        let master = servers.master()?;
        servers.masters.push(master);
        until("the first worker", || servers.worker(master).is_some())?;
        Ok(servers)
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.prefix().join("logs/soak.pid")
    }

    /// Returns the process that the pid file names.
    pub(super) fn master(&self) -> Result<u32, String> {
        let path = self.pid_file();
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        text.trim().parse().map_err(|_| format!("{}: {text:?}", path.display()))
    }

    /// Adds the master of an upgrade.
    pub(super) fn add_master(&mut self, master: u32) {
        self.masters.push(master);
    }

    /// Returns the youngest worker of a master.
    pub(super) fn worker(&self, master: u32) -> Option<u32> {
        let mut workers = proc::children(master);
        workers.retain(|pid| proc::title(*pid).contains("worker process") && proc::is_running(*pid));
        workers.into_iter().max_by_key(|pid| proc::started_at(*pid))
    }

    /// Returns all processes.
    pub(super) fn processes(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.masters.iter().flat_map(|master| proc::tree(*master)).collect();
        all.sort_unstable();
        all.dedup();
        // A process that is exiting has no title any more, but is still the parent of its children.
        let is_ours = |title: &str| title.is_empty() || title.starts_with("pointsman");
        all.retain(|pid| proc::is_running(*pid) && is_ours(&proc::title(*pid)));
        all
    }

    /// Returns the resources that they hold now.
    pub(super) fn resources(&self) -> Resources {
        let mut sum = Resources::default();
        for pid in self.processes() {
            sum.processes += 1;
            sum.memory_kib += proc::pss_kib(pid);
            sum.descriptors += proc::descriptors(pid);
        }
        sum
    }

    /// Returns the lines of its error log with these levels.
    pub(super) fn log(&self, levels: &[&str]) -> Vec<String> {
        log_lines(&self.dir, levels)
    }

    /// Waits until only one master and one worker are left.
    pub(super) fn settle(&self) -> Result<(), String> {
        until("the end of the old processes", || self.processes().len() == 2)
            .map_err(|error| format!("{error}: {:?}", self.described()))
    }

    fn described(&self) -> Vec<String> {
        self.processes().iter().map(|pid| format!("{pid} {}", proc::title(*pid))).collect()
    }

    /// Ends it with SIGQUIT, and waits until no process is left.
    pub(super) fn finish(&self) -> Result<(), String> {
        signal(self.master()?, Signal::SIGQUIT)?;
        until("the end of the server", || self.processes().is_empty())
            .map_err(|error| format!("{error}: {:?}", self.described()))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = signal(pid, Signal::SIGKILL);
        }
    }
}

/// Waits until a condition holds.
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    server::until(what, || holds().then_some(()))
}
