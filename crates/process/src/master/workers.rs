//! Worker processes as the master sees them: start, reports, exit.
//!
//! Owns the fork and the decision whether a dead worker is started again. Must never wait for a worker.

use super::respawn::LAST_PAUSE;
use super::state::{Ending, Master, Worker};
use crate::application::Application;
use crate::channel::{self, Inbox, Message, send_message};
use crate::log::Level;
use crate::notify::Notify;
use crate::process_log::Reported;
use crate::resources::Resources;
use crate::signals::SignalsBlocked;
use crate::worker::{self, WorkerStart};
use crate::worker_command::kind;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause from which on a repeated signal to terminate is a kill (as nginx).
const KILL_FROM: Duration = Duration::from_millis(1000);
/// How long a worker may leave a command unread before it counts as stuck.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// The two sides of a fork.
pub(super) enum Forked {
    Parent(Pid),
    /// With the child's end of its channel.
    Child(UnixStream),
}

impl<A: Application> Master<A> {
    /// Starts a worker process with the active configuration.
    pub(super) fn start_worker(&mut self) -> Result<(), Reported> {
        self.log.write(Level::Notice, format_args!("start worker processes"));
        let upgrades = self.upgrade.predecessor_runs();
        if let Forked::Child(channel) = self.fork()? {
            let (config, resources) = (self.config.take(), self.resources.clone());
            self.run_worker(config, resources, channel, upgrades);
        }
        Ok(())
    }

    /// Forks, and adds the child to the workers. The child must call [`Master::run_worker`] at once, after dropping what
    /// its caller holds: a forgotten descriptor would stay open as long as the worker runs.
    pub(super) fn fork(&mut self) -> Result<Forked, Reported> {
        let alert = |what: &str, error: &io::Error| {
            self.log.failed(Level::Alert, format_args!("{what} while spawning \"worker process\""), error)
        };
        let made = channel::pair().and_then(|(ours, theirs)| {
            ours.set_write_timeout(Some(COMMAND_TIMEOUT))?;
            Ok((ours, theirs, SignalsBlocked::new()?))
        });
        let (ours, theirs, blocked) = made.map_err(|error| alert("socketpair()", &error))?;
        // SAFETY: the master has a single thread (the module's rule), so the child may use every lock and allocate.
        #[allow(unsafe_code)]
        let forked = unsafe { fork() };
        let pid = match forked.map_err(|error| alert("fork()", &error.into()))? {
            ForkResult::Child => {
                // Signals stay blocked until the child has a pipe of its own for them.
                std::mem::forget(blocked);
                return Ok(Forked::Child(theirs));
            }
            ForkResult::Parent { child } => child,
        };
        drop(blocked);
        self.log.write(Level::Notice, format_args!("start worker process {pid}"));
        self.workers.push(Worker {
            pid,
            channel: ours,
            inbox: Inbox::default(),
            generation: self.generation,
            started: Instant::now(),
            ready: false,
            held: 0,
            leaving: false,
            closed: false,
        });
        Ok(Forked::Parent(pid))
    }

    /// Runs the child, after dropping what is the master's alone.
    pub(super) fn run_worker(
        &mut self,
        config: Option<A::Config>,
        resources: Resources,
        channel: UnixStream,
        upgrades: bool,
    ) -> ! {
        self.workers.clear();
        self.pending = None;
        // In the worker it would keep the starting command waiting after the master has failed.
        self.handshake = None;
        self.upgrade.orphan = None;
        self.notify = Notify::disconnected();
        self.resources.listening.clear();
        let Some(config) = config else { std::process::exit(worker::FATAL) };
        let code = worker::run(WorkerStart {
            app: self.app.clone(),
            source: self.source.clone(),
            config,
            resources,
            generation: self.generation,
            logs: Arc::clone(&self.logs),
            log: self.log.clone(),
            channel,
            upgrades,
            is_former: self.upgrade.successor.is_some(),
        });
        std::process::exit(code)
    }

