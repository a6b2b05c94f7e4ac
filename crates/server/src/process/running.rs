//! A master process that runs, as whoever tells it something from outside sees it.
//!
//! Owns what can be known of one by its pid file and the system's own tables. Must never act by itself.

use super::upgrade::{choice_path, old_pid_path};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A master process, which may end at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pid: Pid,
}

/// What it can be told (<https://nginx.org/en/docs/control.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// USR2: start the program anew beside itself.
    ChangeBinary,
    /// WINCH: let the workers finish, and go on without any.
    Rest,
    /// HUP: start workers again.
    Wake,
    /// QUIT: finish what has begun, then end.
    Quit,
    /// TERM: end at once.
    Stop,
}

impl Running {
    /// The one that a pid file names; `None` if there is no such file or process.
    pub fn named(pid_path: &Path) -> Option<Running> {
        let text = std::fs::read_to_string(pid_path).ok()?;
        let number = text.trim_end().parse::<i32>().ok().filter(|number| *number > 0)?;
        let running = Running { pid: Pid::from_raw(number) };
        running.lives().then_some(running)
    }

    /// The older one of two, during an upgrade.
    pub fn older(pid_path: &Path) -> Option<Running> {
        Running::named(&old_pid_path(pid_path))
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Whether it runs. One whose end nobody has taken in yet does not.
    pub fn lives(self) -> bool {
        // proc_pid_stat(5): the name may hold anything; after it comes the state.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// Tells it something.
    ///
    /// # Errors
    /// It has ended, or is another user's.
    pub fn tell(self, step: Step) -> io::Result<()> {
        let signal = match step {
            Step::ChangeBinary => Signal::SIGUSR2,
            Step::Rest => Signal::SIGWINCH,
            Step::Wake => Signal::SIGHUP,
            Step::Quit => Signal::SIGQUIT,
            Step::Stop => Signal::SIGTERM,
        };
        Ok(kill(self.pid, signal)?)
    }

    /// The program as it was called: what an upgrade starts. A name with a slash is below the folder it was started in.
    ///
    /// # Errors
    /// The system does not tell.
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

/// The first word of the command line that the master's title repeats.
fn called(title: &[u8]) -> Option<&[u8]> {
    let rest = title.strip_prefix(b"pointsman: master process ")?;
    rest.split(|byte| *byte == b' ' || *byte == 0).next().filter(|name| !name.is_empty())
}

/// Names another program for the next upgrade of the master with this pid file.
///
/// # Errors
/// The file beside the pid file cannot be written.
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
    fn the_title_tells_the_program() {
        assert_eq!(called(b"pointsman: master process ./x -p /y\0"), Some(&b"./x"[..]));
        assert_eq!(called(b"pointsman: master process pointsman\0\0"), Some(&b"pointsman"[..]));
        assert_eq!(called(b"/usr/bin/pointsman\0-p\0"), None);
    }

    #[test]
    fn only_what_runs_is_running() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        assert_eq!(Running::named(&path), None);
        std::fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(Running::named(&path).unwrap().pid(), std::process::id());
        for text in ["0", "-1", "x", "2147483647"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Running::named(&path), None, "{text}");
        }
    }
}
