//! The messages of a worker process to its threads.

use crate::context::generation::GenerationDropGuard;
use crate::proxy::groups::SharedGroups;
use engine::{Config, Routing};
use process::Address;
use process::log::{ErrorLog, LogFiles, LogTarget};
use statistics::Layout;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tls::Contexts;

/// See the module. A sender is for the thread's answer.
pub(crate) enum Message {
    /// Reload, first step: build this generation beside the one in force.
    Prepare(Box<NewGeneration>, mpsc::Sender<Result<(), String>>),
    /// Reload, second step: serve the prepared generation.
    Commit(mpsc::Sender<()>),
    /// Reload, instead of the second step: drop the prepared generation.
    Abort,
    /// Write out buffered log lines.
    FlushLogs(mpsc::Sender<()>),
    /// The mailbox has a command.
    CheckMailbox,
    /// Accept no more; finish what has begun, at most for this long, then end.
    Quit(Option<Duration>, mpsc::Sender<()>),
    /// End at once.
    Terminate,
}

/// A generation as a thread gets it.
pub(crate) struct NewGeneration {
    pub(crate) number: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) files: Arc<LogFiles>,
    /// Where the error log of the command line goes.
    pub(crate) command_line_log: LogTarget,
    pub(crate) error_log: ErrorLog,
    pub(crate) groups: Arc<SharedGroups>,
    pub(crate) dicts: lua::Dicts,
    pub(crate) contexts: Arc<Contexts>,
    /// The tables of its switches, and the servers of its groups.
    pub(crate) routing: Arc<Routing>,
    /// The names under which its requests are measured.
    pub(crate) layout: Arc<Layout>,
    pub(crate) drop_guard: Arc<GenerationDropGuard>,
    /// All addresses it listens on.
    pub(crate) addresses: Vec<Address>,
    /// The thread's own sockets.
    pub(crate) sockets: Vec<(Address, OwnedFd)>,
}

/// Waits for every thread's answer; returns the first fault.
pub(super) fn collect(answers: &mpsc::Receiver<Result<(), String>>, threads: usize) -> Result<(), String> {
    let mut result = Ok(());
    for _ in 0..threads {
        match answers.recv() {
            Ok(answer) => result = result.and(answer),
            Err(_) => return result.and(Err("a worker thread ended while it was started".to_owned())),
        }
    }
    result
}
