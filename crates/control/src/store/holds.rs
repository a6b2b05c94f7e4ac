//! The holds that outlive a process: a file for each, in a folder beside the store.
//!
//! Owns the files `live.db-holds/…`. They are no part of the store: a hold has no revision, and a damaged or full store
//! neither loses one nor keeps one from ending. A hold is durable once its file is; its file is removed after it has ended.
//! Must never decide what becomes of a hold.

use super::fault;
use super::files::{beside, sync_folder};
use super::lock::Lock;
use crate::plain_file;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use switch::{ClockReading, Deadline, StoreFault};

/// The maximum size of a file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A hold as it is kept. A field that this version does not know is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHold {
    /// Different for each hold.
    pub id: String,
    /// Its key.
    pub key: String,
    /// The maximum number of waiting requests.
    pub max: usize,
    /// The longest time that a request waits, in ms.
    pub timeout_ms: u64,
    /// The maximum bytes of waiting requests.
    pub max_bytes: usize,
    /// When it began, in ms since 1970 UTC.
    pub since_ms: u64,
    /// Who placed it.
    pub actor: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// When it ends by itself, and how.
    #[serde(default)]
    pub end: Option<KeptEnd>,
    /// The order that it belongs to.
    #[serde(default)]
    pub order: Option<KeptOrder>,
    /// Its time was over, and it turns requests away.
    #[serde(default)]
    pub refusing: bool,
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptEnd {
    /// In ms since 1970 UTC.
    pub wall_ms: u64,
    /// The same by the clock of its boot ([`switch::BootTime`]).
    #[serde(default)]
    pub boot: Option<String>,
    /// The time from its beginning, in ms.
    pub span_ms: u64,
    /// Requests go on then; otherwise they are turned away.
    #[serde(default)]
    pub releases: bool,
}

/// The order that a hold belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOrder {
    /// The process that carries it out.
    pub owner: String,
    /// Its idempotency key.
    #[serde(default)]
    pub idempotency: Option<String>,
    /// The revision of the table when it began.
    pub revision: u64,
    /// Where it leads keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// The route that it gives this key, or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Streams that it would leave behind are closed before it is committed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closes_streams: bool,
}

/// All that is found.
#[derive(Debug, Default)]
pub struct KeptHolds {
    /// The holds.
    pub holds: Vec<KeptHold>,
    /// Files that cannot be read.
    pub faults: Vec<StoreFault>,
    /// The folder cannot be read, so that it is not known what is held.
    pub folder_fault: Option<StoreFault>,
}

impl KeptEnd {
    /// Returns the end of a hold that begins now.
    pub fn after(span_ms: u64, releases: bool, now: ClockReading) -> KeptEnd {
        let Deadline { wall_ms, boot, span_ms } = Deadline::after(span_ms, now);
        KeptEnd { wall_ms, boot: boot.map(|boot| boot.to_string()), span_ms, releases }
    }

    /// Returns how much time is left.
    pub fn left_ms(&self, now: ClockReading) -> u64 {
        let boot = self.boot.as_ref().and_then(|text| text.parse().ok());
        Deadline { wall_ms: self.wall_ms, boot, span_ms: self.span_ms }.left_ms(now)
    }
}

/// Returns the folder of a store's holds.
pub(crate) fn folder(store: &Path) -> PathBuf {
    beside(store, "-holds")
}

