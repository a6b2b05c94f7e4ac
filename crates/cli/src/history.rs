//! `pointsman history`: what was done, by whom and why.
//!
//! Owns the verb's words. Must never check the chain itself: the server has all of it.

use crate::client::{Call, encoded};
use crate::fault::{Code, Fault, say};
use crate::figures;
use crate::terms::KEYS_SHOWN;
use crate::verbs::Session;
use clap::Args;
use control::api::types::{self, Commit, CommitKind};

/// Show what was done, the newest first
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only what changed this key
    key: Option<String>,
    /// At most so many commits
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Only commits before this one
    #[arg(long, value_name = "REVISION")]
    before: Option<u64>,
    /// Check that no commit of the whole history was changed, left out or put in: 1 is the exit code if one was
    #[arg(long)]
    verify: bool,
}

impl History {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
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
            // A history of millions takes its time.
            call.limit *= 20;
        }
        let (history, body) = session.client.ask::<types::History>(&call)?;
        let mut out = String::new();
        if session.json {
            out.push_str(&format!("{}\n", String::from_utf8_lossy(&body)));
        } else {
            out.push_str(&text(&history.commits));
            match &history.verified {
                Some(verified) if verified.intact => out.push_str(&format!(
                    "{}: {}, each follows from the one before; the last hash is {}\n",
                    history.switch,
                    figures::count(verified.commits, "commit"),
                    verified.hash
                )),
                Some(verified) => out.push_str(&format!(
                    "{}: NOT INTACT after {}: {}\n",
                    history.switch,
                    figures::count(verified.commits, "commit"),
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

/// Commits for people, a line for each and one for each key.
pub(crate) fn text(commits: &[Commit]) -> String {
    let mut out = String::new();
    for commit in commits {
        let kind = match (commit.kind, commit.of) {
            (CommitKind::Set, _) => String::new(),
            (CommitKind::Undo, Some(of)) => format!("  undo of {of}"),
            (CommitKind::Undo, None) | (CommitKind::UndoKeys, _) => "  undo".into(),
            (CommitKind::Confirm, of) => format!("  confirms {}", of.unwrap_or_default()),
            (CommitKind::Revert, of) => format!("  not confirmed in time: {}", of.unwrap_or_default()),
        };
        let forced = if commit.forced { "  forced" } else { "" };
        let reason = commit.reason.as_ref().map(|reason| format!("  \"{reason}\"")).unwrap_or_default();
        out.push_str(&format!(
            "{:>6}  {}  {}{kind}{forced}{reason}\n",
            commit.revision,
            figures::moment(commit.time_ms),
            commit.actor
        ));
        for change in commit.changes.iter().take(KEYS_SHOWN) {
            out.push_str(&format!("        {}\n", figures::sides(&change.key, &change.from, &change.to)));
        }
        let more = commit.changes.len().saturating_sub(KEYS_SHOWN);
        if more > 0 {
            out.push_str(&format!("        and {}\n", figures::count(more as u64, "more key")));
        }
    }
    out
}
