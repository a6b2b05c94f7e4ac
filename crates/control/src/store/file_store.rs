//! A switch's store on disk: the file with SQLite, and the second file beside it.
//!
//! Owns: that both are written as one, under a lock; whether the store takes orders; and which of the two files the table
//! comes from. Must never: take an order while it is not known that everything acknowledged is there, or hand out an
//! earlier table without saying so ([`judge`]).

use super::anchor::{self, Anchor, Content, Draft};
use super::lock::Lock;
use super::schema::Format;
use super::sqlite::{Contents, SqliteStore};
use super::verdict::{StoreSide, Verdict, judge};
use super::{KeptHold, KeptHolds, StoreBackend, UnchangedOrder, fault, holds, opening};
use crate::plain_file;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use switch::{Chain, Change, Commit, Filter, Key, KeyKind, Loaded, Store, StoreFault, StoreFaultKind};

/// How often the whole file is checked in quiet times.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// A switch's store on disk.
pub struct FileStore {
    path: PathBuf,
    kind: KeyKind,
    /// `None` if it cannot be used.
    sqlite: Option<SqliteStore>,
    /// `None` while the file has format 1, and if there is damage.
    anchor: Option<Anchor>,
    /// Why orders are refused.
    damage: Option<StoreFault>,
    /// The table, until it is asked for; `None` also if there is none to be trusted.
    loaded: Option<Loaded>,
    /// The newest commits, if they come from the second file.
    newest: Vec<Commit>,
    warnings: Vec<StoreFault>,
    /// It could not be used for a reason that may pass.
    wants_retry: bool,
    /// That has passed, and what was loaded before is not what it holds.
    is_reopened: bool,
    /// When the whole file was last checked.
    checked: Instant,
    /// Something was written since.
    is_dirty: bool,
    /// The store's head is known to say that there is a second file.
    is_anchored: bool,
}

impl FileStore {
    /// Opens a store and its second file; creates them if there is neither. An existing store decides the kind of keys, else
    /// `kind`. A damaged store is opened too: it takes no orders, and says why ([`StoreBackend::damage`]).
    ///
    /// # Errors
    /// The store cannot be used, and it was none as far as can be seen: it cannot be created, is another program's, or a newer
    /// version's, and there is no second file. The path in the configuration may be wrong.
    pub fn open(path: &Path, kind: KeyKind) -> Result<FileStore, StoreFault> {
        let mut store = FileStore {
            path: path.to_owned(),
            kind,
            sqlite: None,
            anchor: None,
            damage: None,
            loaded: None,
            newest: Vec::new(),
            warnings: Vec::new(),
            wants_retry: false,
            is_reopened: false,
            checked: Instant::now(),
            is_dirty: false,
            is_anchored: false,
        };
        store.take_up()?;
        Ok(store)
    }

    /// Opens both files and decides which to trust.
    fn take_up(&mut self) -> Result<(), StoreFault> {
        self.is_anchored = false;
        let lock = Lock::take(&self.path);
        let anchor = anchor::read(&self.path, false)
            .map_err(|error| fault::system(&anchor::path_of(&self.path), "read", &error));
        let has_second = !plain_file::is_absent(&anchor::path_of(&self.path));
        let opened = if plain_file::is_absent(&self.path) && has_second {
            Err(fault::damaged_at(
                &self.path.display().to_string(),
                "it is gone, and its second file is there",
            ))
        } else {
            SqliteStore::open(&self.path, self.kind)
        };
        let last = anchor.as_ref().ok().and_then(|content| content.as_ref()?.last);
        let opened = opened.and_then(|mut sqlite| {
            let loaded = sqlite.load()?;
            let side = StoreSide::of(&sqlite, last)?;
            Ok((sqlite, loaded, side))
        });
        self.wants_retry = match &opened {
            Ok(_) => lock.is_err(),
            Err(fault) => fault.kind != StoreFaultKind::Damaged,
        };
        match opened {
            Ok((sqlite, loaded, _)) if sqlite.format() == Format::One => {
                (self.kind, self.loaded, self.sqlite) = (sqlite.key_kind(), Some(loaded), Some(sqlite));
                self.damage = None;
                Ok(())
            }
            Ok((sqlite, loaded, side)) => self.compare(sqlite, loaded, &side, anchor, lock.as_ref().err()),
            Err(fault) => self.go_without(fault, anchor.ok().flatten()),
        }
    }

