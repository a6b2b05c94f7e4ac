//! The master process: it keeps the sockets, supervises the worker process and follows signals.
//!
//! Owns the life of worker processes (start, reload, crash, end) and the pid file. Must never serve a request, start a
//! thread (it forks), or close a listening socket that the configuration names.

mod reload;
mod respawn;
mod state;
mod successor;
mod workers;

use crate::application::Application;
use crate::channel::send_message;
use crate::log::{Level, NewLogs};
use crate::master_link::log_signal;
use crate::notify::Notify;
use crate::process_log::Reported;
use crate::resources;
use crate::signals::{self, SignalEvent, Signals};
use crate::start::Start;
use crate::worker_command::{WithoutMaster, encode_body, kind};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use respawn::Respawn;
use state::{Ending, Master, Phase, UpgradeState};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The pause before the signal to terminate is repeated; it doubles each time (as nginx).
const FIRST_REPEAT: Duration = Duration::from_millis(50);

/// Supervises until the end, and returns the exit code of the program.
pub(crate) fn run<A: Application>(start: Start<A>) -> i32 {
    let Start { app, source, config, resources, logs, log, handshake, program, predecessor, orphan } = start;
    let signals = match Signals::install().and_then(|signals| signals::unblock_all().map(|()| signals)) {
        Ok(signals) => signals,
        Err(error) => {
            log.failed(Level::Emerg, "sigaction()", &error);
            resources::remove_pid_file(&resources.requirements.pid_path, &log);
            return 1;
        }
    };
    let daemonized = handshake.is_some() || predecessor.is_some();
    let mut master = Master {
        app,
        source,
        config: Some(config),
        resources,
        logs,
        log,
        handshake,
        signals,
        generation: 1,
        workers: Vec::new(),
        pending: None,
        ending: Ending::No,
        respawn: Respawn::new(Instant::now()),
        phase: Phase {
            daemonized,
            started: false,
            without_workers: false,
            reload_again: false,
            asking: Vec::new(),
            answering: Vec::new(),
        },
        upgrade: UpgradeState { program, predecessor, successor: None, orphan },
        notify: Notify::from_environment(),
    };
    let code = match master.start_worker() {
        Ok(()) => master.supervise(),
        Err(Reported) => 1,
    };
    master.leave();
    code
}

impl<A: Application> Master<A> {
    fn supervise(&mut self) -> i32 {
        loop {
            self.wait();
            // First: a report that was sent before a signal is handled before it.
            self.receive_reports();
            while let Some(arrived) = self.signals.take() {
                if let SignalEvent::Signal { signal, sender, value } = arrived {
                    self.signalled(signal, sender, value);
                }
            }
            if self.reap().is_err() {
                return 1;
            }
            self.run_timers();
            if self.workers.is_empty() && !matches!(self.ending, Ending::No) {
                return 0;
            }
        }
    }

    /// Waits for a signal, a report of a worker, or the next timer.
    fn wait(&self) {
        let terminate = match self.ending {
            Ending::Terminate { next, .. } => Some(next),
            _ => None,
        };
        let successor = self.upgrade.successor.as_ref().and_then(|successor| successor.due);
        let due = [self.respawn.due, terminate, successor].into_iter().flatten().min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        let open = self.workers.iter().filter(|worker| !worker.closed);
        let fds = std::iter::once(self.signals.as_fd()).chain(open.map(|one| one.channel.as_fd()));
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // An interrupted wait is a signal.
        let _ = poll(&mut fds, timeout);
    }

    fn signalled(&mut self, signal: Signal, sender: i32, value: u32) {
        let ending = !matches!(self.ending, Ending::No);
        let action = match signal {
            Signal::SIGTERM | Signal::SIGINT => ", exiting",
            Signal::SIGQUIT => ", shutting down",
            Signal::SIGHUP => ", reconfiguring",
            Signal::SIGUSR1 => ", reopening logs",
            Signal::SIGUSR2 => ", changing binary",
            // A terminal sends it whenever its window changes. In an upgrade it is meant for the older master.
            Signal::SIGWINCH
                if !self.phase.daemonized && (self.upgrade.successor.is_none() || sender == 0) =>
            {
                return;
            }
            Signal::SIGWINCH => ", stop accepting connections",
            _ => "",
        };
        log_signal(self.log.error_log(), signal, sender, action);
        match signal {
            Signal::SIGTERM | Signal::SIGINT => self.terminate(),
            Signal::SIGQUIT if !ending => self.quit(),
            Signal::SIGHUP if !ending && self.upgrade.successor.is_some() => self.start_workers_again(),
            Signal::SIGHUP if !ending => self.reload(),
            Signal::SIGUSR1 => self.reopen(),
            Signal::SIGUSR2 if !ending => self.change_binary(value),
            Signal::SIGWINCH if !ending => {
                self.phase.without_workers = true;
                self.respawn.due = None;
                self.retire_workers(|_| true);
            }
            _ => {}
        }
    }

    fn reopen(&mut self) {
        self.log.write(Level::Notice, format_args!("reopening logs"));
        let files = resources::reopen_logs(&self.resources, &self.source, &self.log);
        let paths: Vec<&PathBuf> = files.iter().map(|(path, _)| path).collect();
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(|(_, fd)| fd.as_fd()).collect();
        let body = encode_body(&[], &paths, &WithoutMaster::default(), b"");
        for worker in &self.workers {
            if let Err(error) = send_message(&worker.channel, kind::REOPEN, 0, &body, &fds) {
                let what = format!("sendmsg() to worker process {}", worker.pid);
                self.log.failed(Level::Alert, what, &error);
                // After half a message it would understand no other.
                worker.signal(Signal::SIGKILL, &self.log);
            }
        }
        if let Err(error) = self.logs.adopt(NewLogs { files }) {
            self.log.failed(Level::Alert, "dup3() of a log file", &error);
        }
    }

    fn quit(&mut self) {
        self.notify_end();
        self.ending = Ending::Quit;
        self.respawn.due = None;
        self.retire_workers(|_| true);
        // A reload in progress would keep its sockets open.
        if let Some(pending) = self.pending.take() {
            pending.prepared.abandon(Some(&self.resources), &self.log);
        }
        self.close_sockets();
    }

    /// Reports that the service ends, or which process continues it.
    fn notify_end(&self) {
        match &self.upgrade.successor {
            Some(successor) => self.notify.succeeded_by(successor.pid.as_raw()),
            // The older master continues it.
            None if self.upgrade.in_progress() => {}
            None => self.notify.stopping(),
        }
    }

    fn close_sockets(&mut self) {
        match self.upgrade.in_progress() || self.upgrade.orphan.is_some() {
            true => self.resources.leave_sockets(),
            false => self.resources.close_sockets(&self.log),
        }
    }

    fn terminate(&mut self) {
        self.respawn.due = None;
        if matches!(self.ending, Ending::Terminate { .. }) {
            return;
        }
        self.notify_end();
        for worker in &mut self.workers {
            worker.leaving = true;
            if send_message(&worker.channel, kind::TERMINATE, 0, b"", &[]).is_err() {
                worker.signal(Signal::SIGTERM, &self.log);
            }
        }
        self.ending = Ending::Terminate { next: Instant::now() + FIRST_REPEAT, pause: FIRST_REPEAT };
    }

    /// Takes the last steps, also of a failed start.
    fn leave(&mut self) {
        self.kill_hung_successor();
        resources::remove_pid_file(&self.own_pid_path(), &self.log);
        self.log.write(Level::Notice, format_args!("exit"));
        self.close_sockets();
    }
}
