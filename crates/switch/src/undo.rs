//! The commits that an undo reverts: found by walking the history backwards.
//!
//! Owns which change of a key is the last one in effect. Must never decide whether it may be undone: that is
//! the plan's.
//!
//! Commits of the kinds undo and revert name, for each key, the revision they take back ([`crate::Change::undoes`]).
//! Walking from the newest commit, such a commit and the one it names are both skipped, and an undo that was undone
//! itself skips nothing. So undoing a key again and again walks further and further back.
//!
//! A revert also names the keys that it leaves as they are because a newer change lies on top ([`Change::moves`] is
//! false). What was not confirmed in time is thereby skipped under the newer change too, and taking that one back
//! restores what lies beneath both.

use hashbrown::HashMap;

use crate::remade::{Implied, PAGE, each_newer, implied, lapsed};
use crate::{Change, Filter, Key, Route, Store, StoreFault, SubjectChange, UndoneDefault, commit_at};

/// The number of keys that a commit may have to be undone by their own changes alone.
const FEW: usize = 256;

/// The changes to take back, with their history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undoing {
    of: Option<u64>,
    keys: Vec<UndoneKey>,
    missing: Vec<Key>,
    default: Option<UndoneDefault>,
    subjects: Vec<UndoneSubject>,
}

/// One server or group of an [`Undoing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoneSubject {
    /// Its kind.
    pub subject: String,
    /// Which of them.
    pub name: String,
    /// The revision whose change is taken back.
    pub of: u64,
    /// Its value before that change.
    pub restore: Option<String>,
    /// Its value now, according to the history.
    pub seen: Option<String>,
    /// A newer change that is in effect.
    pub later: Option<u64>,
}

/// One key of an [`Undoing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoneKey {
    /// The key.
    pub key: Key,
    /// The revision whose change is taken back.
    pub of: u64,
    /// The key's route before that change.
    pub restore: Option<Route>,
    /// Its route now, according to the history.
    pub seen: Option<Route>,
    /// A newer change that is in effect; only when a whole commit is undone.
    pub later: Option<u64>,
}

/// The state of the walk for one key.
#[derive(Default)]
struct Walk {
    /// Revisions whose change of this key was taken back, each with the revision that did it.
    dead: Vec<(u64, u64)>,
    /// Those of `dead` that were taken back beneath a newer change, whose `before` is therefore no longer what lies
    /// beneath it.
    lapsed: Vec<u64>,
    later: Option<u64>,
    seen: Option<Option<Route>>,
}

/// The state of a commit for one key, seen from the newer ones.
enum Step {
    /// It was taken back, or took another one back.
    Skipped,
    /// It is in effect.
    Stands,
}

impl Walk {
    /// Walks down to a revision through the changes of a key.
    fn come_down(&mut self, store: &mut dyn Store, key: &Key, revision: u64) -> Result<(), StoreFault> {
        let mut before = None;
        loop {
            let page = store.changes_of(key, before, PAGE)?;
            for (newer, change) in page.iter().take_while(|(newer, _)| *newer > revision) {
                if let Step::Stands = self.step(*newer, change) {
                    self.later.get_or_insert(*newer);
                }
            }
            match page.last() {
                Some((oldest, _)) if *oldest > revision => before = Some(*oldest),
                _ => return Ok(()),
            }
        }
    }

    fn step(&mut self, revision: u64, change: &Change) -> Step {
        self.seen.get_or_insert_with(|| change.after.clone());
        if self.is_dead(revision) {
            return Step::Skipped;
        }
        match change.undoes {
            Some(of) => {
                self.dead.push((of, revision));
                if !change.moves() {
                    self.lapsed.push(of);
                }
                Step::Skipped
            }
            None => Step::Stands,
        }
    }

