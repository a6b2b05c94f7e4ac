//! Error-log lines and the descriptors that log lines of every kind go to.
//!
//! Owns the line format of nginx's error log (`YYYY/MM/DD hh:mm:ss [level] pid#tid: *connection text`), the open log
//! files of this process, and their exchange when the files are reopened. A line is one `write(2)` to a descriptor
//! opened with `O_APPEND`, so lines of several threads and processes never mix.
//! Must never decide *what* is logged, buffer a line, or allocate while writing one.

use nix::errno::Errno;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of the longest error-log line, its newline included (nginx: `NGX_MAX_ERROR_STR`).
pub const MAX_LINE: usize = 2048;

pub use engine::host::Level;

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogTarget {
    /// To this file, an absolute path.
    File(PathBuf),
    /// To standard error (`error_log stderr`).
    Stderr,
}

/// One open log file.
///
/// The descriptor's number never changes: reopening puts the new file under the old number, so a thread that writes
/// meanwhile needs no lock and cannot hit a foreign descriptor.
#[derive(Debug)]
pub struct LogFile {
    fd: OwnedFd,
    path: PathBuf,
    loss: Mutex<Loss>,
}

/// What a log file has not taken since it took a line last.
#[derive(Debug, Default)]
struct Loss {
    lines: u64,
    /// The last line it took is not whole.
    cut: bool,
    /// When it was said last.
    said: Option<Instant>,
}

/// What all log files of this process have not taken.
static LOST_LINES: AtomicU64 = AtomicU64::new(0);

/// How many lines the access logs of this process have lost since it began: the disk was full, or a pipe was.
pub fn lost_lines() -> u64 {
    LOST_LINES.load(Ordering::Relaxed)
}

/// How often it is said again that a file takes no lines (as nginx).
const SAID_AGAIN: Duration = Duration::from_secs(60);

impl LogFile {
    fn new(fd: OwnedFd, path: &Path) -> LogFile {
        LogFile { fd, path: path.to_owned(), loss: Mutex::default() }
    }

    /// Opens `path` for appending and makes it with mode 0644 where it is missing, as nginx does.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        Ok(LogFile::new(open_append(path)?, path))
    }

    /// A second descriptor of standard error.
    pub fn stderr() -> io::Result<LogFile> {
        Ok(LogFile::new(io::stderr().as_fd().try_clone_to_owned()?, Path::new("stderr")))
    }

    /// Appends whole lines. Those that the file does not take are lost, since a full disk must not stop the traffic;
    /// `errors` is told when it begins, once a minute while it lasts, and at the end how many they were.
    pub fn append(&self, lines: &[u8], errors: &ErrorLog) {
        let mut loss = locked(&self.loss);
        let result = match loss.cut {
            // What came before must not run into the first of these.
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
        if loss.said.is_none_or(|said| said.elapsed() >= SAID_AGAIN) {
            loss.said = Some(Instant::now());
            let text = match result {
                Ok(_) => format!("write() to \"{name}\" was incomplete: {written} of {}", lines.len()),
                Err(error) => format!("write() to \"{name}\" failed {}", super::journal::reason(&error)),
            };
            errors.write(Level::Alert, 0, text.as_bytes());
        }
    }

    /// Appends these bytes, a whole line or several, in one call.
    pub fn write(&self, lines: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(&self.fd, lines)?)
    }

    /// Puts another open file under this descriptor.
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

/// Opens a log file the way every log file is opened.
pub(super) fn open_append(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().append(true).create(true).mode(0o644).open(path)?.into())
}

/// Log files just opened by the master, not in use yet.
#[derive(Debug, Default)]
pub struct NewLogs {
    pub(super) files: Vec<(PathBuf, OwnedFd)>,
}

/// The open log files of a process, by path. Shared by its threads; looked up when a configuration is built, not per
/// line.
#[derive(Debug)]
pub struct LogFiles {
    open: Mutex<BTreeMap<PathBuf, Arc<LogFile>>>,
    stderr: Arc<LogFile>,
    /// What standard error is sent to, as nginx does once it has started.
    redirected: Mutex<Option<Arc<LogFile>>>,
    /// Standard error belongs to a command that is to end: it is let go of as soon as it is sent elsewhere.
    borrowed: AtomicBool,
}

impl LogFiles {
    /// No file yet, only standard error.
    pub fn new() -> io::Result<LogFiles> {
        Ok(LogFiles {
            open: Mutex::default(),
            stderr: Arc::new(LogFile::stderr()?),
            redirected: Mutex::default(),
            borrowed: AtomicBool::new(false),
        })
    }

    /// This process goes on when the command that started it has ended. Whoever reads that command's standard error
    /// waits for its end, so that no descriptor of it may stay behind where the error log does not need it. From then
    /// on `error_log stderr` means, as with nginx, where standard error was sent to last.
    pub(super) fn borrow_stderr(&self) {
        self.borrowed.store(true, Ordering::Relaxed);
    }

    /// The open file behind a target; `None` for a path that was not among the configuration's log files.
    pub fn get(&self, target: &LogTarget) -> Option<Arc<LogFile>> {
        match target {
            LogTarget::File(path) => locked(&self.open).get(path).cloned(),
            LogTarget::Stderr => Some(Arc::clone(&self.stderr)),
        }
    }

    /// Takes over newly opened files: a known path goes on under its old number, a new one is added.
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

