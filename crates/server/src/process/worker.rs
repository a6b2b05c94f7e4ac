//! The worker process, from its fork to its exit.
//!
//! Owns what happens in the child before and after [`Application::work`]. Must never touch what belongs to the
//! master: its pid file, the files of its unix sockets, its other workers' channels.

use super::boot::{Application, Source};
use super::channel::Outbox;
use super::control::{Control, Link, Listener, Ports, Reporter};
use super::estate::Estate;
use super::journal::Journal;
use super::log::{Level, LogFiles};
use super::signals::{self, Signals};
use super::sockets::Listening;
use super::{privileges, title};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The exit code that tells the master not to start the worker again (as nginx's workers say it).
pub(super) const FATAL: i32 = 2;

/// What a worker process is born with.
pub(super) struct Birth<A: Application> {
    pub(super) app: A,
    pub(super) source: Source,
    pub(super) config: A::Config,
    pub(super) estate: Estate,
    pub(super) generation: u64,
    pub(super) logs: Arc<LogFiles>,
    pub(super) journal: Journal,
    /// Its end of the channel to the master.
    pub(super) channel: UnixStream,
}

/// Lives the worker's life and answers its exit code. Signals are still blocked when it begins.
pub(super) fn live<A: Application>(birth: Birth<A>) -> i32 {
    let Birth { app, source, config, estate, generation, logs, mut journal, channel } = birth;
    let fatal = |journal: &Journal, what: &str, error: &io::Error| {
        journal.failed(Level::Alert, what, error);
        FATAL
    };
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return fatal(&journal, "sigaction()", &error),
    };
    title::set("worker process");
    // A reload that needs a new process starts it under the configuration before.
    journal.move_to(&logs, &estate.boot.main_error_logs(&source));
    logs.keep_only(&estate.boot.all_log_files(&source));
    privileges::keep_environment(&estate.boot.environment);
    if privileges::become_worker(&estate.boot, estate.owner.as_ref(), &journal).is_err() {
        return FATAL;
    }
    journal.leave_stderr(&logs);
    if let Err(error) = signals::unblock_all() {
        return fatal(&journal, "sigprocmask()", &error);
    }
    let made = listeners(&estate).and_then(|listeners| Ok((listeners, channel.try_clone()?)));
    let (listeners, outgoing) = match made {
        Ok(made) => made,
        Err(error) => return fatal(&journal, "dup()", &error),
    };
    let threads = estate.boot.threads;
    // Closes the sockets this process does not accept from through `listeners`.
    drop(estate);
    let log = journal.error_log().clone();
    let reporter = Reporter::new(Outbox::new(outgoing));
    let control = Control::new(Link::Master(channel), signals, reporter, log.clone(), Arc::clone(&logs));
    let ports = Ports { threads, generation, source, listeners, logs, error_log: log, control };
    work(&app, config, ports, &journal)
}

/// Runs the application's part. A panic on this thread must not unwind into the master's code, which the child has
/// inherited above this frame.
pub(super) fn work<A: Application>(app: &A, config: A::Config, ports: Ports, journal: &Journal) -> i32 {
    let code = catch_unwind(AssertUnwindSafe(|| app.work(config, ports))).unwrap_or_else(|_| {
        journal.say(Level::Alert, format_args!("the worker process panicked"));
        101
    });
    journal.say(Level::Notice, format_args!("exiting"));
    journal.say(Level::Notice, format_args!("exit"));
    code
}

/// Descriptors of its own for each socket, so that the worker can close them when it likes.
pub(super) fn listeners(estate: &Estate) -> io::Result<Vec<Listener>> {
    let copy = |sockets: &[Arc<OwnedFd>]| -> io::Result<Vec<OwnedFd>> {
        sockets.iter().map(|socket| socket.try_clone()).collect()
    };
    let listener =
        |one: &Listening| Ok(Listener { address: one.spec.address.clone(), sockets: copy(&one.sockets)? });
    estate.listening.iter().map(listener).collect()
}
