//! The contract of a switch's store.
//!
//! Owns the contract alone: files and networks belong to the implementations.

use std::fmt;

use crate::server::{GROUP_SUBJECT, SERVER_SUBJECT, named_server, server_address, subject_name};
use crate::{BootTime, Change, ClockReading, Commit, Deadline, Hash, Key, SubjectChange, Table};

/// Stores the commits of one switch.
///
/// There is one writer at a time. A commit that [`Store::commit`] has accepted survives a crash at any instant, whole.
pub trait Store: Send {
    /// Loads the stored table, and what a writer needs to continue. Called once, at the start.
    ///
    /// # Errors
    /// It cannot be read, or is corrupt: it is never guessed at.
    fn load(&mut self) -> Result<Loaded, StoreFault>;

    /// Stores a commit: returns once it is durable.
    ///
    /// # Errors
    /// [`StoreFaultKind::Conflict`] if it is not the next revision or does not follow the last hash. After any error
    /// the commit is not there.
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreFault>;

    /// Returns the commits after this revision, oldest first.
    ///
    /// # Errors
    /// It cannot be read.
    fn since(&mut self, revision: u64) -> Result<Vec<Commit>, StoreFault>;

    /// Returns past commits, newest first.
    ///
    /// # Errors
    /// It cannot be read.
    fn history(&mut self, filter: &Filter) -> Result<Vec<Commit>, StoreFault>;

    /// Returns past changes of one key with their revisions, newest first: at most `limit`, only revisions below
    /// `before_revision`. A store that can find them without the rest of their commits does so itself.
    ///
    /// # Errors
    /// It cannot be read.
    fn changes_of(
        &mut self,
        key: &Key,
        before_revision: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Change)>, StoreFault> {
        let commits =
            self.history(&Filter { key: Some(key.clone()), before_revision, limit, ..Filter::default() })?;
        let change_of = |commit: Commit| {
            let change = commit.changes.into_iter().find(|change| change.key == *key)?;
            Some((commit.revision, change))
        };
        Ok(commits.into_iter().filter_map(change_of).collect())
    }

    /// Returns the commit that an order with this idempotency key made.
    ///
    /// # Errors
    /// It cannot be read.
    fn commit_by_idempotency(&mut self, idempotency: &str) -> Result<Option<Commit>, StoreFault>;
}

/// The content of a store at the start.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The table.
    pub table: Table,
    /// The hash of the last commit; [`Hash::ZERO`] if there is none.
    pub last_hash: Hash,
    /// Commits that wait to be confirmed, oldest first.
    pub pending: Vec<Pending>,
}

/// A commit that is reverted unless it is confirmed in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The revision of the commit.
    pub revision: u64,
    /// When it is reverted, in ms since 1970 UTC.
    pub confirm_by_ms: u64,
    /// The same by the clock of the boot in which it was committed, which counts as long as that boot lasts.
    pub confirm_by_boot: Option<BootTime>,
    /// The length of its window.
    pub window_ms: u64,
}

impl Pending {
    /// Updates the pending commits after this one: it may settle one, and be pending itself.
    pub fn follow(pending: &mut Vec<Pending>, commit: &Commit) {
        if let Some(of) = commit.kind.settles() {
            pending.retain(|waiting| waiting.revision != of);
        }
        if let Some(confirm_by_ms) = commit.confirm_by_ms {
            let confirm_by_boot = commit.confirm_by_boot();
            let window_ms = confirm_by_ms.saturating_sub(commit.time_ms);
            pending.push(Pending { revision: commit.revision, confirm_by_ms, confirm_by_boot, window_ms });
        }
    }

    /// Returns how much of the window is left; 0 when it is over ([`Deadline::left_ms`]).
    pub fn left_ms(&self, now: ClockReading) -> u64 {
        let Pending { confirm_by_ms, confirm_by_boot, window_ms, .. } = *self;
        Deadline { wall_ms: confirm_by_ms, boot: confirm_by_boot, span_ms: window_ms }.left_ms(now)
    }

    /// Returns true if the window is over.
    pub fn is_overdue(&self, now: ClockReading) -> bool {
        self.left_ms(now) == 0
    }
}

/// The part of the history to return: all of it by default.
///
/// A commit may have a hundred thousand keys. Who walks through a history says with [`Filter::max_changes`] how much of it a page
/// may be, and leaves out what it does not look at with [`Filter::with_keys`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Only commits that changed this key.
    pub key: Option<Key>,
    /// Only commits that changed this group, or a server of it.
    pub group: Option<GroupFilter>,
    /// Only revisions below this one.
    pub before_revision: Option<u64>,
    /// Only revisions above this one.
    pub after_revision: u64,
    /// At most so many.
    pub limit: usize,
    /// The commit that brings the number of changes to this one is the last of the page.
    pub max_changes: usize,
    /// False leaves the changes of keys out of the commits, which are no longer what their hashes say.
    pub with_keys: bool,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            key: None,
            group: None,
            before_revision: None,
            after_revision: 0,
            limit: usize::MAX,
            max_changes: usize::MAX,
            with_keys: true,
        }
    }
}