fn path_of(store: &Path, key: &str) -> PathBuf {
    let sum = Sha256::digest(key);
    let name: String = sum[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    folder(store).join(name)
}

/// Reads all holds of a store. A file that another process removes meanwhile is none. What cannot be read is no error.
pub(super) fn read_all(store: &Path) -> KeptHolds {
    let folder = folder(store);
    let mut found = KeptHolds::default();
    let files = match fs::read_dir(&folder) {
        Ok(files) => files,
        Err(_) if plain_file::is_absent(&folder) => return found,
        Err(error) => {
            found.folder_fault = Some(fault::holds(&folder, &error));
            return found;
        }
    };
    for file in files {
        let path = match file {
            Ok(file) => file.path(),
            Err(error) => {
                found.folder_fault = Some(fault::holds(&folder, &error));
                break;
            }
        };
        if is_draft(&path) {
            continue;
        }
        match read(&path) {
            Ok(hold) => found.holds.extend(hold),
            Err(error) => found.faults.push(fault::hold(&path, &error)),
        }
    }
    found.holds.sort_by(|a, b| (a.since_ms, &a.key).cmp(&(b.since_ms, &b.key)));
    found
}

/// Keeps a hold. Returns false if its key has another one already, which is none of those that are over.
pub(super) fn place(store: &Path, hold: &KeptHold, over: &[String]) -> Result<bool, StoreFault> {
    let path = path_of(store, &hold.key);
    let _lock = Lock::take(store)?;
    let there = read(&path).map_err(|error| fault::hold(&path, &error))?;
    if there.is_some_and(|there| !over.contains(&there.id)) {
        return Ok(false);
    }
    write(store, &path, hold).map_err(|error| fault::system(&path, "written", &error))?;
    Ok(true)
}

/// Notes that a hold turns requests away. Returns false if it is gone, or that is noted.
pub(super) fn note_refusing(store: &Path, hold: &KeptHold) -> Result<bool, StoreFault> {
    let path = path_of(store, &hold.key);
    let _lock = Lock::take(store)?;
    match read(&path).map_err(|error| fault::hold(&path, &error))? {
        Some(there) if there.id == hold.id && !there.refusing => {
            let refusing = KeptHold { refusing: true, ..there };
            write(store, &path, &refusing).map_err(|error| fault::system(&path, "written", &error))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Removes a hold. Returns false if it is gone.
pub(super) fn remove(store: &Path, hold: &KeptHold) -> Result<bool, StoreFault> {
    let path = path_of(store, &hold.key);
    let _lock = Lock::take(store)?;
    let there = read(&path).map_err(|error| fault::hold(&path, &error))?;
    if there.is_none_or(|there| there.id != hold.id) {
        return Ok(false);
    }
    let removed = fs::remove_file(&path).and_then(|()| sync_folder(&path));
    removed.map_err(|error| fault::system(&path, "removed", &error))?;
    Ok(true)
}

fn is_draft(path: &Path) -> bool {
    path.extension().is_some()
}

fn read(path: &Path) -> io::Result<Option<KeptHold>> {
    let file = match plain_file::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    match text.len() as u64 {
        0..=MAX_BYTES => Ok(Some(serde_json::from_slice(&text)?)),
        _ => Err(io::Error::other("it is too large")),
    }
}

/// Writes a file: after a crash there is the old one or the new one.
fn write(store: &Path, path: &Path, hold: &KeptHold) -> io::Result<()> {
    let folder = folder(store);
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => sync_folder(&folder)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = serde_json::to_vec(hold)
        .map_err(io::Error::from)
        .and_then(|text| file.write_all(&text))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| File::open(&folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(id: &str, key: &str) -> KeptHold {
        KeptHold {
            id: id.into(),
            key: key.into(),
            max: 10,
            timeout_ms: 20,
            max_bytes: 30,
            since_ms: 40,
            actor: "ann".into(),
            reason: Some("because".into()),
            end: Some(KeptEnd::after(50, true, 60.into())),
            order: Some(KeptOrder {
                owner: "me".into(),
                idempotency: Some("k".into()),
                revision: 7,
                targets: vec!["green".into()],
                route: Some("green".into()),
                closes_streams: true,
            }),
            refusing: false,
        }
    }

    #[test]
    fn holds_are_kept_found_and_removed() {
        let place_of = tempfile::tempdir().unwrap();
        let store = place_of.path().join("live.db");
        assert!(read_all(&store).holds.is_empty());
        // No key is a path.
        let keys = ["", "a.example", "../../etc", &"x/".repeat(4_000)];
        for key in keys {
            assert!(place(&store, &hold("1", key), &[]).unwrap(), "{key}");
            assert!(!place(&store, &hold("2", key), &["3".into()]).unwrap(), "{key}");
        }
        let mut found = read_all(&store);
        assert!(found.faults.is_empty());
        assert_eq!(found.holds.len(), keys.len());
        assert_eq!(found.holds.remove(0), hold("1", ""));
        assert!(place(&store, &hold("2", ""), &["1".into()]).unwrap(), "the one before is over");
        assert!(!remove(&store, &hold("1", "")).unwrap(), "it is another one's");
        assert!(remove(&store, &hold("2", "")).unwrap());
        assert!(!remove(&store, &hold("2", "")).unwrap());
        assert_eq!(read_all(&store).holds.len(), keys.len() - 1);
    }

    #[test]
    fn a_hold_is_noted_as_refusing_once_and_never_comes_back_by_that() {
        let place_of = tempfile::tempdir().unwrap();
        let store = place_of.path().join("live.db");
        assert!(!note_refusing(&store, &hold("1", "a")).unwrap());
        assert!(read_all(&store).holds.is_empty());
        place(&store, &hold("1", "a"), &[]).unwrap();
        assert!(!note_refusing(&store, &hold("2", "a")).unwrap());
        assert!(note_refusing(&store, &hold("1", "a")).unwrap());
        assert!(!note_refusing(&store, &hold("1", "a")).unwrap());
        assert!(read_all(&store).holds[0].refusing);
    }

    #[test]
    fn a_file_that_is_no_hold_is_said_and_the_others_are_found() {
        let place_of = tempfile::tempdir().unwrap();
        let store = place_of.path().join("live.db");
        place(&store, &hold("1", "a"), &[]).unwrap();
        place(&store, &hold("2", "b"), &[]).unwrap();
        let path = path_of(&store, "b");
        fs::write(&path, "{").unwrap();
        // What a crash has left while it wrote.
        fs::write(path_of(&store, "c").with_extension("new"), "{").unwrap();
        let found = read_all(&store);
        assert_eq!((found.holds.len(), found.faults.len()), (1, 1));
        let fault = &found.faults[0];
        assert!(fault.text.contains(path.to_str().unwrap()), "{fault}");
    }

    #[test]
    fn a_newer_program_s_field_is_ignored() {
        let text = r#"{"id":"1","key":"a","max":1,"timeout_ms":2,"max_bytes":3,"since_ms":4,"actor":"ann","colour":"red"}"#;
        let hold: KeptHold = serde_json::from_str(text).unwrap();
        assert_eq!((hold.end, hold.order, hold.refusing), (None, None, false));
    }
}
