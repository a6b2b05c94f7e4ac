//! Commits as people read them.
//!
//! Owns the form. Must never be parsed: programs take `--json`.

use crate::format;
use crate::receipt::KEYS_SHOWN;
use control::api::types::{Commit, MovedTraffic};

/// Returns a line for each commit, and for what it has changed and moved. `option` names the switch in commands.
pub(crate) fn text(commits: &[Commit], option: &str) -> String {
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
        for line in commit.subjects.iter().filter_map(format::subject).take(KEYS_SHOWN) {
            out.push_str(&format!("        {line}\n"));
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
        for line in commit.traffic.iter().flat_map(|moved| traffic(moved, commit.revision, option)) {
            out.push_str(&format!("          {line}\n"));
        }
    }
    out
}

/// Returns the lines about the traffic that a commit has moved; none if there was none.
fn traffic(moved: &MovedTraffic, revision: u64, option: &str) -> Vec<String> {
    let Some(drain) = moved.drain.as_ref().filter(|drain| format::has_moved(drain)) else {
        return Vec::new();
    };
    let counted = moved.horizon.iter().flat_map(|horizon| format::horizon(horizon, revision, option));
    std::iter::once(format::drain(drain)).chain(counted).collect()
}