    /// Decides about a store that can be read. Without the lock nothing is written.
    fn compare(
        &mut self,
        sqlite: SqliteStore,
        loaded: Loaded,
        side: &StoreSide,
        anchor: Result<Option<Content>, StoreFault>,
        unlocked: Option<&StoreFault>,
    ) -> Result<(), StoreFault> {
        let content = match anchor {
            Ok(content) => content,
            Err(fault) => {
                self.warnings.push(fault);
                Some(Content::default())
            }
        };
        let shown = self.path.display().to_string();
        self.kind = sqlite.key_kind();
        match judge(Some(side), content.as_ref()) {
            Verdict::Sound { .. } if unlocked.is_some() => {
                (self.loaded, self.sqlite) = (Some(loaded), Some(sqlite));
                self.damage = unlocked.cloned().map(fault::unlocked);
            }
            Verdict::Sound { rewrite } => {
                (self.loaded, self.sqlite, self.damage) = (Some(loaded), Some(sqlite), None);
                if rewrite && side.head.anchored {
                    self.warnings.push(fault::anchor_rewritten(&self.path));
                }
                let opened = content.filter(|_| !rewrite).map(|content| Anchor::open(&self.path, &content));
                self.anchor = opened.and_then(Result::ok);
                // A file that cannot be written is reported, and refuses the next order.
                if let Err(fault) = self.bring_up() {
                    self.warnings.push(fault);
                }
            }
            Verdict::Store(what) => {
                (self.loaded, self.sqlite) = (Some(loaded), Some(sqlite));
                self.damage = Some(fault::unvouched(&shown, &what));
            }
            Verdict::Anchor(what) | Verdict::Neither(what) => {
                return self.go_without(fault::damaged_at(&shown, &what), content);
            }
        }
        Ok(())
    }

    /// Takes the table from the second file, if that can be trusted.
    fn go_without(&mut self, fault: StoreFault, content: Option<Content>) -> Result<(), StoreFault> {
        self.sqlite = None;
        // The entries are read only now: nearly always they are not needed.
        let content = match content {
            Some(content) if content.is_whole => anchor::read(&self.path, true).ok().flatten(),
            _ => None,
        };
        match content {
            Some(Content { loaded: Some(loaded), commits, kind, .. }) => {
                self.kind = kind.unwrap_or(self.kind);
                (self.loaded, self.newest) = (Some(loaded), commits);
                self.newest.reverse();
            }
            _ if fault.kind == StoreFaultKind::Damaged || opening::was_there(&self.path, &fault) => {
                self.loaded = None
            }
            // The fault may be one of the configuration, such as a wrong path.
            _ => return Err(fault),
        }
        self.damage = Some(fault::without(fault, self.loaded.as_ref().map(|loaded| loaded.table.revision())));
        Ok(())
    }

    /// Returns true if the second file ends where this commit begins. If the store does not, it refuses the commit.
    fn ends_before(&self, commit: &Commit) -> bool {
        let before = Chain { revision: commit.revision.wrapping_sub(1), hash: commit.previous };
        let ends_there = |anchor: &Anchor| anchor.chain() == before && anchor.is_current();
        self.is_anchored && self.anchor.as_ref().is_some_and(ends_there)
    }

    /// Makes the second file hold what the store holds.
    fn bring_up(&mut self) -> Result<(), StoreFault> {
        let Some(sqlite) = &mut self.sqlite else { return Ok(()) };
        sqlite.before_use();
        let failed = |error| fault::anchor(&anchor::path_of(&self.path), &error);
        let known = self.anchor.as_ref().map(Anchor::chain);
        if self.anchor.as_ref().is_some_and(Anchor::is_current) {
            // Nearly always: both end alike.
            let head = sqlite.head()?;
            if head.anchored && known == Some(Chain { revision: head.revision, hash: head.hash }) {
                self.is_anchored = true;
                return Ok(());
            }
        }
        check_holds(sqlite, &self.path, known)?;
        if !self.anchor.as_ref().is_some_and(Anchor::is_current) {
            // Another process has written, or a write has failed.
            self.anchor = None;
            let content = anchor::read(&self.path, false).map_err(failed)?;
            let last = content.as_ref().and_then(|content| content.last);
            let verdict = match &content {
                // What is gone was known to this process.
                None if known.is_some() => Verdict::Sound { rewrite: true },
                content => judge(Some(&StoreSide::of(sqlite, last)?), content.as_ref()),
            };
            let opened = match (verdict, content) {
                (Verdict::Sound { rewrite: false }, Some(content)) => {
                    Anchor::open(&self.path, &content).map_err(failed)?
                }
                (Verdict::Sound { .. }, _) => rewrite(sqlite, &self.path)?,
                (Verdict::Store(what) | Verdict::Anchor(what) | Verdict::Neither(what), _) => {
                    return Err(fault::unvouched(&self.path.display().to_string(), &what));
                }
            };
            self.anchor = Some(opened);
        }
        let Some(anchor) = &mut self.anchor else { return Ok(()) };
        for commit in sqlite.since(anchor.chain().revision)? {
            anchor.append(&commit).map_err(failed)?;
        }
        if !sqlite.head()?.anchored {
            sqlite.set_anchored()?;
        }
        self.is_anchored = true;
        Ok(())
    }

