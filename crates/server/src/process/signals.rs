//! Signals as records in a pipe.
//!
//! Owns the handler and the one pipe it writes to. A handler is used and no blocked mask with `signalfd`, because a
//! mask would be inherited by what Lua starts with `os.execute`, and a child that cannot be terminated is a bad gift.
//! Must never do work inside the handler: it writes eight bytes and returns.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The signals that mean something to a master or a worker.
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

/// The write end of the pipe of this process; -1 before there is one.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// A signal that arrived, or a wake-up asked for by a thread of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// This signal, and who sent it (0 when the kernel did).
    Signal(Signal, i32),
    /// [`Waker::wake`] was called.
    Woken,
}

/// The read end: where signals of this process come out.
#[derive(Debug)]
pub(super) struct Signals {
    read: OwnedFd,
    write: Arc<OwnedFd>,
}

/// Wakes the thread that waits for orders, from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    write: Arc<OwnedFd>,
}

impl Waker {
    /// Makes [`super::Control::next`] answer [`super::Order::Woken`].
    pub fn wake(&self) {
        // A full pipe holds a wake-up already.
        let _ = nix::unistd::write(&self.write, &record(0, 0));
    }
}

impl Signals {
    /// Makes the pipe of this process and directs the handled signals into it. Called again after a fork, it leaves
    /// the parent's pipe alone.
    pub(super) fn install() -> io::Result<Signals> {
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

    /// A handle that wakes whoever waits on these signals.
    pub(super) fn waker(&self) -> Waker {
        Waker { write: Arc::clone(&self.write) }
    }

    /// The next record, or `None` when there is none now.
    pub(super) fn take(&self) -> Option<Arrived> {
        let mut bytes = [0; 8];
        loop {
            match nix::unistd::read(&self.read, &mut bytes) {
                // Writes of eight bytes to a pipe are whole, so reads are.
                Ok(8) => {
                    let [a, b, c, d, e, f, g, h] = bytes;
                    match i32::from_ne_bytes([a, b, c, d]) {
                        0 => return Some(Arrived::Woken),
                        number => {
                            if let Ok(signal) = Signal::try_from(number) {
                                return Some(Arrived::Signal(signal, i32::from_ne_bytes([e, f, g, h])));
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

/// Holds every handled signal back while alive: around a fork, so that the child never writes to its parent's pipe.
#[derive(Debug)]
pub(super) struct Blocked {
    before: SigSet,
}

impl Blocked {
    pub(super) fn new() -> io::Result<Blocked> {
        let mut before = SigSet::empty();
        let handled: SigSet = HANDLED.into_iter().collect();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&handled), Some(&mut before))?;
        Ok(Blocked { before })
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Setting a mask that the kernel itself gave cannot fail.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Lets every handled signal through, whatever mask the process was started with.
pub(super) fn unblock_all() -> io::Result<()> {
    let handled: SigSet = HANDLED.into_iter().collect();
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&handled), None)?;
    Ok(())
}

fn record(signal: i32, sender: i32) -> [u8; 8] {
    let [a, b, c, d] = signal.to_ne_bytes();
    let [e, f, g, h] = sender.to_ne_bytes();
    [a, b, c, d, e, f, g, h]
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to a handler installed with SA_SIGINFO, and for signals sent by a
    // process (and for SIGCHLD) the field read is its sender. errno belongs to this thread; it is put back because
    // the interrupted code may be about to read it. The descriptor is the pipe's or -1, and write touches only the
    // eight bytes on this stack.
    #[allow(unsafe_code)]
    unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        let sent_by_kernel = (*info).si_code > 0 && signal != libc::SIGCHLD;
        let sender = if sent_by_kernel { 0 } else { (*info).si_pid() };
        let bytes = record(signal, sender);
        libc::write(PIPE.load(Ordering::Acquire), bytes.as_ptr().cast(), bytes.len());
        *errno = kept;
    }
}