    /// Takes what a commit says of a server by what it does to its group. Returns true if it is in effect: nothing is said of the
    /// server then.
    fn imply(&mut self, revision: u64, implied: Implied) -> bool {
        if implied == Implied::Unsaid {
            self.seen.get_or_insert(None);
        }
        match implied {
            _ if self.is_dead(revision) => false,
            Implied::Unsaid => true,
            Implied::TakesBack(of) => {
                self.dead.push((of, revision));
                self.lapsed.push(of);
                false
            }
        }
    }

    fn is_dead(&self, revision: u64) -> bool {
        self.dead.iter().any(|&(dead, _)| dead == revision)
    }

    /// Returns, after the walk down to `revision`, the newest change of the key since that is in effect. An undo of an
    /// older change counts, unless it left the key as it was; an undo of a newer one has only restored what `revision`
    /// left.
    fn since(&self, revision: u64) -> Option<u64> {
        let moved = |&&(dead, _): &&(u64, u64)| dead < revision && !self.lapsed.contains(&dead);
        self.dead.iter().filter(moved).map(|&(_, by)| by).chain(self.later).max()
    }

    /// Returns the route that the key gets when its change of `revision`, down to which the walk has come, is taken
    /// back. `older` returns its changes before a revision, newest first, and the revision from which to go on.
    fn beneath(
        mut self,
        mut older: impl FnMut(u64) -> Result<Page, StoreFault>,
        revision: u64,
        change: &Change,
    ) -> Result<Option<Route>, StoreFault> {
        if self.lapsed.iter().all(|&lapsed| lapsed >= revision) {
            return Ok(change.before.clone());
        }
        let mut oldest = change.before.clone();
        let mut before_revision = revision;
        loop {
            let (changes, next) = older(before_revision)?;
            for (revision, older) in &changes {
                match older {
                    Older::Named(change) => {
                        if let Step::Stands = self.step(*revision, change) {
                            return Ok(change.after.clone());
                        }
                        oldest.clone_from(&change.before);
                    }
                    Older::Implied(implied) if self.imply(*revision, *implied) => return Ok(None),
                    Older::Implied(_) => {}
                }
            }
            match next {
                Some(next) => before_revision = next,
                None => return Ok(oldest),
            }
        }
    }
}

/// What an older commit says.
enum Older {
    /// It names the key or the server.
    Named(Change),
    /// It names the server's group.
    Implied(Implied),
}

/// What older commits say with their revisions, newest first, and where still older ones begin, if there are any.
type Page = (Vec<(u64, Older)>, Option<u64>);

/// Returns the changes of a key before a revision.
fn older_of_key(store: &mut dyn Store, key: &Key, before: u64) -> Result<Page, StoreFault> {
    let page = store.changes_of(key, Some(before), PAGE)?;
    let next = page.last().filter(|_| page.len() == PAGE).map(|(revision, _)| *revision);
    Ok((page.into_iter().map(|(revision, change)| (revision, Older::Named(change))).collect(), next))
}

/// Returns the changes of a server or a group before a revision.
fn older_of_subject(store: &mut dyn Store, of: &SubjectChange, before: u64) -> Result<Page, StoreFault> {
    let before_revision = Some(before);
    let filter = Filter { before_revision, limit: PAGE, with_keys: false, ..Filter::default() };
    let page = store.history(&filter)?;
    let next = page.last().filter(|_| page.len() == PAGE).map(|commit| commit.revision);
    let changes = page.iter().filter_map(|commit| {
        let named = commit.subjects.iter().find(|change| is_of(change, of));
        let named = named.map(|change| Older::Named(as_key(change)));
        Some((commit.revision, named.or_else(|| implied(commit, of).map(Older::Implied))?))
    });
    Ok((changes.collect(), next))
}

fn is_of(change: &SubjectChange, other: &SubjectChange) -> bool {
    change.subject == other.subject && change.name == other.name
}

