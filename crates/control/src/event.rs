//! Events, and their listeners.
//!
//! Owns: events, their numbers, and a buffer of the newest. Must never: wait for a listener.

use crate::receipt::{ChangedServer, GateResult, KeyChange, Receipt};
use statistics::GroupCondition;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;
use upstream::health::Health;

/// The number of past events that a reconnecting listener can still get.
const KEPT: usize = 512;

/// An event of a switch.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its number: greater than that of every earlier event, also across a restart.
    pub id: u64,
    /// Its time: milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The switch.
    pub switch: Arc<str>,
    /// The event itself.
    pub kind: EventKind,
}

/// The kinds of events.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A commit is durable and published: a change, an undo, a confirmation or a revert.
    Committed {
        /// Its revision.
        revision: u64,
        /// `set`, `undo`, `undo_keys`, `confirm` or `revert`.
        kind: String,
        /// The actor.
        actor: String,
        /// The reason.
        reason: Option<String>,
        /// The changes.
        changes: Vec<KeyChange>,
        /// The changes of servers.
        servers: Vec<ChangedServer>,
        /// The deadline of its confirmation: milliseconds since the Unix epoch.
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
    Drained(Arc<Receipt>),
    /// Later answers have changed a receipt: more failed on the new side, or they are not counted any more.
    Receipt(Arc<Receipt>),
    /// A key is held.
    Held {
        /// The key.
        key: String,
        /// The actor.
        actor: String,
        /// The reason.
        reason: Option<String>,
        /// When the hold ends by itself: milliseconds since the Unix epoch.
        until_ms: Option<u64>,
    },
    /// A key has been held for another minute.
    StillHeld {
        /// The key.
        key: String,
        /// The actor of the hold.
        actor: String,
        /// When it began: milliseconds since the Unix epoch.
        since_ms: u64,
        /// The number of requests that wait.
        waiting: usize,
        /// The number of requests that were turned away.
        rejected: u64,
    },
    /// The time of a hold is over.
    HoldExpired {
        /// The key.
        key: String,
        /// The actor of the hold.
        actor: String,
        /// Its requests go on; otherwise they are turned away from now on.
        releases: bool,
        /// The number of requests that waited.
        waiting: usize,
    },
    /// A key is released.
    Released {
        /// The key.
        key: String,
        /// The actor.
        actor: String,
        /// The reason.
        reason: Option<String>,
        /// The number of requests that waited.
        waiting: usize,
    },
    /// A health check has changed the state of a server of one of the switch's targets.
    Health {
        /// The target.
        group: String,
        /// Its state with this: `healthy`, `degraded` or `down`.
        group_state: GroupCondition,
        /// The server's address.
        server: String,
        /// The server's state before: `up`, `checking` or `unhealthy`.
        from: Health,
        /// Its state now.
        to: Health,
        /// The check.
        check: String,
        /// The result.
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

impl EventKind {
    /// Returns the name under which it is sent: `committed`, `gate`, `unconfirmed`, `overdue`, `drained`, `receipt`, `held`,
    /// `still_held`, `hold_expired`, `released`, `health`, `store_failed`.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::Committed { .. } => "committed",
            EventKind::Gate { .. } => "gate",
            EventKind::Unconfirmed { .. } => "unconfirmed",
            EventKind::Overdue { .. } => "overdue",
            EventKind::Drained(_) => "drained",
            EventKind::Receipt(_) => "receipt",
            EventKind::Held { .. } => "held",
            EventKind::StillHeld { .. } => "still_held",
            EventKind::HoldExpired { .. } => "hold_expired",
            EventKind::Released { .. } => "released",
            EventKind::Health { .. } => "health",
            EventKind::StoreFailed { .. } => "store_failed",
        }
    }
}

/// A listener's subscription.
pub struct Subscription {
    /// The number of the newest event before it.
    pub last_id: u64,
    /// The buffered events that it missed, oldest first.
    pub missed: Vec<Arc<Event>>,
    /// The events to come. The channel reports a listener that falls too far behind (`Lagged`).
    pub live: broadcast::Receiver<Arc<Event>>,
}

/// The source of events.
pub(crate) struct Events {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Arc<Event>>,
}

struct Kept {
    last_id: u64,
    events: VecDeque<Arc<Event>>,
}

impl Events {
    /// Creates a log whose numbers begin with the microseconds of now, so that they go on rising across a restart.
    pub(crate) fn new(now_us: u64) -> Events {
        let kept = Kept { last_id: now_us, events: VecDeque::new() };
        Events { kept: Mutex::new(kept), live: broadcast::Sender::new(KEPT) }
    }

    pub(crate) fn announce(&self, now_ms: u64, switch: &Arc<str>, kind: EventKind) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last_id += 1;
        let event = Arc::new(Event { id: kept.last_id, time_ms: now_ms, switch: switch.clone(), kind });
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Sent under the lock, so that a subscriber gets every event once, buffered or live. Without listeners it fails,
        // which is fine.
        let _ = self.live.send(event);
    }

    /// Subscribes to events from now on, and returns the buffered ones after this number.
    pub(crate) fn subscribe(&self, after: Option<u64>) -> Subscription {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = after.map_or_else(Vec::new, |after| {
            kept.events.iter().filter(|event| event.id > after).cloned().collect()
        });
        Subscription { last_id: kept.last_id, missed, live: self.live.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(events: &Events, key: &str) {
        let kind = EventKind::Held { key: key.into(), actor: "a".into(), reason: None, until_ms: None };
        events.announce(1, &Arc::from("live"), kind);
    }

    #[test]
    fn reconnecting_listener_gets_missed_events_once() {
        let events = Events::new(100);
        held(&events, "a");
        held(&events, "b");
        let mut back = events.subscribe(Some(101));
        held(&events, "c");
        assert_eq!(back.missed.iter().map(|event| event.id).collect::<Vec<_>>(), [102]);
        assert_eq!(back.live.try_recv().unwrap().id, 103);
        assert!(back.live.try_recv().is_err());
        assert!(events.subscribe(None).missed.is_empty());
    }

    #[test]
    fn buffer_is_bounded() {
        let events = Events::new(0);
        for _ in 0..KEPT + 10 {
            held(&events, "a");
        }
        let missed = events.subscribe(Some(0)).missed;
        assert_eq!((missed.len(), missed[0].id), (KEPT, 11));
    }
}
