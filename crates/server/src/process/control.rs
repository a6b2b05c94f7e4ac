//! The worker process's side of the conversation with the master.
//!
//! Owns what a worker is given at its start ([`Ports`]), the orders it gets ([`Control`], [`Order`]) and the reports
//! it sends ([`Reporter`]). The same conversation is held with [`super::alone`] where there is no master. Must never
//! act on an order: that is the application's part.

use super::alone::Household;
use super::boot::{Address, Source};
use super::channel::{self, Message, Outbox};
use super::log::{ErrorLog, Level, LogFiles, NewLogs};
use super::signals::{Arrived, Signals, Waker};
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

/// What a worker process starts with.
#[derive(Debug)]
pub struct Ports {
    /// How many threads to serve with.
    pub threads: usize,
    /// Which configuration this is; a reload's number is higher.
    pub generation: u64,
    /// The command line, to load a configuration from a bundle with.
    pub source: Source,
    /// The sockets to accept from, one entry for each address.
    pub listeners: Vec<Listener>,
    /// The open log files.
    pub logs: Arc<LogFiles>,
    /// The main error log.
    pub error_log: ErrorLog,
    /// Where orders come from.
    pub control: Control,
}

/// An address and its sockets, not blocking, closed on exec.
#[derive(Debug)]
pub struct Listener {
    /// The address.
    pub address: Address,
    /// One socket for all threads, or as many as there are threads (`reuseport`).
    pub sockets: Vec<OwnedFd>,
}

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Go over to another configuration. Answer with [`Reporter::reloaded`] or [`Reporter::failed`].
    Reload(Reload),
    /// Write out what is buffered for logs, then [`LogFiles::adopt`] these.
    Reopen(NewLogs),
    /// Accept no more, finish what has begun, then return from [`super::Application::work`].
    Quit,
    /// Return at once.
    Terminate,
    /// What a reload came to that [`Reporter::want_reload`] had asked for.
    Answered(Answer),
    /// A thread called [`Waker::wake`].
    Woken,
}

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number it was asked for with.
    pub ticket: u64,
    /// The new configuration is in force.
    pub done: bool,
    /// Faults and warnings.
    pub findings: Vec<String>,
}

impl Answer {
    /// As the body of a message.
    pub(super) fn encode(done: bool, findings: &[String]) -> Vec<u8> {
        let mut body = vec![u8::from(done)];
        for (at, line) in findings.iter().enumerate() {
            body.extend((at > 0).then_some(b'\n'));
            // A line stays a line.
            body.extend(line.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
        }
        body
    }

    fn decode(ticket: u64, body: &[u8]) -> Option<Answer> {
        let (done, text) = body.split_first()?;
        let text = String::from_utf8_lossy(text);
        Some(Answer { ticket, done: *done != 0, findings: text.lines().map(str::to_owned).collect() })
    }
}

/// Another configuration.
#[derive(Debug)]
pub struct Reload {
    /// Its number.
    pub generation: u64,
    /// Every byte the master read for it: [`conf::Bundle::from_bytes`].
    pub bundle: Vec<u8>,
    /// All its addresses. For one already in use, go on with the sockets you have and drop these.
    pub listeners: Vec<Listener>,
    /// All its log files. Write out what is buffered, then [`LogFiles::adopt`] them before building the rest.
    pub logs: NewLogs,
}

/// Kinds of messages.
pub(super) mod kind {
    pub(in crate::process) const RELOAD: u32 = 1;
    pub(in crate::process) const REOPEN: u32 = 2;
    pub(in crate::process) const QUIT: u32 = 3;
    pub(in crate::process) const TERMINATE: u32 = 4;
    pub(in crate::process) const READY: u32 = 5;
    pub(in crate::process) const RELOADED: u32 = 6;
    pub(in crate::process) const FAILED: u32 = 7;
    pub(in crate::process) const GONE: u32 = 8;
    pub(in crate::process) const WANT_RELOAD: u32 = 9;
    pub(in crate::process) const ANSWER: u32 = 10;
    pub(in crate::process) const HELD: u32 = 11;
}

/// Tells the master how things stand; may be cloned into any thread.
#[derive(Clone, Debug)]
pub struct Reporter {
    outbox: Outbox,
}

impl Reporter {
    pub(super) fn new(outbox: Outbox) -> Reporter {
        Reporter { outbox }
    }

