//! Spans of single orders, off by default.
//!
//! Owns their names and fields: `order`, with `plan`, `gate`, `commit`, `publish` and `drain` below it. The server installs
//! what writes them to a file; without that, a span costs the check of a level.

use super::switch_state::SwitchState;
use switch::{Meta, Plan};
use tracing::{Span, debug_span};

/// Starts the span of an order, from its arrival until its receipt is final.
pub(super) fn order(switch: &SwitchState, meta: &Meta) -> Span {
    debug_span!(parent: None, "order", switch = %switch.name(), actor = %meta.actor)
}

/// Starts the span of a plan.
pub(super) fn plan() -> Span {
    debug_span!("plan")
}

/// Starts the span of the gate's probes.
pub(super) fn gate(plan: &Plan) -> Span {
    debug_span!("gate", targets = ?plan.targets)
}

/// Starts the span of writing a commit, until the store has synced it.
pub(super) fn commit() -> Span {
    debug_span!("commit")
}

/// Starts the span of a publication, until every worker has acknowledged it.
pub(super) fn publish(revision: u64) -> Span {
    debug_span!("publish", revision)
}

/// Starts the span of a drain.
pub(super) fn drain(revision: u64) -> Span {
    debug_span!("drain", revision)
}
