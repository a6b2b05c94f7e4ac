//! The master process: it keeps the sockets, watches over the worker process and follows signals.
//!
//! Owns the life of worker processes (start, reload, crash, end) and the pid file. It never serves a request, never
//! starts a thread (it forks), and never gives up a listening socket while the configuration wants it.

mod reload;
mod successor;
mod workers;

use super::boot::{Application, Source};
use super::channel::{Inbox, send_message};
use super::control::{encode_body, kind, log_signal};
use super::daemon::Handshake;
use super::estate::{self, Estate, Prepared};
use super::journal::{Journal, Said};
use super::log::{Level, LogFiles, NewLogs};
use super::notify::Notify;
use super::signals::{self, Arrived, Signals};
use super::upgrade::Program;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use successor::Kin;

/// After an order to terminate: when it is first repeated (doubling), and from which pause on it is a kill, as nginx
/// does it.
const FIRST_REPEAT: Duration = Duration::from_millis(50);
const KILL_FROM: Duration = Duration::from_millis(1000);
/// What the master starts with.
pub(super) struct Start<A: Application> {
    pub(super) app: A,
    pub(super) source: Source,
    pub(super) config: A::Config,
    pub(super) estate: Estate,
    pub(super) logs: Arc<LogFiles>,
    pub(super) journal: Journal,
    pub(super) handshake: Option<Handshake>,
    /// The command that started this process, and the master that did if it is the next one of a binary upgrade.
    pub(super) kin: (Program, Option<Pid>),
}

/// A worker process.
struct Worker {
    pid: Pid,
    channel: UnixStream,
    inbox: Inbox,
    generation: u64,
    born: Instant,
    ready: bool,
    /// How many keys it holds requests of, which no other process would.
    held: u64,
    /// Told to end; it is not started again.
    leaving: bool,
    /// It has closed its end and says no more: polling it would find it ready for ever.
    silent: bool,
}

/// A reload under way.
struct Pending<C> {
    generation: u64,
    config: C,
    prepared: Prepared,
    /// The worker that is to confirm it: the running one, or a new one where a new process is needed.
    worker: Pid,
    new_process: bool,
}

/// How far the end is.
enum Ending {
    No,
    /// Workers finish what they have begun.
    Quit,
    /// Workers return at once; the next repetition, and the pause after it.
    Terminate {
        next: Instant,
        pause: Duration,
    },
}

struct Master<A: Application> {
    app: A,
    source: Source,
    /// Always there, but for the moment in which a worker process takes it with it.
    config: Option<A::Config>,
    estate: Estate,
    logs: Arc<LogFiles>,
    journal: Journal,
    handshake: Option<Handshake>,
    signals: Signals,
    generation: u64,
    workers: Vec<Worker>,
    pending: Option<Pending<A::Config>>,
    ending: Ending,
    respawn: Respawn,
    state: State,
    kin: Kin,
    notify: Notify,
}

/// What else the master remembers.
struct State {
    daemonized: bool,
    /// A worker was ready once: from then on a crash is mended, before it is a failed start.
    started: bool,
    /// WINCH: no worker is wanted until HUP.
    resting: bool,
    /// A reload was asked for when none could be begun.
    reload_again: bool,
    /// Workers that wait to hear what comes of the next reload, with their numbers for it.
    asking: Vec<(Pid, u64)>,
    /// Those who wait to hear of the one under way.
    answering: Vec<(Pid, u64)>,
}

/// When the worker is started again.
#[derive(Default)]
struct Respawn {
    due: Option<Instant>,
    pause: Duration,
}

/// Watches until the end, and answers the exit code of the program.
pub(super) fn run<A: Application>(start: Start<A>) -> i32 {
    let Start { app, source, config, estate, logs, journal, handshake, kin: (program, predecessor) } = start;
    let signals = match Signals::install().and_then(|signals| signals::unblock_all().map(|()| signals)) {
        Ok(signals) => signals,
        Err(error) => {
            journal.failed(Level::Emerg, "sigaction()", &error);
            estate::remove_pid_file(&estate.boot.pid_path, &journal);
            return 1;
        }
    };
    let daemonized = handshake.is_some() || predecessor.is_some();
    let mut master = Master {
        app,
        source,
        config: Some(config),
        estate,
        logs,
        journal,
        handshake,
        signals,
        generation: 1,
        workers: Vec::new(),
        pending: None,
        ending: Ending::No,
        respawn: Respawn::default(),
        state: State {
            daemonized,
            started: false,
            resting: false,
            reload_again: false,
            asking: Vec::new(),
            answering: Vec::new(),
        },
        kin: Kin { program, predecessor, successor: None },
        notify: Notify::from_environment(),
    };
    let code = match master.start_worker() {
        Ok(()) => master.watch(),
        Err(Said) => 1,
    };
    master.leave();
    code
}

impl<A: Application> Master<A> {
    fn watch(&mut self) -> i32 {
        loop {
            self.wait();
            // First: what a worker has said before somebody sent a signal counts for it.
            self.hear_workers();
            while let Some(arrived) = self.signals.take() {
                if let Arrived::Signal(signal, sender) = arrived {
                    self.signalled(signal, sender);
                }
            }
            if self.reap().is_err() {
                return 1;
            }
            self.keep_time();
            if self.workers.is_empty() && !matches!(self.ending, Ending::No) {
                return 0;
            }
        }
    }

