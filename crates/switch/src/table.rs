//! The table of one switch at one revision: the route of each key.
//!
//! Owns looking up (nginx's precedence of names) and making the next table out of a commit.
//! Must never change: a request that has pinned a table gets the same answers for its whole life.
//!
//! The keys are in 1,024 shards, and the next table shares all shards that its commit does not touch. So a commit to a
//! table of a million keys copies a thousand entries and the list of shards, not the million.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashSet, HashTable};

use crate::{Commit, DEFAULT_IN_FILE, DEFAULT_SUBJECT, Key, Route, Shape, SubjectValue, Subjects};

/// As many as entries in a shard when there are a million: then copying the shards' list and copying one shard cost
/// alike.
const SHARDS: usize = 1024;
/// Wildcards are counted by the number of dots in them; those with more share the last count.
const DEPTHS: usize = 32;

/// An entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// The key it is written under.
    pub key: Key,
    /// Its route.
    pub route: Route,
    /// The commit that set it.
    pub revision: u64,
}

/// A slot is one pointer: a look-up in a million keys costs its cache misses, and the slots of small
/// shards are close together.
type Shard = HashTable<Arc<TableEntry>>;

/// The immutable table of one switch.
#[derive(Debug, Clone)]
pub struct Table {
    revision: u64,
    len: usize,
    shards: Box<[Arc<Shard>]>,
    /// The same for all tables that follow each other, since they share shards. Random, so that a client that chooses
    /// keys cannot choose ones that collide.
    hasher: RandomState,
    suffixes: Depths,
    prefixes: Depths,
    has_all: bool,
    /// The newest commit that removed an entry or changed the default, of those applied by this process.
    fallback_revision: u64,
    /// What there is beside the keys. Nearly always little or nothing; shared by the tables that follow each other.
    subjects: Subjects,
    /// The default in force, if there is one among the subjects.
    default: Option<Arc<str>>,
    is_trusted: bool,
}

/// How many wildcards there are of each depth, so that a look-up tries only those.
#[derive(Debug, Clone, Default)]
struct Depths {
    counts: [u32; DEPTHS],
    /// Bit n: there are some of depth n.
    present: u32,
}

impl Depths {
    fn change(&mut self, depth: usize, added: bool) {
        let depth = depth.min(DEPTHS - 1);
        let count = &mut self.counts[depth];
        *count = if added { *count + 1 } else { count.saturating_sub(1) };
        let bit = 1 << depth;
        self.present = if *count > 0 { self.present | bit } else { self.present & !bit };
    }

    fn has(&self, depth: usize) -> bool {
        self.present & (1 << depth.min(DEPTHS - 1)) != 0
    }
}

impl Default for Table {
    fn default() -> Table {
        Table::from_entries(0, [])
    }
}

impl Table {
    /// Builds a table from what a store holds: keys, their routes, and the revision that set each. Of a repeated key,
    /// the last counts.
    pub fn from_entries(revision: u64, entries: impl IntoIterator<Item = (Key, Route, u64)>) -> Table {
        // One shared empty shard: a switch with few keys must not cost a thousand allocations.
        let empty = Arc::new(Shard::new());
        let mut table = Table {
            revision,
            len: 0,
            shards: vec![empty; SHARDS].into(),
            hasher: RandomState::default(),
            suffixes: Depths::default(),
            prefixes: Depths::default(),
            has_all: false,
            fallback_revision: 0,
            subjects: Subjects::default(),
            default: None,
            is_trusted: true,
        };
        let mut names: HashSet<Arc<str>, RandomState> = HashSet::default();
        for (key, mut route, revision) in entries {
            // A million keys lead to a few targets: one name each in memory.
            if let Route::One(target) = &mut route {
                *target = Arc::clone(names.get_or_insert_with(&**target, |_| Arc::clone(target)));
            }
            table.put(TableEntry { key, route, revision });
        }
        table
    }

    /// Returns the table of a switch whose store is damaged so that nothing in it can be trusted: an empty one, which says
    /// so.
    pub fn untrusted() -> Table {
        Table { is_trusted: false, ..Table::default() }
    }

