//! A store in memory: `state memory`, for tests and for tables that need not outlive the process.
//!
//! Owns its commits. After a restart the switch is as the configuration says.

use hashbrown::HashMap;

use crate::{Chain, Change, Commit, Filter, Key, Loaded, Pending, Store, StoreFault, StoreFaultKind, Table};

/// A store that keeps everything in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    commits: Vec<Commit>,
    table: Table,
    pending: Vec<Pending>,
    by_idempotency: HashMap<String, u64, foldhash::fast::RandomState>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn chain(&self) -> Chain {
        match self.commits.last() {
            Some(last) => Chain { revision: last.revision, hash: last.hash },
            None => Chain::start(),
        }
    }

    /// Returns the commits below a revision.
    fn below(&self, revision: u64) -> &[Commit] {
        &self.commits[..self.commits.partition_point(|commit| commit.revision < revision)]
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        Ok(Loaded { table: self.table.clone(), last_hash: self.chain().hash, pending: self.pending.clone() })
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreFault> {
        let mut chain = self.chain();
        let next = chain.revision + 1;
        if commit.revision < next {
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
        Ok(filter.page(commits.iter().rev()))
    }

    fn changes_of(
        &mut self,
        key: &Key,
        before_revision: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Change)>, StoreFault> {
        let commits = self.below(before_revision.unwrap_or(u64::MAX)).iter().rev();
        let change_of = |commit: &Commit| {
            let change = commit.changes.iter().find(|change| change.key == *key)?;
            Some((commit.revision, change.clone()))
        };
        Ok(commits.filter_map(change_of).take(limit).collect())
    }

    fn commit_by_idempotency(&mut self, idempotency: &str) -> Result<Option<Commit>, StoreFault> {
        let revision = self.by_idempotency.get(idempotency).copied();
        Ok(revision.and_then(|revision| self.below(revision + 1).last()).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, KeyKind, Meta, Order, Plan, Refusal, Route, Rules, commit_at, plan};

    fn rules() -> Rules {
        let green = std::sync::Arc::from("green");
        Rules {
            name: "live".into(),
            default: std::sync::Arc::clone(&green),
            targets: [green].into(),
            kind: KeyKind::Text,
            max_keys: 10,
            max_key_len: 10,
            groups: Box::default(),
            run_time: Default::default(),
        }
    }

    fn key(text: &str) -> Key {
        Key::parse(KeyKind::Text, text.as_bytes(), 10).unwrap()
    }

    fn planned(store: &mut MemoryStore, keys: &[&str], meta: Meta) -> Result<Plan, Refusal> {
        let sets = keys.iter().map(|text| (key(text), Some(Route::One("green".into())))).collect();
        let loaded = store.load().unwrap();
        let meta = Meta { actor: "test".to_owned(), ..meta };
        plan(&loaded.table, &rules(), &Order { action: Action::Set(sets), meta }, &loaded.pending)
    }

    fn put(store: &mut MemoryStore, keys: &[&str], meta: Meta) -> Commit {
        let commit =
            planned(store, keys, meta).unwrap().commit(store.load().unwrap().last_hash, 5, Vec::new());
        store.commit(&commit).unwrap();
        commit
    }

    #[test]
    fn stored_commits_are_found() {
        let mut store = MemoryStore::new();
        let named = Meta { idempotency: Some("x1".to_owned()), ..Meta::default() };
        let waiting = Meta { confirm_within_ms: Some(10), ..Meta::default() };
        let commits = [
            put(&mut store, &["a"], named),
            put(&mut store, &["b", "c"], waiting),
            put(&mut store, &["d"], Meta::default()),
        ];
        let loaded = store.load().unwrap();
        assert_eq!((loaded.table.revision(), loaded.table.len()), (3, 4));
        assert_eq!(loaded.last_hash, commits[2].hash);
        assert_eq!(
            loaded.pending,
            [Pending { revision: 2, confirm_by_ms: 15, confirm_by_boot: None, window_ms: 10 }]
        );
        assert_eq!(store.since(0).unwrap(), commits);
        assert_eq!(store.since(2).unwrap(), commits[2..]);
        assert_eq!(store.since(3).unwrap(), []);
        assert_eq!(store.since(u64::MAX).unwrap(), []);
        let mut revisions = |key: Option<Key>, before_revision, limit| -> Vec<u64> {
            let found = store.history(&Filter { key, before_revision, limit, ..Filter::default() }).unwrap();
            found.iter().map(|commit| commit.revision).collect()
        };
        assert_eq!(revisions(None, None, 9), [3, 2, 1]);
        assert_eq!(revisions(None, Some(3), 1), [2]);
        assert_eq!(revisions(Some(key("c")), None, 9), [2]);
        assert_eq!(revisions(Some(key("c")), Some(2), 9), []);
        assert_eq!(revisions(None, Some(0), 9), []);
        assert_eq!(store.commit_by_idempotency("x1").unwrap().as_ref(), Some(&commits[0]));
        assert_eq!(store.commit_by_idempotency("x2").unwrap(), None);
        assert_eq!(commit_at(&mut store, 2).unwrap().as_ref(), Some(&commits[1]));
        for nowhere in [0, 4, u64::MAX] {
            assert_eq!(commit_at(&mut store, nowhere).unwrap(), None);
        }
        let changes = store.changes_of(&key("c"), None, 9).unwrap();
        assert_eq!(changes, [(2, commits[1].changes[1].clone())]);
    }

    #[test]
    fn only_the_next_commit_is_stored() {
        let mut store = MemoryStore::new();
        let first = put(&mut store, &["a"], Meta::default());
        let mut forged =
            planned(&mut store, &["b"], Meta::default()).unwrap().commit(first.hash, 5, Vec::new());
        forged.actor = "eve".to_owned();
        let stranger =
            planned(&mut store, &["b"], Meta::default()).unwrap().commit(forged.hash, 5, Vec::new());
        for wrong in [&first, &forged, &stranger] {
            assert_eq!(store.commit(wrong).unwrap_err().kind, StoreFaultKind::Conflict);
        }
        assert_eq!(store.since(0).unwrap(), [first]);
        assert_eq!(store.load().unwrap().table.len(), 1);
    }
}
