//! The worker process's link to the master.
//!
//! Owns what a worker gets at its start ([`WorkerInit`]), how it receives commands ([`MasterLink`]), and the reports that it sends ([`Reporter`]). Without a master the same commands come from
//! [`LocalMaster`]. Must never act on a command: that is the application's part.

use crate::channel::{self, Outbox};
use crate::handover::{Handover, Orphaned};
use crate::log::{ErrorLog, Level, LogFiles, NewLogs};
use crate::signals::{SignalEvent, Signals, Waker};
use crate::source::Source;
use crate::worker_command::{Listener, Reload, WorkerCommand, command_from, kind};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Everything that a worker process starts with.
#[derive(Debug)]
pub struct WorkerInit {
    /// Number of threads to serve with.
    pub threads: usize,
    /// The number of this configuration; reloads count up.
    pub generation: u64,
    /// Whether the process takes over from another program's, in a binary upgrade.
    pub upgrades: bool,
    /// Whether a newer program serves beside it, in a binary upgrade.
    pub is_former: bool,
    /// The command line, with which a configuration is loaded from a bundle.
    pub source: Source,
    /// The sockets to accept from, an entry for each address.
    pub listeners: Vec<Listener>,
    /// The open log files.
    pub logs: Arc<LogFiles>,
    /// The main error log.
    pub error_log: ErrorLog,
    /// Where commands come from.
    pub master: MasterLink,
}

/// Sends reports to the master; may be cloned into any thread.
#[derive(Clone, Debug)]
pub struct Reporter {
    outbox: Outbox,
    /// This process has served.
    ready: Arc<AtomicBool>,
}

impl Reporter {
    pub(crate) fn new(outbox: Outbox) -> Reporter {
        Reporter { outbox, ready: Arc::default() }
    }

    /// Returns a reporter without a master, for tests.
    ///
    /// # Errors
    /// Fails if the process has no descriptors left.
    pub fn disconnected() -> std::io::Result<Reporter> {
        Ok(Reporter::new(Outbox::new(std::os::unix::net::UnixStream::pair()?.0)))
    }

    /// Reports that the worker takes connections. A return from `work` before that is a failed start.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
        self.send(kind::READY, 0, b"");
    }

    /// Reports that new requests are served by this generation.
    pub fn reloaded(&self, generation: u64) {
        self.send(kind::RELOADED, generation, b"");
    }

    /// Reports why this generation was rejected; the previous one stays active. Before [`Reporter::ready`] it is the reason
    /// why the program cannot start.
    pub fn failed(&self, generation: u64, why: &str) {
        self.send(kind::FAILED, generation, why.as_bytes());
    }

    /// Reports that the last request of this generation has ended and nothing of it is left.
    pub fn generation_gone(&self, generation: u64) {
        self.send(kind::GONE, generation, b"");
    }

    /// Asks for a reload. [`WorkerCommand::ReloadEnded`] with this ticket follows with the outcome, before or after the
    /// command to reload itself.
    pub fn request_reload(&self, ticket: u64) {
        self.send(kind::REQUEST_RELOAD, ticket, b"");
    }

    /// Reports the number of held keys that another process would not hold. While there are any, this process is not replaced
    /// by one, unless it dies or is stopped.
    pub fn held(&self, keys: u64) {
        self.send(kind::HELD, keys, b"");
    }

    fn send(&self, kind: u32, generation: u64, body: &[u8]) {
        // The end of the master is noticed by MasterLink.
        let _ = self.outbox.send(kind, generation, body);
    }
}

/// The master's part in the worker process itself (`master_process off`).
pub(crate) trait LocalMaster {
    /// Loads the configuration again; `None` if it is invalid or another reload is in progress.
    fn reload(&mut self) -> Option<Reload>;
    /// Reopens the log files.
    fn reopen(&mut self) -> NewLogs;
    /// Takes in the reports of the application's threads. A reload that was requested meanwhile may follow.
    fn take_reports(&mut self) -> Option<Reload>;
}

/// Where commands come from.
pub(crate) enum CommandSource {
    /// The master, at the other end of this socket.
    Master(UnixStream),
    /// This process itself; reports make the socket readable.
    Local { master: Rc<RefCell<dyn LocalMaster>>, reports: UnixStream },
    /// The master is gone; the next one is waited for.
    Orphaned(Orphaned),
    /// The master is gone, and so is this process soon.
    Gone,
}

