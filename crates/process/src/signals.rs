//! Signals as records in a pipe.
//!
//! Owns the handler and the pipe that it writes to. A handler is used instead of a blocked mask with `signalfd`, because
//! programs that Lua starts with `os.execute` would inherit the mask and could not be terminated.
//! Must never do work inside the handler: it writes a few bytes and returns.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The signals that a master or a worker handles.
const HANDLED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTERM,
    Signal::SIGCHLD,
    Signal::SIGWINCH,
];

/// The write end of the pipe of this process; -1 before it is created.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// A signal that has arrived, or a wake-up by a thread of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalEvent {
    /// A signal.
    Signal {
        /// Which one.
        signal: Signal,
        /// The process that sent it (0 for the kernel).
        sender: i32,
        /// The number that was sent with it by sigqueue(3); 0 if there is none.
        value: u32,
    },
    /// A call of [`Waker::wake`].
    Woken,
}

/// The read end of the pipe.
#[derive(Debug)]
pub(crate) struct Signals {
    read: OwnedFd,
    write: Arc<OwnedFd>,
}

/// Wakes the thread that waits for commands, from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    write: Arc<OwnedFd>,
}

impl Waker {
    /// Makes [`crate::MasterLink::next`] return [`crate::WorkerCommand::Woken`].
    pub fn wake(&self) {
        // A full pipe contains a wake-up already.
        let _ = nix::unistd::write(&self.write, &record(0, 0, 0));
    }
}

impl Signals {
    /// Creates the pipe of this process and installs the handler. After a fork it must be called again; the pipe of the
    /// parent stays the parent's.
    pub(crate) fn install() -> io::Result<Signals> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        PIPE.store(write.as_raw_fd(), Ordering::Release);
        let action = SigAction::new(
            SigHandler::SigAction(on_signal),
            SaFlags::SA_RESTART | SaFlags::SA_SIGINFO,
            SigSet::empty(),
        );
        for signal in HANDLED {
            // SAFETY: on_signal only calls async-signal-safe functions (write, and the thread's errno) and reads an
            // atomic, so it may run at any point of any thread.
            #[allow(unsafe_code)]
            unsafe {
                sigaction(signal, &action)?;
            }
        }
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        for signal in [Signal::SIGPIPE, Signal::SIGSYS] {
            // SAFETY: ignoring a signal runs no code of ours.
            #[allow(unsafe_code)]
            unsafe {
                sigaction(signal, &ignore)?;
            }
        }
        Ok(Signals { read, write: Arc::new(write) })
    }

    /// Returns a handle that wakes the thread that waits for these signals.
    pub(crate) fn waker(&self) -> Waker {
        Waker { write: Arc::clone(&self.write) }
    }

    /// Returns the next record; `None` if there is none now.
    pub(crate) fn take(&self) -> Option<SignalEvent> {
        let mut bytes = [0; RECORD];
        loop {
            match nix::unistd::read(&self.read, &mut bytes) {
                // Writes of a few bytes to a pipe are whole, so reads are.
                Ok(RECORD) => {
                    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
                    let sender = i32::from_ne_bytes([e, f, g, h]);
                    let value = u32::from_ne_bytes([i, j, k, l]);
                    match i32::from_ne_bytes([a, b, c, d]) {
                        0 => return Some(SignalEvent::Woken),
                        number => {
                            if let Ok(signal) = Signal::try_from(number) {
                                return Some(SignalEvent::Signal { signal, sender, value });
                            }
                        }
                    }
                }
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

/// Blocks every handled signal while alive: around a fork, so that the child never writes to its parent's pipe.
#[derive(Debug)]
pub(crate) struct SignalsBlocked {
    before: SigSet,
}

impl SignalsBlocked {
    pub(crate) fn new() -> io::Result<SignalsBlocked> {
        let mut before = SigSet::empty();
        let handled: SigSet = HANDLED.into_iter().collect();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&handled), Some(&mut before))?;
        Ok(SignalsBlocked { before })
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // Setting a mask that the kernel itself gave cannot fail.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Unblocks every handled signal, whatever mask the process was started with.
pub(crate) fn unblock_all() -> io::Result<()> {
    let handled: SigSet = HANDLED.into_iter().collect();
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&handled), None)?;
    Ok(())
}

/// Sends a signal with a number to a process.
pub(crate) fn queue(pid: Pid, signal: Signal, value: u32) -> io::Result<()> {
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value as usize) };
    // SAFETY: sigqueue takes numbers; the pointer is one too, and nothing is ever read through it.
    #[allow(unsafe_code)]
    let result = unsafe { libc::sigqueue(pid.as_raw(), signal as libc::c_int, value) };
    Ok(Errno::result(result).map(drop)?)
}

/// Bytes of a record in the pipe.
const RECORD: usize = 12;

fn record(signal: i32, sender: i32, value: u32) -> [u8; RECORD] {
    let [a, b, c, d] = signal.to_ne_bytes();
    let [e, f, g, h] = sender.to_ne_bytes();
    let [i, j, k, l] = value.to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to a handler installed with SA_SIGINFO, and for signals sent by a
    // process (and for SIGCHLD) the field read is its sender; for those sent by sigqueue it holds a value too. errno
    // belongs to this thread; it is put back because the interrupted code may be about to read it. The descriptor is
    // the pipe's or -1, and write touches only the bytes on this stack.
    #[allow(unsafe_code)]
    unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        let sent_by_kernel = (*info).si_code > 0 && signal != libc::SIGCHLD;
        let sender = if sent_by_kernel { 0 } else { (*info).si_pid() };
        let value =
            if (*info).si_code == libc::SI_QUEUE { (*info).si_value().sival_ptr.addr() as u32 } else { 0 };
        let bytes = record(signal, sender, value);
        libc::write(PIPE.load(Ordering::Acquire), bytes.as_ptr().cast(), bytes.len());
        *errno = kept;
    }
}