    /// Refuses everything if there is damage.
    fn sound(&mut self) -> Result<&mut SqliteStore, StoreFault> {
        match (&self.damage, &mut self.sqlite) {
            (None, Some(sqlite)) => {
                sqlite.before_use();
                Ok(sqlite)
            }
            (Some(fault), _) => Err(fault.clone()),
            (None, None) => Err(fault::damaged_at(&self.path.display().to_string(), "it is not open")),
        }
    }

    /// Remembers damage: orders are refused from now on.
    fn note<T>(&mut self, result: Result<T, StoreFault>) -> Result<T, StoreFault> {
        if let Err(fault) = &result
            && fault.kind == StoreFaultKind::Damaged
            && self.damage.is_none()
        {
            self.damage = Some(fault.clone());
        }
        result
    }

    fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut SqliteStore) -> Result<T, StoreFault>,
    ) -> Result<T, StoreFault> {
        let answer = self.sound().and_then(ask);
        self.note(answer)
    }

    /// Commits to both files. The lock is held.
    fn commit_both(&mut self, commit: &Commit) -> Result<(), StoreFault> {
        if !self.ends_before(commit) {
            self.bring_up()?;
        }
        let path = anchor::path_of(&self.path);
        let sqlite = self.sound()?;
        if let Err(fault) = sqlite.commit(commit) {
            // A commit whose success was not heard of is one all the same.
            let own = Chain { revision: commit.revision, hash: commit.hash };
            if fault.kind == StoreFaultKind::Conflict || !sqlite.holds(own).unwrap_or(false) {
                return Err(fault);
            }
        }
        // It is durable, and is answered as committed, whatever follows.
        let checked = sqlite.check_commit(commit);
        let appended = match &mut self.anchor {
            Some(anchor) => anchor.append(commit),
            None => Err(std::io::Error::other("it is not open")),
        };
        if let Err(error) = appended {
            self.warnings.push(fault::anchor(&path, &error));
        }
        if let Err(fault) = self.note(checked) {
            self.warnings.push(fault);
        }
        if self.anchor.as_ref().is_some_and(|anchor| anchor.has_outgrown(16)) {
            self.compact();
        }
        Ok(())
    }

    /// Writes the second file anew. What fails is done later.
    fn compact(&mut self) {
        if let Some(sqlite) = &mut self.sqlite
            && let Ok(anchor) = rewrite(sqlite, &self.path)
        {
            self.anchor = Some(anchor);
        }
    }
}

/// Fails unless the store holds what its second file vouches for.
fn check_holds(sqlite: &SqliteStore, path: &Path, vouched: Option<Chain>) -> Result<(), StoreFault> {
    match vouched {
        Some(chain) if !sqlite.holds(chain)? => {
            let what = format!("it no longer holds revision {}, which was committed", chain.revision);
            Err(fault::damaged_at(&path.display().to_string(), &what))
        }
        _ => Ok(()),
    }
}

/// Writes a second file with the table of the store.
pub(super) fn rewrite(sqlite: &mut SqliteStore, path: &Path) -> Result<Anchor, StoreFault> {
    let failed = |error| fault::anchor(&anchor::path_of(path), &error);
    let Loaded { pending, .. } = sqlite.load()?;
    let mut draft = Draft::begin(path, &sqlite.head()?, &pending).map_err(failed)?;
    let Contents { subjects, .. } =
        sqlite.read_all(|key, route, revision| draft.entry(key.as_str(), route.to_string(), revision))?;
    draft.finish(&subjects).map_err(failed)
}

impl Store for FileStore {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        match (self.loaded.take(), &self.damage) {
            (Some(loaded), _) => {
                if self.damage.is_some() {
                    self.loaded = Some(loaded.clone());
                }
                Ok(loaded)
            }
            (None, Some(fault)) => Err(fault.clone()),
            (None, None) => self.ask(SqliteStore::load),
        }
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreFault> {
        self.loaded = None;
        self.is_dirty = true;
        if self.sound()?.format() == Format::One {
            return self.ask(|sqlite| sqlite.commit(commit));
        }
        let lock = Lock::take(&self.path)?;
        let result = self.commit_both(commit);
        drop(lock);
        self.note(result)
    }

    fn since(&mut self, revision: u64) -> Result<Vec<Commit>, StoreFault> {
        self.ask(|sqlite| sqlite.since(revision))
    }

    fn history(&mut self, filter: &Filter) -> Result<Vec<Commit>, StoreFault> {
        if self.damage.is_none() {
            return self.ask(|sqlite| sqlite.history(filter));
        }
        match &mut self.sqlite {
            Some(sqlite) => sqlite.history(filter),
            None => Ok(filter.page(self.newest.iter())),
        }
    }

