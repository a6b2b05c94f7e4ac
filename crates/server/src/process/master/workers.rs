//! Worker processes as the master sees them: start, words, death.
//!
//! Owns the fork and the decision whether a dead worker is started again. Must never wait for a worker.

use super::{Ending, KILL_FROM, Master, Worker, signal_worker};
use crate::process::alone::say_gone;
use crate::process::boot::Application;
use crate::process::channel::{self, Inbox, Message, send_message};
use crate::process::control::kind;
use crate::process::estate::Estate;
use crate::process::journal::Said;
use crate::process::log::Level;
use crate::process::notify::Notify;
use crate::process::signals::Blocked;
use crate::process::worker::{self, Birth};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A worker that lived shorter than this is started again only after a pause, so that a crash loop does not eat the
/// machine. nginx starts it at once, always.
const SHORT_LIFE: Duration = Duration::from_secs(2);
/// The first pause; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long a worker may leave an order unread before it counts as stuck.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);

/// The two sides of a fork.
pub(super) enum Forked {
    Parent(Pid),
    /// With the child's end of its channel.
    Child(UnixStream),
}

impl<A: Application> Master<A> {
    /// Starts a worker process with the configuration in force.
    pub(super) fn start_worker(&mut self) -> Result<(), Said> {
        self.journal.say(Level::Notice, format_args!("start worker processes"));
        if let Forked::Child(channel) = self.fork()? {
            let (config, estate) = (self.config.take(), self.estate.clone());
            self.live(config, estate, channel);
        }
        Ok(())
    }

