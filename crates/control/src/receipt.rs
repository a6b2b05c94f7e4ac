//! The report of an order: what changed, when each worker acknowledged it, and what happened to the requests that were
//! under way.
//!
//! Owns: the receipt as a value; it is what the store keeps (as JSON) and what the API shows. Must never: measure.
//!
//! Moments are microseconds after the commit was durable, so that they compare with each other; `time_ms` is the
//! commit's own time.

use crate::horizon::Horizon;
use serde::{Deserialize, Serialize};
use switch::{BaseGroup, Change, Commit, Route, ServerEntry, SubjectChange};
use utoipa::ToSchema;

/// The maximum number of changes that are listed.
const MAX_CHANGES: usize = 1000;

/// The report of an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The switch.
    pub switch: String,
    /// The commit's revision; of a dry run or an order that changes nothing, the revision the table has.
    pub revision: u64,
    /// When it was committed: milliseconds since the Unix epoch; absent if nothing was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub time_ms: u64,
    /// The kind of commit: `set`, `undo`, `undo_keys`, `confirm` or `revert`.
    pub kind: String,
    /// The commit that it undoes, confirms or reverts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// The actor.
    pub actor: String,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The outcome.
    pub outcome: Outcome,
    /// In a dry run, the gate's refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The keys that changed or would change: at most the first thousand.
    pub changes: Vec<KeyChange>,
    /// The number of keys that changed or would change.
    pub changed_keys: usize,
    /// The servers of groups that changed or would change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ChangedServer>,
    /// The gate's result. Empty if the switch has no gate, or the order needed none. Of a revert, what both of its sides
    /// answered.
    pub gate: Vec<GateResult>,
    /// True if the gate refused and was overruled.
    pub forced: bool,
    /// It is reverted at this time unless it is confirmed: milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_by_ms: Option<u64>,
    /// The workers' acknowledgements; incomplete if the answer did not wait for them.
    pub workers: Vec<WorkerAck>,
    /// The number of workers.
    pub workers_asked: usize,
    /// The drain of the old side, if requests were moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// The responses of both sides, if requests were moved; completed for minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Horizon>,
    /// The hold around the switch, if one was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Held>,
    /// The results of the fleet's nodes, if the switch is in a fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetReceipt>,
    /// The keys of a repeated order that were changed after it: at most the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_since: Vec<ChangedKey>,
    /// Remarks for people: a key that is perhaps mistyped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Receipt {
    /// Returns the receipt of a commit alone.
    pub fn of_commit(switch: &str, commit: &Commit) -> Receipt {
        let change = |change: &Change| KeyChange {
            key: change.key.to_string(),
            from: change.before.as_ref().map(Route::to_string),
            to: change.after.as_ref().map(Route::to_string),
            ..KeyChange::default()
        };
        Receipt {
            switch: switch.to_owned(),
            revision: commit.revision,
            time_ms: commit.time_ms,
            kind: commit.kind.name().to_owned(),
            of: commit.kind.of(),
            actor: commit.actor.clone(),
            reason: commit.reason.clone(),
            changes: commit.moves().take(MAX_CHANGES).map(change).collect(),
            changed_keys: commit.moves().count(),
            servers: commit.subjects.iter().filter_map(ChangedServer::of).collect(),
            forced: commit.forced,
            confirm_by_ms: commit.confirm_by_ms,
            notes: commit.moved_default().map(moved_default).into_iter().collect(),
            ..Receipt::default()
        }
    }

    /// Returns it with what has become of servers that orders no longer add: these groups of the configuration have them, or they
    /// are gone.
    pub(crate) fn over(mut self, groups: &[BaseGroup]) -> Receipt {
        for server in self.servers.iter_mut().filter(|one| one.is_no_longer_added()) {
            let group = groups.iter().find(|group| group.name.eq_ignore_ascii_case(&server.group));
            let is_there =
                group.is_some_and(|group| group.servers.iter().any(|one| one.name == server.server));
            let what = if is_there { "as in the configuration" } else { "removed" };
            server.change = format!("{}: {} {what}", server.group, server.server);
        }
        self
    }

    /// Returns it with more remarks.
    pub(crate) fn with_notes(mut self, notes: Vec<String>) -> Receipt {
        self.notes.extend(notes);
        self
    }

    /// Returns a line for the log: `switch "live" revision 7 (set) by alice: a.example default -> green`.
    pub fn line(&self) -> String {
        let route = |route: &Option<String>| route.clone().unwrap_or_else(|| "default".to_owned());
        let key = |key: &str| switch::shown_key(key).into_owned();
        let servers: Vec<&str> = self.servers.iter().map(|one| one.change.as_str()).collect();
        let what = match &self.changes[..] {
            [] if !servers.is_empty() => servers.join("; "),
            [] => self.notes.first().cloned().unwrap_or_else(|| "no key changed".to_owned()),
            [one] => format!("{} {} -> {}", key(&one.key), route(&one.from), route(&one.to)),
            [first, ..] => {
                let (key, to, more) = (key(&first.key), route(&first.to), self.changed_keys - 1);
                format!("{key} {} -> {to} and {more} more keys", route(&first.from))
            }
        };
        let reason = self.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        format!(
            "switch \"{}\" revision {} ({}) by {}: {what}{reason}",
            self.switch, self.revision, self.kind, self.actor
        )
    }
}

