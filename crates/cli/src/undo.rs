//! `pointsman undo`: restores what was before.
//!
//! Owns the verb's options, and what is shown before the last commit is undone. Must never choose the commit: the server does.

use crate::client::Call;
use crate::error::{Code, Error, say};
use crate::order_options::{KeyOptions, OrderOptions};
use crate::session::Session;
use crate::{commits, format};
use clap::Args;
use control::api::types::{Commit, History, Receipt, Terms, UndoOrder};
use hyper::Method;
use std::io::{IsTerminal, stdin, stdout};
use std::time::{SystemTime, UNIX_EPOCH};

/// Undo the last commit, a given commit, or the last change of some keys
#[derive(Debug, Args)]
#[command(after_help = "\
An undo is a commit too, and can itself be undone by its number. A second undo goes back one change further.

Examples:
  pointsman undo
  pointsman undo shop.example.com
  pointsman undo --commit 17")]
pub(crate) struct Undo {
    /// Restore only these keys, each to its route before its last change
    #[arg(value_name = "KEY", conflicts_with = "commit")]
    keys: Vec<String>,
    /// Undo all changes of this commit
    #[arg(long, value_name = "REVISION")]
    commit: Option<u64>,
    /// Undo all changes of the commit that the order with this idempotency key made
    #[arg(long, value_name = "KEY", conflicts_with_all = ["commit", "keys"])]
    id: Option<String>,
    /// Do not ask for confirmation on a terminal before undoing the last commit
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    keyed: KeyOptions,
    #[command(flatten)]
    options: OrderOptions,
}

/// How many commits on top of the one to undo are shown.
const SHOWN_ON_TOP: usize = 5;
/// How many of the newest commits are searched for it.
const LOOKED_AT: usize = 100;

impl Undo {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let switch = session.switch_path()?;
        let path = format!("{switch}/undo");
        let (keys, id) = (self.keys.clone(), self.id.clone());
        let mut order = UndoOrder { keys, commit: self.commit, id, ..UndoOrder::default() };
        let is_last = self.keys.is_empty() && self.commit.is_none() && self.id.is_none();
        if is_last && !session.json && !self.options.is_dry_run() {
            // What is shown is what is undone, whatever is committed meanwhile.
            order.commit = self.last(session, &switch, &path)?;
            let is_asked = !self.yes && stdin().is_terminal() && stdout().is_terminal();
            if is_asked && !agrees()? {
                return Err(Error::new(Code::Refused, "not_confirmed", "nothing was undone", ""));
            }
        }
        self.options.send(session, Method::POST, path, &order.on(self.keyed.terms(&self.options)))
    }

    /// Shows the commit that would be undone, with whose it is, how old, and what lies on top.
    fn last(&self, session: &Session, switch: &str, path: &str) -> Result<Option<u64>, Error> {
        let terms = Terms { dry_run: true, force: true, ..Terms::default() };
        let order = UndoOrder::default().on(terms);
        let (plan, _) =
            session.client.ask::<Receipt>(&self.options.call(Method::POST, path.to_owned(), &order))?;
        let Some(of) = plan.of else { return Ok(None) };
        let newest = Call::get(format!("{switch}/history?limit={LOOKED_AT}"));
        let mut commits = session.client.ask::<History>(&newest)?.0.commits;
        let on_top = commits.iter().take_while(|commit| commit.revision > of).count();
        if on_top == commits.len() {
            let exactly = Call::get(format!("{switch}/history?limit=1&before={}", of + 1));
            commits.extend(session.client.ask::<History>(&exactly)?.0.commits);
        }
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        say(&overview(&commits, on_top, now_ms))?;
        Ok(Some(of))
    }
}

/// Returns the text about a commit (the last one) and those on top of it.
fn overview(commits: &[Commit], on_top: usize, now_ms: u64) -> String {
    let Some(undone) = commits.get(on_top) else { return String::new() };
    let age = format::micros(now_ms.saturating_sub(undone.time_ms).saturating_mul(1_000));
    let mut text = format!("to undo, {age} old:\n{}", commits::text(std::slice::from_ref(undone), ""));
    if on_top > 0 {
        text.push_str(&format!("on top of it, {}:\n", format::count(on_top as u64, "newer commit")));
        text.push_str(&commits::text(&commits[..on_top.min(SHOWN_ON_TOP)], ""));
        if on_top > SHOWN_ON_TOP {
            text.push_str(&format!("        and {} more\n", on_top - SHOWN_ON_TOP));
        }
    }
    text
}

/// Asks on the terminal.
fn agrees() -> Result<bool, Error> {
    say("undo it? [y/N] ")?;
    let mut line = String::new();
    let read = stdin().read_line(&mut line);
    read.map_err(|error| Error::usage(format!("the terminal: {error}"), "answer with --yes"))?;
    Ok(["y", "yes"].contains(&line.trim().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_to_undo_is_shown_with_newer_ones() {
        let commit = |revision: u64, actor: &str| {
            let json = format!(
                r#"{{"revision":{revision},"time_ms":1000,"kind":"set","actor":"{actor}","forced":false,"gate":[],
                "changes":[{{"key":"k{revision}","from":null,"to":"green"}}],"previous":"","hash":""}}"#
            );
            serde_json::from_str::<Commit>(&json).unwrap()
        };
        let text = overview(&[commit(9, "ben"), commit(7, "anna")], 1, 181_000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[3]), ("to undo, 3.00 min old:", "on top of it, 1 newer commit:"));
        assert!(lines[1].contains("anna") && lines[2].contains("k7: default -> green"), "{text}");
        assert!(lines[4].contains("ben") && lines[5].contains("k9"), "{text}");
        assert_eq!(overview(&[commit(7, "anna")], 0, 0).lines().count(), 3);
    }
}
