//! `pointsman receipt`, and a receipt as people read it.
//!
//! Owns the verb's options and the form. Must never be parsed: programs take `--json`.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format;
use crate::session::Session;
use clap::Args;
use control::api::types::{FleetReceipt, GateResult, Outcome, Receipt};

/// Show what a commit changed, and the responses since
#[derive(Debug, Args)]
pub(crate) struct ShowReceipt {
    /// Revision of the commit; the newest if omitted
    #[arg(conflicts_with = "id")]
    revision: Option<u64>,
    /// The commit of the order with this idempotency key
    #[arg(long, value_name = "KEY")]
    id: Option<String>,
}

impl ShowReceipt {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let path = receipt_path(&session.switch_path()?, self.revision, self.id.as_deref());
        let (receipt, body) = session.client.ask::<Receipt>(&Call::get(path))?;
        if session.json {
            say_json(&body)?;
        } else {
            let default = default_for(session, &receipt);
            let option = session.switch_option(&receipt.switch);
            say(&text(&receipt, default.as_deref(), &option))?;
        }
        Ok(Code::Done)
    }
}

/// Returns the API path of a receipt; of the newest commit's without a name for one.
pub(crate) fn receipt_path(switch: &str, revision: Option<u64>, id: Option<&str>) -> String {
    match (revision, id) {
        (Some(revision), _) => format!("{switch}/receipts/{revision}"),
        (None, Some(id)) => format!("{switch}/receipts?id={}", encoded(id)),
        (None, None) => format!("{switch}/receipts"),
    }
}

/// Returns the default of a receipt's switch, if one of its keys had or has no entry.
pub(crate) fn default_for(session: &Session, receipt: &Receipt) -> Option<String> {
    let mut changes = receipt.changes.iter();
    let has_default = changes.any(|change| change.from.is_none() || change.to.is_none());
    has_default.then(|| session.default_of(&receipt.switch)).flatten()
}

/// How many changed keys are shown to people; the others are counted.
pub(crate) const KEYS_SHOWN: usize = 10;

/// Returns the lines of a receipt, with the switch's default where it is known. `option` names the switch in commands.
pub(crate) fn text(receipt: &Receipt, default: Option<&str>, option: &str) -> String {
    let (name, revision) = (&receipt.switch, receipt.revision);
    let mut out = match receipt.outcome {
        Outcome::Committed => format!("{name}: revision {revision}\n"),
        Outcome::Repeated => {
            format!("{name}: already applied (same idempotency key), revision {revision}\n")
        }
        Outcome::Unchanged => format!("{name}: no change (already at revision {revision})\n"),
        Outcome::WouldCommit if !receipt.servers.is_empty() => format!("{name}: would change\n"),
        Outcome::WouldCommit => format!("{name}: would switch\n"),
        Outcome::WouldRefuse => format!("{name}: the gate would refuse\n"),
    };
    if let ("revert", Some(of)) = (&*receipt.kind, receipt.of) {
        let stays = match (receipt.changed_keys, &receipt.servers[..], &receipt.notes[..]) {
            (0, [], []) => "; what it had changed was changed since, and stays",
            _ => "",
        };
        out.push_str(&format!("  reverts revision {of}: it was not confirmed in time{stays}\n"));
    }
    for server in receipt.servers.iter().take(KEYS_SHOWN) {
        out.push_str(&format!("  {}\n", server.change));
    }
    let more = receipt.servers.len().saturating_sub(KEYS_SHOWN);
    if more > 0 {
        out.push_str(&format!("  and {}\n", format::count(more as u64, "more server")));
    }
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
    if let Some(fleet) = &receipt.fleet {
        out.push_str(&fleet_text(fleet));
    }
    if let Some(held) = &receipt.hold {
        out.push_str(&format!(
            "  held {} for {}; requests in flight ended within {}\n",
            format::count(held.waiting as u64, "request"),
            format::micros(held.held_us),
            format::micros(held.drained_us)
        ));
    }
    out.push_str(&outcome(receipt, option));
    let is_overtaken = receipt.drain.as_ref().is_some_and(|drain| drain.overtaken_by.is_some());
    if let Some(by) = receipt.confirm_by_ms
        && !is_overtaken
    {
        out.push_str(&format!("  {}\n", format::pending(revision, by, option)));
    }
    out
}

/// Returns the lines about what has become of the requests.
pub(crate) fn outcome(receipt: &Receipt, option: &str) -> String {
    if let (Some(drain), [_, ..]) = (&receipt.drain, &receipt.servers[..]) {
        return match drain.in_flight {
            0 if drain.elsewhere => {
                "  another process is still serving requests, which are not counted here\n".to_owned()
            }
            0 => "  no request is there any more\n".to_owned(),
            left => {
                let others = match drain.in_other_processes {
                    0 => String::new(),
                    others => format!(", {others} in another process"),
                };
                format!("  {} still there{others}\n", format::count(left, "request"))
            }
        };
    }
    let counted =
        receipt.horizon.iter().flat_map(|horizon| format::horizon(horizon, receipt.revision, option));
    let lines = receipt.drain.iter().map(format::drain).chain(counted);
    lines.map(|line| format!("  {line}\n")).collect()
}

fn fleet_text(fleet: &FleetReceipt) -> String {
    let nodes = format::count(fleet.nodes.len() as u64, "node");
    let mut out = match fleet.applied_us {
        Some(last) => format!("  applied by all of {nodes} within {}\n", format::micros(last)),
        None => format!(
            "  committed, NOT applied by {}: they may serve the old side\n",
            fleet.missing().join(", ")
        ),
    };
    for node in fleet.nodes.iter().filter(|node| node.applied) {
        let after = node.after_us.map_or_else(|| "later".to_owned(), format::micros);
        let workers = format::count(node.workers as u64, "worker");
        out.push_str(&format!("    {}: {workers}, {after}\n", node.name));
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
    for left_out in gate.left_out.iter().filter(|_| !gate.passed) {
        out.push_str(&format!("    not asked: {left_out}\n"));
    }
    out
}
