//! Refusals: why an order is not carried out, with a remedy for people and a code for programs.
//!
//! Owns the list of codes. Programs rely on their names and statuses: new ones may be added, none may change.
//! Must never be used for anything that was carried out.

use std::fmt;
use std::sync::Arc;

use crate::{Key, KeyFault, RouteFault, Rules, StoreFault, StoreFaultKind};

/// Declares the codes with their names, statuses and meanings in one place.
macro_rules! codes {
    ($($code:ident $name:literal $status:literal $meaning:literal;)*) => {
        /// Why something was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $code,)*
        }

        impl Code {
            /// Every code, for tables and tests.
            pub const ALL: &[Code] = &[$(Code::$code,)*];

            /// Returns its stable name.
            pub fn name(self) -> &'static str {
                match self { $(Code::$code => $name,)* }
            }

            /// Returns its HTTP status (RFC 9110, section 15).
            pub fn status(self) -> u16 {
                match self { $(Code::$code => $status,)* }
            }

            /// Returns its meaning, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$code => $meaning,)* }
            }
        }
    };
}

codes! {
    UnknownSwitch "unknown_switch" 404 "The configuration has no switch of this name.";
    UnknownKey "unknown_key" 404 "The key has no entry in the table.";
    UnknownRevision "unknown_revision" 404 "The history has no commit of this revision.";
    UnknownTarget "unknown_target" 422 "The route names a target that the switch does not have.";
    UnknownGroup "unknown_group" 404 "There is no group of this name.";
    UnknownServer "unknown_server" 404 "The group has no such server.";
    BadKey "bad_key" 422 "The text is not a valid key of this switch.";
    BadRoute "bad_route" 422 "The text is not a valid route.";
    BadOrder "bad_order" 422 "The order contradicts itself, or a part of it is missing or too long.";
    BadGroup "bad_group" 422 "The text is not a valid name of a group.";
    BadServer "bad_server" 422 "The text is not a valid address of a server, or a parameter is not valid.";
    TooManyKeys "too_many_keys" 422 "The table would have more keys than the configuration allows.";
    RevisionConflict "revision_conflict" 412 "The switch is not at the revision that was expected.";
    EntryConflict "entry_conflict" 412 "A key is not as it was expected.";
    IdempotencyReused "idempotency_reused" 422 "The idempotency key was used for another order.";
    NothingToUndo "nothing_to_undo" 409 "There is no change in effect that could be undone.";
    ChangedSince "changed_since" 409 "A key was changed after the commit to be undone.";
    NothingToConfirm "nothing_to_confirm" 409 "The commit is not waiting for a confirmation.";
    ServerExists "server_exists" 409 "The group already has this server.";
    GroupExists "group_exists" 409 "There is a group of this name already.";
    GroupInUse "group_in_use" 409 "Keys or locations lead to the group, so it cannot be removed.";
    ServerNotAllowed "server_not_allowed" 403 "Orders may not name this address, or not over HTTP.";
    GroupEmptied "group_emptied" 409 "A group that gets requests would have no server left for them.";
    GateFailed "gate_failed" 409 "Too few servers of the target are healthy.";
    StoreFailed "store_failed" 503 "The store could not save the commit.";
    StoreReadOnly "store_read_only" 503 "The store cannot be written.";
    StoreFull "store_full" 507 "No space is left on the file system of the store.";
    StoreLocked "store_locked" 503 "Another process has locked the store.";
    StoreDamaged "store_damaged" 503 "The store is corrupt.";
    StoreOldFormat "store_old_format" 503 "The order needs a newer format of the store, which an older program still has open.";
    StoreUnreachable "store_unreachable" 503 "The fleet's etcd cannot be reached.";
    StoreForeign "store_foreign" 503 "The fleet's etcd is another one, or has lost what this node knows.";
    NotInFleet "not_in_fleet" 409 "The fleet does not exist, or this node is not in it.";
    FleetTaken "fleet_taken" 409 "The fleet, or a node of this name, exists already.";
    NodeNotReady "node_not_ready" 409 "A node of the fleet is silent, or its configuration lacks what the order needs.";
    OutcomeUnknown "outcome_unknown" 504 "Whether the order was carried out is unknown.";
    NotApplied "not_applied" 503 "The commit was made, and this node cannot apply it yet.";
    HoldExists "hold_exists" 409 "The key is already held.";
    NotHeld "not_held" 409 "The key is not held.";
    NotDrained "not_drained" 409 "Requests were still in flight when the time to wait for them ran out, or streams are open.";
    Overtaken "overtaken" 409 "While the order waited, its hold was released or a newer order changed its key.";
    ConfigRefused "config_refused" 422 "The new configuration was rejected; the previous one stays active.";
    IssuerFailed "issuer_failed" 502 "The issuer of the certificate refused or failed to carry out the order.";
    BadRequest "bad_request" 400 "The request is malformed.";
    Unauthorized "unauthorized" 401 "The request requires authentication.";
    Forbidden "forbidden" 403 "The caller is not allowed to do this.";
    CrossSite "cross_site" 403 "A web page of another site sent the request.";
    HostNotAllowed "host_not_allowed" 403 "The request has no token, and its Host is not a name of this server.";
    NotFound "not_found" 404 "There is nothing at this path.";
    MethodNotAllowed "method_not_allowed" 405 "The path does not support this method.";
    TooLarge "too_large" 413 "The body is larger than the API accepts.";
    BadMediaType "bad_media_type" 415 "The body is not JSON.";
    TooManyCalls "too_many_calls" 429 "The caller has too many event streams and waiting orders open.";
    TooManyLogins "too_many_logins" 429 "Too many logins from this address have failed.";
    Busy "busy" 503 "Too many calls are open, or too many orders are waiting for this switch.";
    NoMaster "no_master" 503 "The master process is gone: the worker process continues to serve, and takes no \
         orders.";
    Internal "internal" 500 "The server failed before the request reached the control plane.";
    Stopping "stopping" 503 "The process is shutting down.";
}

