//! The time in which two masters share the sockets, from USR2 until one of them has gone.
//!
//! Owns who of the two is the older one, and what follows when the newer one dies. Must never start a second newer
//! one, or take from the other what both use: the files of unix sockets stay, and each has a pid file of its own
//! (<https://nginx.org/en/docs/control.html>).

use super::{Ending, Master};
use crate::process::boot::Application;
use crate::process::log::Level;
use crate::process::upgrade::{self, Program};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, getppid};
use std::path::PathBuf;

/// The masters before and after this one.
pub(super) struct Kin {
    /// What is started again for an upgrade.
    pub(super) program: Program,
    /// The master that has started this one, which may have gone by now.
    pub(super) predecessor: Option<Pid>,
    /// The master that this one has started, as long as it lives.
    pub(super) successor: Option<Pid>,
}

impl Kin {
    /// Whether two masters run now.
    pub(super) fn are_two(&self) -> bool {
        self.successor.is_some() || self.predecessor_lives()
    }

    fn predecessor_lives(&self) -> bool {
        // A child whose parent has died gets another one.
        self.predecessor.is_some_and(|predecessor| predecessor == getppid())
    }
}

impl<A: Application> Master<A> {
    /// Starts the program anew beside this process, with its listening sockets.
    pub(super) fn change_binary(&mut self) {
        if self.kin.are_two() {
            let other = self.kin.successor.or(self.kin.predecessor).map_or(0, Pid::as_raw);
            return self.journal.say(
                Level::Notice,
                format_args!(
                    "the binary is not changed: master process {other} must end before another is started"
                ),
            );
        }
        if self.holds("another binary") {
            return;
        }
        let pid_path = self.estate.boot.pid_path.clone();
        let program = self.kin.program.chosen(&pid_path, &self.journal);
        let old_path = upgrade::old_pid_path(&pid_path);
        if let Err(error) = std::fs::rename(&pid_path, &old_path) {
            let what = format!("rename() \"{}\" to \"{}\"", pid_path.display(), old_path.display());
            self.journal.failed(Level::Alert, what, &error);
            return;
        }
        let mut listening = self.estate.listening.iter().collect::<Vec<_>>();
        // The new program reads the newest configuration: what a reload has just opened is in it.
        listening.extend(self.pending.iter().flat_map(|pending| &pending.prepared.estate.listening));
        match program.start(&listening) {
            Ok(pid) => {
                let name = program.name().display();
                self.journal.say(Level::Notice, format_args!("start new binary process {pid} \"{name}\""));
                self.kin.successor = Some(pid);
            }
            Err(error) => {
                self.journal.failed(
                    Level::Alert,
                    format_args!("execve() \"{}\"", program.name().display()),
                    &error,
                );
                self.put_back_pid_file();
            }
        }
    }

    /// The newer master has died: this one goes on alone, with workers again if they had been sent away.
    pub(super) fn succeeded_no_more(&mut self, status: WaitStatus) {
        let Some(pid) = self.kin.successor.take() else { return };
        let how = match status {
            WaitStatus::Exited(_, code) => format!("with code {code}"),
            WaitStatus::Signaled(_, signal, _) => format!("on signal {}", signal as i32),
            _ => String::new(),
        };
        self.journal.say(
            Level::Alert,
            format_args!("new binary process {pid} exited {how}, process {} goes on", std::process::id()),
        );
        self.put_back_pid_file();
        if matches!(self.ending, Ending::No) {
            self.notify.restored();
            if self.state.resting {
                self.wake_up();
            }
        }
    }

    /// HUP while a newer master runs, or its death: workers are wanted again, with the configuration in force.
    pub(super) fn wake_up(&mut self) {
        self.state.resting = false;
        if self.workers.iter().any(|worker| !worker.leaving) {
            return self.journal.say(Level::Notice, format_args!("worker processes run already"));
        }
        self.respawn.due = None;
        if self.start_worker().is_err() {
            self.retry_start();
        }
    }

    /// The pid file of this master, whichever of two it is.
    pub(super) fn own_pid_path(&self) -> PathBuf {
        let pid_path = &self.estate.boot.pid_path;
        match self.kin.successor {
            Some(_) => upgrade::old_pid_path(pid_path),
            None => pid_path.clone(),
        }
    }

    fn put_back_pid_file(&self) {
        let pid_path = &self.estate.boot.pid_path;
        let old_path = upgrade::old_pid_path(pid_path);
        if let Err(error) = std::fs::rename(&old_path, pid_path) {
            let what = format!("rename() \"{}\" back to \"{}\"", old_path.display(), pid_path.display());
            self.journal.failed(Level::Alert, what, &error);
        }
    }
}