    /// Returns false if it takes the place of one that cannot be read ([`Table::untrusted`]).
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// Returns the table with these subjects.
    #[must_use]
    pub fn with_subjects(mut self, subjects: Subjects) -> Table {
        self.subjects = subjects;
        self.find_default();
        self
    }

    /// Returns the target of keys without an entry: the table's own, or the one of the configuration if it has none.
    pub fn default_target<'a>(&'a self, configured: &'a Arc<str>) -> &'a Arc<str> {
        self.default.as_ref().unwrap_or(configured)
    }

    /// Returns the table's own default, with the commit that set it.
    pub fn own_default(&self) -> Option<(&str, u64)> {
        let found = self.subjects.get(DEFAULT_SUBJECT, "")?;
        Some((&found.value, found.revision))
    }

    /// Returns the default that was last read from the configuration, as far as the table knows.
    pub fn default_in_file(&self) -> Option<&str> {
        Some(&self.subjects.get(DEFAULT_SUBJECT, DEFAULT_IN_FILE)?.value)
    }

    fn find_default(&mut self) {
        let found = self.subjects.get(DEFAULT_SUBJECT, "").map(|found| &*found.value);
        if found != self.default.as_deref() {
            self.default = found.map(Arc::from);
        }
    }

    /// Returns what there is beside the keys.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// Returns the last commit in it; 0 when there was none.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the number of keys with an entry.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if no key has an entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the entry for a request's key (in the form [`crate::normalise`] gives): that of the key itself, else of
    /// the longest `*.x`, else of the longest `x.*`, else of `*`. `None` is the switch's default.
    ///
    /// The order is nginx's, for server names and `map … hostnames`.
    pub fn find(&self, normalised: &[u8]) -> Option<&Arc<TableEntry>> {
        if let Some(found) = self.probe(Shape::Exact, normalised) {
            return Some(found);
        }
        if self.suffixes.present != 0
            && let Some(found) = self.find_suffix(normalised)
        {
            return Some(found);
        }
        if self.prefixes.present != 0
            && let Some(found) = self.find_prefix(normalised)
        {
            return Some(found);
        }
        if self.has_all { self.probe(Shape::All, &[]) } else { None }
    }

    /// Does the same as [`Table::find`], and returns the entry's key too.
    pub fn find_key(&self, normalised: &[u8]) -> Option<(&Key, &Arc<TableEntry>)> {
        self.find(normalised).map(|entry| (&entry.key, entry))
    }

    /// Returns the newest commit that may have changed what a request gets for whose key this entry was found, or none: that
    /// of the entry. Without an exact entry, a removed one may have been the reason for another route before.
    pub fn route_revision(&self, found: Option<&TableEntry>) -> u64 {
        match found {
            Some(entry) if entry.key.shape() == Shape::Exact => entry.revision,
            Some(entry) => entry.revision.max(self.fallback_revision),
            None => self.fallback_revision,
        }
    }

    /// Returns the entry written under this very key.
    pub fn get(&self, key: &Key) -> Option<&Arc<TableEntry>> {
        self.probe(key.shape(), key.stem())
    }