/// The receiving end of commands. Stays with one thread.
pub struct MasterLink {
    peer: CommandSource,
    signals: Signals,
    reporter: Reporter,
    log: ErrorLog,
    logs: Arc<LogFiles>,
    waiting: VecDeque<WorkerCommand>,
    quitting: bool,
    /// What is needed when the master dies, of the configuration in force and of the one that is being switched to.
    handover: Option<Handover>,
    next_handover: Option<Handover>,
    /// The user of the master.
    master: Uid,
}

impl std::fmt::Debug for MasterLink {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MasterLink").field("quitting", &self.quitting).finish_non_exhaustive()
    }
}

impl MasterLink {
    pub(crate) fn new(
        peer: CommandSource,
        signals: Signals,
        reporter: Reporter,
        log: ErrorLog,
        logs: Arc<LogFiles>,
    ) -> MasterLink {
        let (waiting, quitting, handover, next_handover) = Default::default();
        let master = Uid::effective();
        MasterLink { peer, signals, reporter, log, logs, waiting, quitting, handover, next_handover, master }
    }

    /// Serves on if the master dies, which is a process of this user.
    pub(crate) fn survive(mut self, handover: Option<Handover>, master: Uid) -> MasterLink {
        (self.handover, self.master) = (handover, master);
        self
    }

    /// Returns true if there is a master that can be asked for a reload.
    pub fn has_master(&self) -> bool {
        matches!(self.peer, CommandSource::Master(_))
    }

    /// Returns a sender of reports for any thread.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Returns a handle that wakes the thread in [`MasterLink::next`].
    pub fn waker(&self) -> Waker {
        self.signals.waker()
    }