    /// Forgets the files that `wanted` does not name; each closes when the last configuration that uses it is gone.
    pub fn keep_only(&self, wanted: &[PathBuf]) {
        locked(&self.open).retain(|path, _| wanted.contains(path));
    }

    /// Sends this process's standard error to the first file of an error log from now on, also after it is reopened.
    /// A log that itself goes to standard error leaves it where it is; in the foreground it puts it back to where it was
    /// when the program started.
    pub(super) fn redirect_stderr(&self, log: &ErrorLog) -> io::Result<()> {
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

    /// An error log over some of these files; targets that are not open are left out.
    pub fn error_log(&self, targets: &[(LogTarget, Level)]) -> ErrorLog {
        ErrorLog::new(
            targets.iter().filter_map(|(target, level)| Some((self.get(target)?, *level))).collect(),
        )
    }
}

/// A lock whose holder cannot have left half a change behind.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error log: some files, each with the least severe level it takes.
///
/// Cheap to clone and shared by threads without a lock.
#[derive(Clone, Debug)]
pub struct ErrorLog {
    sinks: Arc<[(Arc<LogFile>, Level)]>,
    level: Level,
}

impl ErrorLog {
    /// A log that writes each line to every file whose level takes it.
    pub fn new(sinks: Vec<(Arc<LogFile>, Level)>) -> ErrorLog {
        let level = sinks.iter().map(|(_, level)| *level).max().unwrap_or(Level::Stderr);
        ErrorLog { sinks: sinks.into(), level }
    }

    /// Whether a line of this level is written anywhere: ask before building an expensive text.
    pub fn takes(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Writes one line. `connection` 0 means none. A line longer than [`MAX_LINE`] is cut, as nginx cuts it.
    ///
    /// A failure to write is not reported: there is nowhere to report it to.
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

/// What a line begins with: when, and who.
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
    /// The stamp of this moment. The text is made once a second and thread; the pid is asked for each time, because
    /// a fork keeps the thread's memory.
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

/// Seconds east of UTC at a time given in seconds since the epoch, by the time zone this process started with.
///
/// The zone's rules are read once (`TZ`, else `/etc/localtime`); nothing is read later.
pub fn utc_offset_s(epoch_s: u64) -> i32 {
    static ZONE: OnceLock<jiff::tz::TimeZone> = OnceLock::new();
    let zone = ZONE.get_or_init(jiff::tz::TimeZone::system);
    let at = i64::try_from(epoch_s).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    at.map_or(0, |at| zone.to_offset(at).seconds())
}

/// `YYYY/MM/DD hh:mm:ss` in local time.
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

/// Builds a line in `buffer` and gives back the part that was filled.
fn format_line<'a>(
    buffer: &'a mut [u8; MAX_LINE],
    stamp: &Stamp,
    level: Level,
    connection: u64,
    text: &[u8],
) -> &'a [u8] {
    // Every prefix is far shorter than the buffer, only the text can be too long for it.
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

/// A number in decimal digits.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn stamp() -> Stamp {
        Stamp { second: 0, text: *b"2026/07/01 09:08:07", pid: 4711, tid: 4712 }
    }

    #[test]
    fn a_line_looks_like_nginx() {
        let mut buffer = [0; MAX_LINE];
        let line = format_line(&mut buffer, &stamp(), Level::Error, 42, b"upstream timed out");
        assert_eq!(line, b"2026/07/01 09:08:07 [error] 4711#4712: *42 upstream timed out\n");
        let line = format_line(&mut buffer, &stamp(), Level::Notice, 0, b"exit");
        assert_eq!(line, b"2026/07/01 09:08:07 [notice] 4711#4712: exit\n");
    }

    #[test]
    fn a_long_line_is_cut_and_still_ends() {
        let mut buffer = [0; MAX_LINE];
        let line = format_line(&mut buffer, &stamp(), Level::Error, u64::MAX, &[b'x'; 4000]);
        assert_eq!(line.len(), MAX_LINE);
        assert_eq!(line[MAX_LINE - 1], b'\n');
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn the_text_of_a_second_is_right() {
        let offset = u64::from(utc_offset_s(951_782_400).unsigned_abs());
        let utc = if utc_offset_s(951_782_400) >= 0 { 951_782_400 - offset } else { 951_782_400 + offset };
        // A leap day; undone by the zone's own offset so that the test holds in every zone without a change nearby.
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
    fn a_full_disk_is_told_once_and_its_end_with_the_number_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("error.log");
        let errors = ErrorLog::new(vec![(Arc::new(LogFile::open(&told).unwrap()), Level::Error)]);
        let file = LogFile::new(open_append(Path::new("/dev/full")).unwrap(), Path::new("/x/access.log"));
        file.append(b"one\n", &errors);
        file.append(b"two\nthree\n", &errors);
        let better = folder.path().join("better.log");
        file.replace(open_append(&better).unwrap().as_fd()).unwrap();
        file.append(b"four\n", &errors);
        file.append(b"five\n", &errors);
        assert_eq!(std::fs::read(&better).unwrap(), b"four\nfive\n");
        let told = std::fs::read_to_string(&told).unwrap();
        let lines: Vec<_> = told.lines().map(|line| line.split_once(": ").unwrap().1).collect();
        let failed = "write() to \"/x/access.log\" failed (28: No space left on device)";
        assert_eq!(lines, [failed, "\"/x/access.log\" is written again, 3 lines were lost"]);
    }

    #[test]
    fn reopening_moves_writers_to_the_new_file() {
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