/// The results of a fleet's nodes for a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetReceipt {
    /// The member nodes.
    pub nodes: Vec<NodeReceipt>,
    /// When the last worker of the last node had applied it, in microseconds after the commit; absent while a node has not
    /// said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_us: Option<u64>,
}

/// The result of a node for a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeReceipt {
    /// Its name.
    pub name: String,
    /// True if all its workers follow the commit, or a newer one. One that has not said so may serve the old side.
    pub applied: bool,
    /// When this node learnt that, in microseconds after the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_us: Option<u64>,
    /// The number of its workers.
    pub workers: usize,
    /// By that node's clock, from the moment at which it had the commit to the last of its workers, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

impl NodeReceipt {
    /// Returns that of a node that has said nothing yet.
    pub fn named(name: &str) -> NodeReceipt {
        NodeReceipt { name: name.to_owned(), ..NodeReceipt::default() }
    }
}

impl FleetReceipt {
    /// Returns the names of the nodes that have not said that they follow the commit.
    pub fn missing(&self) -> Vec<&str> {
        self.nodes.iter().filter(|one| !one.applied).map(|one| one.name.as_str()).collect()
    }
}

/// The traffic that a commit has moved, as its receipt has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MovedTraffic {
    /// The drain of the old side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// The responses of both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Horizon>,
}

/// Returns what is said of a changed default.
fn moved_default(change: &SubjectChange) -> String {
    let side = |side: &Option<String>| side.clone().unwrap_or_default();
    format!("the default moves from {} to {}", side(&change.before), side(&change.after))
}

/// The report of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Committed and published.
    #[default]
    Committed,
    /// No change: the table was as requested; nothing was committed.
    Unchanged,
    /// Already applied: the order with this idempotency key was committed earlier, and this is that commit's receipt.
    Repeated,
    /// It would be committed (dry run).
    WouldCommit,
    /// The gate would refuse it (dry run).
    WouldRefuse,
}

/// A key that was changed later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedKey {
    /// The key.
    pub key: String,
    /// The newest commit that changed it.
    pub revision: u64,
}

/// A change of a server of a group, or of a group made at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedServer {
    /// The group.
    pub group: String,
    /// The server, as the configuration has it written, or its address; empty for the group itself.
    pub server: String,
    /// The orders on it before; absent if there were none: `weight=3 drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The orders on it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The change, for people: `green: 10.0.0.1:8081 added, weight=3`.
    pub change: String,
}

impl ChangedServer {
    /// Returns true if an order had added the server, and none says anything of it since.
    fn is_no_longer_added(&self) -> bool {
        let was_added = self.from.as_deref().is_some_and(|from| ServerEntry::parse(from).is_added);
        was_added && self.to.is_none() && !self.server.is_empty()
    }

