//! Leaving the terminal.
//!
//! Owns the fork of `daemon on` and the answer to whoever typed the command: it ends with 0 only once the server
//! runs, with 1 if it could not start. Must be called before any thread is started.

use super::journal::{Journal, Said};
use super::log::Level;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, dup2_stdin, dup2_stdout, fork, pipe2, setsid};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

/// The process that was started waits at the other end. Dropped without a word, it means failure.
#[derive(Debug)]
pub(super) struct Handshake {
    started: OwnedFd,
}

impl Handshake {
    /// The server runs.
    pub(super) fn started(self) {
        let _ = nix::unistd::write(&self.started, b"0");
    }
}

/// Goes on in a child process without a terminal; the parent ends inside this call.
pub(super) fn leave_terminal(journal: &Journal) -> Result<Handshake, Said> {
    let emerg = |what: &str, error: nix::errno::Errno| journal.failed(Level::Emerg, what, &error.into());
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
                .map_err(|error| journal.failed(Level::Emerg, "open(\"/dev/null\")", &error))?;
            dup2_stdin(&null).map_err(|error| emerg("dup2(STDIN)", error))?;
            dup2_stdout(&null).map_err(|error| emerg("dup2(STDOUT)", error))?;
            Ok(Handshake { started })
        }
    }
}

/// The exit code of the command: 0 when the child said that it started.
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
