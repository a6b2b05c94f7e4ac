//! What happened, for whoever listens.
//!
//! Owns: events, their numbers, and the last few hundred of them. Must never: wait for a listener.

use crate::receipt::{GateResult, KeyChange, Receipt};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// How many past events are kept for a listener that comes back.
const KEPT: usize = 512;

/// Something happened to a switch.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its number: greater than those of all events before, also of those before a restart.
    pub id: u64,
    /// When: milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The switch.
    pub switch: Arc<str>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A commit was kept and published: a switch, an undo, a confirmation, or a way back.
    Committed {
        /// Its revision.
        revision: u64,
        /// `set`, `undo`, `undo_keys`, `confirm` or `revert`.
        kind: &'static str,
        /// Who.
        actor: String,
        /// Why.
        reason: Option<String>,
        /// What changed.
        changes: Vec<KeyChange>,
        /// When it goes back unless it is confirmed: milliseconds since the Unix epoch.
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
    Drained(Arc<Receipt>),
    /// New requests of a key wait.
    Held {
        /// The key.
        key: String,
        /// Who.
        actor: String,
        /// Why.
        reason: Option<String>,
    },
    /// They go on.
    Released {
        /// The key.
        key: String,
        /// Who.
        actor: String,
        /// How many waited.
        waiting: usize,
    },
    /// A commit could not be kept, or the store could not be read.
    StoreFailed {
        /// Why.
        text: String,
        /// What to do.
        remedy: String,
    },
}

impl EventKind {
    /// The name under which it is sent: `committed`, `gate`, `drained`, `held`, `released`, `store_failed`.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::Committed { .. } => "committed",
            EventKind::Gate { .. } => "gate",
            EventKind::Drained(_) => "drained",
            EventKind::Held { .. } => "held",
            EventKind::Released { .. } => "released",
            EventKind::StoreFailed { .. } => "store_failed",
        }
    }
}

/// A listener's end.
pub struct Subscription {
    /// What it missed, oldest first.
    pub missed: Vec<Arc<Event>>,
    /// What comes. A listener that falls too far behind is told so by the channel (`Lagged`).
    pub live: broadcast::Receiver<Arc<Event>>,
}

/// Where events are announced.
pub(crate) struct Events {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Arc<Event>>,
}

struct Kept {
    last_id: u64,
    events: VecDeque<Arc<Event>>,
}

impl Events {
    /// Numbers begin with the microseconds of now, so that they go on rising across a restart.
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
        // Sent under the lock, so that a subscriber gets every event once: kept or live. That nobody listens is no fault.
        let _ = self.live.send(event);
    }

    /// From now on, and what came after the event of this number as far as it is kept.
    pub(crate) fn subscribe(&self, after: Option<u64>) -> Subscription {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = after.map_or_else(Vec::new, |after| {
            kept.events.iter().filter(|event| event.id > after).cloned().collect()
        });
        Subscription { missed, live: self.live.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(events: &Events, key: &str) {
        let kind = EventKind::Held { key: key.into(), actor: "a".into(), reason: None };
        events.announce(1, &Arc::from("live"), kind);
    }

    #[test]
    fn a_listener_that_comes_back_gets_what_it_missed_once() {
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
    fn what_is_kept_is_bounded() {
        let events = Events::new(0);
        for _ in 0..KEPT + 10 {
            held(&events, "a");
        }
        let missed = events.subscribe(Some(0)).missed;
        assert_eq!((missed.len(), missed[0].id), (KEPT, 11));
    }
}
