//! A running master process, as other processes see it.
//!
//! Owns what its pid file and `/proc` tell of it, and the signals of an upgrade. Must never act by itself.

use crate::process_log::PROGRAM;
use crate::process_tree::{ProcessStat, ProcessTree};
use crate::signals;
use crate::upgrade::{choice_path, old_pid_path};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A master process, which may end at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningMaster {
    pid: Pid,
}

/// A step of a binary upgrade (<https://nginx.org/en/docs/control.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeStep {
    /// USR2: start the program again beside the running one, and end it if it is no running master within this time.
    ChangeBinary(Duration),
    /// WINCH: let the workers finish, and run without any.
    StopWorkers,
    /// HUP: start workers again.
    StartWorkers,
    /// QUIT: finish open requests, then end.
    Quit,
    /// TERM: end at once.
    Stop,
}

impl RunningMaster {
    /// Returns the master that a pid file names; `None` if there is no such file or process.
    pub fn named(pid_path: &Path) -> Option<RunningMaster> {
        // Reading a FIFO would block.
        pid_path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let text = std::fs::read_to_string(pid_path).ok()?;
        let number = text.trim_end().parse::<i32>().ok().filter(|number| *number > 0)?;
        let running = RunningMaster { pid: Pid::from_raw(number) };
        running.is_alive().then_some(running)
    }

    /// Returns the older master of an upgrade in progress.
    pub fn older(pid_path: &Path) -> Option<RunningMaster> {
        RunningMaster::named(&old_pid_path(pid_path))
    }

    /// Returns its process number.
    pub fn pid(self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Returns true while it runs. A zombie does not.
    pub fn is_alive(self) -> bool {
        ProcessStat::of(self.pid).is_some_and(|stat| stat.runs())
    }

    /// Returns true if the process shows the title of a master, which it sets when it has written its pid file. Another
    /// process may have the number of a dead master.
    pub(crate) fn has_title(self) -> bool {
        std::fs::read(format!("/proc/{}/cmdline", self.pid)).is_ok_and(|line| after_title(&line).is_some())
    }

    /// Names a master by its process number.
    pub(crate) fn numbered(pid: Pid) -> RunningMaster {
        RunningMaster { pid }
    }

    /// Returns its processes.
    pub fn tree(self) -> ProcessTree {
        ProcessTree::of(self.pid())
    }

    /// Sends the signal of a step.
    ///
    /// # Errors
    /// Fails if it has ended or belongs to another user.
    pub fn signal(self, step: UpgradeStep) -> io::Result<()> {
        let signal = match step {
            UpgradeStep::ChangeBinary(limit) => {
                let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
                return signals::queue(self.pid, Signal::SIGUSR2, limit_ms.max(1));
            }
            UpgradeStep::StopWorkers => Signal::SIGWINCH,
            UpgradeStep::StartWorkers => Signal::SIGHUP,
            UpgradeStep::Quit => Signal::SIGQUIT,
            UpgradeStep::Stop => Signal::SIGTERM,
        };
        Ok(kill(self.pid, signal)?)
    }

    /// Returns the program as it was called, which is what an upgrade starts. A name with a slash is resolved against its
    /// working directory.
    ///
    /// # Errors
    /// Fails if `/proc` cannot be read.
    pub fn program(self) -> io::Result<PathBuf> {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid))?;
        let called = called(&line).map(|name| std::ffi::OsString::from_vec(name.to_vec()));
        match called {
            Some(name) if name.as_bytes().contains(&b'/') => {
                Ok(std::fs::read_link(format!("/proc/{}/cwd", self.pid))?.join(name))
            }
            Some(name) => Ok(name.into()),
            None => std::fs::read_link(format!("/proc/{}/exe", self.pid)),
        }
    }
}

fn after_title(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(PROGRAM.as_bytes())?.strip_prefix(b": master process")
}

/// Returns the first word of the command line that the master's title repeats.
fn called(title: &[u8]) -> Option<&[u8]> {
    let rest = after_title(title)?.strip_prefix(b" ")?;
    rest.split(|byte| *byte == b' ' || *byte == 0).next().filter(|name| !name.is_empty())
}

/// Chooses another program for the next upgrade of the master with this pid file.
///
/// # Errors
/// Fails if the file beside the pid file cannot be written.
pub fn choose_program(pid_path: &Path, program: &Path) -> io::Result<()> {
    let path = choice_path(pid_path);
    let _ = std::fs::remove_file(&path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(program.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_read_from_the_title() {
        assert_eq!(called(b"pointsman: master process ./x -p /y\0"), Some(&b"./x"[..]));
        assert_eq!(called(b"pointsman: master process pointsman\0\0"), Some(&b"pointsman"[..]));
        assert_eq!(called(b"/usr/bin/pointsman\0-p\0"), None);
    }

    #[test]
    fn a_pid_file_without_a_process_names_no_master() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        assert_eq!(RunningMaster::named(&path), None);
        std::fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(RunningMaster::named(&path).unwrap().pid(), std::process::id());
        for text in ["0", "-1", "x", "2147483647"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(RunningMaster::named(&path), None, "{text}");
        }
    }
}
