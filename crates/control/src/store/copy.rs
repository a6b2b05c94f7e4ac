//! A copy of a store's files, to look at a store that another program may have open.
//!
//! Owns: the private folder of the copy, which is removed with it. Must never: open the original with SQLite, which would
//! create files beside it.

use super::{FileStore, fault};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use switch::{KeyKind, StoreFault};
use tempfile::TempDir;

/// A store's files, copied.
pub(crate) struct StoreCopy {
    folder: TempDir,
    name: PathBuf,
    original: PathBuf,
}

impl StoreCopy {
    /// Copies the store at this path, with the files whose names begin with its own; `None` if there is none.
    ///
    /// # Errors
    /// The files cannot be read, or the copy cannot be written.
    pub(crate) fn of(path: &Path) -> Result<Option<StoreCopy>, StoreFault> {
        let copy = || -> io::Result<Option<StoreCopy>> {
            let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Ok(None) };
            match fs::metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                found => found?,
            };
            let folder = tempfile::Builder::new().prefix("pointsman-").tempdir()?;
            let prefix = name.as_encoded_bytes();
            for entry in fs::read_dir(parent)? {
                let entry = entry?;
                let file = entry.file_name();
                let Some(ending) = file.as_encoded_bytes().strip_prefix(prefix) else { continue };
                // The index in shared memory and the lock belong to the processes that have it open.
                let is_part = [&b""[..], b"-wal", b"-anchor"].contains(&ending);
                if is_part && entry.file_type()?.is_file() {
                    fs::copy(entry.path(), folder.path().join(&file))?;
                }
            }
            Ok(Some(StoreCopy { folder, name: name.into(), original: path.to_owned() }))
        };
        copy().map_err(|error| fault::system(path, "copied", &error))
    }

    /// Opens the copy.
    ///
    /// # Errors
    /// It is damaged, or not a store.
    pub(crate) fn open(&self) -> Result<FileStore, StoreFault> {
        // The kind is for new stores.
        let copy = self.folder.path().join(&self.name);
        FileStore::open(&copy, KeyKind::Text).map_err(|fault| self.of_original(fault))
    }

    /// Returns a fault of the copy as one of the original.
    pub(crate) fn of_original(&self, fault: StoreFault) -> StoreFault {
        let copy = self.folder.path().join(&self.name).display().to_string();
        let original = self.original.display().to_string();
        let named = |text: String| text.replace(&copy, &original);
        StoreFault { kind: fault.kind, text: named(fault.text), remedy: named(fault.remedy) }
    }
}
