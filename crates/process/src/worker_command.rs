//! Commands to a worker process, and the messages that carry them.
//!
//! Owns the kinds of messages between master and worker, and how a command is encoded. Both ends are the same program,
//! except for `HANDOVER` and the `QUIT` that follows it ([`crate::handover`]). Must never send or receive.

use crate::channel::Message;
use crate::log::NewLogs;
use crate::requirements::Address;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

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
    /// A reload that [`Reporter::request_reload`] asked for has ended, or the master has refused one
    /// ([`ReloadOutcome::BY_SIGNAL`]).
    ReloadEnded(ReloadOutcome),
    /// The master is gone. Serve on, but take no orders, until another command comes.
    Orphaned(Duration),
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
    /// The ticket of a reload that a signal asked for, and that the master refused by itself.
    pub const BY_SIGNAL: u64 = 0;

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
    pub(crate) const HANDOVER: u32 = 12;
}

/// The data that a worker process needs if its master dies.
#[derive(Clone, Debug, Default)]
pub(crate) struct WithoutMaster {
    /// How long it serves on; zero if it does not.
    pub(crate) timeout: Duration,
    /// The pid file of the master.
    pub(crate) pid_path: PathBuf,
    /// The files of the unix sockets ([`crate::upgrade::format_files`]).
    pub(crate) files: String,
}

/// Encodes the body of a reload or reopen: addresses, paths of logs, what is needed without a master (how long to serve
/// on, the pid file, the files of unix sockets), bundle. The descriptors follow in the same order.
pub(crate) fn encode_body(
    listeners: &[(&Address, usize)],
    logs: &[&PathBuf],
    without_master: &WithoutMaster,
    bundle: &[u8],
) -> Vec<u8> {
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
    let timeout_ms = u32::try_from(without_master.timeout.as_millis()).unwrap_or(u32::MAX);
    body.extend_from_slice(&timeout_ms.to_ne_bytes());
    put(&mut body, without_master.pid_path.as_os_str().as_bytes());
    put(&mut body, without_master.files.as_bytes());
    body.extend_from_slice(bundle);
    body
}

/// Decodes the command in a message; `None` for other messages. A reload comes with what is needed without a master.
pub(crate) fn command_from(message: Message) -> Option<(WorkerCommand, WithoutMaster)> {
    let command = match message.kind {
        kind::QUIT => WorkerCommand::Quit,
        kind::TERMINATE => WorkerCommand::Terminate,
        kind::RELOAD => {
            let (reload, without_master) = decode(message)?;
            return Some((WorkerCommand::Reload(reload), without_master));
        }
        kind::ANSWER => WorkerCommand::ReloadEnded(ReloadOutcome::decode(message.generation, &message.body)?),
        kind::REOPEN => WorkerCommand::Reopen(decode(message)?.0.logs),
        _ => return None,
    };
    Some((command, WithoutMaster::default()))
}

fn decode(message: Message) -> Option<(Reload, WithoutMaster)> {
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
    let without_master = WithoutMaster {
        timeout: Duration::from_millis(take_number(&mut rest)?.into()),
        pid_path: PathBuf::from(OsString::from_vec(take_bytes(&mut rest)?.to_vec())),
        files: String::from_utf8(take_bytes(&mut rest)?.to_vec()).ok()?,
    };
    let (generation, bundle, logs) = (message.generation, rest.to_vec(), NewLogs { files });
    Some((Reload { generation, bundle, listeners, logs }, without_master))
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
