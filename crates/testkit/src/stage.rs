//! What all the threads of one running case share: the prefix, the ports, events, faults, and edits for blessing.
//!
//! Owns the prefix directory and removes it. It must never talk to a server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::case::Text;
use crate::failure::Fault;
use crate::ports::{self, Port};

/// How long any one thing may take before the case has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The modification time of every file a case writes, so that ETag and Last-Modified are the same everywhere:
/// Sun, 13 Sep 2020 12:26:40 GMT, hexadecimal 5f5e1000.
const MTIME_S: u64 = 1_600_000_000;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Lines of the case file to be replaced, because the oracle says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) line: usize,
    pub(crate) count: usize,
    pub(crate) with: Vec<String>,
}

#[derive(Default)]
struct Shared {
    raised: BTreeSet<String>,
    faults: Vec<Fault>,
    over: bool,
    connections: BTreeMap<String, usize>,
    edits: Vec<Edit>,
}

/// One running case.
pub(crate) struct Stage {
    pub(crate) prefix: PathBuf,
    /// Whether what was seen replaces what was expected.
    pub(crate) blessing: bool,
    ports: BTreeMap<String, Port>,
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl Stage {
    /// Makes the prefix directory and takes a port for every `{port:NAME}` in `text`.
    pub(crate) fn new(text: &str, blessing: bool) -> Result<Stage, String> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let prefix = std::env::temp_dir().join(format!("pk-{}-{number}", std::process::id()));
        let mut ports = BTreeMap::new();
        for (at, _) in text.match_indices("{port:") {
            let name = text[at + 6..].split('}').next().unwrap_or_default();
            if !ports.contains_key(name) {
                ports.insert(name.to_owned(), ports::reserve()?);
            }
        }
        if !ports.contains_key("front") {
            ports.insert("front".to_owned(), ports::reserve()?);
        }
        let stage = Stage { prefix, blessing, ports, shared: Mutex::default(), changed: Condvar::default() };
        for folder in ["", "conf", "logs", "html", "run"] {
            stage.directory(folder)?;
        }
        Ok(stage)
    }

    /// Replaces `{port:NAME}` and `{prefix}`.
    pub(crate) fn fill_in(&self, text: &str) -> String {
        let mut out = text.replace("{prefix}", &self.prefix.to_string_lossy());
        for (name, port) in &self.ports {
            out = out.replace(&format!("{{port:{name}}}"), &port.number.to_string());
        }
        out
    }

    /// The contrary of `fill_in`, for text that was seen. A port is five digits that stand alone.
    pub(crate) fn take_out(&self, text: &str) -> String {
        let mut rest = text.replace(&*self.prefix.to_string_lossy(), "{prefix}");
        let mut out = String::new();
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            let end = rest[at..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |n| at + n);
            let name = self.ports.iter().find(|(_, port)| port.number.to_string() == rest[at..end]);
            out.push_str(&rest[..at]);
            match name {
                Some((name, _)) => out.push_str(&format!("{{port:{name}}}")),
                None => out.push_str(&rest[at..end]),
            }
            rest = rest.split_off(end);
        }
        out + &rest
    }

    pub(crate) fn fill_in_lines(&self, lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| self.fill_in(line)).collect()
    }

    pub(crate) fn port(&self, name: &str) -> Result<u16, String> {
        self.ports.get(name).map(|p| p.number).ok_or_else(|| format!("no `{{port:{name}}}` in this case"))
    }

    /// A path inside the prefix; never outside of it.
    pub(crate) fn path(&self, path: &str) -> Result<PathBuf, String> {
        let inside =
            Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if inside { Ok(self.prefix.join(path)) } else { Err(format!("{path}: not inside the prefix")) }
    }

    /// Makes a directory that every user may write to: nginx's workers may run as nobody.
    pub(crate) fn directory(&self, path: &str) -> Result<PathBuf, String> {
        let full = self.path(path)?;
        fs::create_dir_all(&full).map_err(|e| format!("{}: {e}", full.display()))?;
        for folder in full.ancestors().take_while(|f| f.starts_with(&self.prefix)) {
            let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o777));
        }
        Ok(full)
    }

    /// Writes a file with the case's fixed modification time.
    pub(crate) fn write(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), String> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.directory(folder)?;
        }
        let full = self.path(path)?;
        let show = |e: std::io::Error| format!("{}: {e}", full.display());
        fs::write(&full, bytes).map_err(show)?;
        fs::set_permissions(&full, fs::Permissions::from_mode(mode)).map_err(show)?;
        let file = fs::File::options().write(true).open(&full).map_err(show)?;
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(MTIME_S)).map_err(show)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces an event to whoever waits for it.
    pub(crate) fn raise(&self, event: &str) {
        self.lock().raised.insert(event.to_owned());
        self.changed.notify_all();
    }

    /// Waits for an event, or for the case to fail or end.
    pub(crate) fn wait_for(&self, event: &str, line: usize) -> Result<(), Fault> {
        let deadline = Instant::now() + PATIENCE;
        let mut shared = self.lock();
        while !shared.raised.contains(event) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || shared.over || !shared.faults.is_empty() {
                return Err(Fault::new(line, format!("nobody raised \"{event}\"")));
            }
            shared = self.changed.wait_timeout(shared, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Notes a fault found by a thread beside the one that runs the steps.
    pub(crate) fn fail(&self, fault: Fault) {
        self.lock().faults.push(fault);
        self.changed.notify_all();
    }

    /// The first fault that was noted.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.lock().faults.first().cloned()
    }

    /// Tells every thread of the case to come to its end.
    pub(crate) fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_over(&self) -> bool {
        let shared = self.lock();
        shared.over || !shared.faults.is_empty()
    }

    /// Counts a connection to an origin; answers how many came before it.
    pub(crate) fn count_connection(&self, origin: &str) -> usize {
        let mut shared = self.lock();
        let count = shared.connections.entry(origin.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    pub(crate) fn connections(&self, origin: &str) -> usize {
        self.lock().connections.get(origin).copied().unwrap_or_default()
    }

    /// Answers a mismatch: an edit of the case file when blessing, a fault otherwise.
    pub(crate) fn settle(&self, edit: impl FnOnce() -> Edit, fault: Fault) -> Result<(), Fault> {
        if !self.blessing {
            return Err(fault);
        }
        let edit = edit();
        self.lock().edits.push(edit);
        Ok(())
    }

    pub(crate) fn edits(&self) -> Vec<Edit> {
        self.lock().edits.clone()
    }

    /// What the server left to read when a case failed.
    pub(crate) fn evidence(&self) -> String {
        let mut out = String::new();
        for name in ["stderr", "logs/error.log"] {
            let text = fs::read(self.prefix.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<_> = text.lines().filter(|l| !l.contains(" [notice] ")).collect();
            for line in &lines[lines.len().saturating_sub(12)..] {
                out.push_str(&format!("{name}: {}\n", self.take_out(line)));
            }
        }
        out
    }
}

impl Edit {
    /// Replaces all the lines of a section's text.
    pub(crate) fn of_text(text: &Text, with: Vec<String>) -> Edit {
        Edit { line: text.line, count: text.lines.len(), with }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::env::var_os("TESTKIT_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.prefix);
        }
    }
}