    /// Waits for a command, at most `timeout`; `None` when that has passed.
    pub fn next(&mut self, timeout: Option<Duration>) -> Option<WorkerCommand> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        // A reload has ended before the next command is asked for.
        self.next_handover = None;
        loop {
            while let Some(arrived) = self.signals.take() {
                self.arrived(arrived);
            }
            if let Some(command) = self.waiting.pop_front() {
                return Some(command);
            }
            if !self.wait(deadline) {
                return None;
            }
        }
    }

    /// Waits until something has arrived, and receives messages; false once the deadline has passed.
    fn wait(&mut self, deadline: Option<Instant>) -> bool {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        if deadline.is_some_and(|deadline| left(deadline).is_zero()) {
            return false;
        }
        let orphaned = match &self.peer {
            CommandSource::Orphaned(orphaned) => Some(orphaned.due()),
            _ => None,
        };
        let timeout = match deadline.into_iter().chain(orphaned).min().map(left) {
            None => PollTimeout::NONE,
            // Rounded up, so that a wait never ends early.
            Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match &self.peer {
            CommandSource::Master(socket) | CommandSource::Local { reports: socket, .. } => {
                fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            }
            CommandSource::Orphaned(orphaned) => {
                fds.extend(orphaned.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            }
            CommandSource::Gone => {}
        }
        // An interrupted wait is a signal.
        let _ = poll(&mut fds, timeout);
        let readable = fds.get(1).is_some_and(|fd| fd.any().unwrap_or(false));
        if let CommandSource::Orphaned(orphaned) = &mut self.peer {
            if let Some(why) = orphaned.advance(readable, &self.log) {
                self.log.write(Level::Notice, 0, why.as_bytes());
                self.enqueue(WorkerCommand::Quit);
            }
        } else if readable {
            self.receive();
        }
        true
    }

    fn receive(&mut self) {
        match &mut self.peer {
            CommandSource::Master(socket) => match channel::receive_message(socket) {
                Ok(Some(message)) => match command_from(message) {
                    Some((WorkerCommand::Reload(mut reload), without_master)) => {
                        self.next_handover =
                            Handover::new(without_master, &mut reload.listeners, self.master);
                        self.enqueue(WorkerCommand::Reload(reload));
                    }
                    Some((command, _)) => self.enqueue(command),
                    None => {}
                },
                Ok(None) => self.orphaned(),
                Err(error) => {
                    let text = format!("recvmsg() from the master failed {}", crate::log::reason(&error));
                    self.log.write(Level::Alert, 0, text.as_bytes());
                    self.orphaned();
                }
            },
            CommandSource::Local { master, .. } => {
                let reload = master.borrow_mut().take_reports();
                if let Some(reload) = reload
                    && !self.quitting
                {
                    self.enqueue(WorkerCommand::Reload(reload));
                }
            }
            CommandSource::Orphaned(_) | CommandSource::Gone => {}
        }
    }

    /// Serves on for a while without a master. Ends gracefully if it does not serve yet, or is not needed.
    fn orphaned(&mut self) {
        self.peer = CommandSource::Gone;
        let serves = self.reporter.ready.load(Ordering::Relaxed) && !self.quitting;
        match self.handover.take().filter(|handover| serves && !handover.has_other_master()) {
            Some(handover) => {
                let text = format!(
                    "the master process is gone: serving on for {} s without it, taking no orders; start another one, \
                     which takes the sockets over",
                    handover.timeout.as_secs()
                );
                self.log.write(Level::Alert, 0, text.as_bytes());
                let left = handover.timeout;
                self.peer = CommandSource::Orphaned(Orphaned::new(handover));
                self.waiting.push_back(WorkerCommand::Orphaned(left));
            }
            None => {
                self.log.write(Level::Notice, 0, b"the master process is gone");
                self.enqueue(WorkerCommand::Quit);
            }
        }
    }

    fn enqueue(&mut self, command: WorkerCommand) {
        match command {
            WorkerCommand::Quit if self.quitting => return,
            WorkerCommand::Quit => {
                self.quitting = true;
                // Its copies of the sockets would keep them open.
                self.handover = None;
                if let CommandSource::Orphaned(_) = self.peer {
                    self.peer = CommandSource::Gone;
                }
                self.log.write(Level::Notice, 0, b"gracefully shutting down");
            }
            _ => {}
        }
        self.waiting.push_back(command);
    }

    fn arrived(&mut self, arrived: SignalEvent) {
        let (signal, sender) = match arrived {
            SignalEvent::Woken => return self.waiting.push_back(WorkerCommand::Woken),
            SignalEvent::Signal { signal, sender, .. } => (signal, sender),
        };
        let local = matches!(self.peer, CommandSource::Local { .. });
        let action = match signal {
            Signal::SIGTERM | Signal::SIGINT => ", exiting",
            Signal::SIGQUIT => ", shutting down",
            Signal::SIGHUP if local => ", reconfiguring",
            Signal::SIGUSR1 if local => ", reopening logs",
            // A child process of a Lua script, or a terminal that changed its size.
            Signal::SIGCHLD | Signal::SIGWINCH => return,
            _ => ", ignoring",
        };
        log_signal(&self.log, signal, sender, action);
        let master = match &self.peer {
            CommandSource::Local { master, .. } => Some(Rc::clone(master)),
            _ => None,
        };
        match (signal, master) {
            (Signal::SIGTERM | Signal::SIGINT, _) => self.enqueue(WorkerCommand::Terminate),
            (Signal::SIGQUIT, _) => self.enqueue(WorkerCommand::Quit),
            (Signal::SIGHUP, Some(master)) if !self.quitting => {
                let reload = master.borrow_mut().reload();
                if let Some(reload) = reload {
                    self.enqueue(WorkerCommand::Reload(reload));
                }
            }
            (Signal::SIGUSR1, Some(master)) => {
                let newer = master.borrow_mut().reopen();
                self.enqueue(WorkerCommand::Reopen(newer));
            }
            _ => {}
        }
    }

    /// Switches to another configuration: logs to its main error log, redirects standard error to it, and hands its
    /// sockets over if the master dies.
    pub fn switch_to(&mut self, log: ErrorLog) {
        self.log = log;
        if !self.quitting && matches!(self.peer, CommandSource::Master(_)) {
            self.handover = self.next_handover.take();
        }
        // On an error it stays at the previous log.
        let _ = self.logs.redirect_stderr(&self.log);
    }
}

/// Logs nginx's line about a signal.
pub(crate) fn log_signal(log: &ErrorLog, signal: Signal, sender: i32, action: &str) {
    let from = match sender {
        0 => String::new(),
        sender => format!(" from {sender}"),
    };
    let text = format!("signal {} ({}) received{from}{action}", signal as i32, signal.as_str());
    log.write(Level::Notice, 0, text.as_bytes());
}
