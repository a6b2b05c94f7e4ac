//! The time in which two masters share the sockets, from USR2 until one of them has ended.
//!
//! Owns the start of the newer master, its end if it hangs, and what follows when it dies. Must never start a second one,
//! or remove what both use: the files of unix sockets stay, and each has a pid file of its own
//! (<https://nginx.org/en/docs/control.html>).

use super::state::{Ending, Master, Successor, signal_worker};
use crate::application::Application;
use crate::log::Level;
use crate::process_tree::ProcessTree;
use crate::running::RunningMaster;
use crate::upgrade;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a new program may take to become a running master, unless the signal says another time.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a new program that is ended may take before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(2);

impl<A: Application> Master<A> {
    /// Starts the program again beside this process, with its listening sockets. It has `limit_ms` to become a running
    /// master (0: the default).
    pub(super) fn change_binary(&mut self, limit_ms: u32) {
        if self.upgrade.in_progress() {
            let successor = self.upgrade.successor.as_ref().map(|successor| successor.pid);
            let other = successor.or(self.upgrade.predecessor).map_or(0, Pid::as_raw);
            return self.log.write(
                Level::Notice,
                format_args!(
                    "the binary is not changed: master process {other} must end before another one is started"
                ),
            );
        }
        if self.holds_keys("another binary") {
            return;
        }
        let pid_path = self.resources.requirements.pid_path.clone();
        let program = self.upgrade.program.chosen(&pid_path, &self.log);
        let old_path = upgrade::old_pid_path(&pid_path);
        if let Err(error) = std::fs::rename(&pid_path, &old_path) {
            let what = format!("rename() \"{}\" to \"{}\"", pid_path.display(), old_path.display());
            self.log.failed(Level::Alert, what, &error);
            return;
        }
        let mut listening: Vec<_> = self.resources.listening.iter().collect();
        // The new program reads the newest configuration, which names what a reload in progress has opened.
        listening.extend(self.pending.iter().flat_map(|pending| &pending.prepared.resources.listening));
        match program.start(&listening) {
            Ok(pid) => {
                let name = program.name().display();
                self.log.write(Level::Notice, format_args!("start new binary process {pid} \"{name}\""));
                let limit = match limit_ms {
                    0 => START_LIMIT,
                    limit_ms => Duration::from_millis(limit_ms.into()),
                };
                let due = Some(Instant::now() + limit);
                self.upgrade.successor = Some(Successor { pid, due, ended: None });
            }
            Err(error) => {
                self.log.failed(
                    Level::Alert,
                    format_args!("execve() \"{}\"", program.name().display()),
                    &error,
                );
                self.restore_pid_file();
            }
        }
    }

    /// Continues alone after the newer master has died, with workers again if they had been retired.
    pub(super) fn successor_exited(&mut self, status: WaitStatus) {
        let Some(Successor { pid, ended, .. }) = self.upgrade.successor.take() else { return };
        let how = match status {
            WaitStatus::Exited(_, code) => format!("with code {code}"),
            WaitStatus::Signaled(_, signal, _) => format!("on signal {}", signal as i32),
            _ => String::new(),
        };
        self.log.write(
            Level::Alert,
            format_args!("new binary process {pid} exited {how}, process {} continues", std::process::id()),
        );
        if let Some(tree) = ended {
            tree.kill();
        }
        self.restore_pid_file();
        if matches!(self.ending, Ending::No) {
            self.notify.restored();
            if self.phase.without_workers {
                self.start_workers_again();
            }
        }
    }

    /// Ends the newer process if it is no running master when its time has passed: TERM first, then KILL.
    pub(super) fn end_hung_successor(&mut self, now: Instant) {
        let pid_path = &self.resources.requirements.pid_path;
        let Some(successor) = &mut self.upgrade.successor else { return };
        if successor.due.is_none_or(|due| due > now) {
            return;
        }
        successor.due = None;
        let pid = successor.pid;
        if let Some(tree) = &successor.ended {
            return tree.clone().kill();
        }
        if !is_running_master(pid, pid_path) {
            successor.ended = Some(ProcessTree::of(pid.as_raw().unsigned_abs()));
            successor.due = Some(now + KILL_AFTER);
            self.log.write(
                Level::Alert,
                format_args!("new binary process {pid} did not start in time: it hangs, and is ended"),
            );
            signal_worker(pid, Signal::SIGTERM, &self.log);
        }
    }

    /// Kills the newer process that was being ended when this one ends.
    pub(super) fn kill_hung_successor(&self) {
        if let Some(Successor { ended: Some(tree), .. }) = &self.upgrade.successor {
            tree.clone().kill();
        }
    }

    /// Starts workers again with the active configuration: on HUP while a newer master runs, or after its death.
    pub(super) fn start_workers_again(&mut self) {
        self.phase.without_workers = false;
        if self.workers.iter().any(|worker| !worker.leaving) {
            return self.log.write(Level::Notice, format_args!("worker processes are running already"));
        }
        self.respawn.due = None;
        if self.start_worker().is_err() {
            self.retry_start();
        }
    }

    /// Returns the pid file of this master, be it the older or the newer one.
    pub(super) fn own_pid_path(&self) -> PathBuf {
        let pid_path = &self.resources.requirements.pid_path;
        match self.upgrade.successor {
            Some(_) => upgrade::old_pid_path(pid_path),
            None => pid_path.clone(),
        }
    }

    fn restore_pid_file(&self) {
        let pid_path = &self.resources.requirements.pid_path;
        let old_path = upgrade::old_pid_path(pid_path);
        if let Err(error) = std::fs::rename(&old_path, pid_path) {
            let what = format!("rename() \"{}\" back to \"{}\"", old_path.display(), pid_path.display());
            self.log.failed(Level::Alert, what, &error);
        }
    }
}

/// Returns true if a new program has got as far as its pid file, which is written at the end of its start; its
/// configuration may have another path.
fn is_running_master(pid: Pid, pid_path: &Path) -> bool {
    let named =
        || RunningMaster::named(pid_path).is_some_and(|master| master.pid() == pid.as_raw().unsigned_abs());
    RunningMaster::numbered(pid).has_title() || named()
}
