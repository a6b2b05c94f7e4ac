//! The log files of one generation on one thread: buffering of access logs, lines of error logs.

use engine::Config;
use engine::config::LogId;
use process::log::{ErrorLog, Level, LogFile, LogFiles, LogTarget};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a line of a log without `buffer=` may wait for others, so that one write takes them all: too short for a reader
/// to notice, long enough for hundreds of requests.
const GATHERING: Duration = Duration::from_millis(10);

/// As soon as this many bytes have gathered, they are written.
const GATHERED_BYTES: usize = 32 << 10;

/// The logs of a thread that have lines which wait to be written together.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    logs: RefCell<Vec<Rc<Log>>>,
    begun: Notify,
}

impl Gathering {
    fn add(&self, log: &Rc<Log>) {
        let mut logs = self.logs.borrow_mut();
        if logs.is_empty() {
            self.begun.notify_one();
        }
        logs.push(Rc::clone(log));
    }

    /// Writes what has gathered. Runs until the event loop ends.
    pub(crate) async fn keep_writing(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(GATHERING).await;
            self.logs.borrow_mut().drain(..).for_each(|log| log.flush());
        }
    }
}

/// One log.
#[derive(Debug)]
struct Log {
    file: Option<Arc<LogFile>>,
    /// Where write errors are logged.
    errors: ErrorLog,
    /// Lines not written yet.
    buffer: RefCell<Vec<u8>>,
    /// The size of `buffer=`; 0 without it.
    buffer_size: usize,
    flush_ms: Option<u64>,
    /// When the oldest line in the buffer came, on the monotonic clock.
    since_ms: Cell<u64>,
}

/// All logs of a generation, by [`LogId`].
#[derive(Debug)]
pub(crate) struct Logs {
    logs: Vec<Rc<Log>>,
    gathering: Rc<Gathering>,
    error_logs: Vec<ErrorLog>,
}

impl Logs {
    /// Looks the open files up.
    pub(crate) fn new(
        config: &Config,
        files: &LogFiles,
        command_line: &LogTarget,
        errors: &ErrorLog,
        gathering: &Rc<Gathering>,
    ) -> Logs {
        let logs = config.logs.iter().map(|log| {
            Rc::new(Log {
                file: files.get(&process_target(&log.target, command_line)),
                errors: errors.clone(),
                buffer: RefCell::default(),
                buffer_size: log.buffer.as_ref().map_or(0, |buffer| buffer.size as usize),
                flush_ms: log.buffer.as_ref().map(|buffer| buffer.flush_ms).filter(|ms| *ms > 0),
                since_ms: Cell::new(0),
            })
        });
        let error_logs = config
            .logs
            .iter()
            .map(|log| files.error_log(&[(process_target(&log.target, command_line), Level::Debug)]));
        Logs { logs: logs.collect(), gathering: Rc::clone(gathering), error_logs: error_logs.collect() }
    }

    /// Takes a finished line.
    pub(crate) fn write(&self, id: LogId, line: &[u8], now_ms: u64) {
        let log = &self.logs[id.0 as usize];
        if log.buffer_size == 0 {
            self.gather(log, line);
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

    fn gather(&self, log: &Rc<Log>, line: &[u8]) {
        let mut buffer = log.buffer.borrow_mut();
        if buffer.is_empty() {
            self.gathering.add(log);
        }
        buffer.extend_from_slice(line);
        if buffer.len() >= GATHERED_BYTES {
            log.send(&buffer);
            buffer.clear();
        }
    }

    /// Writes a line of an error log; the engine has checked the level.
    pub(crate) fn error(&self, id: LogId, level: Level, connection: u64, text: &[u8]) {
        self.error_logs[id.0 as usize].write(level, connection, text);
    }

    /// Writes out what is buffered, all of it.
    pub(crate) fn flush(&self) {
        self.logs.iter().for_each(|log| log.flush());
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
            file.append(lines, &self.errors);
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Returns the system's text for an error number.
pub(crate) fn errno_text(code: i32) -> &'static str {
    nix::errno::Errno::from_raw(code).desc()
}

/// Returns the destination as [`crate::process`] has it.
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