/// Commits that changed a group, or a server of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFilter {
    /// The name of the group's subject.
    group: String,
    /// The names of the server's, as it may be written; none is all of the group's.
    servers: Vec<String>,
}

impl GroupFilter {
    /// Returns the filter for a group, or for a server of it by its address or as the configuration has it written.
    pub fn new(group: &str, server: Option<&str>) -> GroupFilter {
        let as_written = server.map(str::to_owned);
        let address =
            server.and_then(|server| server_address(server).ok()).filter(|one| Some(&**one) != server);
        let names = as_written.into_iter().chain(address);
        GroupFilter {
            group: group.to_ascii_lowercase(),
            servers: names.map(|server| subject_name(group, &server)).collect(),
        }
    }

    /// Returns true if it is about this change.
    pub fn includes(&self, change: &SubjectChange) -> bool {
        match &*change.subject {
            SERVER_SUBJECT if self.servers.is_empty() => {
                named_server(&change.name).is_some_and(|(group, _)| group == self.group)
            }
            SERVER_SUBJECT => self.servers.contains(&change.name),
            GROUP_SUBJECT => self.servers.is_empty() && change.name == self.group,
            _ => false,
        }
    }

    /// Returns the names of the subjects that it is about: that of the group, none if it is about one server, and those of servers.
    /// `None` for these are all whose names begin with that of the group and a blank.
    pub fn names(&self) -> (Option<&str>, Option<&[String]>) {
        match self.servers.is_empty() {
            true => (Some(&self.group), None),
            false => (None, Some(&self.servers)),
        }
    }
}

impl Filter {
    /// Returns what this selects of commits, newest first.
    pub fn page<'a>(&self, commits: impl Iterator<Item = &'a Commit>) -> Vec<Commit> {
        let before = self.before_revision.unwrap_or(u64::MAX);
        let is_wanted = |commit: &&Commit| {
            let has_key = |key: &Key| commit.changes.iter().any(|change| change.key == *key);
            let has_group = |group: &GroupFilter| commit.subjects.iter().any(|change| group.includes(change));
            self.key.as_ref().is_none_or(has_key) && self.group.as_ref().is_none_or(has_group)
        };
        let (mut page, mut changes) = (Vec::new(), 0);
        let within = commits
            .skip_while(|commit| commit.revision >= before)
            .take_while(|commit| commit.revision > self.after_revision);
        for commit in within.filter(is_wanted).take(self.limit) {
            page.push(match self.with_keys {
                true => commit.clone(),
                false => commit.without_keys(),
            });
            changes += page.last().map_or(0, Commit::change_count);
            if changes >= self.max_changes {
                break;
            }
        }
        page
    }
}

/// Why a store failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFaultKind {
    /// Its content contradicts itself.
    Damaged,
    /// It cannot be opened or read.
    Unreadable,
    /// It cannot be written.
    ReadOnly,
    /// The disk is full.
    Full,
    /// Another process has locked it.
    Locked,
    /// The commit is not the next one.
    Conflict,
    /// A newer pointsman wrote it.
    Newer,
    /// The commit needs format 2 of the store, which still has format 1.
    Older,
    /// Anything else that went wrong.
    Failed,
}

/// A failure of a store, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFault {
    /// Its kind.
    pub kind: StoreFaultKind,
    /// The fault, with the file or place.
    pub text: String,
    /// The remedy.
    pub remedy: String,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.text, self.remedy)
    }
}

impl std::error::Error for StoreFault {}

impl StoreFault {
    /// Refuses a commit that is not the next one.
    pub fn conflict(expected: u64, got: u64) -> StoreFault {
        StoreFault {
            kind: StoreFaultKind::Conflict,
            text: format!("revision {got} cannot be stored: the next one is {expected}"),
            remedy: "read the switch again and repeat the order".to_owned(),
        }
    }
}

/// Returns the commit of this revision.
///
/// # Errors
/// A failure of the store.
pub fn commit_at(store: &mut dyn Store, revision: u64) -> Result<Option<Commit>, StoreFault> {
    let Some(before_revision) = revision.checked_add(1) else { return Ok(None) };
    let filter = Filter { before_revision: Some(before_revision), limit: 1, ..Filter::default() };
    Ok(store.history(&filter)?.into_iter().next().filter(|commit| commit.revision == revision))
}
