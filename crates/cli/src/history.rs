//! `pointsman history`: the commits, with actor and reason.
//!
//! Owns the verb's options. Must never check the chain itself: the server has all of it.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format;
use crate::receipt::KEYS_SHOWN;
use crate::session::Session;
use clap::Args;
use control::api::types::{self, Commit};

/// Show the commits, newest first
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Show only commits that changed this key
    key: Option<String>,
    /// Show at most this many commits
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Show only commits before this one
    #[arg(long, value_name = "REVISION")]
    before: Option<u64>,
    /// Check that no commit of the whole history was changed, removed or inserted; exit code 1 if one was
    #[arg(long)]
    verify: bool,
}

impl History {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let mut path = format!("{}/history?limit={}", session.switch_path()?, self.limit);
        if let Some(key) = &self.key {
            path.push_str(&format!("&key={}", encoded(key)));
        }
        if let Some(before) = self.before {
            path.push_str(&format!("&before={before}"));
        }
        if self.verify {
            path.push_str("&verify=true");
        }
        let mut call = Call::get(path);
        if self.verify {
            // A history may have millions of commits.
            call.limit *= 20;
        }
        let (history, body) = session.client.ask::<types::History>(&call)?;
        let mut out = String::new();
        if session.json {
            say_json(&body)?;
        } else {
            out.push_str(&text(&history.commits));
            match &history.verified {
                Some(verified) if verified.intact => out.push_str(&format!(
                    "{}: {} verified, last hash {}\n",
                    history.switch,
                    format::count(verified.commits, "commit"),
                    verified.hash
                )),
                Some(verified) => out.push_str(&format!(
                    "{}: NOT INTACT after {}: {}\n",
                    history.switch,
                    format::count(verified.commits, "commit"),
                    verified.fault.as_deref().unwrap_or("the chain is broken")
                )),
                None => {}
            }
        }
        say(&out)?;
        let intact = history.verified.is_none_or(|verified| verified.intact);
        Ok(if intact { Code::Done } else { Code::Refused })
    }
}

/// Returns a line for each commit and one for each of its keys.
pub(crate) fn text(commits: &[Commit]) -> String {
    let mut out = String::new();
    for commit in commits {
        let kind = match (commit.kind.as_str(), commit.of) {
            ("set", _) => String::new(),
            ("undo", Some(of)) => format!("  undo of {of}"),
            ("undo" | "undo_keys", None) => "  undo".into(),
            ("confirm", of) => format!("  confirms {}", of.unwrap_or_default()),
            ("revert", of) => format!("  reverted: {} was not confirmed in time", of.unwrap_or_default()),
            (kind, Some(of)) => format!("  {kind} of {of}"),
            (kind, None) => format!("  {kind}"),
        };
        let forced = if commit.forced { "  forced" } else { "" };
        // The server's reason for a revert says what its kind has said already.
        let reason = commit.reason.as_ref().filter(|_| commit.kind != "revert");
        let reason = reason.map(|reason| format!("  \"{reason}\"")).unwrap_or_default();
        out.push_str(&format!(
            "{:>6}  {}  {}{kind}{forced}{reason}\n",
            commit.revision,
            format::moment(commit.time_ms),
            commit.actor
        ));
        if let Some(note) = &commit.note {
            out.push_str(&format!("        ({note})\n"));
        }
        for change in commit.subjects.iter().take(KEYS_SHOWN) {
            let what = format!("{} {}", change.subject, change.name);
            let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "none".into());
            out.push_str(&format!(
                "        {} {} -> {}\n",
                what.trim(),
                side(&change.from),
                side(&change.to)
            ));
        }
        for change in commit.changes.iter().take(KEYS_SHOWN) {
            let sides = if change.from == change.to {
                // A revert leaves what a newer change has set.
                format!("{}: stays {}", change.key, change.to.as_deref().unwrap_or("default"))
            } else {
                format::sides(&change.key, &change.from, &change.to, None)
            };
            out.push_str(&format!("        {sides}\n"));
        }
        let more = commit.changes.len().saturating_sub(KEYS_SHOWN);
        if more > 0 {
            out.push_str(&format!("        and {}\n", format::count(more as u64, "more key")));
        }
    }
    out
}