    /// Waits for a signal, a word of a worker, or the next thing that is due.
    fn wait(&self) {
        let terminate = match self.ending {
            Ending::Terminate { next, .. } => Some(next),
            _ => None,
        };
        let due = [self.respawn.due, terminate].into_iter().flatten().min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        let speaking = self.workers.iter().filter(|worker| !worker.silent);
        let fds = std::iter::once(self.signals.as_fd()).chain(speaking.map(|one| one.channel.as_fd()));
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // An interrupted wait is a signal to look at.
        let _ = poll(&mut fds, timeout);
    }

    fn signalled(&mut self, signal: Signal, sender: i32) {
        let ending = !matches!(self.ending, Ending::No);
        let action = match signal {
            Signal::SIGTERM | Signal::SIGINT => ", exiting",
            Signal::SIGQUIT => ", shutting down",
            Signal::SIGHUP => ", reconfiguring",
            Signal::SIGUSR1 => ", reopening logs",
            Signal::SIGUSR2 => ", changing binary",
            // A terminal sends it whenever its window changes. The older of two masters is meant by whoever sends it.
            Signal::SIGWINCH if !self.state.daemonized && (self.kin.successor.is_none() || sender == 0) => {
                return;
            }
            Signal::SIGWINCH => ", stop accepting connections",
            _ => "",
        };
        log_signal(self.journal.error_log(), signal, sender, action);
        match signal {
            Signal::SIGTERM | Signal::SIGINT => self.terminate(),
            Signal::SIGQUIT if !ending => self.quit(),
            Signal::SIGHUP if !ending && self.kin.successor.is_some() => self.wake_up(),
            Signal::SIGHUP if !ending => self.reload(),
            Signal::SIGUSR1 => self.reopen(),
            Signal::SIGUSR2 if !ending => self.change_binary(),
            Signal::SIGWINCH if !ending => {
                self.state.resting = true;
                self.respawn.due = None;
                self.send_away(|_| true);
            }
            _ => {}
        }
    }

    fn reopen(&mut self) {
        self.journal.say(Level::Notice, format_args!("reopening logs"));
        let files = estate::reopen_logs(&self.estate, &self.source, &self.journal);
        let paths: Vec<&PathBuf> = files.iter().map(|(path, _)| path).collect();
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(|(_, fd)| fd.as_fd()).collect();
        let body = encode_body(&[], &paths, b"");
        for worker in &self.workers {
            if let Err(error) = send_message(&worker.channel, kind::REOPEN, 0, &body, &fds) {
                let what = format!("sendmsg() to worker process {}", worker.pid);
                self.journal.failed(Level::Alert, what, &error);
                // It may have got half a message, after which it understands no other.
                signal_worker(worker.pid, Signal::SIGKILL, &self.journal);
            }
        }
        if let Err(error) = self.logs.adopt(NewLogs { files }) {
            self.journal.failed(Level::Alert, "dup3() of a log file", &error);
        }
    }

    fn quit(&mut self) {
        self.tell_end();
        self.ending = Ending::Quit;
        self.respawn.due = None;
        self.send_away(|_| true);
        // A reload under way would keep its sockets open.
        if let Some(pending) = self.pending.take() {
            pending.prepared.abandon(Some(&self.estate), &self.journal);
        }
        self.close_sockets();
    }

    /// Says that the service ends, or who goes on.
    fn tell_end(&self) {
        match self.kin.successor {
            Some(pid) => self.notify.succeeded_by(pid.as_raw()),
            // The older one goes on.
            None if self.kin.are_two() => {}
            None => self.notify.stopping(),
        }
    }

    fn close_sockets(&mut self) {
        match self.kin.are_two() {
            true => self.estate.leave_sockets(),
            false => self.estate.close_sockets(&self.journal),
        }
    }

    fn terminate(&mut self) {
        self.respawn.due = None;
        if matches!(self.ending, Ending::Terminate { .. }) {
            return;
        }
        self.tell_end();
        for worker in &mut self.workers {
            worker.leaving = true;
            if send_message(&worker.channel, kind::TERMINATE, 0, b"", &[]).is_err() {
                signal_worker(worker.pid, Signal::SIGTERM, &self.journal);
            }
        }
        self.ending = Ending::Terminate { next: Instant::now() + FIRST_REPEAT, pause: FIRST_REPEAT };
    }

    /// The last steps, also of a start that failed.
    fn leave(&mut self) {
        estate::remove_pid_file(&self.own_pid_path(), &self.journal);
        self.journal.say(Level::Notice, format_args!("exit"));
        self.close_sockets();
    }
}

fn signal_worker(pid: Pid, signal: Signal, journal: &Journal) {
    match kill(pid, signal) {
        // Dead already: its death is about to be taken in.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => {
            journal.failed(Level::Alert, format_args!("kill({pid}, {})", signal as i32), &error.into());
        }
    }
}
