//! Backups of a store, and putting one in the place of a store.
//!
//! Owns: that a backup is verified before it is trusted, and that a restore is a commit of its own in a new epoch, with a
//! revision that no commit before it has had. Must never: lose the file that is replaced, or run in a process that has the
//! store open: SQLite's locks would be dropped.
//!
//! The second file is replaced first. If the machine stops between the two, the store is behind it, takes no orders, and
//! traffic follows the second file, which is what was restored: the same restore is then repeated.

use super::StoreBackend;
use super::acting_user::ActingUser;
use super::anchor;
use super::fault;
use super::file_store::rewrite;
use super::files::{beside, sync_folder};
use super::lock::Lock;
use super::sqlite::SqliteStore;
use super::verdict::{StoreSide, Verdict, judge};
use nix::fcntl::OFlag;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use switch::{Chain, Commit, CommitKind, Hash, KeyKind, Store, StoreFault, StoreFaultKind};
use tempfile::TempDir;

/// The number of commits that are read at a time.
const PAGE: usize = 512;

/// Who restores, and why.
#[derive(Clone, Debug)]
pub struct RestoreOrder {
    /// The actor.
    pub actor: String,
    /// The reason.
    pub reason: Option<String>,
    /// The time, in ms since 1970 UTC.
    pub now_ms: u64,
}

/// The result of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The revision of the table that was restored.
    pub from: u64,
    /// The revision of the commit that records it.
    pub revision: u64,
    /// Its hash.
    pub hash: Hash,
    /// The epoch that begins with it.
    pub epoch: u64,
    /// The highest revision of what was replaced, as far as it could be read.
    pub replaced: u64,
    /// Where the file that was replaced is kept, if there was one.
    pub kept: Option<PathBuf>,
}

/// Verifies a backup: every page, the table, and the whole chain of its history. Returns the end of the chain. The file is
/// not changed.
///
/// # Errors
/// It is not a whole store.
pub fn verify_backup(file: &Path) -> Result<Chain, StoreFault> {
    let failed = |error: io::Error| fault::system(file, "read", &error);
    let backup = open_backup(file).map_err(failed)?;
    let _acting = ActingUser::beside(file).map_err(failed)?;
    let draft = Draft::copy_of(backup, file)?;
    let mut sqlite = SqliteStore::open(&draft.file, KeyKind::Host)?;
    check_whole(&mut sqlite)
}

/// Puts a backup in the place of a store, or without one accepts the store as it is. The server takes it up when it is
/// started, or by a reload.
///
/// # Errors
/// The backup is not whole, or the files cannot be written. What was there before is untouched then.
pub fn restore(path: &Path, backup: Option<&Path>, order: &RestoreOrder) -> Result<Restored, StoreFault> {
    let failed = |what: &'static str| move |error: io::Error| fault::system(path, what, &error);
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    if let Some(backup) = backup
        && identity(backup).is_some_and(|found| Some(found) == identity(path))
    {
        return Err(fault::same(path));
    }
    // The one that restores may read a backup that the user of the store may not.
    let opened = backup
        .map(|backup| open_backup(backup).map_err(|error| fault::unreadable_backup(backup, &error)))
        .transpose()?;
    let _acting = ActingUser::beside(path).map_err(failed("written"))?;
    let _lock = Lock::take(path)?;
    let second = match anchor::read(path, false) {
        // What is no file vouches for nothing, and is replaced.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Some(anchor::Content::default()),
        second => second.map_err(failed("read"))?,
    };
    let is_there = path.symlink_metadata().is_ok();
    // Damage in what is replaced is why it is replaced.
    let present = if is_there { SqliteStore::open(path, KeyKind::Host) } else { Err(fault::missing(path)) };
    let present_end =
        present.as_ref().ok().and_then(|sqlite| sqlite.head().ok()).map_or(0, |head| head.revision);
    let kind = present.as_ref().ok().filter(|_| present_end > 0).map(|sqlite| sqlite.key_kind());
    let draft = match (opened, present) {
        (Some(backup), _) => Draft::copy_of(backup, path)?,
        (None, Ok(sqlite)) => Draft::of_store(&sqlite, path)?,
        (None, Err(fault)) => return Err(fault),
    };
    let whole = SqliteStore::open(&draft.file, KeyKind::Host).and_then(|mut sqlite| {
        let from = check_whole(&mut sqlite)?;
        Ok((sqlite, from))
    });
    let (mut sqlite, from) = match (whole, backup) {
        (Err(fault), Some(backup)) => return Err(fault::no_backup(backup, &fault)),
        (whole, _) => whole?,
    };
    if let (Some(kind), Some(backup)) = (kind, backup)
        && sqlite.key_kind() != kind
    {
        return Err(fault::other_keys(backup, sqlite.key_kind()));
    }
    if backup.is_none() {
        let last = second.as_ref().and_then(|content| content.last);
        let side = StoreSide::of(&sqlite, last)?;
        if matches!(judge(Some(&side), second.as_ref()), Verdict::Sound { .. }) {
            return Err(fault::nothing_to_accept(path));
        }
    }
    let second = second.unwrap_or_default();
    let replaced = present_end.max(second.last.map_or(0, |last| last.revision));
    let epoch = sqlite.head()?.epoch.max(second.epoch) + 1;
    let commit = commit(from, replaced, epoch, order);
    sqlite.commit(&commit)?;
    sqlite.set_epoch(epoch)?;
    drop(rewrite(&mut sqlite, path)?);
    drop(sqlite);
    let kept = is_there.then(|| beside(path, &format!(".replaced-{}", epoch - 1)));
    if let Some(kept) = &kept {
        fs::rename(path, kept).map_err(failed("moved"))?;
    }
    for ending in ["-wal", "-shm"] {
        // A log of the old file must not be applied to the new one.
        match fs::remove_file(beside(path, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("removed")(error)),
            _ => {}
        }
    }
    fs::rename(&draft.file, path).map_err(failed("written"))?;
    sync_folder(path).map_err(failed("written"))?;
    Ok(Restored { from: from.revision, revision: commit.revision, hash: commit.hash, epoch, replaced, kept })
}

