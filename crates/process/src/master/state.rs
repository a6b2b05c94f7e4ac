//! The state of the master.
//!
//! Owns the state that its parts share: workers, a reload in progress, the other master of a binary upgrade, the end.

use super::respawn::Respawn;
use crate::application::Application;
use crate::channel::Inbox;
use crate::daemon::Handshake;
use crate::handover::Orphan;
use crate::log::LogFiles;
use crate::notify::Notify;
use crate::process_log::ProcessLog;
use crate::process_tree::ProcessTree;
use crate::resources::{Prepared, Resources};
use crate::signals::Signals;
use crate::source::Source;
use crate::upgrade::StartCommand;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The master process.
pub(super) struct Master<A: Application> {
    pub(super) app: A,
    pub(super) source: Source,
    /// Always there, except after a worker process has taken it along.
    pub(super) config: Option<A::Config>,
    pub(super) resources: Resources,
    pub(super) logs: Arc<LogFiles>,
    pub(super) log: ProcessLog,
    pub(super) handshake: Option<Handshake>,
    pub(super) signals: Signals,
    pub(super) generation: u64,
    pub(super) workers: Vec<Worker>,
    pub(super) pending: Option<PendingReload<A::Config>>,
    pub(super) ending: Ending,
    pub(super) respawn: Respawn,
    pub(super) phase: Phase,
    pub(super) upgrade: UpgradeState,
    pub(super) notify: Notify,
}

/// A worker process.
pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) channel: UnixStream,
    pub(super) inbox: Inbox,
    pub(super) generation: u64,
    pub(super) started: Instant,
    pub(super) ready: bool,
    /// The number of keys whose requests it holds, which no other process would.
    pub(super) held: u64,
    /// It was sent away and is not started again.
    pub(super) leaving: bool,
    /// It has closed its end of the channel: polling it would always find it readable.
    pub(super) closed: bool,
}

impl Worker {
    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal, log: &ProcessLog) {
        signal_worker(self.pid, signal, log);
    }
}

/// Sends a signal to a worker process.
pub(super) fn signal_worker(pid: Pid, signal: Signal, log: &ProcessLog) {
    use crate::log::Level;
    match kill(pid, signal) {
        // Dead already: its exit is about to be reaped.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => {
            log.failed(Level::Alert, format_args!("kill({pid}, {})", signal as i32), &error.into());
        }
    }
}

/// A reload in progress.
pub(super) struct PendingReload<C> {
    pub(super) generation: u64,
    pub(super) config: C,
    pub(super) prepared: Prepared,
    /// The worker that is to confirm it: the running one, or a new one if a new process is needed.
    pub(super) worker: Pid,
    pub(super) new_process: bool,
}

/// How far the end is.
pub(super) enum Ending {
    No,
    /// Workers finish open requests.
    Quit,
    /// Workers return at once; the time of the next signal, and the pause after it.
    Terminate {
        next: Instant,
        pause: Duration,
    },
}

/// Flags and queues beside the workers.
pub(super) struct Phase {
    pub(super) daemonized: bool,
    /// A worker was ready once: from then on a crash leads to a restart, before it is a failed start.
    pub(super) started: bool,
    /// WINCH: no worker is wanted until HUP.
    pub(super) without_workers: bool,
    /// A reload was requested when none could begin.
    pub(super) reload_again: bool,
    /// Workers that wait for the outcome of the next reload, with their tickets.
    pub(super) asking: Vec<(Pid, u64)>,
    /// Workers that wait for the outcome of the current reload.
    pub(super) answering: Vec<(Pid, u64)>,
}

/// The masters before and after this one in a binary upgrade.
pub(super) struct UpgradeState {
    /// The program that an upgrade starts.
    pub(super) program: StartCommand,
    /// The master that has started this one; it may have ended by now.
    pub(super) predecessor: Option<Pid>,
    /// The master that this one has started, while it runs.
    pub(super) successor: Option<Successor>,
    /// The worker process of a dead master, which serves until a worker of this one does.
    pub(super) orphan: Option<Orphan>,
}

/// The newer master of a binary upgrade.
pub(super) struct Successor {
    pub(super) pid: Pid,
    /// When it is checked whether it is a running master by now, or killed if it is being ended.
    pub(super) due: Option<Instant>,
    /// Its processes, once it is being ended.
    pub(super) ended: Option<ProcessTree>,
}

impl UpgradeState {
    /// Returns true while two masters run.
    pub(super) fn in_progress(&self) -> bool {
        self.successor.is_some() || self.predecessor_runs()
    }

    /// Returns true while the master runs that has started this one.
    pub(super) fn predecessor_runs(&self) -> bool {
        // A child whose parent has died gets another one.
        self.predecessor.is_some_and(|predecessor| predecessor == getppid())
    }
}
