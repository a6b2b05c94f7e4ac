//! Error log lines, and the files that log lines of every kind are appended to.
//!
//! Owns the line format of nginx's error log (`YYYY/MM/DD hh:mm:ss [level] pid#tid: *connection text`), the open log
//! files of this process, and their replacement when files are reopened. A line is one `write(2)` to a descriptor
//! opened with `O_APPEND`, so that lines of several threads and processes never mix.
//! Must never decide *what* is logged, buffer a line, or allocate while writing one.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of the longest error log line, its newline included (nginx: `NGX_MAX_ERROR_STR`).
pub const MAX_LINE: usize = 2048;

pub use engine::host::Level;

/// A destination of log lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogTarget {
    /// The file at this absolute path.
    File(PathBuf),
    /// Standard error (`error_log stderr`).
    Stderr,
}

/// One open log file.
///
/// The number of its descriptor never changes: reopening puts the new file under the old number, so that a thread that
/// writes meanwhile needs no lock and cannot hit a foreign descriptor.
#[derive(Debug)]
pub struct LogFile {
    fd: OwnedFd,
    path: PathBuf,
    loss: Mutex<Loss>,
}

/// The lines that could not be written since the last one that could.
#[derive(Debug, Default)]
struct Loss {
    lines: u64,
    /// The last line that was written is incomplete.
    cut: bool,
    /// When the loss was logged last.
    logged: Option<Instant>,
}

/// Lines that no log file of this process has taken.
static LOST_LINES: AtomicU64 = AtomicU64::new(0);

/// Returns the number of lines that the access logs of this process have lost since it started, because a disk or a pipe
/// was full.
pub fn lost_lines() -> u64 {
    LOST_LINES.load(Ordering::Relaxed)
}

/// Time between two log lines about a file that cannot be written (as nginx).
const LOG_AGAIN: Duration = Duration::from_secs(60);

impl LogFile {
    fn new(fd: OwnedFd, path: &Path) -> LogFile {
        LogFile { fd, path: path.to_owned(), loss: Mutex::default() }
    }

    /// Opens a file for appending; a missing one is created with mode 0644, as nginx does.
    ///
    /// # Errors
    /// Fails if the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        Ok(LogFile::new(open_append(path)?, path))
    }

    /// Duplicates standard error.
    ///
    /// # Errors
    /// Fails if the process has no descriptors left.
    pub fn stderr() -> io::Result<LogFile> {
        Ok(LogFile::new(io::stderr().as_fd().try_clone_to_owned()?, Path::new("stderr")))
    }

    /// Appends whole lines. Those that cannot be written are lost, since a full disk must not stop the traffic; `errors`
    /// gets a line when that begins, once a minute while it lasts, and at the end with the number of lost lines.
    pub fn append(&self, lines: &[u8], errors: &ErrorLog) {
        let mut loss = locked(&self.loss);
        let result = match loss.cut {
            // The first line must not continue the incomplete one.
            true => self.write(&[b"\n", lines].concat()).map(|written| written.saturating_sub(1)),
            false => self.write(lines),
        };
        let written = *result.as_ref().unwrap_or(&0);
        let name = self.path.display();
        if written == lines.len() {
            if loss.lines > 0 {
                let text = format!("\"{name}\" is written again, {} lines were lost", loss.lines);
                errors.write(Level::Alert, 0, text.as_bytes());
                *loss = Loss::default();
            }
            return;
        }
        let lost = &lines[written..];
        loss.cut = if written > 0 { lines[written - 1] != b'\n' } else { loss.cut };
        let count = lost.iter().filter(|byte| **byte == b'\n').count() as u64;
        loss.lines += count;
        LOST_LINES.fetch_add(count, Ordering::Relaxed);
        if loss.logged.is_none_or(|logged| logged.elapsed() >= LOG_AGAIN) {
            loss.logged = Some(Instant::now());
            let text = match result {
                Ok(_) => format!("write() to \"{name}\" was incomplete: {written} of {}", lines.len()),
                Err(error) => format!("write() to \"{name}\" failed {}", reason(&error)),
            };
            errors.write(Level::Alert, 0, text.as_bytes());
        }
    }

    /// Appends these bytes, one or several whole lines, in one call.
    ///
    /// # Errors
    /// Fails as write(2) does.
    pub fn write(&self, lines: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(&self.fd, lines)?)
    }

    /// Puts another open file under the number of this descriptor.
    fn replace(&self, newer: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: dup3 takes two descriptor numbers and touches no memory. Both are open for the length of the call
        // (one is borrowed, the other owned by self), and self still owns its number afterwards.
        #[allow(unsafe_code)]
        let result = unsafe { libc::dup3(newer.as_raw_fd(), self.fd.as_raw_fd(), libc::O_CLOEXEC) };
        Errno::result(result)?;
        Ok(())
    }
}