    /// Forks, and counts the child among the workers. The child is to go over to [`Master::live`] at once, after
    /// dropping what its caller holds: a descriptor left behind would live as long as the worker.
    pub(super) fn fork(&mut self) -> Result<Forked, Said> {
        let alert = |what: &str, error: &io::Error| {
            self.journal.failed(Level::Alert, format_args!("{what} while spawning \"worker process\""), error)
        };
        let made = channel::pair().and_then(|(ours, theirs)| {
            ours.set_write_timeout(Some(ORDER_TIMEOUT))?;
            Ok((ours, theirs, Blocked::new()?))
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
        self.journal.say(Level::Notice, format_args!("start worker process {pid}"));
        self.workers.push(Worker {
            pid,
            channel: ours,
            inbox: Inbox::default(),
            generation: self.generation,
            born: Instant::now(),
            ready: false,
            held: 0,
            leaving: false,
            silent: false,
        });
        Ok(Forked::Parent(pid))
    }

    /// The rest of the child's life. What is the master's alone is dropped first.
    pub(super) fn live(&mut self, config: Option<A::Config>, estate: Estate, channel: UnixStream) -> ! {
        self.workers.clear();
        self.pending = None;
        // Held by the worker, it would keep the starting command waiting when the master fails.
        self.handshake = None;
        self.notify = Notify::nobody();
        self.estate.listening.clear();
        let Some(config) = config else { std::process::exit(worker::FATAL) };
        let code = worker::live(Birth {
            app: self.app.clone(),
            source: self.source.clone(),
            config,
            estate,
            generation: self.generation,
            logs: Arc::clone(&self.logs),
            journal: self.journal.clone(),
            channel,
        });
        std::process::exit(code)
    }

    /// Takes in the deaths of children.
    pub(super) fn reap(&mut self) -> Result<(), Said> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::EINTR) => continue,
                Ok(WaitStatus::StillAlive) | Err(_) => return Ok(()),
                Ok(status) => status,
            };
            let Some(pid) = status.pid() else { continue };
            if self.kin.successor == Some(pid) {
                self.succeeded_no_more(status);
                continue;
            }
            let Some(at) = self.workers.iter().position(|worker| worker.pid == pid) else { continue };
            let mut code = None;
            match status {
                WaitStatus::Exited(_, number) => {
                    self.journal
                        .say(Level::Notice, format_args!("worker process {pid} exited with code {number}"));
                    code = Some(number);
                }
                WaitStatus::Signaled(_, signal, core) => {
                    let core = if core { " (core dumped)" } else { "" };
                    let signal = signal as i32;
                    self.journal.say(
                        Level::Alert,
                        format_args!("worker process {pid} exited on signal {signal}{core}"),
                    );
                }
                _ => continue,
            }
            // Its last words may explain the death.
            self.hear_worker(at);
            let worker = self.workers.remove(at);
            self.bury(worker, code)?;
        }
    }

    /// Decides what follows a worker's death.
    pub(super) fn bury(&mut self, worker: Worker, code: Option<i32>) -> Result<(), Said> {
        if self.pending.as_ref().is_some_and(|pending| pending.worker == worker.pid) {
            self.give_up_reload();
        }
        let replaced = self.workers.iter().any(|other| !other.leaving);
        if replaced || worker.leaving || self.state.resting || !matches!(self.ending, Ending::No) {
            return Ok(());
        }
        if !self.state.started {
            self.journal.say(Level::Emerg, format_args!("the worker process could not start"));
            return Err(Said);
        }
        if code == Some(worker::FATAL) {
            self.journal.say(
                Level::Alert,
                format_args!(
                    "worker process {} exited with fatal code {} and cannot be respawned",
                    worker.pid,
                    worker::FATAL
                ),
            );
            self.reload_if_asked();
            return Ok(());
        }
        let short = !worker.ready || worker.born.elapsed() < SHORT_LIFE;
        let (pause, wait) = pause_after(short, self.respawn.pause);
        self.respawn.pause = pause;
        self.respawn.due = Some(Instant::now() + wait);
        if !wait.is_zero() {
            self.journal.say(
                Level::Alert,
                format_args!(
                    "worker processes keep dying, the next is started in {} ms; who connects waits",
                    wait.as_millis()
                ),
            );
        }
        // A reload that has waited for it may be what mends it.
        self.reload_if_asked();
        Ok(())
    }

    /// Does what has become due.
    pub(super) fn keep_time(&mut self) {
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
                    true => signal_worker(worker.pid, Signal::SIGKILL, &self.journal),
                    false => signal_worker(worker.pid, Signal::SIGTERM, &self.journal),
                }
            }
            self.ending = Ending::Terminate { next: now + pause * 2, pause: pause * 2 };
        }
    }

    /// Says so if requests are held: whatever `what` is would let them go, or leave them waiting for ever.
    pub(super) fn holds(&self, what: &str) -> bool {
        let held: u64 = self.workers.iter().filter(|worker| !worker.leaving).map(|worker| worker.held).sum();
        if held > 0 {
            self.journal.say(
                Level::Emerg,
                format_args!(
                    "{what} needs another worker process, which would not hold the keys that are held ({held}): \
                     release them first"
                ),
            );
        }
        held > 0
    }

    /// A worker process could not be forked: it is tried again.
    pub(super) fn retry_start(&mut self) {
        self.journal.say(Level::Alert, format_args!("could not respawn worker process"));
        self.respawn.due = Some(Instant::now() + LAST_PAUSE);
    }

    /// Tells the workers that `which` picks to finish and go.
    pub(super) fn send_away(&mut self, which: impl Fn(&Worker) -> bool) {
        for worker in self.workers.iter_mut().filter(|worker| which(worker) && !worker.leaving) {
            worker.leaving = true;
            if send_message(&worker.channel, kind::QUIT, 0, b"", &[]).is_err() {
                signal_worker(worker.pid, Signal::SIGQUIT, &self.journal);
            }
        }
    }

    pub(super) fn hear_workers(&mut self) {
        for at in 0..self.workers.len() {
            self.hear_worker(at);
        }
    }

    pub(super) fn hear_worker(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let pid = worker.pid;
        let messages = match worker.inbox.collect(worker.channel.as_fd()) {
            Ok((messages, closed)) => {
                worker.silent |= closed;
                messages
            }
            Err(error) => {
                worker.silent = true;
                self.journal.failed(Level::Alert, format_args!("reading from worker process {pid}"), &error);
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
                    self.reload_if_asked();
                }
            }
            kind::RELOADED if self.is_pending(pid, message.generation) => {
                self.workers[at].generation = message.generation;
                self.finish_reload();
            }
            kind::FAILED => {
                let why = String::from_utf8_lossy(&message.body);
                self.journal.say(Level::Emerg, format_args!("{why}"));
                if self.is_pending(pid, message.generation) {
                    self.give_up_reload();
                }
            }
            kind::HELD => self.workers[at].held = message.generation,
            kind::WANT_RELOAD => {
                self.journal.say(Level::Notice, format_args!("worker process {pid} asks for a reload"));
                self.reload_for(pid, message.generation);
            }
            kind::GONE => say_gone(&self.journal, message.generation, pid.as_raw().unsigned_abs()),
            _ => {}
        }
    }

    /// The first worker is ready: whoever started the program may go.
    pub(super) fn started(&mut self) {
        if self.state.started {
            return;
        }
        self.state.started = true;
        self.notify.ready();
        self.journal.leave_stderr(&self.logs);
        if let Some(handshake) = self.handshake.take() {
            handshake.started();
        }
    }
}

/// The pause after a death, given the one before, and how much of it is waited for.
fn pause_after(short_life: bool, before: Duration) -> (Duration, Duration) {
    match (short_life, before) {
        (false, _) => (Duration::ZERO, Duration::ZERO),
        // The first short life is no loop yet: clients wait in the sockets' queues.
        (true, Duration::ZERO) => (FIRST_PAUSE, Duration::ZERO),
        (true, before) => {
            let pause = (before * 2).min(LAST_PAUSE);
            (pause, pause)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loop_slows_down_and_a_good_life_forgives() {
        let mut pause = Duration::ZERO;
        let mut waited = Vec::new();
        for _ in 0..8 {
            let (next, wait) = pause_after(true, pause);
            pause = next;
            waited.push(wait.as_millis());
        }
        assert_eq!(waited, [0, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause_after(false, pause), (Duration::ZERO, Duration::ZERO));
    }
}
