//! The terms on which a change is made: the options that `switch`, `split` and `undo` share.
//!
//! Owns their names and the sending of orders. Must never have an opinion about an order: the server has.

use crate::client::{self, ANSWER, Call};
use crate::fault::{Code, Fault, say};
use crate::figures;
use crate::verbs::Session;
use clap::{Args, ValueEnum};
use control::api::types::{DrainState, HoldTerms, Outcome, Receipt, Terms, Wait};
use hyper::Method;
use serde::Serialize;
use std::time::Duration;

/// How many changed keys are shown to people; more are counted.
pub(crate) const KEYS_SHOWN: usize = 10;

/// What `--wait` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// For no more than that it is kept
    None,
    /// Until every worker has taken it over (so without the option)
    Published,
    /// Until nothing is in flight any more on the old side
    Drained,
}

/// On which terms.
#[derive(Debug, Args)]
#[command(next_help_heading = "Terms")]
pub(crate) struct Change {
    /// Why, for the history
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    /// Only if the switch has this revision
    #[arg(long, value_name = "REVISION")]
    expect: Option<u64>,
    /// Go back by itself unless `pointsman confirm` comes within this time
    #[arg(long, value_name = "TIME", value_parser = span)]
    confirm_within: Option<String>,
    /// What to wait for
    #[arg(long, value_name = "WHAT", value_enum)]
    wait: Option<Until>,
    /// How long to wait for it
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "30s")]
    timeout: String,
    /// Let new requests wait while what is in flight ends; then switch and let them go
    #[arg(long)]
    hold: bool,
    /// With --hold: how many may wait
    #[arg(long, value_name = "N", requires = "hold")]
    hold_max: Option<u32>,
    /// With --hold: how long each may wait
    #[arg(long, value_name = "TIME", value_parser = span, requires = "hold")]
    hold_timeout: Option<String>,
    /// With --hold: how many to let go each second
    #[arg(long, value_name = "N", requires = "hold")]
    hold_rate: Option<u32>,
    /// Switch although the gate says no, undo although it was changed since; recorded
    #[arg(long)]
    force: bool,
    /// Only say what would happen
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Send the same key again, and what was done already is not done twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    who: Who,
}

/// In whose name.
#[derive(Debug, Args)]
pub(crate) struct Who {
    /// For whom, if not for yourself; recorded beside the user the server sees
    #[arg(long, value_name = "NAME", help_heading = "Terms")]
    actor: Option<String>,
}

impl Who {
    /// The header that says so. Behind sudo it is the one who called it.
    pub(crate) fn header(&self) -> Option<(&'static str, String)> {
        let name = self.actor.clone().or_else(|| std::env::var("SUDO_USER").ok());
        name.filter(|name| !name.is_empty()).map(|name| ("x-pointsman-actor", client::encoded(&name)))
    }
}

impl Change {
    /// As the API has them.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            reason: self.reason.clone(),
            confirm_within: self.confirm_within.clone(),
            force: self.force,
            wait: self.wait.map(|until| match until {
                Until::None => Wait::None,
                Until::Published => Wait::Published,
                Until::Drained => Wait::Drained,
            }),
            timeout: Some(self.timeout.clone()),
            hold: self.hold.then(|| HoldTerms {
                max: self.hold_max,
                timeout: self.hold_timeout.clone(),
                max_size: None,
                per_second: self.hold_rate,
            }),
            dry_run: self.dry_run,
        }
    }

    /// Sends the order, and shows what became of it.
    pub(crate) fn send(
        &self,
        session: &Session,
        method: Method,
        path: String,
        order: &impl Serialize,
    ) -> Result<Code, Fault> {
        let mut call = order_call(method, path, order, &self.who);
        if let Some(revision) = self.expect {
            call.headers.push(("if-match", format!("\"{revision}\"")));
        }
        let key = self.idempotency_key.clone().unwrap_or_else(client::fresh_key);
        call.headers.push(("idempotency-key", key));
        // The server waits first for the drain of a hold, then for what --wait says; and a gate takes its time too.
        call.limit = ANSWER + 3 * Duration::from_millis(ms(&self.timeout));
        let (receipt, body) = session.client.ask::<Receipt>(&call)?;
        if session.json {
            say(&format!("{}\n", String::from_utf8_lossy(&body)))?;
        } else {
            say(&text(&receipt))?;
        }
        Ok(match (receipt.outcome, receipt.drain, self.wait) {
            (Outcome::WouldRefuse, ..) => Code::Refused,
            (_, Some(drain), Some(Until::Drained)) if drain.state != DrainState::Drained => Code::NotDrained,
            _ => Code::Done,
        })
    }
}

