//! The control plane's answers to queries.
//!
//! Owns: their types. Must never: look anything up.

use crate::data_plane::GroupState;
use crate::receipt::Drain;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use switch::{BaseGroup, EffectiveGroup, HoldPhase, Key, Route, Rules, SubjectChange, Table};

/// The present state of a switch.
#[derive(Clone, Debug)]
pub struct SwitchInfo {
    /// The name of its variable, without `$`.
    pub name: String,
    /// Its number in the configuration.
    pub number: usize,
    /// Its rules, from the configuration.
    pub rules: Arc<Rules>,
    /// The file that stores its table; `None` for memory.
    pub file: Option<PathBuf>,
    /// The default in force, with the commit that set it, if the table has one of its own.
    pub own_default: Option<(String, u64)>,
    /// The published revision.
    pub revision: u64,
    /// The number of keys with an entry.
    pub keys: usize,
    /// Commits that are reverted unless they are confirmed in time.
    pub pending: Vec<PendingInfo>,
    /// Held keys.
    pub holds: Vec<HoldInfo>,
    /// Requests that were turned away by holds which are over.
    pub refused_before: u64,
    /// The fault of the last commit that could not be stored, if none was stored since: text and remedy.
    pub store_fault: Option<(String, String)>,
    /// When the process ends because its master is gone: milliseconds since the Unix epoch.
    pub ends_without_master_ms: Option<u64>,
    /// The drains that are not over: revision and last known state.
    pub draining: Vec<(u64, Drain)>,
}

impl SwitchInfo {
    /// Returns how many commits were not confirmed in time and stay.
    pub fn overdue(&self) -> u64 {
        self.pending.iter().filter(|one| one.overdue.is_some()).count() as u64
    }

    /// Returns the number of keys that are held or refused.
    pub fn held_keys(&self) -> u64 {
        let is_on = |hold: &&HoldInfo| matches!(hold.phase, HoldPhase::Held | HoldPhase::Refusing);
        self.holds.iter().filter(is_on).count() as u64
    }

    /// Returns the number of requests that wait for their key to be released, or for their turn.
    pub fn held_requests(&self) -> u64 {
        // Each process counts its own.
        self.holds.iter().map(|hold| (hold.waiting - hold.waiting_elsewhere) as u64).sum()
    }

    /// Returns the number of requests that holds have turned away since this process began.
    pub fn refused_requests(&self) -> u64 {
        self.refused_before + self.holds.iter().map(|hold| hold.rejected).sum::<u64>()
    }
}

/// A commit that is reverted unless it is confirmed in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingInfo {
    /// Its revision.
    pub revision: u64,
    /// Its deadline: milliseconds since the Unix epoch.
    pub confirm_by_ms: u64,
    /// The time left of its window, in milliseconds.
    pub left_ms: u64,
    /// Why it stays although its window has ended, if it does.
    pub overdue: Option<OverdueInfo>,
}

/// A commit that was not confirmed in time and stays, because the side that it would go back to fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverdueInfo {
    /// Since when: milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// The last answers of the servers of both sides, one line each.
    pub answers: Vec<String>,
}

/// The end that a hold has by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldEnd {
    /// When: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Its requests go on then; otherwise they are turned away.
    pub releases: bool,
}

/// The present state of a hold.
#[derive(Clone, Debug)]
pub struct HoldInfo {
    /// The switch.
    pub switch: String,
    /// The key.
    pub key: Key,
    /// The phase, which decides what happens to requests.
    pub phase: HoldPhase,
    /// The number of waiting requests, in all processes with the same state folder.
    pub waiting: usize,
    /// How many of them wait in other processes.
    pub waiting_elsewhere: usize,
    /// Another process does not say how many wait there.
    pub is_partial: bool,
    /// The bytes of the waiting requests.
    pub waiting_bytes: usize,
    /// The number of requests that were turned away.
    pub rejected: u64,
    /// The maximum number of waiting requests.
    pub max: usize,
    /// The maximum bytes of waiting requests.
    pub max_bytes: usize,
    /// The longest time a request waits, in milliseconds.
    pub timeout_ms: u64,
    /// When it began: milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Its end, if it ends by itself.
    pub end: Option<HoldEnd>,
    /// It belongs to an order that is under way.
    pub of_order: bool,
    /// The actor.
    pub actor: String,
    /// The reason.
    pub reason: Option<String>,
    /// False if its end could not be recorded yet: a process that begins now would hold the key again.
    pub recorded: bool,
    /// When it begins: that the key is perhaps mistyped.
    pub notes: Vec<String>,
}

