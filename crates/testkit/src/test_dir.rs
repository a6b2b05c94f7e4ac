//! A directory for one server under test: its prefix, and ports of its own.
//!
//! Owns the directory and removes it when it is dropped, unless `TESTKIT_KEEP` is set. It must never talk to a server.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::ports::{self, Port};

/// The modification time of every written file, so that ETag and Last-Modified are the same everywhere:
/// Sun, 13 Sep 2020 12:26:40 GMT, hexadecimal 5f5e1000.
const MTIME_S: u64 = 1_600_000_000;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The prefix directory of a server, and the ports that its configuration names.
#[derive(Debug)]
pub struct TestDir {
    prefix: PathBuf,
    ports: BTreeMap<String, Port>,
}

impl TestDir {
    /// Makes the directory and reserves a port for every `{port:NAME}` in `text`, and one for `{port:front}`.
    ///
    /// # Errors
    /// The directory cannot be made, or no port is free.
    pub fn new(text: &str) -> Result<TestDir, String> {
        TestDir::new_in(&std::env::temp_dir(), text)
    }

    /// Makes the directory below another one, for files that are too large for a temporary file system.
    ///
    /// # Errors
    /// As for [`TestDir::new`].
    pub fn new_in(parent: &Path, text: &str) -> Result<TestDir, String> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let prefix = parent.join(format!("pk-{}-{number}", std::process::id()));
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
        let dir = TestDir { prefix, ports };
        for folder in ["", "conf", "logs", "html", "run"] {
            dir.directory(folder)?;
        }
        Ok(dir)
    }

    /// Returns the directory itself.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Replaces `{port:NAME}` and `{prefix}`.
    pub fn fill_in(&self, text: &str) -> String {
        let mut out = text.replace("{prefix}", &self.prefix.to_string_lossy());
        for (name, port) in &self.ports {
            out = out.replace(&format!("{{port:{name}}}"), &port.number.to_string());
        }
        out
    }

    /// Puts the placeholders back into text that a server wrote; the inverse of `fill_in`. A port is five digits on
    /// their own.
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

    /// Returns the port of this name.
    ///
    /// # Errors
    /// The text that the directory was made for names no such port.
    pub fn port(&self, name: &str) -> Result<u16, String> {
        self.ports.get(name).map(|p| p.number).ok_or_else(|| format!("no `{{port:{name}}}` here"))
    }

    /// Returns a path inside the prefix.
    ///
    /// # Errors
    /// The path would leave the prefix.
    pub fn path(&self, path: &str) -> Result<PathBuf, String> {
        let inside =
            Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if inside { Ok(self.prefix.join(path)) } else { Err(format!("{path}: not inside the prefix")) }
    }

    /// Makes a directory that every user may write to: nginx's workers may run as `nobody`.
    pub(crate) fn directory(&self, path: &str) -> Result<PathBuf, String> {
        let full = self.path(path)?;
        fs::create_dir_all(&full).map_err(|e| format!("{}: {e}", full.display()))?;
        for folder in full.ancestors().take_while(|f| f.starts_with(&self.prefix)) {
            let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o777));
        }
        Ok(full)
    }

    /// Writes a file with the fixed modification time, and makes its folders.
    ///
    /// # Errors
    /// The file cannot be written, or would be outside of the prefix.
    pub fn write(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), String> {
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

    /// Returns the last lines that the server wrote to stderr and its error log, for a failure's report.
    pub fn evidence(&self) -> String {
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

impl Drop for TestDir {
    fn drop(&mut self) {
        if std::env::var_os("TESTKIT_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.prefix);
        }
    }
}