    /// One whom nobody hears.
    #[cfg(test)]
    pub(crate) fn unheard() -> std::io::Result<Reporter> {
        Ok(Reporter::new(Outbox::new(std::os::unix::net::UnixStream::pair()?.0)))
    }

    /// The worker can take connections. Until then a return from `work` means that the program did not start.
    pub fn ready(&self) {
        self.tell(kind::READY, 0, b"");
    }

    /// New requests are served by this generation.
    pub fn reloaded(&self, generation: u64) {
        self.tell(kind::RELOADED, generation, b"");
    }

    /// This generation cannot be gone over to, and why; the one before goes on. Before [`Reporter::ready`] it says
    /// why the program cannot start.
    pub fn failed(&self, generation: u64, why: &str) {
        self.tell(kind::FAILED, generation, why.as_bytes());
    }

    /// The last request of this generation has ended and nothing of it is left.
    pub fn generation_gone(&self, generation: u64) {
        self.tell(kind::GONE, generation, b"");
    }

    /// Asks for a reload. [`Order::Answered`] with this number says what came of it; it may come before or after the
    /// order to reload itself.
    pub fn want_reload(&self, ticket: u64) {
        self.tell(kind::WANT_RELOAD, ticket, b"");
    }

    /// So many keys are held. As long as it is any, no other process is put in this one's place, which would not hold
    /// them, unless this one dies or is told to end.
    pub fn held(&self, keys: u64) {
        self.tell(kind::HELD, keys, b"");
    }

    fn tell(&self, kind: u32, generation: u64, body: &[u8]) {
        // A master that is gone needs no report; the worker learns of it through Control.
        let _ = self.outbox.send(kind, generation, body);
    }
}

/// Who gives the orders.
pub(super) enum Link {
    /// The master, at the other end of this socket.
    Master(UnixStream),
    /// This process itself (`master_process off`); reports make the socket readable.
    Alone { household: Rc<RefCell<dyn Household>>, reports: UnixStream },
    /// The master is gone.
    Orphan,
}

/// Where orders come from. Stays with one thread.
pub struct Control {
    link: Link,
    signals: Signals,
    reporter: Reporter,
    log: ErrorLog,
    logs: Arc<LogFiles>,
    waiting: VecDeque<Order>,
    quitting: bool,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Control").field("quitting", &self.quitting).finish_non_exhaustive()
    }
}

impl Control {
    pub(super) fn new(
        link: Link,
        signals: Signals,
        reporter: Reporter,
        log: ErrorLog,
        logs: Arc<LogFiles>,
    ) -> Control {
        Control { link, signals, reporter, log, logs, waiting: VecDeque::new(), quitting: false }
    }

    /// Whether a master could be asked for a reload.
    pub fn has_master(&self) -> bool {
        matches!(self.link, Link::Master(_))
    }

    /// Reports from any thread.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Wakes the thread that is in [`Control::next`].
    pub fn waker(&self) -> Waker {
        self.signals.waker()
    }

