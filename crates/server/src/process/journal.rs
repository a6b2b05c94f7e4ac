//! What the process itself has to say: start, stop, faults in a configuration, dead workers.
//!
//! Owns the way such a line takes: to the main error log, and while the program has not started yet also to standard
//! error, as `pointsman: [emerg] …`. Must never be used for what happens to a request.

use super::log::{ErrorLog, Level, LogFile, LogFiles, LogTarget};
use std::fmt::{Arguments, Display};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name in front of every line on standard error.
pub const PROGRAM: &str = "pointsman";

/// The failure was already said in the journal; nothing is left to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said;

/// The process's own log.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    log: ErrorLog,
    /// Standard error takes warnings and worse too, until the program has started.
    on_stderr: bool,
    /// Warnings and worse that somebody else has asked for, as long as he listens.
    listener: Listener,
}

/// Lines for somebody who has asked for a reload.
type Listener = Arc<Mutex<Option<Vec<String>>>>;

impl Journal {
    /// The journal before there is a configuration: the `-e` log. If that cannot be opened, standard error alone.
    pub(super) fn first(target: &LogTarget, level: Level) -> Journal {
        let mut sinks = Vec::new();
        if let LogTarget::File(path) = target {
            match LogFile::open(path) {
                Ok(file) => sinks.push((Arc::new(file), level)),
                Err(error) => to_stderr(format_args!(
                    "[alert] could not open error log file: open() \"{}\" failed {}",
                    path.display(),
                    reason(&error)
                )),
            }
        }
        Journal { log: ErrorLog::new(sinks), on_stderr: true, listener: Listener::default() }
    }

    /// Goes on in the configuration's own error logs.
    pub(super) fn move_to(&mut self, logs: &LogFiles, targets: &[(LogTarget, Level)]) {
        self.log = logs.error_log(targets);
        if !self.on_stderr {
            self.leave_stderr(logs);
        }
    }

    /// The log alone, for those who write many lines.
    pub(super) fn error_log(&self) -> &ErrorLog {
        &self.log
    }

    /// The program has started: standard error takes no line of this journal any more. Whatever else is written there
    /// (a panic's last words) goes to the error log.
    pub(super) fn leave_stderr(&mut self, logs: &LogFiles) {
        self.on_stderr = false;
        if let Err(error) = logs.redirect_stderr(&self.log) {
            self.failed(Level::Alert, "dup2(STDERR)", &error);
        }
    }

    /// A journal for tests: it writes nowhere.
    #[cfg(test)]
    pub(super) fn silent() -> Journal {
        Journal { log: ErrorLog::new(Vec::new()), on_stderr: false, listener: Listener::default() }
    }

    /// Warnings and worse are gathered from now on.
    pub(super) fn listen(&self) {
        *self.listened() = Some(Vec::new());
    }

    /// What was gathered since; nothing more is.
    pub(super) fn heard(&self) -> Vec<String> {
        self.listened().take().unwrap_or_default()
    }

    fn listened(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line.
    pub(super) fn say(&self, level: Level, text: Arguments<'_>) {
        if self.log.takes(level) {
            self.log.write(level, 0, text.to_string().as_bytes());
        }
        if level <= Level::Warn
            && let Some(lines) = &mut *self.listened()
        {
            lines.push(format!("[{}] {text}", level.name()));
        }
        if self.on_stderr && level <= Level::Warn {
            to_stderr(format_args!("[{}] {text}", level.name()));
        }
    }

    /// Writes a line that ends with a system call's error, and answers [`Said`].
    pub(super) fn failed(&self, level: Level, what: impl Display, error: &io::Error) -> Said {
        self.say(level, format_args!("{what} failed {}", reason(error)));
        Said
    }
}

/// Writes a line to standard error alone, as nginx does for what concerns only the one who typed the command.
pub(super) fn to_stderr(text: Arguments<'_>) {
    let line = format!("{PROGRAM}: {text}\n");
    // Standard error may be closed; then there is nobody to tell.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// `(98: Address already in use)`: an error as nginx ends a line with it.
pub(super) fn reason(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else { return format!("({error})") };
    let text = io::Error::from_raw_os_error(number).to_string();
    let words = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
    format!("({number}: {words})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_worded_like_nginx() {
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::EADDRINUSE)), "(98: Address already in use)");
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::ENOENT)), "(2: No such file or directory)");
        assert_eq!(reason(&io::Error::other("odd")), "(odd)");
    }
}
