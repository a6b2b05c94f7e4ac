//! The log files of one generation on one thread: buffering of access logs, lines of error logs.

use crate::process::log::{ErrorLog, Level, LogFile, LogFiles, LogTarget};
use engine::Config;
use engine::config::LogId;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// One log.
#[derive(Debug)]
struct Log {
    file: Option<Arc<LogFile>>,
    /// Lines not written yet (`buffer=`).
    buffer: RefCell<Vec<u8>>,
    buffer_size: usize,
    flush_ms: Option<u64>,
    /// When the oldest line in the buffer came, on the monotonic clock.
    since_ms: Cell<u64>,
}

/// All logs of a generation, by [`LogId`].
#[derive(Debug)]
pub(crate) struct Logs {
    logs: Vec<Log>,
    error_logs: Vec<ErrorLog>,
}

impl Logs {
    /// Looks the open files up.
    pub(crate) fn new(config: &Config, files: &LogFiles, command_line: &LogTarget) -> Logs {
        let logs = config.logs.iter().map(|log| Log {
            file: files.get(&process_target(&log.target, command_line)),
            buffer: RefCell::default(),
            buffer_size: log.buffer.as_ref().map_or(0, |buffer| buffer.size as usize),
            flush_ms: log.buffer.as_ref().map(|buffer| buffer.flush_ms).filter(|ms| *ms > 0),
            since_ms: Cell::new(0),
        });
        let error_logs = config
            .logs
            .iter()
            .map(|log| files.error_log(&[(process_target(&log.target, command_line), Level::Debug)]));
        Logs { logs: logs.collect(), error_logs: error_logs.collect() }
    }

    /// Takes a finished line.
    pub(crate) fn write(&self, id: LogId, line: &[u8], now_ms: u64) {
        let log = &self.logs[id.0 as usize];
        if log.buffer_size == 0 {
            log.send(line);
            return;
        }
        let full = log.buffer.borrow().len() + line.len() > log.buffer_size;
        if full {
            log.flush();
        }
        if line.len() > log.buffer_size {
            log.send(line);
            return;
        }
        let mut buffer = log.buffer.borrow_mut();
        if buffer.is_empty() {
            log.since_ms.set(now_ms);
        }
        buffer.extend_from_slice(line);
    }

    /// Writes a line of an error log; the file's own level was asked by the engine.
    pub(crate) fn error(&self, id: LogId, level: Level, connection: u64, text: &[u8]) {
        self.error_logs[id.0 as usize].write(level, connection, text);
    }

    /// Writes out what is buffered, all of it.
    pub(crate) fn flush(&self) {
        self.logs.iter().for_each(Log::flush);
    }

    /// Writes out what has been buffered for as long as `flush=` allows.
    pub(crate) fn flush_due(&self, now_ms: u64) {
        for log in &self.logs {
            if log.flush_ms.is_some_and(|ms| now_ms.saturating_sub(log.since_ms.get()) >= ms) {
                log.flush();
            }
        }
    }
}

impl Log {
    fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            self.send(&buffer);
            buffer.clear();
        }
    }

    /// A line that cannot be written is lost, as in nginx: a full disk must not stop the traffic.
    fn send(&self, lines: &[u8]) {
        if let Some(file) = &self.file {
            let _ = file.write(lines);
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The same destination in the words of [`crate::process`].
pub(crate) fn process_target(
    target: &engine::modules::log::LogTarget,
    command_line: &LogTarget,
) -> LogTarget {
    use engine::modules::log::LogTarget as Written;
    match target {
        Written::File(path) => LogTarget::File(path.clone()),
        Written::Stderr => LogTarget::Stderr,
        Written::CommandLine => command_line.clone(),
    }
}