/// Returns the commit that records a restore.
fn commit(from: Chain, replaced: u64, epoch: u64, order: &RestoreOrder) -> Commit {
    let extra = [("epoch", epoch), ("restored_revision", from.revision), ("replaced_revision", replaced)];
    let commit = Commit {
        revision: from.revision.max(replaced) + 1,
        time_ms: order.now_ms,
        kind: CommitKind::Restore,
        actor: order.actor.clone(),
        reason: order.reason.clone(),
        idempotency: None,
        forced: false,
        confirm_by_ms: None,
        changes: Vec::new(),
        subjects: Vec::new(),
        extra: extra
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        gate: Vec::new(),
        previous: from.hash,
        hash: Hash::ZERO,
    };
    commit.sealed()
}

/// Verifies a store as a whole, and returns the end of its history.
fn check_whole(sqlite: &mut SqliteStore) -> Result<Chain, StoreFault> {
    sqlite.load()?;
    let mut chain = Chain::start();
    loop {
        let page = sqlite.page(chain.revision, PAGE)?;
        for commit in &page {
            chain.follow(commit).map_err(|found| sqlite.damaged(&found.to_string()))?;
        }
        if page.len() < PAGE {
            break;
        }
    }
    let head = sqlite.head()?;
    if (head.revision, head.hash) != (chain.revision, chain.hash) {
        return Err(sqlite.damaged("the history does not end at the recorded head"));
    }
    Ok(chain)
}

/// Opens a backup, which may be a link, but not what would block.
fn open_backup(file: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(file)?;
    match opened.metadata()?.is_file() {
        true => Ok(opened),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// A copy that is checked before it takes a place. It is removed unless it has taken it.
struct Draft {
    file: PathBuf,
    /// It is the only one in it, so that no other user has put anything beside it.
    _folder: TempDir,
}

impl Draft {
    /// Copies a backup, to the folder of this file.
    fn copy_of(mut backup: File, beside: &Path) -> Result<Draft, StoreFault> {
        let mut copied = || -> io::Result<Draft> {
            let draft = Draft::begin(beside)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.file)?;
            io::copy(&mut backup, &mut file)?;
            file.sync_all()?;
            Ok(draft)
        };
        copied().map_err(|error| fault::system(beside, "copied", &error))
    }

    fn of_store(sqlite: &SqliteStore, beside: &Path) -> Result<Draft, StoreFault> {
        let draft = Draft::begin(beside).map_err(|error| fault::system(beside, "copied", &error))?;
        sqlite.copy_into(&draft.file)?;
        Ok(draft)
    }

    fn begin(beside: &Path) -> io::Result<Draft> {
        let folder = beside.parent().filter(|folder| !folder.as_os_str().is_empty());
        Draft::begin_in(folder.unwrap_or(Path::new(".")))
    }

    fn begin_in(folder: &Path) -> io::Result<Draft> {
        let mut folders = tempfile::Builder::new();
        let folder =
            folders.prefix(".pointsman-").permissions(Permissions::from_mode(0o700)).tempdir_in(folder)?;
        Ok(Draft { file: folder.path().join("draft.db"), _folder: folder })
    }
}

impl SqliteStore {
    /// Returns the whole store as the bytes of a file.
    pub(super) fn backup_bytes(&self, path: &Path) -> Result<Vec<u8>, StoreFault> {
        let copy = |draft: Draft| {
            self.copy_into(&draft.file)?;
            fs::read(&draft.file).map_err(|error| fault::system(&draft.file, "read", &error))
        };
        let copied = Draft::begin(path).map_err(|error| fault::system(path, "copied", &error)).and_then(copy);
        copied.or_else(|fault| {
            // The disk of the store may be full: that is a reason to make a backup elsewhere.
            let elsewhere = Draft::begin_in(&std::env::temp_dir()).ok().map(copy);
            elsewhere.and_then(Result::ok).ok_or_else(|| StoreFault {
                remedy: format!(
                    "make room beside {} or in {}, where the copy is made",
                    path.display(),
                    std::env::temp_dir().display()
                ),
                ..fault
            })
        })
    }
}

/// Returns the fault of a store that has no file to be backed up.
pub(super) fn not_backed_up(what: &str, remedy: &str) -> StoreFault {
    StoreFault {
        kind: StoreFaultKind::Unreadable,
        text: format!("there is nothing to back up: {what}"),
        remedy: remedy.to_owned(),
    }
}