    fn changes_of(
        &mut self,
        key: &Key,
        before_revision: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Change)>, StoreFault> {
        self.ask(|sqlite| sqlite.changes_of(key, before_revision, limit))
    }

    fn commit_by_idempotency(&mut self, idempotency: &str) -> Result<Option<Commit>, StoreFault> {
        self.ask(|sqlite| sqlite.commit_by_idempotency(idempotency))
    }
}

impl StoreBackend for FileStore {
    fn key_kind(&self) -> KeyKind {
        self.kind
    }

    fn takes_form_2(&mut self) -> bool {
        self.sqlite.as_mut().is_some_and(|sqlite| sqlite.takes_form_2())
    }

    fn damage(&self) -> Option<StoreFault> {
        self.damage.clone()
    }

    fn recover(&mut self) -> Result<bool, StoreFault> {
        let is_replaced = self.sqlite.as_ref().is_some_and(|sqlite| !sqlite.is_there());
        if self.damage.is_none() && !is_replaced {
            return Ok(std::mem::take(&mut self.is_reopened));
        }
        // Closed before the file is opened again: closing a connection removes the log at its path.
        (self.sqlite, self.anchor) = (None, None);
        self.take_up()?;
        match &self.damage {
            Some(fault) => Err(fault.clone()),
            None => Ok(true),
        }
    }

    fn backup(&mut self) -> Result<Vec<u8>, StoreFault> {
        let path = self.path.clone();
        self.ask(|sqlite| {
            // What is damaged is no backup.
            sqlite.load()?;
            sqlite.backup_bytes(&path)
        })
    }

    fn warnings(&mut self) -> Vec<StoreFault> {
        std::mem::take(&mut self.warnings)
    }

    fn rekey(&mut self, kind: KeyKind) -> Result<bool, StoreFault> {
        let changed = self.ask(|sqlite| sqlite.rekey(kind))?;
        if changed {
            self.kind = kind;
            let _lock = Lock::take(&self.path)?;
            self.compact();
        }
        Ok(changed)
    }

    fn page(&mut self, after: u64, limit: usize) -> Result<Vec<Commit>, StoreFault> {
        self.ask(|sqlite| sqlite.page(after, limit))
    }

    fn save_receipt(&mut self, revision: u64, receipt: String) {
        if let Ok(sqlite) = self.sound() {
            sqlite.save_receipt(revision, receipt);
        }
    }

    fn receipt(&mut self, revision: u64) -> Result<Option<String>, StoreFault> {
        self.ask(|sqlite| sqlite.receipt(revision))
    }

    fn unchanged(&mut self, idempotency: &str) -> Result<Option<UnchangedOrder>, StoreFault> {
        self.ask(|sqlite| sqlite.unchanged(idempotency))
    }

    fn save_unchanged(&mut self, idempotency: &str, order: &UnchangedOrder) -> Result<(), StoreFault> {
        self.ask(|sqlite| sqlite.save_unchanged(idempotency, order))
    }

    fn place_hold(&mut self, hold: &KeptHold, over: &[String]) -> Result<bool, StoreFault> {
        holds::place(&self.path, hold, over)
    }

    fn note_refusing(&mut self, hold: &KeptHold) -> Result<bool, StoreFault> {
        holds::note_refusing(&self.path, hold)
    }

    fn remove_hold(&mut self, hold: &KeptHold) -> Result<bool, StoreFault> {
        holds::remove(&self.path, hold)
    }

    fn kept_holds(&mut self) -> Result<KeptHolds, StoreFault> {
        Ok(holds::read_all(&self.path))
    }

    fn written_by_others(&mut self) -> Result<bool, StoreFault> {
        self.ask(SqliteStore::written_by_others)
    }

    fn idle(&mut self) {
        if self.wants_retry && self.damage.is_some() {
            // What fails again has been reported.
            let known = self.damage.clone();
            match self.take_up() {
                Ok(()) => self.is_reopened = self.damage.is_none(),
                Err(_) => self.damage = known,
            }
        }
        let is_due = self.is_dirty || self.anchor.is_none() || self.checked.elapsed() >= CHECK_EVERY;
        let Ok(sqlite) = self.sound() else { return };
        sqlite.idle();
        if sqlite.format() == Format::One || !is_due {
            return;
        }
        let Ok(_lock) = Lock::take(&self.path) else { return };
        (self.checked, self.is_dirty) = (Instant::now(), false);
        let checked = self.ask(SqliteStore::check_small).and_then(|()| self.bring_up());
        if let Err(fault) = self.note(checked) {
            self.warnings.push(fault);
        } else if self.anchor.as_ref().is_some_and(|anchor| anchor.has_outgrown(1)) {
            self.compact();
        }
    }
}
