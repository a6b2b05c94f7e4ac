//! A store on disk that is created by its first commit: that of the groups, which most configurations never need.
//!
//! Owns when the file is opened. Must never create it for a question: until there is one, the store is an empty one in memory.

use super::{FileStore, KeptHold, KeptHolds, MemoryBackend, StoreBackend, UnchangedOrder, anchor, fault};
use crate::plain_file;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use switch::{Change, Commit, Filter, Key, KeyKind, Loaded, Store, StoreFault};

/// A store whose file may not be there yet.
pub struct LazyStore {
    path: PathBuf,
    kind: KeyKind,
    file: Option<FileStore>,
    /// What answers until there is a file.
    empty: MemoryBackend,
    /// Another process has created the file.
    is_found: bool,
}

impl LazyStore {
    /// Opens the file if there is one.
    ///
    /// # Errors
    /// As for [`FileStore::open`].
    pub fn open(path: &Path, kind: KeyKind) -> Result<LazyStore, StoreFault> {
        let empty = MemoryBackend::new(kind);
        let mut store = LazyStore { path: path.to_owned(), kind, file: None, empty, is_found: false };
        store.look()?;
        store.is_found = false;
        Ok(store)
    }

    /// Opens the file if it is there by now.
    fn look(&mut self) -> Result<(), StoreFault> {
        // What cannot be seen may be there, unless its folder cannot be seen either.
        let is_seen = self.path.parent().is_some_and(|folder| folder.symlink_metadata().is_ok());
        let is_there = |path: &Path| is_seen && !plain_file::is_absent(path);
        if self.file.is_none() && (is_there(&self.path) || is_there(&anchor::path_of(&self.path))) {
            self.file = Some(FileStore::open(&self.path, self.kind)?);
            self.is_found = true;
        }
        Ok(())
    }

    /// Returns the store to ask.
    fn asked(&mut self) -> Result<&mut dyn StoreBackend, StoreFault> {
        self.look()?;
        Ok(match &mut self.file {
            Some(file) => file,
            None => &mut self.empty,
        })
    }

    /// Returns the store to write to, created if it is not there.
    fn written(&mut self) -> Result<&mut FileStore, StoreFault> {
        self.look()?;
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                self.create_folder()?;
                FileStore::open(&self.path, self.kind)?
            }
        };
        Ok(self.file.insert(file))
    }

    fn create_folder(&self) -> Result<(), StoreFault> {
        let Some(folder) = self.path.parent() else { return Ok(()) };
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(fault::system(&self.path, "created", &error))
            }
            _ => Ok(()),
        }
    }
}

impl Store for LazyStore {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        self.asked()?.load()
    }
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreFault> {
        self.written()?.commit(commit)
    }
    fn since(&mut self, revision: u64) -> Result<Vec<Commit>, StoreFault> {
        self.asked()?.since(revision)
    }
    fn history(&mut self, filter: &Filter) -> Result<Vec<Commit>, StoreFault> {
        self.asked()?.history(filter)
    }
    fn changes_of(
        &mut self,
        key: &Key,
        before_revision: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Change)>, StoreFault> {
        self.asked()?.changes_of(key, before_revision, limit)
    }
    fn commit_by_idempotency(&mut self, idempotency: &str) -> Result<Option<Commit>, StoreFault> {
        self.asked()?.commit_by_idempotency(idempotency)
    }
}