/// A call with an order in it.
pub(crate) fn order_call(method: Method, path: String, order: &impl Serialize, who: &Who) -> Call {
    // Orders are plain structs: there is nothing in them that JSON could not say.
    let body = serde_json::to_vec(order).unwrap_or_default();
    Call { method, path, headers: who.header().into_iter().collect(), body: Some(body), limit: ANSWER }
}

/// A time as nginx writes it; the server reads it again.
pub(crate) fn span(text: &str) -> Result<String, String> {
    match conf::value::parse_time_ms(text.as_bytes()) {
        Some(_) => Ok(text.to_owned()),
        None => Err("is no time: write 30s, 10m or 1h30m".into()),
    }
}

/// The milliseconds of a time that `span` has taken.
pub(crate) fn ms(text: &str) -> u64 {
    conf::value::parse_time_ms(text.as_bytes()).unwrap_or_default()
}

/// A receipt for people.
pub(crate) fn text(receipt: &Receipt) -> String {
    let mut out = String::new();
    let name = &receipt.switch;
    match receipt.outcome {
        Outcome::Committed => out.push_str(&format!("{name}: revision {}\n", receipt.revision)),
        Outcome::Repeated => {
            out.push_str(&format!("{name}: was done already, revision {}\n", receipt.revision))
        }
        Outcome::Unchanged => {
            out.push_str(&format!("{name}: is so already, revision {}\n", receipt.revision))
        }
        Outcome::WouldCommit => out.push_str(&format!("{name}: would switch\n")),
        Outcome::WouldRefuse => out.push_str(&format!("{name}: would be refused by the gate\n")),
    }
    for change in receipt.changes.iter().take(KEYS_SHOWN) {
        out.push_str(&format!("  {}\n", figures::change(change)));
    }
    let more = receipt.changed_keys.saturating_sub(KEYS_SHOWN);
    if more > 0 {
        out.push_str(&format!("  and {}\n", figures::count(more as u64, "more key")));
    }
    if let Some(refusal) = &receipt.refusal {
        out.push_str(&format!("  {refusal}\n"));
    }
    for gate in &receipt.gate {
        let verdict = if gate.passed { "up" } else { "not up" };
        let forced = if !gate.passed && receipt.forced { ", forced" } else { "" };
        out.push_str(&format!(
            "  gate: {} is {verdict}, {} servers answer and {} must{forced}\n",
            gate.target, gate.healthy, gate.required
        ));
        for server in gate.servers.iter().filter(|server| !server.healthy) {
            out.push_str(&format!("    {}: {}\n", server.address, server.reason));
        }
    }
    if let Some(last) = receipt.workers.iter().map(|worker| worker.after_us).max() {
        let all = if receipt.workers.len() == receipt.workers_asked {
            "all workers".to_owned()
        } else {
            format!("{} of {} workers", receipt.workers.len(), receipt.workers_asked)
        };
        out.push_str(&format!("  {all} took it over within {}\n", figures::micros(last)));
    }
    if let Some(held) = &receipt.hold {
        out.push_str(&format!(
            "  held {} for {}; what was in flight ended within {}\n",
            figures::count(held.waiting as u64, "request"),
            figures::micros(held.held_us),
            figures::micros(held.drained_us)
        ));
    }
    if let Some(drain) = &receipt.drain {
        out.push_str(&format!("  {}\n", figures::drain(drain)));
    }
    if let Some(by) = receipt.confirm_by_ms {
        out.push_str(&format!(
            "  goes back at {} unless confirmed: pointsman confirm {}\n",
            figures::clock(by),
            receipt.revision
        ));
    }
    out
}
