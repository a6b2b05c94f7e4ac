//! A process that a test starts, with all of its descendants; and the threads of a test.
//!
//! Owns their end: none of them outlives the test, and no wait is unbounded. It must never signal a process by a number
//! that came from outside.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::proc;

/// The interval of polling for the end of a process.
const GLANCE: Duration = Duration::from_millis(3);

/// The time for a process to end before it is killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// A process at the head of a process group of its own, so that those it starts are found though it has ended.
#[derive(Debug)]
pub struct ProcessGroup {
    /// Only [`ProcessGroup::end`] reaps it: until then no other process can have its number.
    child: Child,
    ended: Option<ExitStatus>,
}

impl ProcessGroup {
    /// Starts a program.
    ///
    /// # Errors
    /// Those of starting it.
    pub fn start(command: &mut Command) -> io::Result<ProcessGroup> {
        Ok(ProcessGroup { child: command.process_group(0).spawn()?, ended: None })
    }

    /// Returns the id of the first process, and of the group.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Returns the first process, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal to the first process alone.
    ///
    /// # Errors
    /// It has ended, or belongs to another user.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    /// Returns the exit code of the first process, 128 and the number of the signal that ended it; `None` while it runs.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        if let Some(status) = self.ended {
            return Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
        }
        let looked =
            waitid(Id::Pid(self.pid()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
        match looked {
            Ok(WaitStatus::Exited(_, code)) => Some(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
            _ => None,
        }
    }

    /// Ends all of them: the first one with SIGTERM, then all that are left with SIGKILL.
    ///
    /// # Errors
    /// The exit status is not available.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        if self.code().is_none() {
            let _ = self.signal(Signal::SIGTERM);
            let _ = self.wait(FAREWELL);
        }
        // The processes that are left; normally none.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let status = self.child.wait()?;
        self.ended = Some(status);
        // A killed process ends a moment later.
        let deadline = Instant::now() + FAREWELL;
        while killpg(self.pid(), None).is_ok() && is_any_alive(self.pid()) && Instant::now() < deadline {
            std::thread::sleep(GLANCE);
        }
        Ok(status)
    }

    /// Waits for the end of the first process, at most so long.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> Option<i32> {
        let deadline = Instant::now() + patience;
        loop {
            let code = self.code();
            if code.is_some() || Instant::now() >= deadline {
                return code;
            }
            std::thread::sleep(GLANCE);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // The system's own end of a child cannot fail.
        let _ = self.end();
    }
}

/// Sets a flag that stops the threads of a test when it is dropped, so that joining them ends after a failure too.
#[derive(Debug)]
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Returns true if a process group has a process that runs, or whose threads still hold its sockets.
fn is_any_alive(group: Pid) -> bool {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| proc::group(*pid) == Some(group.as_raw())).any(proc::is_running)
}

/// Runs a program to its end and returns its output.
///
/// # Errors
/// Those of starting it; [`io::ErrorKind::TimedOut`] if it has not ended after `patience` and was killed.
pub fn output_of(command: &mut Command, patience: Duration) -> io::Result<Output> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = ProcessGroup::start(command)?;
    let (out, err) = (group.child.stdout.take(), group.child.stderr.take());
    let (out, err) = (std::thread::spawn(move || all_of(out)), std::thread::spawn(move || all_of(err)));
    let in_time = group.wait(patience).is_some();
    // After that no process holds the pipes.
    let status = group.end()?;
    let said = |thread: std::thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    let output = Output { status, stdout: said(out), stderr: said(err) };
    if in_time {
        return Ok(output);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{command:?} does not end: {output:?}")))
}

fn all_of(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_exit_code_are_returned() {
        let output = output_of(&mut shell("echo out; echo err >&2; exit 3"), LONG).unwrap();
        assert_eq!(
            (output.status.code(), &*output.stdout, &*output.stderr),
            (Some(3), &b"out\n"[..], &b"err\n"[..])
        );
        let killed = ProcessGroup::start(&mut shell("kill -ABRT $$")).unwrap();
        assert_eq!(killed.wait(LONG), Some(134));
        assert_eq!(killed.code(), Some(134));
    }

    #[test]
    fn a_process_that_does_not_end_is_killed_with_its_children() {
        // The grandchild holds the pipe and ignores SIGTERM.
        let error =
            output_of(&mut shell("(trap '' TERM; exec sleep 1000) & wait"), Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut group =
            ProcessGroup::start(shell("sleep 1000 & echo $!; exec sleep 1000").stdout(Stdio::piped()))
                .unwrap();
        let mut text = [0; 16];
        let length = group.child().stdout.as_mut().unwrap().read(&mut text).unwrap();
        let grandchild = std::str::from_utf8(&text[..length]).unwrap().trim().to_owned();
        drop(group);
        let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
}
