//! The log of the process itself: start, stop, errors in a configuration, dead workers.
//!
//! Owns where such a line goes: to the main error log, and until the program has started also to standard error, as
//! `pointsman: [emerg] …`. Must never be used for what happens to a request.

use crate::log::{ErrorLog, Level, LogFile, LogFiles, LogTarget, reason};
use std::fmt::{Arguments, Display};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name in front of every line on standard error.
pub const PROGRAM: &str = "pointsman";

/// The error of a step whose failure has been logged already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported;

/// The log of this process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessLog {
    log: ErrorLog,
    /// Until the program has started, warnings and worse go to standard error too.
    on_stderr: bool,
    /// Warnings and worse since a capture was started, for the caller who asked for a reload.
    captured: Arc<Mutex<Option<Vec<String>>>>,
}

impl ProcessLog {
    /// Opens the log that is used before there is a configuration (`-e`). If it cannot be opened, lines go to standard
    /// error alone.
    pub(crate) fn first(target: &LogTarget, level: Level) -> ProcessLog {
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
        ProcessLog { log: ErrorLog::new(sinks), on_stderr: true, captured: Arc::default() }
    }

    /// Switches to the error logs of a configuration.
    pub(crate) fn move_to(&mut self, logs: &LogFiles, targets: &[(LogTarget, Level)]) {
        self.log = logs.error_log(targets);
        if !self.on_stderr {
            self.leave_stderr(logs);
        }
    }

    /// Returns the error log alone, without standard error.
    pub(crate) fn error_log(&self) -> &ErrorLog {
        &self.log
    }

    /// Stops writing to standard error, once the program has started. What others write there (a panic's message) goes to
    /// the error log.
    pub(crate) fn leave_stderr(&mut self, logs: &LogFiles) {
        self.on_stderr = false;
        if let Err(error) = logs.redirect_stderr(&self.log) {
            self.failed(Level::Alert, "dup2(STDERR)", &error);
        }
    }

    /// Returns a log that writes nowhere.
    #[cfg(test)]
    pub(crate) fn silent() -> ProcessLog {
        ProcessLog { log: ErrorLog::new(Vec::new()), on_stderr: false, captured: Arc::default() }
    }

    /// Starts to capture warnings and worse.
    pub(crate) fn start_capture(&self) {
        *self.captured() = Some(Vec::new());
    }

    /// Returns what was captured, and stops capturing.
    pub(crate) fn take_captured(&self) -> Vec<String> {
        self.captured().take().unwrap_or_default()
    }

    fn captured(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line.
    pub(crate) fn write(&self, level: Level, text: Arguments<'_>) {
        if self.log.takes(level) {
            self.log.write(level, 0, text.to_string().as_bytes());
        }
        if level <= Level::Warn
            && let Some(lines) = &mut *self.captured()
        {
            lines.push(format!("[{}] {text}", level.name()));
        }
        if self.on_stderr && level <= Level::Warn {
            to_stderr(format_args!("[{}] {text}", level.name()));
        }
    }

    /// Writes a line that ends with the error of a system call, and returns [`Reported`].
    pub(crate) fn failed(&self, level: Level, what: impl Display, error: &io::Error) -> Reported {
        self.write(level, format_args!("{what} failed {}", reason(error)));
        Reported
    }

    /// Writes that a generation has ended, in the words that tools wait for after a reload: with nginx a worker process
    /// exits then.
    pub(crate) fn generation_gone(&self, generation: u64, pid: u32) {
        self.write(
            Level::Notice,
            format_args!("generation {generation} of worker process {pid} exited with code 0"),
        );
    }
}

/// Writes a line to standard error alone, as nginx does for what concerns only the user at the terminal.
pub(crate) fn to_stderr(text: Arguments<'_>) {
    let line = format!("{PROGRAM}: {text}\n");
    // Standard error may be closed.
    let _ = io::stderr().write_all(line.as_bytes());
}