impl AsFd for LogFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a log file for appending. A FIFO must have a reader, who is not waited for, neither here nor when lines are
/// written.
pub(crate) fn open_append(path: &Path) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o644).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.file_type().is_fifo() {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    }
    Ok(file.into())
}

/// Log files that the master has just opened and that are not in use yet.
#[derive(Debug, Default)]
pub struct NewLogs {
    pub(crate) files: Vec<(PathBuf, OwnedFd)>,
}

/// The open log files of a process, by path. Shared by its threads; looked up when a configuration is built, not for each
/// line.
#[derive(Debug)]
pub struct LogFiles {
    open: Mutex<BTreeMap<PathBuf, Arc<LogFile>>>,
    stderr: Arc<LogFile>,
    /// The file that standard error was redirected to, as nginx does once it has started.
    redirected: Mutex<Option<Arc<LogFile>>>,
    /// Standard error belongs to the command that started this daemon: no duplicate is kept once it is redirected.
    borrowed: AtomicBool,
}

impl LogFiles {
    /// Returns a table with standard error alone.
    ///
    /// # Errors
    /// Fails if the process has no descriptors left.
    pub fn new() -> io::Result<LogFiles> {
        Ok(LogFiles {
            open: Mutex::default(),
            stderr: Arc::new(LogFile::stderr()?),
            redirected: Mutex::default(),
            borrowed: AtomicBool::new(false),
        })
    }

    /// Marks standard error as the starting command's. A reader of that command's output waits until the last duplicate
    /// is closed, so that a daemon must keep none that its error log does not need. From then on `error_log stderr` means,
    /// as with nginx, the file that standard error was redirected to last.
    pub(crate) fn borrow_stderr(&self) {
        self.borrowed.store(true, Ordering::Relaxed);
    }

    /// Returns the open file of a target; `None` for a path that was not among the configuration's log files.
    pub fn get(&self, target: &LogTarget) -> Option<Arc<LogFile>> {
        match target {
            LogTarget::File(path) => locked(&self.open).get(path).cloned(),
            LogTarget::Stderr => Some(Arc::clone(&self.stderr)),
        }
    }

    /// Takes over newly opened files: a known path keeps its old descriptor number, a new one is added.
    ///
    /// # Errors
    /// Fails if a descriptor cannot be replaced.
    pub fn adopt(&self, newer: NewLogs) -> io::Result<()> {
        let mut open = locked(&self.open);
        for (path, fd) in newer.files {
            match open.get(&path) {
                Some(known) => known.replace(fd.as_fd())?,
                None => {
                    let file = LogFile::new(fd, &path);
                    open.insert(path, Arc::new(file));
                }
            }
        }
        if let Some(file) = locked(&self.redirected).as_ref() {
            self.send_stderr_to(file)?;
        }
        Ok(())
    }

    fn send_stderr_to(&self, file: &Arc<LogFile>) -> io::Result<()> {
        nix::unistd::dup2_stderr(&**file)?;
        match self.borrowed.load(Ordering::Relaxed) && !Arc::ptr_eq(file, &self.stderr) {
            true => self.stderr.replace(file.as_fd()),
            false => Ok(()),
        }
    }

    /// Drops the files that `wanted` does not name; each closes with the last configuration that uses it.
    pub fn keep_only(&self, wanted: &[PathBuf]) {
        locked(&self.open).retain(|path, _| wanted.contains(path));
    }

    /// Redirects standard error to the first file of an error log, now and after each reopening. If the log itself goes to
    /// standard error, a daemon leaves it where it is; in the foreground it becomes again what it was at the start.
    pub(crate) fn redirect_stderr(&self, log: &ErrorLog) -> io::Result<()> {
        let own = log.sinks.iter().any(|(file, _)| Arc::ptr_eq(file, &self.stderr));
        let target = match log.sinks.first() {
            _ if own => &self.stderr,
            Some((file, _)) => file,
            None => return Ok(()),
        };
        self.send_stderr_to(target)?;
        *locked(&self.redirected) = Some(Arc::clone(target));
        Ok(())
    }

    /// Returns an error log over some of these files, without targets that are not open.
    pub fn error_log(&self, targets: &[(LogTarget, Level)]) -> ErrorLog {
        ErrorLog::new(
            targets.iter().filter_map(|(target, level)| Some((self.get(target)?, *level))).collect(),
        )
    }
}

/// Locks a mutex whose holders never leave a change half made.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error log: files, each with the least severe level that it takes.
///
/// Cheap to clone, and shared by threads without a lock.
#[derive(Clone, Debug)]
pub struct ErrorLog {
    sinks: Arc<[(Arc<LogFile>, Level)]>,
    level: Level,
}

