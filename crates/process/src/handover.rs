//! From a dead master to the next one: the worker process that it has left serves on, and hands its sockets over.
//!
//! Owns the handover socket (`PIDFILE.handover`), which the master opens and the worker inherits, and the conversation on
//! it: the worker sends its listening sockets at once, and quits when it is told that another one serves. Programs of
//! different versions speak it, so that neither the header of a message nor these two kinds may change. Must never hand
//! sockets to another user than the master's, or take them from one.

use crate::channel::{receive_message, send_message};
use crate::log::{ErrorLog, Level, reason};
use crate::process_log::ProcessLog;
use crate::requirements::{Address, Requirements, handover_path};
use crate::running::RunningMaster;
use crate::sockets::Listening;
use crate::upgrade::Predecessor;
use crate::worker_command::{Listener, WithoutMaster, kind};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Uid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long either end waits for the other.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often a worker process looks for a master that runs without having asked.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// The resources with which a worker process serves on without its master.
#[derive(Debug)]
pub(crate) struct Handover {
    /// How long it serves on.
    pub(crate) timeout: Duration,
    /// Where the next master asks; `None` if it could not be opened.
    pub(crate) listener: Option<UnixListener>,
    /// All listening sockets, in the order in which the files name them.
    pub(crate) sockets: Vec<OwnedFd>,
    /// The files of the unix sockets ([`upgrade::format_files`]).
    pub(crate) files: String,
    /// The pid file of the master.
    pub(crate) pid_path: PathBuf,
    /// The user of the master.
    pub(crate) master: Uid,
}

impl Handover {
    /// Takes the handover socket out of the listeners, and copies the others. `None` if the worker is to end with its
    /// master.
    pub(crate) fn new(setup: WithoutMaster, listeners: &mut Vec<Listener>, master: Uid) -> Option<Handover> {
        let own = Address::Unix(handover_path(&setup.pid_path));
        let WithoutMaster { timeout, pid_path, files } = setup;
        let copies = listeners.iter().flat_map(|one| &one.sockets).map(OwnedFd::try_clone);
        let sockets = copies.collect::<io::Result<Vec<OwnedFd>>>();
        let at = listeners.iter().position(|one| one.address == own);
        let listener = at.and_then(|at| listeners.remove(at).sockets.pop()).map(UnixListener::from);
        // Without descriptors there is nothing to hand over.
        let (false, Ok(sockets)) = (timeout.is_zero(), sockets) else { return None };
        Some(Handover { timeout, listener, sockets, files, pid_path, master })
    }

    /// Returns true if a master runs with the same pid file.
    pub(crate) fn has_other_master(&self) -> bool {
        let masters = [RunningMaster::named(&self.pid_path), RunningMaster::older(&self.pid_path)];
        masters.into_iter().flatten().any(RunningMaster::has_title)
    }

    /// Accepts the next master, and sends it the sockets.
    fn answer(&self) -> io::Result<Option<UnixStream>> {
        let Some(listener) = &self.listener else { return Ok(None) };
        let (stream, _) = match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            accepted => accepted?,
        };
        let asks = Uid::from_raw(getsockopt(&stream, sockopt::PeerCredentials)?.uid());
        if !asks.is_root() && asks != self.master {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let fds: Vec<BorrowedFd<'_>> = self.sockets.iter().map(AsFd::as_fd).collect();
        send_message(&stream, kind::HANDOVER, 0, self.files.as_bytes(), &fds)?;
        Ok(Some(stream))
    }
}

/// A worker process that serves on without its master.
#[derive(Debug)]
pub(crate) struct Orphaned {
    handover: Handover,
    until: Instant,
    next_look: Instant,
    /// The next master, once it has the sockets. It has not a worker that serves yet.
    next: Option<UnixStream>,
}

impl Orphaned {
    /// Begins to wait for the next master.
    pub(crate) fn new(handover: Handover) -> Orphaned {
        let now = Instant::now();
        Orphaned { until: now + handover.timeout, next_look: now + LOOK_PAUSE, handover, next: None }
    }

