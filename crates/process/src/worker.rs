//! The worker process, from its fork to its exit.
//!
//! Owns what happens in the child before and after [`Application::work`]. Must never touch what belongs to the master: its
//! pid file, the files of its unix sockets, the channels of its other workers.

use crate::application::Application;
use crate::channel::Outbox;
use crate::handover::Handover;
use crate::log::{Level, LogFiles};
use crate::master_link::{CommandSource, MasterLink, Reporter, WorkerInit};
use crate::process_log::ProcessLog;
use crate::resources::Resources;
use crate::signals::{self, Signals};
use crate::sockets::Listening;
use crate::source::Source;
use crate::worker_command::Listener;
use crate::{privileges, proc_title};
use nix::unistd::Uid;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The exit code after which the master does not start the worker again (as nginx's).
pub(crate) const FATAL: i32 = 2;

/// Everything that a worker process is forked with.
pub(crate) struct WorkerStart<A: Application> {
    pub(crate) app: A,
    pub(crate) source: Source,
    pub(crate) config: A::Config,
    pub(crate) resources: Resources,
    pub(crate) generation: u64,
    pub(crate) logs: Arc<LogFiles>,
    pub(crate) log: ProcessLog,
    /// Its end of the channel to the master.
    pub(crate) channel: UnixStream,
    /// Whether the master takes over from another one.
    pub(crate) upgrades: bool,
    /// Whether the master has a successor.
    pub(crate) is_former: bool,
}

/// Runs the worker process and returns its exit code. Signals are still blocked when it begins.
pub(crate) fn run<A: Application>(start: WorkerStart<A>) -> i32 {
    let WorkerStart {
        app,
        source,
        config,
        resources,
        generation,
        logs,
        mut log,
        channel,
        upgrades,
        is_former,
    } = start;
    let fatal = |log: &ProcessLog, what: &str, error: &io::Error| {
        log.failed(Level::Alert, what, error);
        FATAL
    };
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return fatal(&log, "sigaction()", &error),
    };
    proc_title::set("worker process");
    // A reload that needs a new process forks it while the master still logs for the previous configuration.
    log.move_to(&logs, &resources.requirements.main_error_logs(&source));
    logs.keep_only(&resources.requirements.all_log_files(&source));
    privileges::keep_environment(&resources.requirements.environment);
    let master = Uid::effective();
    if privileges::become_worker(&resources.requirements, resources.owner.as_ref(), &log).is_err() {
        return FATAL;
    }
    log.leave_stderr(&logs);
    if let Err(error) = signals::unblock_all() {
        return fatal(&log, "sigprocmask()", &error);
    }
    let made = listeners(&resources).and_then(|listeners| Ok((listeners, channel.try_clone()?)));
    let (mut listeners, outgoing) = match made {
        Ok(made) => made,
        Err(error) => return fatal(&log, "dup()", &error),
    };
    let threads = resources.requirements.threads;
    let handover = Handover::new(resources.without_master(), &mut listeners, master);
    // Closes the sockets that this process holds beside `listeners`.
    drop(resources);
    let error_log = log.error_log().clone();
    let reporter = Reporter::new(Outbox::new(outgoing));
    let link = MasterLink::new(
        CommandSource::Master(channel),
        signals,
        reporter,
        error_log.clone(),
        Arc::clone(&logs),
    )
    .survive(handover, master);
    let init = WorkerInit {
        threads,
        generation,
        upgrades,
        is_former,
        source,
        listeners,
        logs,
        error_log,
        master: link,
    };
    work(&app, config, init, &log)
}

/// Runs the application. A panic on this thread must not unwind into the frames of the master that the child has
/// inherited.
pub(crate) fn work<A: Application>(app: &A, config: A::Config, init: WorkerInit, log: &ProcessLog) -> i32 {
    let code = catch_unwind(AssertUnwindSafe(|| app.work(config, init))).unwrap_or_else(|_| {
        log.write(Level::Alert, format_args!("the worker process panicked"));
        101
    });
    log.write(Level::Notice, format_args!("exiting"));
    log.write(Level::Notice, format_args!("exit"));
    code
}

/// Duplicates each socket, so that the worker can close its own.
pub(crate) fn listeners(resources: &Resources) -> io::Result<Vec<Listener>> {
    let copy = |sockets: &[Arc<OwnedFd>]| -> io::Result<Vec<OwnedFd>> {
        sockets.iter().map(|socket| socket.try_clone()).collect()
    };
    let listener =
        |one: &Listening| Ok(Listener { address: one.spec.address.clone(), sockets: copy(&one.sockets)? });
    resources.listening.iter().map(listener).collect()
}
