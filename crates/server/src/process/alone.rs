//! `master_process off`: one process that is its own master.
//!
//! Owns the master's part of a reload and of reopening logs where there is no master, so that the application sees
//! the same orders in both arrangements. A crash ends the server: nobody is there to start it again.

use super::boot::{Application, Source};
use super::channel::{self, Inbox, Message, Outbox};
use super::control::{Control, Link, Listener, Ports, Reload, Reporter, kind};
use super::daemon::Handshake;
use super::estate::{self, Estate, Prepared};
use super::journal::Journal;
use super::load::{Pictures, load};
use super::log::{Level, LogFiles, NewLogs};
use super::signals::{self, Signals};
use super::{privileges, worker};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// What [`Control`] asks of the one who plays the master.
pub(super) trait Household {
    /// Loads the configuration anew; `None` when it is faulty or another reload is under way.
    fn reload(&mut self) -> Option<Reload>;
    /// Opens the log files anew.
    fn reopen(&mut self) -> NewLogs;
    /// Takes in what the application's threads have reported; a reload that was asked for meanwhile may follow.
    fn hear_reports(&mut self) -> Option<Reload>;
}

/// What the process starts with.
pub(super) struct Start<A: Application> {
    pub(super) app: A,
    pub(super) source: Source,
    pub(super) config: A::Config,
    pub(super) estate: Estate,
    pub(super) logs: Arc<LogFiles>,
    pub(super) journal: Journal,
    pub(super) handshake: Option<Handshake>,
}

struct Alone<A: Application> {
    app: A,
    source: Source,
    estate: Estate,
    logs: Arc<LogFiles>,
    journal: Journal,
    handshake: Option<Handshake>,
    generation: u64,
    pending: Option<(u64, Prepared)>,
    /// Asked to reload again while a reload was under way.
    again: bool,
    reports: UnixStream,
    inbox: Inbox,
    started: bool,
}

/// Serves until it is told to end, and answers the exit code of the program.
pub(super) fn run<A: Application>(start: Start<A>) -> i32 {
    let (journal, pid_path) = (start.journal.clone(), start.estate.boot.pid_path.clone());
    live(start).unwrap_or_else(|error| {
        journal.failed(Level::Emerg, "starting the single process", &error);
        estate::remove_pid_file(&pid_path, &journal);
        1
    })
}

fn live<A: Application>(start: Start<A>) -> io::Result<i32> {
    let Start { app, source, config, estate, logs, journal, handshake } = start;
    let signals = Signals::install()?;
    signals::unblock_all()?;
    let (ours, theirs) = channel::pair()?;
    let listeners = worker::listeners(&estate)?;
    let threads = estate.boot.threads;
    privileges::keep_environment(&estate.boot.environment);
    let log = journal.error_log().clone();
    let household = Rc::new(RefCell::new(Alone {
        app: app.clone(),
        source: source.clone(),
        estate,
        logs: Arc::clone(&logs),
        journal: journal.clone(),
        handshake,
        generation: 1,
        pending: None,
        again: false,
        reports: ours.try_clone()?,
        inbox: Inbox::default(),
        started: false,
    }));
    let link = Link::Alone { household: household.clone(), reports: ours };
    let reporter = Reporter::new(Outbox::new(theirs));
    let control = Control::new(link, signals, reporter, log.clone(), Arc::clone(&logs));
    let ports = Ports { threads, generation: 1, source, listeners, logs, error_log: log, control };
    let code = worker::work(&app, config, ports, &journal);
    // What was reported last, such as why the start failed.
    let mut household = household.borrow_mut();
    household.hear_reports();
    let (journal, pid_path) = (household.journal.clone(), household.estate.boot.pid_path.clone());
    estate::remove_pid_file(&pid_path, &journal);
    household.estate.close_sockets(&journal);
    Ok(if household.started { code } else { code.max(1) })
}