    /// Returns the descriptor that becomes readable when there is something to do.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        let listener = || self.handover.listener.as_ref().map(AsFd::as_fd);
        self.next.as_ref().map(AsFd::as_fd).or_else(listener)
    }

    /// Returns when there is something to do even if nothing becomes readable.
    pub(crate) fn due(&self) -> Instant {
        self.until.min(self.next_look)
    }

    /// Does what there is to do. Returns the reason when this process is not needed any more.
    pub(crate) fn advance(&mut self, readable: bool, log: &ErrorLog) -> Option<&'static str> {
        let now = Instant::now();
        match &self.next {
            Some(next) if readable => match receive_message(next) {
                Ok(Some(message)) if message.kind == kind::QUIT => {
                    return Some("another worker process serves");
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    log.write(Level::Alert, 0, b"the next master process is gone too, serving on");
                    self.next = None;
                }
            },
            None if readable => match self.handover.answer() {
                Ok(None) => {}
                Ok(Some(next)) => {
                    let text =
                        format!("{} sockets sent to the next master process", self.handover.sockets.len());
                    log.write(Level::Notice, 0, text.as_bytes());
                    self.next = Some(next);
                }
                Err(error) => {
                    let text = format!("sending the sockets to the next master failed {}", reason(&error));
                    log.write(Level::Alert, 0, text.as_bytes());
                }
            },
            _ => {}
        }
        if now >= self.next_look {
            self.next_look = now + LOOK_PAUSE;
            if self.next.is_none() && self.handover.has_other_master() {
                return Some("another master process runs");
            }
        }
        (now >= self.until).then_some("no other master process came in time")
    }
}

/// A worker process without a master, as the next master sees it.
#[derive(Debug)]
pub(crate) struct Orphan {
    stream: UnixStream,
}

impl Orphan {
    /// Asks the worker process that a dead master has left for its sockets. There is none in a usual start.
    pub(crate) fn find(requirements: &Requirements, log: &ProcessLog) -> Option<(Orphan, Vec<Listening>)> {
        let pid_path = &requirements.pid_path;
        // The sockets of a running master are its own, and nothing would answer.
        if RunningMaster::named(pid_path).is_some_and(RunningMaster::has_title) {
            return None;
        }
        let path = handover_path(pid_path);
        let found = path.symlink_metadata().ok().filter(|found| found.file_type().is_socket())?;
        let ours = Uid::effective();
        if found.uid() != ours.as_raw() {
            return None;
        }
        // Refused: it was left by processes that are all gone.
        let stream = UnixStream::connect(&path).ok()?;
        match take_sockets(&stream, ours) {
            Ok(predecessor) => {
                let count: usize = predecessor.listening.iter().map(|one| one.sockets.len()).sum();
                log.write(
                    Level::Notice,
                    format_args!("using {count} sockets of a worker process whose master is gone"),
                );
                Some((Orphan { stream }, predecessor.listening))
            }
            Err(error) => {
                log.failed(
                    Level::Warn,
                    format_args!("taking sockets over from \"{}\"", path.display()),
                    &error,
                );
                None
            }
        }
    }

    /// Tells it to finish its requests and exit: another worker process serves.
    pub(crate) fn retire(self, log: &ProcessLog) {
        if let Err(error) = send_message(&self.stream, kind::QUIT, 0, b"", &[]) {
            log.failed(Level::Warn, "retiring the worker process whose master is gone", &error);
        }
    }
}

fn take_sockets(stream: &UnixStream, ours: Uid) -> io::Result<Predecessor> {
    // Of a listening socket these are those of the process that opened it: the dead master.
    if getsockopt(stream, sockopt::PeerCredentials)?.uid() != ours.as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let message = receive_message(stream)?.filter(|message| message.kind == kind::HANDOVER);
    let message = message.ok_or(io::ErrorKind::InvalidData)?;
    let mut predecessor = Predecessor::default();
    let files = String::from_utf8_lossy(&message.body);
    for (number, socket) in message.fds.into_iter().enumerate() {
        predecessor.adopt(socket, number as u64, &files)?;
    }
    Ok(predecessor)
}