impl Undoing {
    /// Undoes a whole commit. `None` if there is no such revision. Keys of it that were already taken back are left
    /// out.
    ///
    /// # Errors
    /// A failure of the store.
    pub fn of_commit(store: &mut dyn Store, revision: u64) -> Result<Option<Undoing>, StoreFault> {
        let Some(commit) = commit_at(store, revision)? else { return Ok(None) };
        let mut walks: HashMap<&Key, Walk, foldhash::fast::RandomState> =
            commit.changes.iter().map(|change| (&change.key, Walk::default())).collect();
        // The default is walked back like a key.
        let mut default = commit.moved_default().and_then(|change| change.before.clone());
        let mut default_walk = Walk::default();
        // With a group come the servers that it had, those too that the commit does not name.
        let beneath = lapsed(store, &commit)?;
        let named = commit.subjects.iter().filter(|one| one.is_of_server()).chain(&beneath);
        let mut others: Vec<(&SubjectChange, Walk)> = named.map(|one| (one, Walk::default())).collect();
        // Few keys are looked up one by one: a newer commit may have a hundred thousand others.
        let is_small = commit.changes.len() <= FEW;
        for (key, walk) in walks.iter_mut().filter(|_| is_small) {
            walk.come_down(store, key, revision)?;
        }
        each_newer(store, revision, !is_small, |newer| {
            for change in &newer.changes {
                let Some(walk) = walks.get_mut(&change.key) else { continue };
                if let Step::Stands = walk.step(newer.revision, change) {
                    walk.later.get_or_insert(newer.revision);
                }
            }
            if default.is_some()
                && let Some(change) = newer.moved_default()
                && let Step::Stands = default_walk.step(newer.revision, &as_key(change))
            {
                default_walk.later.get_or_insert(newer.revision);
            }
            for (undone, walk) in &mut others {
                let named = newer.subjects.iter().find(|change| is_of(change, undone));
                let stands = match named {
                    Some(change) => matches!(walk.step(newer.revision, &as_key(change)), Step::Stands),
                    None => implied(newer, undone).is_some_and(|implied| walk.imply(newer.revision, implied)),
                };
                if stands {
                    walk.later.get_or_insert(newer.revision);
                }
            }
        })?;
        let mut keys = Vec::with_capacity(commit.changes.len());
        for change in &commit.changes {
            let walk = walks.remove(&change.key).unwrap_or_default();
            if walk.is_dead(revision) {
                continue;
            }
            keys.push(UndoneKey {
                key: change.key.clone(),
                of: revision,
                later: walk.since(revision),
                seen: walk.seen.clone().unwrap_or_else(|| change.after.clone()),
                restore: walk.beneath(|before| older_of_key(store, &change.key, before), revision, change)?,
            });
        }
        let mut subjects = Vec::with_capacity(others.len());
        for (change, walk) in others.into_iter().filter(|(_, walk)| !walk.is_dead(revision)) {
            let key_change = as_key(change);
            let (later, seen) = (walk.since(revision), walk.seen.clone());
            let older = |before| older_of_subject(store, change, before);
            let restore = text(walk.beneath(older, revision, &key_change)?);
            // The commit does not name it, and nothing of it comes back.
            if restore == change.after && beneath.contains(change) {
                continue;
            }
            let seen = text(seen.unwrap_or(key_change.after));
            let (subject, name) = (change.subject.clone(), change.name.clone());
            subjects.push(UndoneSubject { subject, name, of: revision, later, seen, restore });
        }
        if default_walk.is_dead(revision) {
            default = None;
        }
        let default = default.map(|restore| UndoneDefault {
            of: revision,
            later: default_walk.since(revision),
            seen: text(default_walk.seen.flatten()),
            restore,
        });
        Ok(Some(Undoing { of: Some(revision), keys, missing: Vec::new(), default, subjects }))
    }

