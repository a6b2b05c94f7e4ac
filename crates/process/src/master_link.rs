//! The worker process's link to the master.
//!
//! Owns what a worker gets at its start ([`WorkerInit`]), the commands that it receives ([`MasterLink`],
//! [`WorkerCommand`]) and the reports that it sends ([`Reporter`]). Without a master the same commands come from
//! [`LocalMaster`]. Must never act on a command: that is the application's part.

use crate::channel::{self, Message, Outbox};
use crate::log::{ErrorLog, Level, LogFiles, NewLogs};
use crate::requirements::Address;
use crate::signals::{SignalEvent, Signals, Waker};
use crate::source::Source;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Everything that a worker process starts with.
#[derive(Debug)]
pub struct WorkerInit {
    /// Number of threads to serve with.
    pub threads: usize,
    /// The number of this configuration; reloads count up.
    pub generation: u64,
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

/// An address and its sockets, which are non-blocking and closed on exec.
#[derive(Debug)]
pub struct Listener {
    /// The address.
    pub address: Address,
    /// One socket for all threads, or as many as there are threads (`reuseport`).
    pub sockets: Vec<OwnedFd>,
}

/// A command to a worker process.
#[derive(Debug)]
pub enum WorkerCommand {
    /// Switch to another configuration, and report [`Reporter::reloaded`] or [`Reporter::failed`].
    Reload(Reload),
    /// Flush buffered log lines, then [`LogFiles::adopt`] these files.
    Reopen(NewLogs),
    /// Stop accepting, finish open requests, then return from [`crate::Application::work`].
    Quit,
    /// Return at once.
    Terminate,
    /// A reload that [`Reporter::request_reload`] asked for has ended.
    ReloadEnded(ReloadOutcome),
    /// A thread called [`Waker::wake`].
    Woken,
}

/// The outcome of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// The ticket of the request.
    pub ticket: u64,
    /// The new configuration is in force.
    pub done: bool,
    /// Errors and warnings.
    pub findings: Vec<String>,
}

impl ReloadOutcome {
    /// Encodes it as the body of a message.
    pub(crate) fn encode(done: bool, findings: &[String]) -> Vec<u8> {
        let mut body = vec![u8::from(done)];
        for (at, line) in findings.iter().enumerate() {
            body.extend((at > 0).then_some(b'\n'));
            // Lines are the separators.
            body.extend(line.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
        }
        body
    }

    fn decode(ticket: u64, body: &[u8]) -> Option<ReloadOutcome> {
        let (done, text) = body.split_first()?;
        let text = String::from_utf8_lossy(text);
        Some(ReloadOutcome { ticket, done: *done != 0, findings: text.lines().map(str::to_owned).collect() })
    }
}

/// Another configuration.
#[derive(Debug)]
pub struct Reload {
    /// Its number.
    pub generation: u64,
    /// Every byte that the master read for it: [`conf::Bundle::from_bytes`].
    pub bundle: Vec<u8>,
    /// All its addresses. For one that is in use already, keep the sockets and drop these.
    pub listeners: Vec<Listener>,
    /// All its log files. Flush buffered lines, then [`LogFiles::adopt`] them before building the rest.
    pub logs: NewLogs,
}

/// Kinds of messages.
pub(crate) mod kind {
    pub(crate) const RELOAD: u32 = 1;
    pub(crate) const REOPEN: u32 = 2;
    pub(crate) const QUIT: u32 = 3;
    pub(crate) const TERMINATE: u32 = 4;
    pub(crate) const READY: u32 = 5;
    pub(crate) const RELOADED: u32 = 6;
    pub(crate) const FAILED: u32 = 7;
    pub(crate) const GONE: u32 = 8;
    pub(crate) const REQUEST_RELOAD: u32 = 9;
    pub(crate) const ANSWER: u32 = 10;
    pub(crate) const HELD: u32 = 11;
}

/// Sends reports to the master; may be cloned into any thread.
#[derive(Clone, Debug)]
pub struct Reporter {
    outbox: Outbox,
}

impl Reporter {
    pub(crate) fn new(outbox: Outbox) -> Reporter {
        Reporter { outbox }
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

    /// Reports the number of held keys. While there are any, this process is not replaced by another, which would not hold
    /// them, unless it dies or is stopped.
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
pub(crate) enum Peer {
    /// The master, at the other end of this socket.
    Master(UnixStream),
    /// This process itself; reports make the socket readable.
    Local { master: Rc<RefCell<dyn LocalMaster>>, reports: UnixStream },
    /// The master is gone.
    Gone,
}

/// The receiving end of commands. Stays with one thread.
pub struct MasterLink {
    peer: Peer,
    signals: Signals,
    reporter: Reporter,
    log: ErrorLog,
    logs: Arc<LogFiles>,
    waiting: VecDeque<WorkerCommand>,
    quitting: bool,
}

impl std::fmt::Debug for MasterLink {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MasterLink").field("quitting", &self.quitting).finish_non_exhaustive()
    }
}

impl MasterLink {
    pub(crate) fn new(
        peer: Peer,
        signals: Signals,
        reporter: Reporter,
        log: ErrorLog,
        logs: Arc<LogFiles>,
    ) -> MasterLink {
        MasterLink { peer, signals, reporter, log, logs, waiting: VecDeque::new(), quitting: false }
    }

