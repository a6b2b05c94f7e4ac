//! Which events the journal keeps, and in which words.

use super::entry::Occurrence;
use crate::event::EventKind;
use std::sync::Arc;

/// Returns what the journal keeps of an event: of a commit nothing, which has a history of its own.
pub(crate) fn kept(switch: &Arc<str>, event: &EventKind, time_ms: u64) -> Option<Occurrence> {
    let (kind, key, actor, reason, count) = match event {
        EventKind::Held { key, actor, reason } => ("hold", key, actor, reason.clone(), 1),
        EventKind::Released { key, actor, waiting } => ("release", key, actor, None, *waiting as u64),
        _ => return None,
    };
    Some(Occurrence {
        time_ms,
        kind: kind.into(),
        switch: Some(switch.to_string()),
        subject: Some(key.clone()),
        actor: actor.clone(),
        reason,
        count,
    })
}

/// Returns what the journal keeps of a start.
pub(crate) fn start(upgrades: bool, time_ms: u64) -> Occurrence {
    let process = format!("pointsman {}, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    Occurrence {
        time_ms,
        kind: if upgrades { "upgrade" } else { "start" }.into(),
        actor: "pointsman".into(),
        reason: Some(process),
        count: 1,
        ..Occurrence::default()
    }
}