impl ErrorLog {
    /// Returns a log that writes each line to every file whose level takes it.
    pub fn new(sinks: Vec<(Arc<LogFile>, Level)>) -> ErrorLog {
        let level = sinks.iter().map(|(_, level)| *level).max().unwrap_or(Level::Stderr);
        ErrorLog { sinks: sinks.into(), level }
    }

    /// Returns true if a line of this level is written anywhere. Ask before formatting an expensive text.
    pub fn takes(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Writes one line; `connection` 0 means none. A line longer than [`MAX_LINE`] is cut, as nginx cuts it.
    ///
    /// A failure to write is ignored: there is nowhere to report it.
    pub fn write(&self, level: Level, connection: u64, text: &[u8]) {
        if !self.takes(level) {
            return;
        }
        let stamp = Stamp::now();
        let mut buffer = [0; MAX_LINE];
        let line = format_line(&mut buffer, &stamp, level, connection, text);
        for (file, least) in self.sinks.iter() {
            if level <= *least {
                let _ = file.write(line);
            }
        }
    }
}

/// The beginning of a line: time, process and thread.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    second: u64,
    text: [u8; 19],
    pid: u32,
    tid: u32,
}

thread_local! {
    static STAMP: Cell<Stamp> = const { Cell::new(Stamp { second: u64::MAX, text: [0; 19], pid: 0, tid: 0 }) };
}

impl Stamp {
    /// Returns the current stamp. The text is formatted once a second in each thread; the pid is read each time, because a
    /// fork keeps the thread's memory.
    fn now() -> Stamp {
        let mut stamp = STAMP.get();
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let pid = std::process::id();
        if stamp.second != second || stamp.pid != pid {
            stamp = Stamp {
                second,
                text: local_time_text(second),
                pid,
                tid: nix::unistd::gettid().as_raw() as u32,
            };
            STAMP.set(stamp);
        }
        stamp
    }
}

/// Returns the offset from UTC in seconds, positive to the east, at a time given in seconds since the epoch.
///
/// The rules of the time zone are read once (`TZ`, else `/etc/localtime`).
pub fn utc_offset_s(epoch_s: u64) -> i32 {
    static ZONE: OnceLock<jiff::tz::TimeZone> = OnceLock::new();
    let zone = ZONE.get_or_init(jiff::tz::TimeZone::system);
    let at = i64::try_from(epoch_s).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    at.map_or(0, |at| zone.to_offset(at).seconds())
}

/// Formats a time as `YYYY/MM/DD hh:mm:ss` in local time.
fn local_time_text(epoch_s: u64) -> [u8; 19] {
    let mut text = *b"1970/01/01 00:00:00";
    let local = i64::try_from(epoch_s).unwrap_or(0) + i64::from(utc_offset_s(epoch_s));
    let Ok(at) = jiff::Timestamp::from_second(local) else { return text };
    let at = jiff::tz::Offset::UTC.to_datetime(at);
    let two = |into: &mut [u8], number: u8| {
        into[0] = b'0' + number / 10 % 10;
        into[1] = b'0' + number % 10;
    };
    let year = at.year().max(0) as u16;
    two(&mut text[0..2], (year / 100) as u8);
    two(&mut text[2..4], (year % 100) as u8);
    two(&mut text[5..7], at.month() as u8);
    two(&mut text[8..10], at.day() as u8);
    two(&mut text[11..13], at.hour() as u8);
    two(&mut text[14..16], at.minute() as u8);
    two(&mut text[17..19], at.second() as u8);
    text
}

/// Formats a line in `buffer` and returns the part that was filled.
fn format_line<'a>(
    buffer: &'a mut [u8; MAX_LINE],
    stamp: &Stamp,
    level: Level,
    connection: u64,
    text: &[u8],
) -> &'a [u8] {
    // Every prefix is far shorter than the buffer; only the text can be too long for it.
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        let room = (MAX_LINE - 1) - at;
        let taken = bytes.len().min(room);
        buffer[at..at + taken].copy_from_slice(&bytes[..taken]);
        at += taken;
    };
    put(&stamp.text);
    put(b" [");
    put(level.name().as_bytes());
    put(b"] ");
    let mut digits = [0; 20];
    put(decimal(&mut digits, u64::from(stamp.pid)));
    put(b"#");
    put(decimal(&mut digits, u64::from(stamp.tid)));
    put(b": ");
    if connection != 0 {
        put(b"*");
        put(decimal(&mut digits, connection));
        put(b" ");
    }
    put(text);
    buffer[at] = b'\n';
    &buffer[..=at]
}

