//! One process that is its own master (`master_process off`).
//!
//! Owns the master's part of a reload and of reopening logs without a master, so that the application gets the same
//! commands in both arrangements. A crash ends the server: nothing starts it again.

use crate::application::Application;
use crate::channel::{self, Inbox, Message, Outbox};
use crate::daemon::Handshake;
use crate::handover::Orphan;
use crate::load::{Pictures, load};
use crate::log::{Level, LogFiles, NewLogs};
use crate::master_link::{CommandSource, LocalMaster, MasterLink, Reporter, WorkerInit};
use crate::process_log::ProcessLog;
use crate::resources::{self, Prepared, Resources};
use crate::signals::{self, Signals};
use crate::source::Source;
use crate::start::Start;
use crate::worker_command::{Listener, Reload, kind};
use crate::{privileges, worker};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

struct SingleProcess<A: Application> {
    app: A,
    source: Source,
    resources: Resources,
    logs: Arc<LogFiles>,
    log: ProcessLog,
    handshake: Option<Handshake>,
    orphan: Option<Orphan>,
    generation: u64,
    pending: Option<(u64, Prepared)>,
    /// Another reload was requested while one was in progress.
    again: bool,
    reports: UnixStream,
    inbox: Inbox,
    started: bool,
}

/// Serves until it is stopped, and returns the exit code of the program.
pub(crate) fn run<A: Application>(start: Start<A>) -> i32 {
    let (log, pid_path) = (start.log.clone(), start.resources.requirements.pid_path.clone());
    serve(start).unwrap_or_else(|error| {
        log.failed(Level::Emerg, "starting the single process", &error);
        resources::remove_pid_file(&pid_path, &log);
        1
    })
}

fn serve<A: Application>(start: Start<A>) -> io::Result<i32> {
    let Start { app, source, config, resources, logs, log, handshake, orphan, .. } = start;
    let signals = Signals::install()?;
    signals::unblock_all()?;
    let (ours, theirs) = channel::pair()?;
    let listeners = worker::listeners(&resources)?;
    let threads = resources.requirements.threads;
    privileges::keep_environment(&resources.requirements.environment);
    let error_log = log.error_log().clone();
    let master = Rc::new(RefCell::new(SingleProcess {
        app: app.clone(),
        source: source.clone(),
        resources,
        logs: Arc::clone(&logs),
        log: log.clone(),
        handshake,
        orphan,
        generation: 1,
        pending: None,
        again: false,
        reports: ours.try_clone()?,
        inbox: Inbox::default(),
        started: false,
    }));
    let peer = CommandSource::Local { master: master.clone(), reports: ours };
    let reporter = Reporter::new(Outbox::new(theirs));
    let link = MasterLink::new(peer, signals, reporter, error_log.clone(), Arc::clone(&logs));
    let init = WorkerInit {
        threads,
        generation: 1,
        upgrades: false,
        is_former: false,
        source,
        listeners,
        logs,
        error_log,
        master: link,
    };
    let code = worker::work(&app, config, init, &log);
    // The last reports may say why the start failed.
    let mut master = master.borrow_mut();
    master.take_reports();
    let (log, pid_path) = (master.log.clone(), master.resources.requirements.pid_path.clone());
    resources::remove_pid_file(&pid_path, &log);
    match master.orphan.is_some() {
        true => master.resources.leave_sockets(),
        false => master.resources.close_sockets(&log),
    }
    Ok(if master.started { code } else { code.max(1) })
}

impl<A: Application> SingleProcess<A> {
    fn prepare(&mut self) -> Option<Reload> {
        let mut recorded = load(&self.app, &self.source, &self.log, Pictures::Omitted).ok()?;
        let same_process = self.resources.requirements.same_process(&recorded.requirements);
        if recorded.requirements.control_address() != self.resources.requirements.control_address() {
            recorded.requirements.control = self.resources.requirements.control.clone();
        }
        let prepared =
            Prepared::new(recorded.requirements, &self.source, &self.resources.listening, &self.log).ok()?;
        if !same_process {
            self.log.write(
                Level::Warn,
                format_args!(
                    "a changed number of threads, limit, environment or control socket needs a restart, ignored"
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
                self.log.failed(Level::Alert, "dup()", &error);
                prepared.abandon(Some(&self.resources), &self.log);
                None
            }
        }
    }

    fn reported(&mut self, message: Message) {
        let why = String::from_utf8_lossy(&message.body);
        match message.kind {
            kind::READY if !self.started => {
                self.started = true;
                self.log.leave_stderr(&self.logs);
                if let Some(handshake) = self.handshake.take() {
                    handshake.started();
                }
                if let Some(orphan) = self.orphan.take() {
                    orphan.retire(&self.log);
                }
            }
            kind::RELOADED => self.settle(message.generation, true),
            kind::FAILED => {
                self.log.write(Level::Emerg, format_args!("{why}"));
                self.settle(message.generation, false);
            }
            kind::GONE => self.log.generation_gone(message.generation, std::process::id()),
            _ => {}
        }
    }

    /// Completes or abandons the reload of this generation.
    fn settle(&mut self, generation: u64, done: bool) {
        let mine = self.pending.take_if(|(pending, _)| *pending == generation);
        let Some((_, prepared)) = mine else { return };
        if !done {
            return prepared.abandon(Some(&self.resources), &self.log);
        }
        let before = self.resources.clone();
        let old_pid = before.requirements.pid_path.clone();
        self.resources = prepared.commit(Some(before), &self.source, &self.logs, &mut self.log);
        resources::move_pid_file(&old_pid, &self.resources.requirements.pid_path, &self.log);
    }
}

impl<A: Application> LocalMaster for SingleProcess<A> {
    fn reload(&mut self) -> Option<Reload> {
        self.log.write(Level::Notice, format_args!("reconfiguring"));
        if self.pending.is_some() {
            self.again = true;
            return None;
        }
        self.prepare()
    }

    fn reopen(&mut self) -> NewLogs {
        self.log.write(Level::Notice, format_args!("reopening logs"));
        NewLogs { files: resources::reopen_logs(&self.resources, &self.source, &self.log) }
    }

    fn take_reports(&mut self) -> Option<Reload> {
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

/// Duplicates the descriptors for the application; the resources keep their own.
fn worker_copy(prepared: &Prepared) -> io::Result<(Vec<Listener>, NewLogs)> {
    let listeners = worker::listeners(&prepared.resources)?;
    let copy = |(path, fd): &(PathBuf, OwnedFd)| Ok((path.clone(), fd.try_clone()?));
    let files = prepared.logs.iter().map(copy).collect::<io::Result<_>>()?;
    Ok((listeners, NewLogs { files }))
}
