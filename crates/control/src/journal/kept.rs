//! Which events the journal keeps, and in which words.

use super::entry::Occurrence;
use crate::event::EventKind;
use crate::gate;
use crate::receipt::GateResult;
use std::sync::Arc;

/// Returns what the journal keeps of an event: of a commit nothing, which has a history of its own.
pub(crate) fn kept(switch: &Arc<str>, event: &EventKind, time_ms: u64) -> Option<Occurrence> {
    let (kind, key, actor, reason, count) = match event {
        EventKind::Held { key, actor, reason, .. } => ("hold", key, actor, reason.clone(), 1),
        EventKind::Overdue { revision, results } => {
            return Some(overdue(switch, *revision, results, time_ms));
        }
        EventKind::Released { key, actor, reason, waiting } => {
            ("release", key, actor, reason.clone(), *waiting as u64)
        }
        // The end of a hold's time is kept by the process that records it (`service/hold.rs`).
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

/// Returns what the journal keeps of a commit that stays although it was not confirmed in time.
fn overdue(switch: &Arc<str>, revision: u64, results: &[GateResult], time_ms: u64) -> Occurrence {
    let answers: Vec<String> = results.iter().flat_map(gate::notes).collect();
    Occurrence {
        time_ms,
        kind: "overdue".into(),
        switch: Some(switch.to_string()),
        subject: Some(revision.to_string()),
        actor: "pointsman".into(),
        reason: Some(answers.join("; ")),
        count: 1,
    }
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
