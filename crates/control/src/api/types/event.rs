//! What happens, as it happens: the messages of `/v1/events`.
//!
//! Owns their names, which are also the `event:` lines of the stream. Must never be the record: an event may be missed,
//! the history has everything.

use crate::receipt::{GateResult, KeyChange, Receipt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened to a switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number: `Last-Event-ID` of a listener that comes back.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// The switch.
    pub switch: String,
    /// What.
    #[serde(flatten)]
    pub happening: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A commit was kept and published.
    Committed {
        /// Its revision.
        revision: u64,
        /// `set`, `undo`, `confirm` or `revert`.
        kind: String,
        /// Who.
        actor: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What changed.
        changes: Vec<KeyChange>,
        /// It goes back by itself then, unless confirmed; in milliseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm_by_ms: Option<u64>,
    },
    /// A gate was asked.
    Gate {
        /// It lets the order pass, or was overruled.
        passed: bool,
        /// Who gave the order.
        actor: String,
        /// What it found.
        results: Vec<GateResult>,
    },
    /// The requests of a commit have left the old side, or it was given up to look.
    Drained {
        /// All of it.
        receipt: Box<Receipt>,
    },
    /// New requests of a key wait.
    Held {
        /// The key.
        key: String,
        /// Who.
        actor: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// They go on.
    Released {
        /// The key.
        key: String,
        /// Who.
        actor: String,
        /// How many waited.
        waiting: u64,
    },
    /// A commit could not be kept, or the store could not be read.
    StoreFailed {
        /// Why.
        text: String,
        /// What to do.
        remedy: String,
    },
}

impl From<&crate::Event> for Event {
    fn from(event: &crate::Event) -> Event {
        use crate::EventKind as From;
        let happening = match event.kind.clone() {
            From::Committed { revision, kind, actor, reason, changes, confirm_by_ms } => {
                Happening::Committed { revision, kind: kind.into(), actor, reason, changes, confirm_by_ms }
            }
            From::Gate { passed, actor, results } => Happening::Gate { passed, actor, results },
            From::Drained(receipt) => Happening::Drained { receipt: Box::new(Receipt::clone(&receipt)) },
            From::Held { key, actor, reason } => Happening::Held { key, actor, reason },
            From::Released { key, actor, waiting } => {
                Happening::Released { key, actor, waiting: waiting as u64 }
            }
            From::StoreFailed { text, remedy } => Happening::StoreFailed { text, remedy },
        };
        Event { id: event.id, time_ms: event.time_ms, switch: event.switch.to_string(), happening }
    }
}
