//! The timeline: commits of one switch or of all, newest first, that fit a filter.
//!
//! Owns the filter's options and the order of the commits. Must never search without end: a history may have millions.

use crate::client::{Call, encoded};
use crate::commits;
use crate::error::{Error, say, say_raw};
use crate::session::Session;
use crate::time_option::{ms, time};
use clap::Args;
use control::api::types::{Commit, History};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many commits a page has.
const PAGE: usize = 1_000;
/// How many pages of a switch are searched.
const PAGES: usize = 100;

/// What a commit must be to be shown.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Show only commits of the last 30m, 2h or 7d; this and the following ones search all switches without --switch
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Show only commits by actors whose names contain this text
    #[arg(long, value_name = "TEXT")]
    actor: Option<String>,
    /// Show only commits that moved a key to or from this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Show only commits of this kind: set, undo, undo_keys, confirm, revert
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

impl Filter {
    /// Returns true if it leaves a commit out.
    pub(crate) fn is_given(&self) -> bool {
        self.since.is_some() || self.actor.is_some() || self.target.is_some() || self.kind.is_some()
    }

    fn oldest_ms(&self) -> u64 {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.since.as_deref().map_or(0, |since| now_ms.saturating_sub(ms(since)))
    }

    fn fits(&self, commit: &Commit) -> bool {
        let names = |route: &Option<String>, target: &str| {
            route.as_ref().is_some_and(|route| {
                route.split_whitespace().any(|share| share.split('=').next() == Some(target))
            })
        };
        self.actor.as_ref().is_none_or(|actor| commit.actor.contains(actor.as_str()))
            && self.kind.as_ref().is_none_or(|kind| commit.kind == *kind)
            && self.target.as_ref().is_none_or(|target| {
                let moved = commit.changes.iter().filter(|change| change.from != change.to);
                moved.into_iter().any(|change| names(&change.from, target) || names(&change.to, target))
            })
    }

    /// Returns a switch's newest commits that fit, and whether older ones were not searched.
    fn commits(
        &self,
        session: &Session,
        switch: &str,
        key: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Commit>, bool), Error> {
        let (oldest_ms, mut found, mut before) = (self.oldest_ms(), Vec::new(), None);
        for _ in 0..PAGES {
            let mut path = format!("/v1/switches/{}/history?limit={PAGE}", encoded(switch));
            if let Some(key) = key {
                path.push_str(&format!("&key={}", encoded(key)));
            }
            if let Some(before) = before {
                path.push_str(&format!("&before={before}"));
            }
            let (page, _) = session.client.ask::<History>(&Call::get(path))?;
            // Clocks are set back at times: one older commit among newer ones ends nothing.
            let is_over = page.commits.last().is_none_or(|oldest| oldest.time_ms < oldest_ms);
            let fitting =
                page.commits.into_iter().filter(|commit| commit.time_ms >= oldest_ms && self.fits(commit));
            found.extend(fitting);
            before = page.next.filter(|_| !is_over && found.len() < limit);
            if before.is_none() {
                break;
            }
        }
        found.truncate(limit);
        Ok((found, before.is_some()))
    }

    /// Prints the commits of these switches that fit; a JSON line is a commit.
    pub(crate) fn print(
        &self,
        session: &Session,
        switches: &[String],
        key: Option<&str>,
        limit: usize,
    ) -> Result<(), Error> {
        let mut all: Vec<(&str, Commit)> = Vec::new();
        let mut unsearched = Vec::new();
        for switch in switches {
            let (commits, more) = self.commits(session, switch, key, limit)?;
            all.extend(commits.into_iter().map(|commit| (switch.as_str(), commit)));
            unsearched.extend(more.then_some(switch.as_str()));
        }
        all.sort_by_key(|(_, commit)| std::cmp::Reverse(commit.time_ms));
        all.truncate(limit);
        if session.json {
            for (switch, commit) in &all {
                let mut line = serde_json::to_value(commit).unwrap_or_default();
                line["switch"] = (*switch).into();
                say_raw(&format!("{}\n", switch::visible_json(&line.to_string())))?;
            }
            return Ok(());
        }
        say(&merged(&all, switches.len() > 1))?;
        for switch in unsearched {
            say(&format!("{switch}: only the newest {} commits were searched\n", PAGE * PAGES))?;
        }
        Ok(())
    }
}

/// Returns the commits as text, each with its switch if there are several.
fn merged(commits: &[(&str, Commit)], with_switch: bool) -> String {
    let text = |(switch, commit): &(&str, Commit)| {
        let text = commits::text(std::slice::from_ref(commit));
        if with_switch { format!("{switch}:{text}") } else { text }
    };
    commits.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(revision: u64, actor: &str, from: &str, to: &str) -> Commit {
        let json = format!(
            r#"{{"revision":{revision},"time_ms":1000,"kind":"set","actor":"{actor}","forced":false,"gate":[],
            "changes":[{{"key":"a","from":"{from}","to":"{to}"}}],"previous":"","hash":""}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_filter_takes_what_fits_all_of_it() {
        let one = commit(1, "unix:0(root) for anna", "green=10 blue=90", "red");
        let text = |text: &str| Some(text.to_owned());
        for (filter, fits) in [
            (Filter::default(), true),
            (Filter { actor: text("anna"), ..Filter::default() }, true),
            (Filter { actor: text("ben"), ..Filter::default() }, false),
            (Filter { kind: text("set"), ..Filter::default() }, true),
            (Filter { kind: text("undo"), actor: text("anna"), ..Filter::default() }, false),
            (Filter { target: text("green"), ..Filter::default() }, true),
            (Filter { target: text("red"), ..Filter::default() }, true),
            (Filter { target: text("gree"), ..Filter::default() }, false),
        ] {
            assert_eq!(filter.fits(&one), fits, "{filter:?}");
        }
        let stays = commit(2, "pointsman", "green", "green");
        assert!(!Filter { target: text("green"), ..Filter::default() }.fits(&stays));
    }

    #[test]
    fn commits_of_several_switches_name_theirs() {
        let commits = [("live", commit(3, "anna", "x", "y")), ("edge", commit(9, "ben", "x", "y"))];
        let text = merged(&commits, true);
        assert!(text.starts_with("live:     3  ") && text.contains("\nedge:     9  "), "{text}");
        assert!(merged(&commits, false).starts_with("     3  "));
    }
}