    /// Returns all keys with their entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<TableEntry>)> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|entry| (&entry.key, entry))
    }

    /// Returns the table after this commit. Costs as much as the commit has changes, whatever the size of the table.
    pub fn apply(&self, commit: &Commit) -> Table {
        let mut next = self.clone();
        next.revision = commit.revision;
        for change in &commit.changes {
            match &change.after {
                Some(route) => {
                    next.put(TableEntry {
                        key: change.key.clone(),
                        route: route.clone(),
                        revision: commit.revision,
                    });
                }
                None => {
                    next.remove(&change.key);
                    next.fallback_revision = commit.revision;
                }
            }
        }
        for change in &commit.subjects {
            if change.is_of_default() && change.before.is_some() {
                next.fallback_revision = commit.revision;
            }
            let value = change.after.clone();
            let value = value.map(|value| SubjectValue { value, revision: commit.revision });
            next.subjects.put(&change.subject, &change.name, value);
        }
        if !commit.subjects.is_empty() {
            next.find_default();
        }
        next
    }

    /// Takes the newest commit back: its keys and subjects are as before it, and `revision` is the one before it. What comes
    /// back has revision 0, since a commit does not say which one set what it has replaced.
    pub fn take_back(&mut self, commit: &Commit, revision: u64) {
        self.revision = revision;
        for change in &commit.changes {
            match &change.before {
                Some(route) => {
                    let (key, route) = (change.key.clone(), route.clone());
                    self.put(TableEntry { key, route, revision: 0 });
                }
                None => self.remove(&change.key),
            }
        }
        for change in &commit.subjects {
            let value = change.before.clone().map(|value| SubjectValue { value, revision: 0 });
            self.subjects.put(&change.subject, &change.name, value);
        }
        self.find_default();
    }

    /// Tries the longest suffix first: from the left, one label less at each step. The stem of `*.example.com` is
    /// `.example.com` and its depth 2.
    fn find_suffix(&self, text: &[u8]) -> Option<&Arc<TableEntry>> {
        let mut depth = dots(text);
        for (at, _) in text.iter().enumerate().filter(|&(_, &byte)| byte == b'.') {
            if at > 0
                && self.suffixes.has(depth)
                && let Some(found) = self.probe(Shape::Suffix, &text[at..])
            {
                return Some(found);
            }
            depth -= 1;
        }
        None
    }

    /// Tries the longest prefix first: from the right. The stem of `www.example.*` is `www.example.` and its depth 2.
    fn find_prefix(&self, text: &[u8]) -> Option<&Arc<TableEntry>> {
        let mut depth = dots(text);
        for (at, _) in text.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'.') {
            if at + 1 < text.len()
                && self.prefixes.has(depth)
                && let Some(found) = self.probe(Shape::Prefix, &text[..=at])
            {
                return Some(found);
            }
            depth -= 1;
        }
        None
    }

    fn probe(&self, shape: Shape, stem: &[u8]) -> Option<&Arc<TableEntry>> {
        let hash = hash_of(&self.hasher, shape, stem);
        self.shards[shard_of(hash)].find(hash, |entry| entry.key.is(shape, stem))
    }

    fn put(&mut self, entry: TableEntry) {
        let (shape, depth) = (entry.key.shape(), dots(entry.key.stem()));
        let hasher = &self.hasher;
        let hash = hash_of(hasher, shape, entry.key.stem());
        let shard = Arc::make_mut(&mut self.shards[shard_of(hash)]);
        match shard.find_mut(hash, |other| other.key == entry.key) {
            Some(slot) => *slot = Arc::new(entry),
            None => {
                let hash_again =
                    |entry: &Arc<TableEntry>| hash_of(hasher, entry.key.shape(), entry.key.stem());
                shard.insert_unique(hash, Arc::new(entry), hash_again);
                self.len += 1;
                self.count(shape, depth, true);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        let hash = hash_of(&self.hasher, key.shape(), key.stem());
        let shard = &mut self.shards[shard_of(hash)];
        // A key that has no entry must not cost the copy of a shard.
        if shard.find(hash, |entry| entry.key == *key).is_none() {
            return;
        }
        if let Ok(slot) = Arc::make_mut(shard).find_entry(hash, |entry| entry.key == *key) {
            slot.remove();
            self.len -= 1;
            self.count(key.shape(), dots(key.stem()), false);
        }
    }

    fn count(&mut self, shape: Shape, depth: usize, added: bool) {
        match shape {
            Shape::Exact => {}
            Shape::Suffix => self.suffixes.change(depth, added),
            Shape::Prefix => self.prefixes.change(depth, added),
            Shape::All => self.has_all = added,
        }
    }
}

fn dots(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'.').count()
}

fn hash_of(hasher: &RandomState, shape: Shape, stem: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(stem);
    state.write_u8(shape as u8);
    state.finish()
}

