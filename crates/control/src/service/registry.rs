//! The record of switches that have entries or history: a file beside their stores.
//!
//! Owns: the file `switches.json` of a folder with stores, which names each switch and its store. A configuration that no
//! longer has one of them is recognised by it, at a reload and at a start. Must never: keep a switch from working; a
//! record that cannot be read or written is logged, and made again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The name of the file.
const FILE: &str = "switches.json";
/// The maximum size of the file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// A switch that has been used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its name.
    pub(super) name: String,
    /// Its store.
    pub(super) path: PathBuf,
}

/// Reads the records of a folder. A folder or file that does not exist has none.
///
/// # Errors
/// The file cannot be read, or is not what this module writes.
pub(super) fn read(folder: &Path) -> io::Result<Vec<Record>> {
    let path = folder.join(FILE);
    let found = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    if !found.is_file() || found.len() > MAX_BYTES {
        return Err(io::Error::other("it is not a small regular file"));
    }
    let names: BTreeMap<String, PathBuf> = serde_json::from_slice(&fs::read(path)?)?;
    let records = names.into_iter().map(|(name, file)| Record { name, path: folder.join(file) });
    Ok(records.collect())
}

/// Records and forgets switches whose stores are in this folder; a record of a store replaces that of the store's former
/// name. Writes only what differs.
///
/// # Errors
/// The file cannot be written.
pub(super) fn update(folder: &Path, used: &[Record], forgotten: &[Record]) -> io::Result<()> {
    let (known, damaged) = match read(folder) {
        Ok(known) => (known, false),
        Err(_) => (Vec::new(), true),
    };
    let replaced = |old: &Record| {
        forgotten.contains(old) || used.iter().any(|new| new.path == old.path || new.name == old.name)
    };
    let mut names: BTreeMap<&str, &Path> = BTreeMap::new();
    for record in known.iter().filter(|old| !replaced(old)).chain(used) {
        if let Some(file) =
            record.path.strip_prefix(folder).ok().filter(|file| file.components().count() == 1)
        {
            names.insert(&record.name, file);
        }
    }
    let is_same = names.len() == known.len()
        && known.iter().all(|old| names.get(&*old.name).is_some_and(|file| folder.join(file) == old.path));
    if is_same && !damaged {
        return Ok(());
    }
    let mut text = serde_json::to_vec_pretty(&names)?;
    text.push(b'\n');
    replace(&folder.join(FILE), &text)
}

/// Records a switch.
///
/// # Errors
/// The file cannot be written.
pub(super) fn record(record: Record) -> io::Result<()> {
    let folder = record.path.parent().unwrap_or(Path::new("/")).to_owned();
    update(&folder, &[record], &[])
}

/// Replaces a file: after a crash there is the old one or the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("new.{}", std::process::id()));
    // One that a killed process of the same pid has left.
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file.write_all(text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(folder: &Path, name: &str, file: &str) -> Record {
        Record { name: name.to_owned(), path: folder.join(file) }
    }

    #[test]
    fn records_are_kept_replaced_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let live = record(folder, "live", "live.db");
        let other = record(folder, "other", "o.db");
        assert_eq!(read(folder).unwrap(), []);
        update(folder, std::slice::from_ref(&live), &[]).unwrap();
        update(folder, std::slice::from_ref(&other), &[]).unwrap();
        assert_eq!(read(folder).unwrap(), [live.clone(), other.clone()]);
        let renamed = record(folder, "shop", "live.db");
        update(folder, std::slice::from_ref(&renamed), &[]).unwrap();
        assert_eq!(read(folder).unwrap(), [other.clone(), renamed.clone()]);
        update(folder, &[], &[renamed]).unwrap();
        assert_eq!(read(folder).unwrap(), std::slice::from_ref(&other));
        let moved = record(folder, "other", "p.db");
        update(folder, &[moved.clone(), record(Path::new("/elsewhere"), "far", "far.db")], &[]).unwrap();
        assert_eq!(read(folder).unwrap(), [moved]);
    }

    #[test]
    fn a_damaged_file_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let live = record(folder.path(), "live", "live.db");
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(read(folder.path()).is_err());
        update(folder.path(), std::slice::from_ref(&live), &[]).unwrap();
        assert_eq!(read(folder.path()).unwrap(), [live]);
    }

    #[test]
    fn an_unchanged_record_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let live = [record(folder.path(), "live", "live.db")];
        update(folder.path(), &live, &[]).unwrap();
        let written = fs::metadata(folder.path().join(FILE)).unwrap();
        update(folder.path(), &live, &[]).unwrap();
        let still = fs::metadata(folder.path().join(FILE)).unwrap();
        assert_eq!(
            std::os::unix::fs::MetadataExt::ino(&written),
            std::os::unix::fs::MetadataExt::ino(&still)
        );
    }
}