    /// Reaps children that have exited.
    pub(super) fn reap(&mut self) -> Result<(), Reported> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::EINTR) => continue,
                Ok(WaitStatus::StillAlive) | Err(_) => return Ok(()),
                Ok(status) => status,
            };
            let Some(pid) = status.pid() else { continue };
            if self.upgrade.successor.as_ref().is_some_and(|successor| successor.pid == pid) {
                self.successor_exited(status);
                continue;
            }
            let Some(at) = self.workers.iter().position(|worker| worker.pid == pid) else { continue };
            let mut code = None;
            match status {
                WaitStatus::Exited(_, number) => {
                    self.log
                        .write(Level::Notice, format_args!("worker process {pid} exited with code {number}"));
                    code = Some(number);
                }
                WaitStatus::Signaled(_, signal, core) => {
                    let core = if core { " (core dumped)" } else { "" };
                    let signal = signal as i32;
                    self.log.write(
                        Level::Alert,
                        format_args!("worker process {pid} exited on signal {signal}{core}"),
                    );
                }
                _ => continue,
            }
            // Its last reports may explain the exit.
            self.receive_from(at);
            let worker = self.workers.remove(at);
            self.after_exit(worker, code)?;
        }
    }

    /// Decides what follows the exit of a worker.
    pub(super) fn after_exit(&mut self, worker: Worker, code: Option<i32>) -> Result<(), Reported> {
        if self.pending.as_ref().is_some_and(|pending| pending.worker == worker.pid) {
            self.abandon_reload();
        }
        let replaced = self.workers.iter().any(|other| !other.leaving);
        if replaced || worker.leaving || self.phase.without_workers || !matches!(self.ending, Ending::No) {
            return Ok(());
        }
        if !self.phase.started {
            self.log.write(Level::Emerg, format_args!("the worker process could not start"));
            return Err(Reported);
        }
        if code == Some(worker::FATAL) {
            self.log.write(
                Level::Alert,
                format_args!(
                    "worker process {} exited with fatal code {} and cannot be respawned",
                    worker.pid,
                    worker::FATAL
                ),
            );
            self.reload_if_requested();
            return Ok(());
        }
        let wait = self.respawn.after_death(worker.ready, Instant::now());
        if !wait.is_zero() {
            self.log.write(
                Level::Alert,
                format_args!(
                    "worker processes keep dying; the next one is started in {} ms, and new connections wait",
                    wait.as_millis()
                ),
            );
        }
        // A reload that has waited for it may fix it.
        self.reload_if_requested();
        Ok(())
    }

    /// Runs what has become due.
    pub(super) fn run_timers(&mut self) {
        let now = Instant::now();
        if self.respawn.due.is_some_and(|due| due <= now) {
            self.respawn.due = None;
            if self.start_worker().is_err() {
                self.retry_start();
            }
        }
        if let Ending::Terminate { next, pause } = self.ending
            && next <= now
        {
            for worker in &self.workers {
                match pause > KILL_FROM {
                    true => worker.signal(Signal::SIGKILL, &self.log),
                    false => worker.signal(Signal::SIGTERM, &self.log),
                }
            }
            self.ending = Ending::Terminate { next: now + pause * 2, pause: pause * 2 };
        }
        self.end_hung_successor(now);
    }

    /// Returns true, and logs it, if the worker holds keys of which another process would not know: their requests would be
    /// released, or wait without end.
    pub(super) fn holds_keys(&self, what: &str) -> bool {
        let held: u64 = self.workers.iter().filter(|worker| !worker.leaving).map(|worker| worker.held).sum();
        if held > 0 {
            self.log.write(
                Level::Emerg,
                format_args!(
                    "{what} needs another worker process, which would not have {held} of the holds, because they are in \
                     memory or belong to orders under way: release them first, or wait for the orders"
                ),
            );
        }
        held > 0
    }

    /// Schedules another attempt after a failed fork.
    pub(super) fn retry_start(&mut self) {
        self.log.write(Level::Alert, format_args!("could not respawn worker process"));
        self.respawn.due = Some(Instant::now() + LAST_PAUSE);
    }

    /// Tells the workers that `which` selects to finish and exit.
    pub(super) fn retire_workers(&mut self, which: impl Fn(&Worker) -> bool) {
        for worker in self.workers.iter_mut().filter(|worker| which(worker) && !worker.leaving) {
            worker.leaving = true;
            if send_message(&worker.channel, kind::QUIT, 0, b"", &[]).is_err() {
                worker.signal(Signal::SIGQUIT, &self.log);
            }
        }
    }

    pub(super) fn receive_reports(&mut self) {
        for at in 0..self.workers.len() {
            self.receive_from(at);
        }
    }

    pub(super) fn receive_from(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let pid = worker.pid;
        let messages = match worker.inbox.collect(worker.channel.as_fd()) {
            Ok((messages, closed)) => {
                worker.closed |= closed;
                messages
            }
            Err(error) => {
                worker.closed = true;
                self.log.failed(Level::Alert, format_args!("reading from worker process {pid}"), &error);
                return;
            }
        };
        for message in messages {
            self.reported(at, message);
        }
    }

    pub(super) fn reported(&mut self, at: usize, message: Message) {
        let pid = self.workers[at].pid;
        match message.kind {
            kind::READY => {
                self.workers[at].ready = true;
                self.started();
                if self.pending.as_ref().is_some_and(|pending| pending.new_process && pending.worker == pid) {
                    self.finish_reload();
                } else if self.pending.is_none() {
                    self.reload_if_requested();
                }
            }
            kind::RELOADED if self.is_pending(pid, message.generation) => {
                self.workers[at].generation = message.generation;
                self.finish_reload();
            }
            kind::FAILED => {
                let why = String::from_utf8_lossy(&message.body);
                self.log.write(Level::Emerg, format_args!("{why}"));
                if self.is_pending(pid, message.generation) {
                    self.abandon_reload();
                }
            }
            kind::HELD => self.workers[at].held = message.generation,
            kind::REQUEST_RELOAD => {
                self.log.write(Level::Notice, format_args!("worker process {pid} asks for a reload"));
                self.reload_for(pid, message.generation);
            }
            kind::GONE => self.log.generation_gone(message.generation, pid.as_raw().unsigned_abs()),
            _ => {}
        }
    }

    /// Completes the start when the first worker is ready: the starting command may end.
    pub(super) fn started(&mut self) {
        if self.phase.started {
            return;
        }
        self.phase.started = true;
        self.notify.ready();
        self.log.leave_stderr(&self.logs);
        if let Some(handshake) = self.handshake.take() {
            handshake.started();
        }
        if let Some(orphan) = self.upgrade.orphan.take() {
            orphan.retire(&self.log);
        }
    }
}
