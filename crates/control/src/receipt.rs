//! What is told about an order: what changed, when each worker took it over, and what became of the requests that were
//! under way.
//!
//! Owns: the receipt as a value; it is what the store keeps (as JSON) and what the API shows. Must never: measure.
//!
//! Moments are microseconds after the commit was durable, so that they compare with each other; `time_ms` is the
//! commit's own time.

use serde::{Deserialize, Serialize};
use switch::{Change, Commit, Route};
use utoipa::ToSchema;

/// How many changes are told one by one.
const MAX_CHANGES: usize = 1000;

/// What became of an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The switch.
    pub switch: String,
    /// The commit's revision; of a dry run or an order that changes nothing, the revision the table has.
    pub revision: u64,
    /// When it was committed: milliseconds since the Unix epoch; 0 if nothing was.
    pub time_ms: u64,
    /// What kind of commit: `set`, `undo`, `undo_keys`, `confirm` or `revert`.
    pub kind: String,
    /// Who gave the order.
    pub actor: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// In a dry run: why the gate would refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The keys that changed, or would: the first thousand of them.
    pub changes: Vec<KeyChange>,
    /// How many keys changed, or would.
    pub changed_keys: usize,
    /// What the gate found. Empty if the switch has none, or the order needed no target up.
    pub gate: Vec<GateResult>,
    /// The gate refused, and was overruled.
    pub forced: bool,
    /// It goes back by itself at this time unless it is confirmed: milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_by_ms: Option<u64>,
    /// Each worker's acknowledgement. It may be incomplete if the answer did not wait.
    pub workers: Vec<WorkerAck>,
    /// How many workers there are.
    pub workers_asked: usize,
    /// What became of the requests, if any were moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// What the hold around the switch did, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Held>,
}

impl Receipt {
    /// What a commit alone tells.
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
            actor: commit.actor.clone(),
            reason: commit.reason.clone(),
            changes: commit.changes.iter().take(MAX_CHANGES).map(change).collect(),
            changed_keys: commit.changes.len(),
            forced: commit.forced,
            confirm_by_ms: commit.confirm_by_ms,
            ..Receipt::default()
        }
    }

    /// A line for the log: `switch "live" revision 7 (set) by alice: a.example default -> green`.
    pub fn line(&self) -> String {
        let route = |route: &Option<String>| route.clone().unwrap_or_else(|| "default".to_owned());
        let what = match &self.changes[..] {
            [] => "no key changed".to_owned(),
            [one] => format!("{} {} -> {}", one.key, route(&one.from), route(&one.to)),
            [first, ..] => {
                let (key, to, more) = (&first.key, route(&first.to), self.changed_keys - 1);
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

/// What became of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is committed and published.
    #[default]
    Committed,
    /// Everything was as it asks for already; nothing was committed.
    Unchanged,
    /// This very order, by its idempotency key, was committed earlier: this is that commit's receipt.
    Repeated,
    /// It would be committed; nothing was done.
    WouldCommit,
    /// The gate refuses; nothing was done (a dry run).
    WouldRefuse,
}

/// One key before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// Its route before, `None` for the default: `blue`, or `green=10 blue=90`.
    pub from: Option<String>,
    /// Its route after, `None` for the default.
    pub to: Option<String>,
    /// In a dry run: requests per second that it got in the last ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// In a dry run: its requests under way now, streams apart. `None` if there are too many keys to ask for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// In a dry run: its streams open now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<u64>,
}

/// What the gate found about one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GateResult {
    /// The target.
    pub target: String,
    /// It may get traffic.
    pub passed: bool,
    /// How many of its servers are up.
    pub healthy: usize,
    /// How many must be.
    pub required: usize,
    /// Its servers, those that are `down` or `backup` apart.
    pub servers: Vec<ServerResult>,
}

/// What the gate found about one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerResult {
    /// Its address.
    pub address: String,
    /// It is up.
    pub healthy: bool,
    /// Why it is not, or what it answered.
    pub reason: String,
    /// How long the probe took, in microseconds.
    pub took_us: u64,
}

/// A worker's acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerAck {
    /// The thread's number.
    pub worker: usize,
    /// When it took the tables over, in microseconds after the commit.
    pub after_us: u64,
    /// Its requests and streams on the old side at that moment.
    pub in_flight_old: usize,
}

/// What became of the requests around a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// How far it is.
    pub state: DrainState,
    /// When this was seen, in microseconds after the commit.
    pub seen_us: u64,
    /// When the first request went to the new side, in microseconds after the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_new_us: Option<u64>,
    /// When the last request on the old side ended, in microseconds after the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_old_us: Option<u64>,
    /// Requests still on the old side, streams apart.
    pub in_flight: u64,
    /// Streams still on the old side.
    pub streams: u64,
    /// Requests that ended on the new side so far.
    pub served_new: u64,
    /// Those of them that failed.
    pub failed_new: u64,
    /// Requests on the old side that failed after the switch.
    pub failed_old: u64,
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    /// Requests are still on the old side.
    #[default]
    Draining,
    /// Nothing is left on the old side, but for streams that the policy keeps.
    Drained,
    /// Requests were left when it was given up to look.
    GivenUp,
}

/// What the hold around a switch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// Requests that waited when they were let go.
    pub waiting: usize,
    /// How long they were held, in microseconds.
    pub held_us: u64,
    /// How long the requests under way took to finish, in microseconds.
    pub drained_us: u64,
}