impl Code {
    /// Returns the code of this name.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.name() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Details for programs, beyond the code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Details {
    /// None.
    #[default]
    None,
    /// The revision that was expected, and the one the switch is at.
    Revisions {
        /// The revision that the order expects.
        expected: u64,
        /// The revision of the switch.
        actual: u64,
    },
    /// Keys, each with its problem.
    Keys(Vec<(Key, String)>),
    /// Names that are valid instead.
    Names(Vec<Arc<str>>),
    /// Servers, each with the reason why it does not count as healthy.
    Servers(Vec<(String, String)>),
    /// The findings in a configuration, a line each.
    Findings(Vec<String>),
}

/// Why something was not done. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub text: String,
    /// The remedy.
    pub remedy: String,
    /// More, for programs.
    pub details: Details,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}); {}", self.text, self.code, self.remedy)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Creates a refusal without details.
    pub fn new(code: Code, text: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal { code, text: text.into(), remedy: remedy.into(), details: Details::None }
    }

    /// Adds details.
    #[must_use]
    pub fn with(mut self, details: Details) -> Refusal {
        self.details = details;
        self
    }

    /// Refuses a text that is not a valid key.
    pub fn bad_key(text: &[u8], fault: KeyFault) -> Refusal {
        let remedy = match fault {
            KeyFault::LikeTarget => {
                "write the keys first and one target last, or repeat the order with force if a key has this name"
            }
            KeyFault::Default => {
                "write * for all hosts without an entry, or repeat the order with force if a host has this name"
            }
            KeyFault::Regex => {
                "write a host, *.example.com, www.example.* or *; other keys than hosts may begin with ~ with force"
            }
            _ => "write the key as the switch's KEY evaluates for a request",
        };
        Refusal::new(Code::BadKey, format!("invalid key \"{}\": {fault}", text.escape_ascii()), remedy)
    }

    /// Refuses a text that is not a valid route.
    pub fn bad_route(text: &str, fault: &RouteFault) -> Refusal {
        Refusal::new(
            Code::BadRoute,
            format!("invalid route {text:?}: {fault}"),
            "write one target (green) or several with weights (green=10 blue=90)",
        )
    }

    /// Refuses a target that the switch does not have.
    pub fn unknown_target(rules: &Rules, target: &str) -> Refusal {
        let known: Vec<&str> = rules.targets.iter().map(|target| &**target).collect();
        Refusal::new(
            Code::UnknownTarget,
            format!("switch \"{}\" has no target \"{target}\"", rules.name),
            format!(
                "its targets are {}; add others {}",
                known.join(", "),
                match rules.run_time.is_admitted {
                    true => "in the configuration, or make a group (pointsman group create)",
                    false => "in the configuration",
                }
            ),
        )
        .with(Details::Names(rules.targets.to_vec()))
    }

    /// Reports a commit that the fleet has, and that the copy on this machine cannot take.
    pub fn not_applied(revision: u64, fault: &StoreFault) -> Refusal {
        Refusal::new(
            Code::NotApplied,
            format!(
                "revision {revision} is committed in the fleet, and this node still serves the table before it: {}",
                fault.text
            ),
            fault.remedy.clone(),
        )
    }

    /// Refuses an order that expects another revision.
    pub fn revision_conflict(expected: u64, actual: u64) -> Refusal {
        Refusal::new(
            Code::RevisionConflict,
            format!("the switch is at revision {actual}, not {expected}"),
            "check what changed (history), and repeat the order if it is still right",
        )
        .with(Details::Revisions { expected, actual })
    }

    /// Refuses a switch that the configuration does not have.
    pub fn unknown_switch(name: &str, known: &[Arc<str>]) -> Refusal {
        let remedy = match known {
            [] => "declare it in the configuration (switch KEY $NAME { … }) and reload".to_owned(),
            _ => format!("the configuration has {}", known.join(", ")),
        };
        Refusal::new(Code::UnknownSwitch, format!("there is no switch \"{name}\""), remedy)
            .with(Details::Names(known.to_vec()))
    }

    /// Refuses a key without an entry, where one is needed.
    pub fn unknown_key(key: &Key) -> Refusal {
        Refusal::new(
            Code::UnknownKey,
            format!("key \"{key}\" has no entry: it follows a wildcard or the default"),
            "use a key that list shows",
        )
        .with(Details::Keys(vec![(key.clone(), "has no entry".to_owned())]))
    }

    /// Refuses an idempotency key that made another commit (see [`crate::Order::may_have_made`]).
    pub fn idempotency_reused(idempotency: &str, revision: u64) -> Refusal {
        Refusal::new(
            Code::IdempotencyReused,
            format!(
                "the idempotency key {idempotency:?} was used for another order, which made revision {revision}"
            ),
            "use a new idempotency key for each order, and reuse one only to repeat the same order",
        )
    }

    /// Refuses an idempotency key of another order, which changed nothing.
    pub fn idempotency_reused_unchanged(idempotency: &str, revision: u64) -> Refusal {
        let text = format!(
            "the idempotency key {idempotency:?} was used for another order, which changed nothing at revision {revision}"
        );
        Refusal { text, ..Refusal::idempotency_reused(idempotency, revision) }
    }

    /// Refuses a target with too few healthy servers. `servers`: each with the reason why it does not count.
    pub fn gate_failed(
        target: &str,
        healthy: usize,
        needed: usize,
        servers: Vec<(String, String)>,
    ) -> Refusal {
        let reasons: Vec<String> = servers.iter().map(|(server, why)| format!("{server}: {why}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
        Refusal::new(
            Code::GateFailed,
            format!("target \"{target}\" has {healthy} of {needed} required healthy servers{reasons}"),
            "start its servers, or repeat the order with force",
        )
        .with(Details::Servers(servers))
    }

    /// Refuses a second hold on a key.
    pub fn hold_exists(key: &Key) -> Refusal {
        Refusal::new(Code::HoldExists, format!("key \"{key}\" is already held"), "release it first")
            .with(Details::Keys(vec![(key.clone(), "is held".to_owned())]))
    }

    /// Refuses a release without a hold.
    pub fn not_held(key: &Key) -> Refusal {
        Refusal::new(Code::NotHeld, format!("key \"{key}\" is not held"), "use a key that is held")
            .with(Details::Keys(vec![(key.clone(), "is not held".to_owned())]))
    }

    /// Refuses a revision that the history does not have.
    pub fn unknown_revision(revision: u64) -> Refusal {
        Refusal::new(
            Code::UnknownRevision,
            format!("there is no revision {revision}"),
            "use a revision that history shows",
        )
    }
}

impl From<StoreFault> for Refusal {
    fn from(fault: StoreFault) -> Refusal {
        let code = match fault.kind {
            StoreFaultKind::Damaged | StoreFaultKind::Newer => Code::StoreDamaged,
            StoreFaultKind::Older => Code::StoreOldFormat,
            StoreFaultKind::ReadOnly => Code::StoreReadOnly,
            StoreFaultKind::Full => Code::StoreFull,
            StoreFaultKind::Locked => Code::StoreLocked,
            StoreFaultKind::Unreadable | StoreFaultKind::Failed => Code::StoreFailed,
            StoreFaultKind::Conflict => Code::RevisionConflict,
        };
        Refusal::new(code, fault.text, fault.remedy)
    }
}
