//! Loading a configuration and reporting its findings.
//!
//! Owns the order and the destinations of findings: nginx's line goes to the error log and to standard error, the picture
//! to standard error. Must never judge a configuration itself.

use crate::application::{Application, Finding};
use crate::process_log::{ProcessLog, Reported};
use crate::requirements::Requirements;
use crate::source::{Disk, Source};
use conf::{Loader, RecordingLoader};
use std::cell::RefCell;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// Bytes of all files of a configuration, which are sent to the worker process at once.
const MAX_TOTAL: usize = 512 << 20;

/// A configuration and every byte that it was loaded from.
pub(crate) struct Recorded<C> {
    pub(crate) requirements: Requirements,
    pub(crate) config: C,
    /// [`conf::Bundle::to_bytes`].
    pub(crate) bundle: Vec<u8>,
    /// The files in the order in which they were read, for `-T`.
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
}

/// Whether findings are drawn on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pictures {
    /// For the user at the terminal.
    Drawn,
    /// For a server that runs already, whose log gets the lines alone.
    Omitted,
}

impl Pictures {
    /// Returns what fits the start of the program: drawn if standard error is a terminal.
    pub(crate) fn for_start() -> Pictures {
        match io::stderr().is_terminal() {
            true => Pictures::Drawn,
            false => Pictures::Omitted,
        }
    }
}

/// Loads a configuration from the disk and reports its findings.
pub(crate) fn load<A: Application>(
    app: &A,
    source: &Source,
    log: &ProcessLog,
    pictures: Pictures,
) -> Result<Recorded<A::Config>, Reported> {
    let ordered = InOrder { files: RefCell::default() };
    let recorder = RecordingLoader::new(&ordered);
    let loaded = app.load(source, &recorder);
    report(&loaded.findings, log, pictures);
    let (requirements, config) = loaded.outcome.ok_or(Reported)?;
    let bundle = recorder.into_bundle().to_bytes();
    Ok(Recorded { requirements, config, bundle, files: ordered.files.into_inner() })
}

fn report(findings: &[Finding], log: &ProcessLog, pictures: Pictures) {
    let mut drawn = String::new();
    for finding in findings {
        log.write(finding.level, format_args!("{}", finding.line));
        if pictures == Pictures::Drawn && !finding.picture.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(drawn, "\n{}", finding.picture.trim_end());
        }
    }
    // After all lines, so that tools which read the first line find what they expect.
    let _ = io::Write::write_all(&mut io::stderr(), drawn.as_bytes());
}

/// Reads from the disk and records each file in the order of reading.
struct InOrder {
    files: RefCell<Vec<(PathBuf, Vec<u8>)>>,
}

impl Loader for InOrder {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = Disk.read(path)?;
        let mut files = self.files.borrow_mut();
        let total: usize = files.iter().map(|(_, known)| known.len()).sum();
        if total + bytes.len() > MAX_TOTAL {
            return Err(nix::errno::Errno::EFBIG.into());
        }
        files.push((path.to_owned(), bytes.clone()));
        Ok(bytes)
    }

    /// Not shown by `-T`.
    fn read_private(&self, path: &Path) -> io::Result<Vec<u8>> {
        Disk.read_private(path)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.glob(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_are_passed_on_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (conf, key) = (folder.path().join("nginx.conf"), folder.path().join("a.key"));
        std::fs::write(&conf, "text").unwrap();
        std::fs::write(&key, "secret").unwrap();
        let ordered = InOrder { files: RefCell::default() };
        let recorder = RecordingLoader::new(&ordered);
        recorder.read(&conf).unwrap();
        assert_eq!(recorder.read_private(&key).unwrap(), b"secret");
        let bundle = conf::Bundle::from_bytes(&recorder.into_bundle().to_bytes()).unwrap();
        std::fs::remove_file(&key).unwrap();
        assert_eq!(bundle.read_private(&key).unwrap(), b"secret");
        assert_eq!(ordered.files.into_inner(), [(conf, b"text".to_vec())]);
    }
}