/// A query for entries of a table, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct EntryQuery {
    /// Only keys that contain this.
    pub contains: Option<String>,
    /// Only entries that route to this target, with any weight.
    pub target: Option<String>,
    /// Only keys after this one.
    pub after: Option<String>,
    /// The maximum number of entries; 0 means 100.
    pub limit: usize,
}

/// Entries of a table.
#[derive(Clone, Debug)]
pub struct Entries {
    /// The revision of the table.
    pub revision: u64,
    /// The entries.
    pub entries: Vec<EntryInfo>,
    /// True if more entries follow the last one.
    pub more: bool,
}

/// One key of a table.
#[derive(Clone, Debug)]
pub struct EntryInfo {
    /// The key.
    pub key: Key,
    /// Its route.
    pub route: Route,
    /// The commit that set it.
    pub revision: u64,
}

/// A table as it was.
#[derive(Clone, Debug)]
pub struct PastTable {
    /// The table. Entries that were replaced since have revision 0.
    pub table: Table,
    /// The time of its last commit: milliseconds since the Unix epoch.
    pub time_ms: Option<u64>,
}

/// The differences between two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The keys, in their order.
    pub keys: Vec<KeyDifference>,
    /// Differences that are not of keys.
    pub subjects: Vec<SubjectChange>,
}

/// A key that differs between two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDifference {
    /// The key.
    pub key: Key,
    /// Its route in the one; `None` for the default.
    pub from: Option<Route>,
    /// Its route in the other.
    pub to: Option<Route>,
}

/// The result of verifying a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The number of commits that were checked.
    pub commits: u64,
    /// The last revision.
    pub revision: u64,
    /// The last commit's hash, in hexadecimal.
    pub hash: String,
    /// The first fault, if there is one: revision and text.
    pub fault: Option<(u64, String)>,
}

/// The groups with their servers.
#[derive(Clone, Debug)]
pub struct GroupsInfo {
    /// The published revision of what orders say of servers.
    pub revision: u64,
    /// The groups of the configuration in its order, then those made at run time by name.
    pub groups: Vec<GroupInfo>,
    /// The commits that said something of a server that is shown, by their revision.
    pub said: BTreeMap<u64, SaidInfo>,
    /// The worker threads' view of the groups.
    pub peers: Vec<GroupState>,
    /// The fault of the store of what orders say, and its remedy.
    pub store_fault: Option<(String, String)>,
}

/// A group with its servers.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// The group as the configuration has it.
    pub base: BaseGroup,
    /// The group as it is in effect.
    pub found: EffectiveGroup,
    /// How it was made, if that was at run time.
    pub made: Option<MadeInfo>,
    /// Where more servers are looked up for it.
    pub sources: Vec<SourceInfo>,
    /// It is gone: orders alone say something of its servers, without effect.
    pub is_gone: bool,
    /// Since when orders have servers of it drained or down, in milliseconds since the Unix epoch.
    pub out_since: BTreeMap<String, u64>,
}

/// How a group was made at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeInfo {
    /// The group of the configuration whose settings it has.
    pub like: Option<String>,
    /// The commit that made it.
    pub revision: u64,
    /// The configuration has taken it over.
    pub is_adopted: bool,
}

/// Where servers are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// As written: `app.test resolve`.
    pub text: String,
    /// Its line with all parameters: `server app.test resolve weight=2;`.
    pub line: String,
    /// How many servers it has there by what is believed.
    pub servers: usize,
    /// How long ago it was last seen; `None` is not since the start.
    pub age_ms: Option<u64>,
    /// Why it cannot be looked at, and since when: milliseconds since the Unix epoch.
    pub failure: Option<(String, u64)>,
    /// Why what was found last is not believed.
    pub doubt: Option<String>,
}

impl GroupInfo {
    /// Returns the commits that said something of it or its servers.
    pub fn revisions(&self) -> impl Iterator<Item = u64> {
        let servers = self.found.servers.iter().filter_map(|server| server.revision);
        let others = self.found.removed.iter().chain(&self.found.dormant).map(|said| said.revision);
        let made = self.made.as_ref().map(|made| made.revision);
        servers.chain(others).chain(self.found.pinned).chain(made)
    }
}

/// Who made a commit, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaidInfo {
    /// The actor.
    pub actor: String,
    /// The reason.
    pub reason: Option<String>,
    /// When: milliseconds since the Unix epoch.
    pub time_ms: u64,
}