/// Uses neither the lowest bits nor the seven highest, which choose the slot within a shard.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, CommitKind, Hash, KeyKind};

    fn key(text: &str) -> Key {
        Key::parse(KeyKind::Host, text.as_bytes(), 255).unwrap()
    }

    fn table(keys: &[&str]) -> Table {
        let entries =
            (1..).zip(keys).map(|(revision, text)| (key(text), Route::One((*text).into()), revision));
        Table::from_entries(keys.len() as u64, entries)
    }

    /// Returns a commit that sets (or, with "", clears) keys; its texts and hashes do not matter here.
    fn commit(revision: u64, sets: &[(&str, &str)]) -> Commit {
        let change = |&(name, target): &(&str, &str)| Change {
            key: key(name),
            before: None,
            after: (!target.is_empty()).then(|| Route::One(target.into())),
            undoes: None,
        };
        Commit {
            revision,
            time_ms: 0,
            kind: CommitKind::Set,
            actor: "test".to_owned(),
            reason: None,
            idempotency: None,
            forced: false,
            confirm_by_ms: None,
            changes: sets.iter().map(change).collect(),
            subjects: Vec::new(),
            extra: Default::default(),
            gate: Vec::new(),
            previous: Hash::ZERO,
            hash: Hash::ZERO,
        }
    }

    fn found<'a>(table: &'a Table, text: &str) -> &'a str {
        table.find_key(text.as_bytes()).map_or("", |(key, _)| key.as_str())
    }

    #[test]
    fn the_most_exact_key_is_found_in_the_order_of_nginx() {
        let names = table(&[
            "a.example.com",
            "*.example.com",
            "*.b.example.com",
            "*.com",
            "www.*",
            "www.example.*",
            "*",
        ]);
        for (text, expected) in [
            ("a.example.com", "a.example.com"),
            ("b.example.com", "*.example.com"),
            ("x.b.example.com", "*.b.example.com"),
            ("y.x.b.example.com", "*.b.example.com"),
            ("example.com", "*.com"),
            ("com", "*"),
            ("www.example.com", "*.example.com"),
            ("www.example.org", "www.example.*"),
            ("www.example.co.uk", "www.example.*"),
            ("www.other.org", "www.*"),
            ("www", "*"),
            ("", "*"),
            ("*.example.com", "*.example.com"),
            (".example.com", "*.com"),
            ("www.example.", "www.*"),
        ] {
            assert_eq!(found(&names, text), expected, "{text}");
        }
        assert_eq!(found(&table(&["*.example.com"]), "example.com"), "");
        assert_eq!(found(&table(&["a"]), "b"), "");
        assert!(Table::default().find(b"a").is_none() && Table::default().is_empty());
    }

    #[test]
    fn deep_names_are_found() {
        let deep = format!("*{}", ".a".repeat(40));
        let names = table(&[&deep, "*.a"]);
        assert_eq!(found(&names, &format!("x{}", ".a".repeat(40))), deep);
        assert_eq!(found(&names, &format!("x.y{}", ".a".repeat(40))), deep);
        assert_eq!(found(&names, &format!("x{}", ".a".repeat(39))), "*.a");
    }

    #[test]
    fn a_commit_makes_a_new_table_and_keeps_the_old_one() {
        let old = table(&["a", "*.b", "c.*", "*"]);
        let new = old.apply(&commit(
            9,
            &[("a", "green"), ("*.b", ""), ("c.*", ""), ("*", ""), ("d", "blue"), ("e", "")],
        ));
        assert_eq!((old.revision(), old.len()), (4, 4));
        assert_eq!((new.revision(), new.len()), (9, 2));
        assert_eq!(new.find(b"a").unwrap().revision, 9);
        assert_eq!(new.find(b"a").unwrap().route, Route::One("green".into()));
        assert_eq!(old.find(b"a").unwrap().revision, 1);
        for gone in ["x.b", "c.x", "other"] {
            assert!(new.find(gone.as_bytes()).is_none() && old.find(gone.as_bytes()).is_some(), "{gone}");
        }
        let back = new.apply(&commit(10, &[("*.b", "red"), ("*", "red")]));
        assert_eq!((found(&back, "x.b"), found(&back, "other")), ("*.b", "*"));
        assert_eq!(back.get(&key("*.b")).unwrap().revision, 10);
        let mut keys: Vec<String> = back.iter().map(|(key, _)| key.to_string()).collect();
        keys.sort();
        assert_eq!(keys, ["*", "*.b", "a", "d"]);
    }

    #[test]
    fn a_commit_that_is_taken_back_leaves_the_table_before_it() {
        let old = table(&["a", "*.b", "c.*", "*"]);
        let mut commit = commit(9, &[("a", "green"), ("*.b", ""), ("c.*", ""), ("*", ""), ("d", "blue")]);
        for change in &mut commit.changes {
            change.before = old.get(&change.key).map(|entry| entry.route.clone());
        }
        let new = old.apply(&commit);
        let mut back = new.clone();
        back.take_back(&commit, 4);
        let entries = |table: &Table| {
            let mut entries: Vec<(Key, Route)> =
                table.iter().map(|(key, entry)| (key.clone(), entry.route.clone())).collect();
            entries.sort_by(|one, other| one.0.cmp(&other.0));
            entries
        };
        assert_eq!((back.revision(), entries(&back)), (4, entries(&old)));
        assert_eq!((found(&back, "x.b"), found(&back, "c.x"), found(&back, "other")), ("*.b", "c.*", "*"));
        assert_eq!(back.get(&key("a")).unwrap().revision, 0);
        assert_eq!(new.get(&key("a")).unwrap().revision, 9, "other tables share nothing that has changed");
    }

    #[test]
    fn route_has_the_revision_of_the_commit_that_may_have_changed_it() {
        let old = table(&["a.example", "*.example"]);
        let of =
            |table: &Table, key: &str| table.route_revision(table.find(key.as_bytes()).map(|entry| &**entry));
        assert_eq!((of(&old, "a.example"), of(&old, "b.example"), of(&old, "other")), (1, 2, 0));
        let removed = old.apply(&commit(7, &[("a.example", "")]));
        assert_eq!((of(&removed, "a.example"), of(&removed, "other")), (7, 7));
        let set = removed.apply(&commit(8, &[("b.example", "green")]));
        assert_eq!((of(&set, "a.example"), of(&set, "b.example"), of(&set, "other")), (7, 8, 7));
    }

    #[test]
    fn an_empty_table_has_one_shard_in_memory() {
        let empty = Table::default();
        assert!(empty.shards.iter().all(|shard| Arc::ptr_eq(shard, &empty.shards[0])));
    }

    #[test]
    fn a_commit_to_a_million_keys_copies_its_shard_alone() {
        const KEYS: usize = 1_000_000;
        let name = |n: usize| Key::parse(KeyKind::Host, format!("host-{n}.example").as_bytes(), 64).unwrap();
        let blue: Arc<str> = "blue".into();
        let big = Table::from_entries(1, (0..KEYS).map(|n| (name(n), Route::One(Arc::clone(&blue)), 1)));
        assert_eq!(big.len(), KEYS);
        // One key changes, one is added, one goes: three shards at most.
        let next = big.apply(&commit(
            2,
            &[("host-7.example", "green"), ("new.example", "green"), ("host-8.example", "")],
        ));
        let copied = big.shards.iter().zip(&next.shards).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert!((1..=3).contains(&copied), "{copied} shards were copied");
        assert_eq!(next.len(), KEYS);
        let fullest = big.shards.iter().map(|shard| shard.len()).max().unwrap();
        assert!(fullest < 2 * KEYS / SHARDS, "{fullest} keys in one shard");
        assert!(next.find(b"host-8.example").is_none());
        assert_eq!(next.find(b"host-7.example").unwrap().route, Route::One("green".into()));
        assert_eq!(big.find(b"host-7.example").unwrap().route, Route::One("blue".into()));
        // Each target's name is in memory once.
        let targets =
            big.iter().filter(|(_, entry)| matches!(&entry.route, Route::One(t) if Arc::ptr_eq(t, &blue)));
        assert_eq!(targets.count(), KEYS);
    }
}
