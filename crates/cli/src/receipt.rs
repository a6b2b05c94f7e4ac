//! A receipt as people read it.
//!
//! Owns the form. Must never be parsed: programs take `--json`.

use crate::format;
use control::api::types::{GateResult, Outcome, Receipt};

/// How many changed keys are shown to people; the others are counted.
pub(crate) const KEYS_SHOWN: usize = 10;

/// Returns the lines of a receipt, with the switch's default where it is known.
pub(crate) fn text(receipt: &Receipt, default: Option<&str>) -> String {
    let (name, revision) = (&receipt.switch, receipt.revision);
    let mut out = match receipt.outcome {
        Outcome::Committed => format!("{name}: revision {revision}\n"),
        Outcome::Repeated => {
            format!("{name}: already applied (same idempotency key), revision {revision}\n")
        }
        Outcome::Unchanged => format!("{name}: no change (already at revision {revision})\n"),
        Outcome::WouldCommit => format!("{name}: would switch\n"),
        Outcome::WouldRefuse => format!("{name}: the gate would refuse\n"),
    };
    for change in receipt.changes.iter().take(KEYS_SHOWN) {
        out.push_str(&format!("  {}\n", format::change(change, default)));
    }
    let more = receipt.changed_keys.saturating_sub(KEYS_SHOWN);
    if more > 0 {
        out.push_str(&format!("  and {}\n", format::count(more as u64, "more key")));
    }
    if let Some(refusal) = &receipt.refusal {
        out.push_str(&format!("  {refusal}\n"));
    }
    for gate in &receipt.gate {
        out.push_str(&gate_text(gate, receipt.forced));
    }
    for changed in receipt.changed_since.iter().take(KEYS_SHOWN) {
        let key = format::key_text(&changed.key);
        out.push_str(&format!("  {key} was changed since by revision {}\n", changed.revision));
    }
    for note in &receipt.notes {
        out.push_str(&format!("  note: {note}\n"));
    }
    if let Some(last) = receipt.workers.iter().map(|worker| worker.after_us).max() {
        let all = if receipt.workers.len() == receipt.workers_asked {
            "all workers".to_owned()
        } else {
            format!("{} of {} workers", receipt.workers.len(), receipt.workers_asked)
        };
        out.push_str(&format!("  applied by {all} within {}\n", format::micros(last)));
    }
    if let Some(held) = &receipt.hold {
        out.push_str(&format!(
            "  held {} for {}; requests in flight ended within {}\n",
            format::count(held.waiting as u64, "request"),
            format::micros(held.held_us),
            format::micros(held.drained_us)
        ));
    }
    if let Some(drain) = &receipt.drain {
        out.push_str(&format!("  {}\n", format::drain(drain)));
    }
    if let Some(by) = receipt.confirm_by_ms {
        out.push_str(&format!("  {}\n", format::pending(revision, by)));
    }
    out
}

fn gate_text(gate: &GateResult, forced: bool) -> String {
    let verdict = if gate.passed { "up" } else { "not up" };
    let forced = if !gate.passed && forced { ", overruled by --force" } else { "" };
    let mut out = format!(
        "  gate: {} is {verdict}, {} healthy, {} required{forced}\n",
        gate.target,
        format::count(gate.healthy as u64, "server"),
        gate.required
    );
    for server in gate.servers.iter().filter(|server| !server.healthy) {
        out.push_str(&format!("    {}: {}\n", server.address, server.reason));
    }
    out
}
