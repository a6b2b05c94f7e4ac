//! Refusals: what is not done, said so that people can mend it and programs can tell why.
//!
//! Owns the list of codes. Their names and statuses are promised to programs: they may be added to, never changed.
//! Must never be used for anything that went through.

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

            /// Its stable name.
            pub fn name(self) -> &'static str {
                match self { $(Code::$code => $name,)* }
            }

            /// The HTTP status that goes with it (RFC 9110, section 15).
            pub fn status(self) -> u16 {
                match self { $(Code::$code => $status,)* }
            }

            /// What it means, in one sentence.
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
    BadKey "bad_key" 422 "The text can be no key of this switch.";
    BadRoute "bad_route" 422 "The text is no route.";
    BadOrder "bad_order" 422 "The order contradicts itself, or a part of it is missing or too long.";
    TooManyKeys "too_many_keys" 422 "The table would have more keys than the configuration allows.";
    RevisionConflict "revision_conflict" 412 "The switch is not at the revision that was expected.";
    IdempotencyReused "idempotency_reused" 422 "The idempotency key was used for another order.";
    NothingToUndo "nothing_to_undo" 409 "There is no change that still stands and could be taken back.";
    ChangedSince "changed_since" 409 "A key was changed after the commit that should be taken back.";
    NothingToConfirm "nothing_to_confirm" 409 "The commit does not wait for a confirmation, or not any more.";
    GateFailed "gate_failed" 409 "Too few servers of the target are healthy.";
    StoreFailed "store_failed" 503 "The store could not keep the commit.";
    StoreReadOnly "store_read_only" 503 "The store cannot be written.";
    StoreFull "store_full" 507 "There is no room left where the store lies.";
    StoreLocked "store_locked" 503 "Somebody else has the store.";
    StoreDamaged "store_damaged" 503 "What the store holds is not to be trusted.";
    HoldExists "hold_exists" 409 "The key is held already.";
    NotHeld "not_held" 409 "The key is not held.";
    NotDrained "not_drained" 409 "Requests were still under way when the time to wait for them was over.";
    ConfigRefused "config_refused" 422 "The new configuration cannot be gone over to; the one before stays in force.";
    BadRequest "bad_request" 400 "The request cannot be understood.";
    Unauthorized "unauthorized" 401 "It is not known who asks.";
    Forbidden "forbidden" 403 "Whoever asks may not do this.";
    CrossSite "cross_site" 403 "A web page of another site sent the request.";
    HostNotAllowed "host_not_allowed" 403 "The request brings no token, and its Host is not a name of this server.";
    NotFound "not_found" 404 "There is nothing under this path.";
    MethodNotAllowed "method_not_allowed" 405 "The path does not know this method.";
    TooLarge "too_large" 413 "The body is larger than the API takes.";
    BadMediaType "bad_media_type" 415 "The body is not JSON.";
    Busy "busy" 503 "Too many orders wait for this switch.";
    Stopping "stopping" 503 "The process is about to end.";
}

impl Code {
    /// The code of this name.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.name() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a program may want to know beyond the code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Details {
    /// Nothing.
    #[default]
    None,
    /// The revision that was expected, and the one the switch is at.
    Revisions {
        /// By the order.
        expected: u64,
        /// In truth.
        actual: u64,
    },
    /// Keys, each with what is the matter with it.
    Keys(Vec<(Key, String)>),
    /// Names that would do instead.
    Names(Vec<Arc<str>>),
    /// Servers, each with the reason why it does not count as healthy.
    Servers(Vec<(String, String)>),
    /// What was found in a configuration, a line each.
    Findings(Vec<String>),
}