    /// Returns a change of a commit, if it is one of a server or a group.
    pub fn of(change: &SubjectChange) -> Option<ChangedServer> {
        if change.before == change.after {
            return None;
        }
        let of_group = || (change.subject == switch::GROUP_SUBJECT).then_some((&*change.name, ""));
        let (group, server) = change.named_server().or_else(of_group)?;
        Some(ChangedServer {
            change: change.server_text()?,
            group: group.to_owned(),
            server: server.to_owned(),
            from: change.before.clone(),
            to: change.after.clone(),
        })
    }
}

/// A key's change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// Its route before, `None` for the default: `blue`, or `green=10 blue=90`.
    pub from: Option<String>,
    /// Its route after, `None` for the default.
    pub to: Option<String>,
    /// In a dry run: requests per second in the last ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// In a dry run: requests in flight, without streams; absent if there are too many keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// In a dry run: open streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<u64>,
}

/// The gate's result for a target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GateResult {
    /// The target.
    pub target: String,
    /// True if it may get traffic.
    pub passed: bool,
    /// The number of healthy servers.
    pub healthy: usize,
    /// The number of servers that must be healthy.
    pub required: usize,
    /// The servers that were asked.
    pub servers: Vec<ServerResult>,
    /// Those that were not, each with the reason: it is down or drained, or a backup while others are in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// The gate's result for a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerResult {
    /// Its name as written; what the gate itself needs.
    #[serde(skip)]
    pub server: String,
    /// Its address.
    pub address: String,
    /// True if it is healthy.
    pub healthy: bool,
    /// The reason: what it answered, or why it is not healthy.
    pub reason: String,
    /// The duration of the probe, in microseconds.
    pub took_us: u64,
}

/// A worker's acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerAck {
    /// The thread's number.
    pub worker: usize,
    /// When it switched to the new tables, in microseconds after the commit.
    pub after_us: u64,
    /// Its requests and streams on the old side at that moment.
    pub in_flight_old: usize,
}

/// The requests around a switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// Its progress.
    pub state: DrainState,
    /// When this was observed, in microseconds after the commit.
    pub seen_us: u64,
    /// When the first request went to the new side, in microseconds after the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_new_us: Option<u64>,
    /// When the last request on the old side ended, in microseconds after the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_old_us: Option<u64>,
    /// Requests still on the old side, without streams.
    pub in_flight: u64,
    /// Streams still on the old side.
    pub streams: u64,
    /// Requests and streams that ended on the new side within `span_us`.
    pub served_new: u64,
    /// Those of them that failed.
    pub failed_new: u64,
    /// Requests on the old side that failed after the switch.
    pub failed_old: u64,
    /// The time after the commit within which answers of the new side are counted here, in microseconds.
    #[serde(default)]
    pub span_us: u64,
    /// The oldest request still on the old side: its method and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<OldestRequest>,
    /// How many of these requests and streams are in another process of this server, which finishes them after an upgrade
    /// or a reload.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub in_other_processes: u64,
    /// Another process of this server still finishes requests, and does not say which; those are not counted here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub elsewhere: bool,
    /// The newer commit that has changed keys of this one while its drain was waited for: what is in flight is not counted
    /// for this one any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overtaken_by: Option<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The oldest request on the old side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OldestRequest {
    /// Its method and the beginning of its path, without a query: `GET /export`.
    pub request: String,
    /// Its age when the drain was observed, in milliseconds.
    pub age_ms: u64,
}

/// The progress of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    /// Requests are still on the old side.
    #[default]
    Draining,
    /// Nothing is left on the old side, except streams that the policy keeps.
    Drained,
    /// Requests were left when observation ended.
    GivenUp,
}

/// The hold around a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// Requests that were waiting when they were released.
    pub waiting: usize,
    /// How long they were held, in microseconds.
    pub held_us: u64,
    /// How long the requests in flight took to finish, in microseconds.
    pub drained_us: u64,
}
