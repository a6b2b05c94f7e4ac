//! The messages of `/v1/events`.
//!
//! Owns their names, which are also the `event:` lines of the stream. Must never be the record: an event may be missed;
//! the history is complete.

use super::HoldThen;
use crate::receipt::{ChangedServer, GateResult, KeyChange, Receipt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened to a switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number, for the `Last-Event-ID` of a listener that reconnects.
    pub id: u64,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// The switch.
    pub switch: String,
    /// The event itself.
    #[serde(flatten)]
    pub happening: Happening,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A commit is durable and published.
    Committed {
        /// Its revision.
        revision: u64,
        /// `set`, `undo`, `confirm` or `revert`.
        kind: String,
        /// The actor.
        actor: String,
        /// The reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The changes.
        changes: Vec<KeyChange>,
        /// The changes of servers of groups.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        servers: Vec<ChangedServer>,
        /// It is reverted at this time unless confirmed; in milliseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm_by_ms: Option<u64>,
    },
    /// A gate was checked.
    Gate {
        /// True if the order passes, or the gate was overruled.
        passed: bool,
        /// The actor.
        actor: String,
        /// The result of each target.
        results: Vec<GateResult>,
    },
    /// A commit that awaits its confirmation is half way to its deadline, or at nine tenths.
    Unconfirmed {
        /// Its revision.
        revision: u64,
        /// The time left of its window, in milliseconds.
        left_ms: u64,
        /// The length of its window, in milliseconds.
        window_ms: u64,
    },
    /// A commit was not confirmed in time, and stays because the side that it would go back to fails.
    Overdue {
        /// Its revision.
        revision: u64,
        /// The result of each target on either side.
        results: Vec<GateResult>,
    },
    /// The old side of a commit is empty, or the drain was given up.
    Drained {
        /// The receipt.
        receipt: Box<Receipt>,
    },
    /// Later answers have changed a receipt: more failed on the new side, or they are not counted any more.
    Receipt {
        /// The receipt.
        receipt: Box<Receipt>,
    },
    /// A key is held.
    Held {
        /// The key.
        key: String,
        /// The actor.
        actor: String,
        /// The reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When the hold ends by itself, in milliseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<u64>,
    },
    /// A key has been held for another minute.
    StillHeld {
        /// The key.
        key: String,
        /// The actor of the hold.
        actor: String,
        /// When it began, in milliseconds since 1970.
        since_ms: u64,
        /// The number of waiting requests.
        waiting: u64,
        /// The number of requests that got 503.
        rejected: u64,
    },
    /// The time of a hold is over.
    HoldExpired {
        /// The key.
        key: String,
        /// The actor of the hold.
        actor: String,
        /// The handling of the key's requests.
        then: HoldThen,
        /// The number of requests that waited.
        waiting: u64,
    },
    /// A key is released.
    Released {
        /// The key.
        key: String,
        /// The actor.
        actor: String,
        /// The reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The number of requests that waited.
        waiting: u64,
    },
    /// A health check has changed the state of a server of one of the switch's targets.
    Health {
        /// The target.
        group: String,
        /// Its state with this: `healthy`, `degraded` or `down`.
        group_state: String,
        /// The server's address.
        server: String,
        /// The server's state before: `up`, `checking` or `unhealthy`.
        from: String,
        /// Its state now.
        to: String,
        /// The check: `GET /health`.
        check: String,
        /// The result: `answered 503`.
        reason: String,
    },
    /// A commit could not be stored, or the store could not be read.
    StoreFailed {
        /// The reason.
        text: String,
        /// The remedy.
        remedy: String,
    },
}

impl From<&crate::Event> for Event {
    fn from(event: &crate::Event) -> Event {
        use crate::EventKind as From;
        let happening = match event.kind.clone() {
            From::Committed { revision, kind, actor, reason, changes, servers, confirm_by_ms } => {
                Happening::Committed { revision, kind, actor, reason, changes, servers, confirm_by_ms }
            }
            From::Gate { passed, actor, results } => Happening::Gate { passed, actor, results },
            From::Unconfirmed { revision, left_ms, window_ms } => {
                Happening::Unconfirmed { revision, left_ms, window_ms }
            }
            From::Overdue { revision, results } => Happening::Overdue { revision, results },
            From::Drained(receipt) => Happening::Drained { receipt: Box::new(Receipt::clone(&receipt)) },
            From::Receipt(receipt) => Happening::Receipt { receipt: Box::new(Receipt::clone(&receipt)) },
            From::Held { key, actor, reason, until_ms } => Happening::Held { key, actor, reason, until_ms },
            From::StillHeld { key, actor, since_ms, waiting, rejected } => {
                Happening::StillHeld { key, actor, since_ms, waiting: waiting as u64, rejected }
            }
            From::HoldExpired { key, actor, releases, waiting } => {
                let then = if releases { HoldThen::Release } else { HoldThen::Refuse };
                Happening::HoldExpired { key, actor, then, waiting: waiting as u64 }
            }
            From::Released { key, actor, reason, waiting } => {
                Happening::Released { key, actor, reason, waiting: waiting as u64 }
            }
            From::Health { group, group_state, server, from, to, check, reason } => Happening::Health {
                group,
                group_state: group_state.name().to_owned(),
                server,
                from: from.name().to_owned(),
                to: to.name().to_owned(),
                check,
                reason,
            },
            From::StoreFailed { text, remedy } => Happening::StoreFailed { text, remedy },
        };
        Event { id: event.id, time_ms: event.time_ms, switch: event.switch.to_string(), happening }
    }
}