    /// Waits for an order, at most `timeout`; `None` when that has passed.
    pub fn next(&mut self, timeout: Option<Duration>) -> Option<Order> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            while let Some(arrived) = self.signals.take() {
                self.arrived(arrived);
            }
            if let Some(order) = self.waiting.pop_front() {
                return Some(order);
            }
            if !self.wait(deadline) {
                return None;
            }
        }
    }

    /// Waits until there is something to look at; false once the deadline has passed. Messages are taken in.
    fn wait(&mut self, deadline: Option<Instant>) -> bool {
        let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(left) if left.is_zero() => return false,
            // Rounded up, so that a wait never ends before its time.
            Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match &self.link {
            Link::Master(socket) | Link::Alone { reports: socket, .. } => {
                fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            }
            Link::Orphan => {}
        }
        // An interrupted wait is a signal to look at.
        let _ = poll(&mut fds, timeout);
        let spoken_to = fds.get(1).is_some_and(|fd| fd.any().unwrap_or(false));
        if spoken_to {
            self.listen();
        }
        true
    }

    fn listen(&mut self) {
        match &mut self.link {
            Link::Master(socket) => match channel::receive_message(socket) {
                Ok(Some(message)) => {
                    if let Some(order) = order_from(message) {
                        self.take(order);
                    }
                }
                Ok(None) => self.orphaned(),
                Err(error) => {
                    let text = format!("recvmsg() from the master failed {}", super::journal::reason(&error));
                    self.log.write(Level::Alert, 0, text.as_bytes());
                    self.orphaned();
                }
            },
            Link::Alone { household, .. } => {
                let reload = household.borrow_mut().hear_reports();
                if let Some(reload) = reload
                    && !self.quitting
                {
                    self.take(Order::Reload(reload));
                }
            }
            Link::Orphan => {}
        }
    }

    /// Without a master nobody could stop or reload this process: it ends what has begun.
    fn orphaned(&mut self) {
        self.link = Link::Orphan;
        self.log.write(Level::Notice, 0, b"the master process is gone");
        self.take(Order::Quit);
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Quit if self.quitting => return,
            Order::Quit => {
                self.quitting = true;
                self.log.write(Level::Notice, 0, b"gracefully shutting down");
            }
            _ => {}
        }
        self.waiting.push_back(order);
    }

    fn arrived(&mut self, arrived: Arrived) {
        let (signal, sender) = match arrived {
            Arrived::Woken => return self.waiting.push_back(Order::Woken),
            Arrived::Signal(signal, sender) => (signal, sender),
        };
        let alone = matches!(self.link, Link::Alone { .. });
        let action = match signal {
            Signal::SIGTERM | Signal::SIGINT => ", exiting",
            Signal::SIGQUIT => ", shutting down",
            Signal::SIGHUP if alone => ", reconfiguring",
            Signal::SIGUSR1 if alone => ", reopening logs",
            // A child of Lua's, or a terminal that changed its size.
            Signal::SIGCHLD | Signal::SIGWINCH => return,
            _ => ", ignoring",
        };
        log_signal(&self.log, signal, sender, action);
        let household = match &self.link {
            Link::Alone { household, .. } => Some(Rc::clone(household)),
            _ => None,
        };
        match (signal, household) {
            (Signal::SIGTERM | Signal::SIGINT, _) => self.take(Order::Terminate),
            (Signal::SIGQUIT, _) => self.take(Order::Quit),
            (Signal::SIGHUP, Some(household)) if !self.quitting => {
                let reload = household.borrow_mut().reload();
                if let Some(reload) = reload {
                    self.take(Order::Reload(reload));
                }
            }
            (Signal::SIGUSR1, Some(household)) => {
                let newer = household.borrow_mut().reopen();
                self.take(Order::Reopen(newer));
            }
            _ => {}
        }
    }

    /// Goes on logging in another configuration's main error log, with this process's standard error.
    pub fn log_to(&mut self, log: ErrorLog) {
        self.log = log;
        // Where it cannot be redirected it stays at the log before.
        let _ = self.logs.redirect_stderr(&self.log);
    }
}

/// nginx's line about a signal.
pub(super) fn log_signal(log: &ErrorLog, signal: Signal, sender: i32, action: &str) {
    let from = match sender {
        0 => String::new(),
        sender => format!(" from {sender}"),
    };
    let text = format!("signal {} ({}) received{from}{action}", signal as i32, signal.as_str());
    log.write(Level::Notice, 0, text.as_bytes());
}

/// The body of a reload or reopen: addresses, paths of logs, bundle. The descriptors follow in the same order.
pub(super) fn encode_body(listeners: &[(&Address, usize)], logs: &[&PathBuf], bundle: &[u8]) -> Vec<u8> {
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

/// The order in a message; `None` for what is no order.
fn order_from(message: Message) -> Option<Order> {
    match message.kind {
        kind::QUIT => Some(Order::Quit),
        kind::TERMINATE => Some(Order::Terminate),
        kind::RELOAD => decode(message).map(Order::Reload),
        kind::ANSWER => Answer::decode(message.generation, &message.body).map(Order::Answered),
        kind::REOPEN => decode(message).map(|reload| Order::Reopen(reload.logs)),
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