impl<A: Application> Alone<A> {
    fn prepare(&mut self) -> Option<Reload> {
        let mut recorded = load(&self.app, &self.source, &self.journal, Pictures::Left).ok()?;
        let same_process = self.estate.boot.same_process(&recorded.boot);
        if recorded.boot.control_address() != self.estate.boot.control_address() {
            recorded.boot.control = self.estate.boot.control.clone();
        }
        let prepared =
            Prepared::new(recorded.boot, &self.source, &self.estate.listening, &self.journal).ok()?;
        if !same_process {
            self.journal.say(
                Level::Warn,
                format_args!(
                    "a changed number of threads, limit, environment or socket for commands needs a restart, ignored"
                ),
            );
        }
        match worker_copy(&prepared) {
            Ok((listeners, logs)) => {
                self.generation += 1;
                let generation = self.generation;
                self.pending = Some((generation, prepared));
                Some(Reload { generation, bundle: recorded.bundle, listeners, logs })
            }
            Err(error) => {
                self.journal.failed(Level::Alert, "dup()", &error);
                prepared.abandon(Some(&self.estate), &self.journal);
                None
            }
        }
    }

    fn reported(&mut self, message: Message) {
        let why = String::from_utf8_lossy(&message.body);
        match message.kind {
            kind::READY if !self.started => {
                self.started = true;
                self.journal.leave_stderr(&self.logs);
                if let Some(handshake) = self.handshake.take() {
                    handshake.started();
                }
            }
            kind::RELOADED => self.settle(message.generation, true),
            kind::FAILED => {
                self.journal.say(Level::Emerg, format_args!("{why}"));
                self.settle(message.generation, false);
            }
            kind::GONE => say_gone(&self.journal, message.generation, std::process::id()),
            _ => {}
        }
    }

    /// Ends the reload of this generation.
    fn settle(&mut self, generation: u64, done: bool) {
        let mine = self.pending.take_if(|(pending, _)| *pending == generation);
        let Some((_, prepared)) = mine else { return };
        if !done {
            return prepared.abandon(Some(&self.estate), &self.journal);
        }
        let before = self.estate.clone();
        let old_pid = before.boot.pid_path.clone();
        self.estate = prepared.commit(Some(before), &self.source, &self.logs, &mut self.journal);
        estate::move_pid_file(&old_pid, &self.estate.boot.pid_path, &self.journal);
    }
}

impl<A: Application> Household for Alone<A> {
    fn reload(&mut self) -> Option<Reload> {
        self.journal.say(Level::Notice, format_args!("reconfiguring"));
        if self.pending.is_some() {
            self.again = true;
            return None;
        }
        self.prepare()
    }

    fn reopen(&mut self) -> NewLogs {
        self.journal.say(Level::Notice, format_args!("reopening logs"));
        NewLogs { files: estate::reopen_logs(&self.estate, &self.source, &self.journal) }
    }

    fn hear_reports(&mut self) -> Option<Reload> {
        let (messages, _) = self.inbox.collect(self.reports.as_fd()).unwrap_or_default();
        for message in messages {
            self.reported(message);
        }
        match self.pending.is_none() && std::mem::take(&mut self.again) {
            true => self.prepare(),
            false => None,
        }
    }
}

/// Descriptors for the application, beside those that stay with the estate.
fn worker_copy(prepared: &Prepared) -> io::Result<(Vec<Listener>, NewLogs)> {
    let listeners = worker::listeners(&prepared.estate)?;
    let copy = |(path, fd): &(PathBuf, OwnedFd)| Ok((path.clone(), fd.try_clone()?));
    let files = prepared.logs.iter().map(copy).collect::<io::Result<_>>()?;
    Ok((listeners, NewLogs { files }))
}

/// The end of a generation, in the words that tools wait for after a reload: with nginx a worker process ends then.
pub(super) fn say_gone(journal: &Journal, generation: u64, pid: u32) {
    journal.say(
        Level::Notice,
        format_args!("generation {generation} of worker process {pid} exited with code 0"),
    );
}