    /// Undoes the last change in effect of each of these keys.
    ///
    /// # Errors
    /// A failure of the store.
    pub fn of_keys(store: &mut dyn Store, keys: &[Key]) -> Result<Undoing, StoreFault> {
        let (keys_of, missing, subjects) = (Vec::new(), Vec::new(), Vec::new());
        let mut undoing = Undoing { of: None, keys: keys_of, missing, default: None, subjects };
        for key in keys {
            match last_standing(store, key)? {
                Some(found) => undoing.keys.push(found),
                None => undoing.missing.push(key.clone()),
            }
        }
        Ok(undoing)
    }

    /// Reads the history of the same changes again: what lies beneath one of them may have been taken back since. Of the keys
    /// that were asked for, those whose change is no longer the one in effect are missing; of a whole commit they are left
    /// out.
    ///
    /// # Errors
    /// A failure of the store.
    pub fn read_again(&self, store: &mut dyn Store) -> Result<Undoing, StoreFault> {
        let fresh = match self.of {
            Some(revision) => Undoing::of_commit(store, revision)?,
            None => {
                let keys: Vec<Key> = self.keys.iter().map(|undone| undone.key.clone()).collect();
                Some(Undoing::of_keys(store, &keys)?)
            }
        };
        let (fresh_default, fresh_subjects) =
            fresh.as_ref().map(|fresh| (fresh.default.clone(), fresh.subjects.clone())).unwrap_or_default();
        let fresh: HashMap<(&Key, u64), &UndoneKey, foldhash::fast::RandomState> =
            fresh.iter().flat_map(Undoing::keys).map(|undone| ((&undone.key, undone.of), undone)).collect();
        let mut again = Undoing {
            of: self.of,
            keys: Vec::new(),
            missing: self.missing.clone(),
            default: fresh_default,
            subjects: fresh_subjects,
        };
        for old in &self.keys {
            match fresh.get(&(&old.key, old.of)) {
                Some(undone) => again.keys.push((*undone).clone()),
                // The table may look as if nothing had happened: its route came back with what took the change back.
                None if self.of.is_none() => again.missing.push(old.key.clone()),
                None => {}
            }
        }
        Ok(again)
    }

    /// Returns the revision, if a whole commit is taken back.
    pub fn of(&self) -> Option<u64> {
        self.of
    }

    /// Returns the change of the default to take back.
    pub fn default_change(&self) -> Option<&UndoneDefault> {
        self.default.as_ref()
    }

    /// Returns the changes of servers and groups to take back.
    pub fn subjects(&self) -> &[UndoneSubject] {
        &self.subjects
    }

    /// Returns the changes to take back.
    pub fn keys(&self) -> &[UndoneKey] {
        &self.keys
    }

    /// Returns the keys that were asked for and have no change in effect.
    pub fn missing(&self) -> &[Key] {
        &self.missing
    }
}

/// Returns the text that a route of [`as_key`] was made of.
fn text(route: Option<Route>) -> Option<String> {
    route.map(|route| route.to_string())
}

/// Returns a change of what is no key as one of a key, to walk it back.
fn as_key(change: &SubjectChange) -> Change {
    let route = |value: &Option<String>| value.as_deref().map(|value| Route::One(value.into()));
    Change {
        key: Key::empty(),
        before: route(&change.before),
        after: route(&change.after),
        undoes: change.undoes,
    }
}

fn last_standing(store: &mut dyn Store, key: &Key) -> Result<Option<UndoneKey>, StoreFault> {
    let mut walk = Walk::default();
    let mut before_revision = None;
    loop {
        let page = store.changes_of(key, before_revision, PAGE)?;
        for (revision, change) in &page {
            if let Step::Stands = walk.step(*revision, change) {
                return Ok(Some(UndoneKey {
                    key: key.clone(),
                    of: *revision,
                    seen: walk.seen.clone().unwrap_or_default(),
                    later: None,
                    restore: walk.beneath(|before| older_of_key(store, key, before), *revision, change)?,
                }));
            }
        }
        match page.last() {
            Some(&(oldest, _)) if page.len() == PAGE => before_revision = Some(oldest),
            _ => return Ok(None),
        }
    }
}