    /// Returns true if there is a master that can be asked for a reload.
    pub fn has_master(&self) -> bool {
        matches!(self.peer, Peer::Master(_))
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
        let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(left) if left.is_zero() => return false,
            // Rounded up, so that a wait never ends early.
            Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match &self.peer {
            Peer::Master(socket) | Peer::Local { reports: socket, .. } => {
                fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            }
            Peer::Gone => {}
        }
        // An interrupted wait is a signal.
        let _ = poll(&mut fds, timeout);
        let readable = fds.get(1).is_some_and(|fd| fd.any().unwrap_or(false));
        if readable {
            self.receive();
        }
        true
    }

    fn receive(&mut self) {
        match &mut self.peer {
            Peer::Master(socket) => match channel::receive_message(socket) {
                Ok(Some(message)) => {
                    if let Some(command) = command_from(message) {
                        self.enqueue(command);
                    }
                }
                Ok(None) => self.orphaned(),
                Err(error) => {
                    let text = format!("recvmsg() from the master failed {}", crate::log::reason(&error));
                    self.log.write(Level::Alert, 0, text.as_bytes());
                    self.orphaned();
                }
            },
            Peer::Local { master, .. } => {
                let reload = master.borrow_mut().take_reports();
                if let Some(reload) = reload
                    && !self.quitting
                {
                    self.enqueue(WorkerCommand::Reload(reload));
                }
            }
            Peer::Gone => {}
        }
    }

    /// Ends gracefully: without a master this process could neither be stopped nor reloaded.
    fn orphaned(&mut self) {
        self.peer = Peer::Gone;
        self.log.write(Level::Notice, 0, b"the master process is gone");
        self.enqueue(WorkerCommand::Quit);
    }

    fn enqueue(&mut self, command: WorkerCommand) {
        match command {
            WorkerCommand::Quit if self.quitting => return,
            WorkerCommand::Quit => {
                self.quitting = true;
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
        let local = matches!(self.peer, Peer::Local { .. });
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
            Peer::Local { master, .. } => Some(Rc::clone(master)),
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

    /// Switches to another configuration's main error log, and redirects standard error to it.
    pub fn log_to(&mut self, log: ErrorLog) {
        self.log = log;
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

/// Encodes the body of a reload or reopen: addresses, paths of logs, bundle. The descriptors follow in the same order.
pub(crate) fn encode_body(listeners: &[(&Address, usize)], logs: &[&PathBuf], bundle: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let put = |body: &mut Vec<u8>, bytes: &[u8]| {
        body.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
        body.extend_from_slice(bytes);
    };
    body.extend_from_slice(&(listeners.len() as u32).to_ne_bytes());
    for (address, sockets) in listeners {
        match address {
            Address::Inet(address) => {
                body.push(0);
                put(&mut body, address.to_string().as_bytes());
            }
            Address::Unix(path) => {
                body.push(1);
                put(&mut body, path.as_os_str().as_bytes());
            }
        }
        body.extend_from_slice(&(*sockets as u32).to_ne_bytes());
    }
    body.extend_from_slice(&(logs.len() as u32).to_ne_bytes());
    for path in logs {
        put(&mut body, path.as_os_str().as_bytes());
    }
    body.extend_from_slice(bundle);
    body
}

/// Decodes the command in a message; `None` for other messages.
fn command_from(message: Message) -> Option<WorkerCommand> {
    match message.kind {
        kind::QUIT => Some(WorkerCommand::Quit),
        kind::TERMINATE => Some(WorkerCommand::Terminate),
        kind::RELOAD => decode(message).map(WorkerCommand::Reload),
        kind::ANSWER => {
            ReloadOutcome::decode(message.generation, &message.body).map(WorkerCommand::ReloadEnded)
        }
        kind::REOPEN => decode(message).map(|reload| WorkerCommand::Reopen(reload.logs)),
        _ => None,
    }
}

fn decode(message: Message) -> Option<Reload> {
    let mut fds = message.fds.into_iter();
    let mut rest = message.body.as_slice();
    let mut listeners = Vec::new();
    for _ in 0..take_number(&mut rest)? {
        let (unix, after) = rest.split_first()?;
        rest = after;
        let text = take_bytes(&mut rest)?;
        let address = match unix {
            0 => Address::Inet(std::str::from_utf8(text).ok()?.parse().ok()?),
            _ => Address::Unix(OsString::from_vec(text.to_vec()).into()),
        };
        let count = take_number(&mut rest)? as usize;
        listeners.push(Listener { address, sockets: fds.by_ref().take(count).collect() });
    }
    let mut files = Vec::new();
    for _ in 0..take_number(&mut rest)? {
        let path = PathBuf::from(OsString::from_vec(take_bytes(&mut rest)?.to_vec()));
        files.push((path, fds.next()?));
    }
    let (generation, bundle, logs) = (message.generation, rest.to_vec(), NewLogs { files });
    Some(Reload { generation, bundle, listeners, logs })
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_ne_bytes(*number))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_number(rest)? as usize;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}
