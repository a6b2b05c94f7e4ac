//! A store in memory, lost when the process ends: `state memory`.
//!
//! Must never: be a default.

use super::{MAX_RECEIPTS, MAX_UNCHANGED, StoreBackend, UnchangedOrder};
use std::collections::BTreeMap;
use switch::{Commit, Filter, KeyKind, Loaded, MemoryStore, Store, StoreFault};

/// A store in memory.
#[derive(Debug)]
pub struct MemoryBackend {
    store: MemoryStore,
    kind: KeyKind,
    receipts: BTreeMap<u64, String>,
    unchanged: BTreeMap<String, UnchangedOrder>,
}

impl MemoryBackend {
    /// Returns an empty store.
    pub fn new(kind: KeyKind) -> MemoryBackend {
        MemoryBackend {
            store: MemoryStore::new(),
            kind,
            receipts: BTreeMap::new(),
            unchanged: BTreeMap::new(),
        }
    }
}

impl Store for MemoryBackend {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        self.store.load()
    }
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreFault> {
        self.store.commit(commit)
    }
    fn since(&mut self, revision: u64) -> Result<Vec<Commit>, StoreFault> {
        self.store.since(revision)
    }
    fn history(&mut self, filter: &Filter) -> Result<Vec<Commit>, StoreFault> {
        self.store.history(filter)
    }
    fn commit_by_idempotency(&mut self, idempotency: &str) -> Result<Option<Commit>, StoreFault> {
        self.store.commit_by_idempotency(idempotency)
    }
}

impl StoreBackend for MemoryBackend {
    fn key_kind(&self) -> KeyKind {
        self.kind
    }
    fn takes_form_2(&mut self) -> bool {
        true
    }
    fn rekey(&mut self, kind: KeyKind) -> Result<bool, StoreFault> {
        let is_empty = self.store.load()?.table.revision() == 0;
        if is_empty {
            self.kind = kind;
        }
        Ok(is_empty)
    }
    fn page(&mut self, after: u64, limit: usize) -> Result<Vec<Commit>, StoreFault> {
        let mut commits = self.store.since(after)?;
        commits.truncate(limit);
        Ok(commits)
    }
    fn save_receipt(&mut self, revision: u64, receipt: String) {
        self.receipts.insert(revision, receipt);
        while self.receipts.len() > MAX_RECEIPTS {
            self.receipts.pop_first();
        }
    }
    fn receipt(&mut self, revision: u64) -> Result<Option<String>, StoreFault> {
        Ok(self.receipts.get(&revision).cloned())
    }
    fn unchanged(&mut self, idempotency: &str) -> Result<Option<UnchangedOrder>, StoreFault> {
        Ok(self.unchanged.get(idempotency).cloned())
    }
    fn save_unchanged(&mut self, idempotency: &str, order: &UnchangedOrder) -> Result<(), StoreFault> {
        self.unchanged.insert(idempotency.to_owned(), order.clone());
        while self.unchanged.len() > MAX_UNCHANGED {
            let oldest = self.unchanged.iter().min_by_key(|(_, order)| order.time_ms);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { break };
            self.unchanged.remove(&oldest);
        }
        Ok(())
    }
    fn written_by_others(&mut self) -> Result<bool, StoreFault> {
        Ok(false)
    }
    fn idle(&mut self) {}
}
