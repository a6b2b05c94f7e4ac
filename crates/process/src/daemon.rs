//! Becoming a daemon.
//!
//! Owns the fork of `daemon on` and the exit code of the command that was typed: 0 once the server runs, 1 if it could
//! not start. Must be called before any thread is started.

use crate::log::Level;
use crate::process_log::{ProcessLog, Reported};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, dup2_stdin, dup2_stdout, fork, pipe2, setsid};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

/// The pipe on which the typed command waits for the start. Dropping it means failure.
#[derive(Debug)]
pub(crate) struct Handshake {
    started: OwnedFd,
}

impl Handshake {
    /// Reports that the server runs.
    pub(crate) fn started(self) {
        let _ = nix::unistd::write(&self.started, b"0");
    }
}

/// Continues in a child process without a terminal; the parent exits inside this call.
pub(crate) fn leave_terminal(log: &ProcessLog) -> Result<Handshake, Reported> {
    let emerg = |what: &str, error: nix::errno::Errno| log.failed(Level::Emerg, what, &error.into());
    let (wait, started) = pipe2(OFlag::O_CLOEXEC).map_err(|error| emerg("pipe()", error))?;
    // SAFETY: the process has a single thread (the module's rule), so the child may use every lock and allocate.
    #[allow(unsafe_code)]
    let forked = unsafe { fork() };
    match forked.map_err(|error| emerg("fork()", error))? {
        ForkResult::Parent { .. } => {
            drop(started);
            std::process::exit(await_start(&wait));
        }
        ForkResult::Child => {
            drop(wait);
            setsid().map_err(|error| emerg("setsid()", error))?;
            umask(Mode::empty());
            let null = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map_err(|error| log.failed(Level::Emerg, "open(\"/dev/null\")", &error))?;
            dup2_stdin(&null).map_err(|error| emerg("dup2(STDIN)", error))?;
            dup2_stdout(&null).map_err(|error| emerg("dup2(STDOUT)", error))?;
            Ok(Handshake { started })
        }
    }
}

/// Waits for the child and returns the exit code of the command.
fn await_start(wait: &OwnedFd) -> i32 {
    let mut word = [0; 1];
    loop {
        match nix::unistd::read(wait, &mut word) {
            Ok(1) => return 0,
            Err(nix::errno::Errno::EINTR) => {}
            Ok(_) | Err(_) => return 1,
        }
    }
}