impl StoreBackend for LazyStore {
    fn key_kind(&self) -> KeyKind {
        self.kind
    }
    fn takes_form_2(&mut self) -> bool {
        self.file.as_mut().is_none_or(StoreBackend::takes_form_2)
    }
    fn damage(&self) -> Option<StoreFault> {
        self.file.as_ref().and_then(StoreBackend::damage)
    }
    fn recover(&mut self) -> Result<bool, StoreFault> {
        self.asked()?.recover()
    }
    fn backup(&mut self) -> Result<Vec<u8>, StoreFault> {
        self.look()?;
        match &mut self.file {
            Some(file) => file.backup(),
            None => Err(super::restore::not_backed_up(
                "no order on servers or groups was given yet",
                "the first one makes the store",
            )),
        }
    }
    fn warnings(&mut self) -> Vec<StoreFault> {
        self.file.as_mut().map(StoreBackend::warnings).unwrap_or_default()
    }
    fn rekey(&mut self, kind: KeyKind) -> Result<bool, StoreFault> {
        Ok(kind == self.kind)
    }
    fn page(&mut self, after: u64, limit: usize) -> Result<Vec<Commit>, StoreFault> {
        self.asked()?.page(after, limit)
    }
    fn save_receipt(&mut self, revision: u64, receipt: String) {
        if let Ok(store) = self.asked() {
            store.save_receipt(revision, receipt);
        }
    }
    fn receipt(&mut self, revision: u64) -> Result<Option<String>, StoreFault> {
        self.asked()?.receipt(revision)
    }
    fn unchanged(&mut self, idempotency: &str) -> Result<Option<UnchangedOrder>, StoreFault> {
        self.asked()?.unchanged(idempotency)
    }
    fn save_unchanged(&mut self, idempotency: &str, order: &UnchangedOrder) -> Result<(), StoreFault> {
        self.asked()?.save_unchanged(idempotency, order)
    }
    fn place_hold(&mut self, hold: &KeptHold, over: &[String]) -> Result<bool, StoreFault> {
        self.asked()?.place_hold(hold, over)
    }
    fn note_refusing(&mut self, hold: &KeptHold) -> Result<bool, StoreFault> {
        self.asked()?.note_refusing(hold)
    }
    fn remove_hold(&mut self, hold: &KeptHold) -> Result<bool, StoreFault> {
        self.asked()?.remove_hold(hold)
    }
    fn kept_holds(&mut self) -> Result<KeptHolds, StoreFault> {
        self.asked()?.kept_holds()
    }
    fn written_by_others(&mut self) -> Result<bool, StoreFault> {
        let wrote = self.asked()?.written_by_others()?;
        Ok(std::mem::take(&mut self.is_found) || wrote)
    }
    fn idle(&mut self) {
        if let Some(file) = &mut self.file {
            file.idle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switch::{CommitKind, Hash};

    fn commit(revision: u64, previous: Hash) -> Commit {
        let commit = Commit {
            revision,
            time_ms: 1,
            kind: CommitKind::Server,
            actor: "anna".into(),
            reason: None,
            idempotency: None,
            forced: false,
            confirm_by_ms: None,
            changes: Vec::new(),
            subjects: Vec::new(),
            extra: Default::default(),
            gate: Vec::new(),
            previous,
            hash: Hash::ZERO,
        };
        commit.sealed()
    }

    #[test]
    fn the_first_commit_creates_the_file_and_its_folder_and_other_processes_find_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join("groups.db");
        let mut one = LazyStore::open(&path, KeyKind::Text).unwrap();
        let mut other = LazyStore::open(&path, KeyKind::Text).unwrap();
        assert_eq!(one.load().unwrap().table.revision(), 0);
        assert!(one.history(&Filter { limit: 9, ..Default::default() }).unwrap().is_empty());
        assert!(!other.written_by_others().unwrap());
        assert!(one.backup().is_err());
        one.idle();
        assert!(!path.parent().unwrap().exists(), "a question creates nothing");
        let first = commit(1, Hash::ZERO);
        one.commit(&first).unwrap();
        assert!(path.exists() && one.backup().is_ok());
        assert!(other.written_by_others().unwrap() && !other.written_by_others().unwrap());
        assert_eq!(other.since(0).unwrap(), std::slice::from_ref(&first));
        other.commit(&commit(2, first.hash)).unwrap();
        assert!(one.written_by_others().unwrap());
        drop((one, other));
        let mut again = LazyStore::open(&path, KeyKind::Text).unwrap();
        assert_eq!(again.load().unwrap().table.revision(), 2);
    }
}