/// Formats a number in decimal digits.
fn decimal(digits: &mut [u8; 20], mut number: u64) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// Formats an error as nginx ends a line with it: `(98: Address already in use)`.
pub(crate) fn reason(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else { return format!("({error})") };
    let text = io::Error::from_raw_os_error(number).to_string();
    let words = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
    format!("({number}: {words})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn stamp() -> Stamp {
        Stamp { second: 0, text: *b"2026/07/01 09:08:07", pid: 4711, tid: 4712 }
    }

    #[test]
    fn reasons_are_worded_like_nginx() {
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::EADDRINUSE)), "(98: Address already in use)");
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::ENOENT)), "(2: No such file or directory)");
        assert_eq!(reason(&io::Error::other("odd")), "(odd)");
    }

    #[test]
    fn lines_have_nginx_format() {
        let mut buffer = [0; MAX_LINE];
        let line = format_line(&mut buffer, &stamp(), Level::Error, 42, b"upstream timed out");
        assert_eq!(line, b"2026/07/01 09:08:07 [error] 4711#4712: *42 upstream timed out\n");
        let line = format_line(&mut buffer, &stamp(), Level::Notice, 0, b"exit");
        assert_eq!(line, b"2026/07/01 09:08:07 [notice] 4711#4712: exit\n");
    }

    #[test]
    fn a_long_line_is_cut_and_ends_with_a_newline() {
        let mut buffer = [0; MAX_LINE];
        let line = format_line(&mut buffer, &stamp(), Level::Error, u64::MAX, &[b'x'; 4000]);
        assert_eq!(line.len(), MAX_LINE);
        assert_eq!(line[MAX_LINE - 1], b'\n');
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn local_time_is_formatted() {
        let offset = u64::from(utc_offset_s(951_782_400).unsigned_abs());
        let utc = if utc_offset_s(951_782_400) >= 0 { 951_782_400 - offset } else { 951_782_400 + offset };
        // A leap day, moved by the zone's own offset so that the test holds in every zone.
        assert_eq!(&local_time_text(utc), b"2000/02/29 00:00:00");
    }

    #[test]
    fn lines_reach_the_sinks_that_take_their_level() {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogFiles::new().unwrap();
        let paths = [folder.path().join("all.log"), folder.path().join("errors.log")];
        let files = paths.iter().map(|path| (path.clone(), open_append(path).unwrap())).collect();
        logs.adopt(NewLogs { files }).unwrap();
        let log = logs.error_log(&[
            (LogTarget::File(paths[0].clone()), Level::Info),
            (LogTarget::File(paths[1].clone()), Level::Error),
        ]);
        assert!(log.takes(Level::Info) && !log.takes(Level::Debug));
        log.write(Level::Info, 0, b"seen once");
        log.write(Level::Crit, 7, b"seen twice");
        log.write(Level::Debug, 7, b"never seen");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&paths[0]).lines().count(), 2);
        assert_eq!(read(&paths[1]).lines().count(), 1);
        assert!(read(&paths[1]).ends_with(": *7 seen twice\n"));
    }

    #[test]
    fn a_full_disk_is_logged_once_and_its_end_with_the_number_of_lost_lines() {
        let folder = tempfile::tempdir().unwrap();
        let error_log = folder.path().join("error.log");
        let errors = ErrorLog::new(vec![(Arc::new(LogFile::open(&error_log).unwrap()), Level::Error)]);
        let file = LogFile::new(open_append(Path::new("/dev/full")).unwrap(), Path::new("/x/access.log"));
        file.append(b"one\n", &errors);
        file.append(b"two\nthree\n", &errors);
        let better = folder.path().join("better.log");
        file.replace(open_append(&better).unwrap().as_fd()).unwrap();
        file.append(b"four\n", &errors);
        file.append(b"five\n", &errors);
        assert_eq!(std::fs::read(&better).unwrap(), b"four\nfive\n");
        let logged = std::fs::read_to_string(&error_log).unwrap();
        let lines: Vec<_> = logged.lines().map(|line| line.split_once(": ").unwrap().1).collect();
        let failed = "write() to \"/x/access.log\" failed (28: No space left on device)";
        assert_eq!(lines, [failed, "\"/x/access.log\" is written again, 3 lines were lost"]);
    }

    #[test]
    fn writers_continue_in_the_reopened_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        let logs = LogFiles::new().unwrap();
        logs.adopt(NewLogs { files: vec![(path.clone(), open_append(&path).unwrap())] }).unwrap();
        let held = logs.get(&LogTarget::File(path.clone())).unwrap();
        held.write(b"before\n").unwrap();
        std::fs::rename(&path, folder.path().join("error.log.1")).unwrap();
        logs.adopt(NewLogs { files: vec![(path.clone(), open_append(&path).unwrap())] }).unwrap();
        held.write(b"after\n").unwrap();
        let mut text = String::new();
        std::fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "after\n");
    }
}