/// Something is not done, and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub text: String,
    /// What mends it.
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
    /// A refusal without details.
    pub fn new(code: Code, text: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal { code, text: text.into(), remedy: remedy.into(), details: Details::None }
    }

    /// With details.
    #[must_use]
    pub fn with(mut self, details: Details) -> Refusal {
        self.details = details;
        self
    }

    /// A text that is no key of this switch.
    pub fn bad_key(text: &[u8], fault: KeyFault) -> Refusal {
        Refusal::new(
            Code::BadKey,
            format!("\"{}\" is no key: {fault}", text.escape_ascii()),
            "write the key as the switch's KEY would give it for a request",
        )
    }

    /// A text that is no route.
    pub fn bad_route(text: &str, fault: &RouteFault) -> Refusal {
        Refusal::new(
            Code::BadRoute,
            format!("{text:?} is no route: {fault}"),
            "write one target (green) or several with shares (green=10 blue=90)",
        )
    }

    /// A target that the switch does not have.
    pub fn unknown_target(rules: &Rules, target: &str) -> Refusal {
        let known: Vec<&str> = rules.targets.iter().map(|target| &**target).collect();
        Refusal::new(
            Code::UnknownTarget,
            format!("switch \"{}\" has no target \"{target}\"", rules.name),
            format!("its targets are {}; others are added in the configuration", known.join(", ")),
        )
        .with(Details::Names(rules.targets.to_vec()))
    }

    /// The order expects another revision.
    pub fn revision_conflict(expected: u64, actual: u64) -> Refusal {
        Refusal::new(
            Code::RevisionConflict,
            format!("the switch is at revision {actual}, not at {expected}"),
            "look at what was changed (history), and repeat the order if it is still right",
        )
        .with(Details::Revisions { expected, actual })
    }

    /// A switch that the configuration does not have.
    pub fn unknown_switch(name: &str, known: &[Arc<str>]) -> Refusal {
        let remedy = match known {
            [] => "declare it in the configuration (switch KEY $NAME { … }) and reload".to_owned(),
            _ => format!("there are {}", known.join(", ")),
        };
        Refusal::new(Code::UnknownSwitch, format!("there is no switch \"{name}\""), remedy)
            .with(Details::Names(known.to_vec()))
    }

    /// A key without an entry, where one is needed.
    pub fn unknown_key(key: &Key) -> Refusal {
        Refusal::new(
            Code::UnknownKey,
            format!("key \"{key}\" has no entry: it leads where the default or a wildcard does"),
            "take a key that list shows",
        )
        .with(Details::Keys(vec![(key.clone(), "has no entry".to_owned())]))
    }

    /// An idempotency key that made another commit (see [`crate::Order::may_have_made`]).
    pub fn idempotency_reused(idempotency: &str, revision: u64) -> Refusal {
        Refusal::new(
            Code::IdempotencyReused,
            format!(
                "the idempotency key {idempotency:?} belongs to another order, which made revision {revision}"
            ),
            "give each order an idempotency key of its own, and repeat only the very same order with it",
        )
    }

    /// A target with too few healthy servers. `servers`: each with the reason why it does not count.
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
            format!("target \"{target}\" has {healthy} healthy servers of the {needed} it needs{reasons}"),
            "start its servers, or repeat the order with force",
        )
        .with(Details::Servers(servers))
    }

    /// A second hold on a key.
    pub fn hold_exists(key: &Key) -> Refusal {
        Refusal::new(Code::HoldExists, format!("key \"{key}\" is held already"), "release it first")
            .with(Details::Keys(vec![(key.clone(), "is held".to_owned())]))
    }

    /// A release without a hold.
    pub fn not_held(key: &Key) -> Refusal {
        Refusal::new(Code::NotHeld, format!("key \"{key}\" is not held"), "take a key that is held")
            .with(Details::Keys(vec![(key.clone(), "is not held".to_owned())]))
    }

    /// A revision that the history does not have.
    pub fn unknown_revision(revision: u64) -> Refusal {
        Refusal::new(
            Code::UnknownRevision,
            format!("there is no revision {revision}"),
            "take a revision that history shows",
        )
    }
}

impl From<StoreFault> for Refusal {
    fn from(fault: StoreFault) -> Refusal {
        let code = match fault.kind {
            StoreFaultKind::Damaged | StoreFaultKind::Newer => Code::StoreDamaged,
            StoreFaultKind::ReadOnly => Code::StoreReadOnly,
            StoreFaultKind::Full => Code::StoreFull,
            StoreFaultKind::Locked => Code::StoreLocked,
            StoreFaultKind::Unreadable | StoreFaultKind::Failed => Code::StoreFailed,
            StoreFaultKind::Conflict => Code::RevisionConflict,
        };
        Refusal::new(code, fault.text, fault.remedy)
    }
}
