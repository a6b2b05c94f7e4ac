//! `pointsman confirm`: keeps a commit that would otherwise be reverted.
//!
//! Owns the verb's options. Must never choose between several commits that wait.

use crate::client::{Call, fresh_key};
use crate::error::{Code, Error, say, say_json};
use crate::format;
use crate::order_options::{ActorOption, order_call};
use crate::receipt::{self, KEYS_SHOWN};
use crate::session::Session;
use clap::Args;
use control::api::types;
use hyper::Method;

/// Keep a commit that would otherwise be reverted
#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// Revision of the commit; may be omitted if only one is waiting
    revision: Option<u64>,
    /// Reason, for the history
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    actor: ActorOption,
}

impl Confirm {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let order = types::Confirm { revision: self.revision, reason: self.reason.clone() };
        let switch = session.switch_path()?;
        let mut call = order_call(Method::POST, format!("{switch}/confirm"), &order, &self.actor);
        call.headers.push(("idempotency-key", fresh_key()?));
        let (receipt, body) = session.client.ask::<types::Receipt>(&call)?;
        if session.json {
            say_json(&body)?;
        } else {
            let text = receipt::text(&receipt, None, &session.switch_option(&receipt.switch));
            let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
            say(&format!("{head}\n{}{rest}", confirmed(session, &switch, receipt.revision)))?;
        }
        Ok(Code::Done)
    }
}

/// Returns the lines that show what a confirmation has confirmed; nothing if the history does not answer.
fn confirmed(session: &Session, switch: &str, revision: u64) -> String {
    let commit = |revision: u64| {
        let path = format!("{switch}/history?limit=1&before={}", revision + 1);
        let (history, _) = session.client.ask::<types::History>(&Call::get(path)).ok()?;
        history.commits.into_iter().find(|commit| commit.revision == revision)
    };
    let Some(of) = commit(revision).and_then(|commit| commit.of).and_then(commit) else {
        return String::new();
    };
    let reason = of.reason.as_ref().map(|reason| format!("  \"{reason}\"")).unwrap_or_default();
    let mut out = format!("  confirms revision {} by {}{reason}\n", of.revision, of.actor);
    for change in of.changes.iter().take(KEYS_SHOWN) {
        out.push_str(&format!("    {}\n", format::sides(&change.key, &change.from, &change.to, None)));
    }
    let more = of.changes.len().saturating_sub(KEYS_SHOWN);
    if more > 0 {
        out.push_str(&format!("    and {}\n", format::count(more as u64, "more key")));
    }
    out
}
