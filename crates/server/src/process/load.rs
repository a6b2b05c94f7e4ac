//! Loading a configuration and telling what was found in it.
//!
//! Owns the order and the places of findings: nginx's line to the error log and to standard error, the picture to
//! standard error. Must never judge a configuration itself.

use super::boot::{Application, Boot, Finding, Source};
use super::disk::Disk;
use super::journal::{Journal, Said};
use conf::{Loader, RecordingLoader};
use std::cell::RefCell;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// A configuration and every byte it was made from.
pub(super) struct Recorded<C> {
    pub(super) boot: Boot,
    pub(super) config: C,
    /// [`conf::Bundle::to_bytes`].
    pub(super) bundle: Vec<u8>,
    /// The files in the order they were read, for `-T`.
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
}

/// Whether findings are drawn on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pictures {
    /// For the one who asked (`-t`), or who sits at the terminal.
    Drawn,
    /// The server runs already; the log gets the lines.
    Left,
}

impl Pictures {
    /// When the program starts: if somebody can see them.
    pub(super) fn for_start() -> Pictures {
        match io::stderr().is_terminal() {
            true => Pictures::Drawn,
            false => Pictures::Left,
        }
    }
}

/// Loads a configuration from the disk and tells its findings.
pub(super) fn load<A: Application>(
    app: &A,
    source: &Source,
    journal: &Journal,
    pictures: Pictures,
) -> Result<Recorded<A::Config>, Said> {
    let ordered = InOrder { files: RefCell::default() };
    let recorder = RecordingLoader::new(&ordered);
    let loaded = app.load(source, &recorder);
    tell(&loaded.findings, journal, pictures);
    let (boot, config) = loaded.outcome.ok_or(Said)?;
    let bundle = recorder.into_bundle().to_bytes();
    Ok(Recorded { boot, config, bundle, files: ordered.files.into_inner() })
}

fn tell(findings: &[Finding], journal: &Journal, pictures: Pictures) {
    let mut drawn = String::new();
    for finding in findings {
        journal.say(finding.level, format_args!("{}", finding.line));
        if pictures == Pictures::Drawn && !finding.picture.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(drawn, "\n{}", finding.picture.trim_end());
        }
    }
    // The lines first and together, so that tools which read the first line find what they know.
    let _ = io::Write::write_all(&mut io::stderr(), drawn.as_bytes());
}

/// Reads from the disk and notes each file in the order in which the configuration asked for it.
struct InOrder {
    files: RefCell<Vec<(PathBuf, Vec<u8>)>>,
}

impl Loader for InOrder {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = Disk.read(path)?;
        self.files.borrow_mut().push((path.to_owned(), bytes.clone()));
        Ok(bytes)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.glob(pattern)
    }
}
