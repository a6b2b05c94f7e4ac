//! A store that forgets: `state memory`, for tests and for tables nobody would miss.
//!
//! Owns its commits. Must never promise more than that: after a restart the switch is as the configuration says.

use hashbrown::HashMap;

use crate::{Chain, Commit, Filter, Loaded, Pending, Store, StoreFault, StoreFaultKind, Table};

/// Everything in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    commits: Vec<Commit>,
    table: Table,
    pending: Vec<Pending>,
    by_idempotency: HashMap<String, u64, foldhash::fast::RandomState>,
}

impl MemoryStore {
    /// With nothing in it.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn chain(&self) -> Chain {
        match self.commits.last() {
            Some(last) => Chain { revision: last.revision, hash: last.hash },
            None => Chain::start(),
        }
    }

    /// The commits below a revision. Revision n lies at n − 1.
    fn below(&self, revision: u64) -> &[Commit] {
        let count = usize::try_from(revision.saturating_sub(1)).unwrap_or(usize::MAX);
        &self.commits[..count.min(self.commits.len())]
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        Ok(Loaded { table: self.table.clone(), last_hash: self.chain().hash, pending: self.pending.clone() })
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreFault> {
        let mut chain = self.chain();
        let next = chain.revision + 1;
        if commit.revision != next {
            return Err(StoreFault::conflict(next, commit.revision));
        }
        chain.follow(commit).map_err(|fault| StoreFault {
            kind: StoreFaultKind::Conflict,
            text: fault.to_string(),
            remedy: "read the switch again and repeat the order".to_owned(),
        })?;
        self.table = self.table.apply(commit);
        Pending::follow(&mut self.pending, commit);
        if let Some(idempotency) = &commit.idempotency {
            self.by_idempotency.insert(idempotency.clone(), commit.revision);
        }
        self.commits.push(commit.clone());
        Ok(())
    }

    fn since(&mut self, revision: u64) -> Result<Vec<Commit>, StoreFault> {
        let start = self.below(revision.saturating_add(1)).len();
        Ok(self.commits[start..].to_vec())
    }

    fn history(&mut self, filter: &Filter) -> Result<Vec<Commit>, StoreFault> {
        let commits = self.below(filter.before_revision.unwrap_or(u64::MAX));
        let wanted = |commit: &&Commit| match &filter.key {
            Some(key) => commit.changes.iter().any(|change| change.key == *key),
            None => true,
        };
        Ok(commits.iter().rev().filter(wanted).take(filter.limit).cloned().collect())
    }

    fn commit_by_idempotency(&mut self, idempotency: &str) -> Result<Option<Commit>, StoreFault> {
        let revision = self.by_idempotency.get(idempotency).copied();
        Ok(revision.and_then(|revision| self.below(revision + 1).last()).cloned())
    }
}
