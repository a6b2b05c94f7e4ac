//! The timeline: commits of one switch or of all and the journal's entries between them, newest first, that fit a filter.
//!
//! Owns the filter's options and the order of both lists. Must never search without end: a history may have millions.

use crate::client::{Call, encoded};
use crate::commits;
use crate::error::{Error, say, say_raw};
use crate::journal::{self, JournalFindings, JournalSearch, Sought};
use crate::session::Session;
use crate::time_option::past;
use clap::Args;
use control::api::types::{Commit, History, JournalItem};
use std::io::{Write, stderr};

/// How many commits a page has.
const PAGE: usize = 1_000;
/// How many pages of a switch are searched.
const PAGES: usize = 100;
/// The kind that stands for the kinds of all commits.
const COMMIT: &str = "commit";

/// The conditions for a commit or an entry of the journal to be shown.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Show only the last 30m, 2h or 7d, or what came after 15:20 or "2026-11-30 15:29:04"; this and the following options
    /// search all switches unless --switch is given
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<u64>,
    /// Show only what was done by actors whose names contain this text
    #[arg(long, value_name = "TEXT")]
    actor: Option<String>,
    /// Show only commits that moved a key to or from this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Show only this kind: commit for all of set, undo, undo_keys, confirm, revert, default, server, group, adopt, restore;
    /// or hold, release, expire, overdue, reload, start, upgrade, purge, discovered, refused, lost
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<String>,
}

/// The kinds of commits.
const COMMIT_KINDS: [&str; 10] =
    ["set", "undo", "undo_keys", "confirm", "revert", "default", "server", "group", "adopt", "restore"];

/// Parses a kind.
fn kind(text: &str) -> Result<String, String> {
    match text == COMMIT || COMMIT_KINDS.contains(&text) || journal::is_kind(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "there is no such kind; there are {COMMIT}, {}, {}",
            COMMIT_KINDS.join(", "),
            journal::KINDS.join(", ")
        )),
    }
}

impl Filter {
    /// Returns true if it leaves a commit out.
    pub(crate) fn is_given(&self) -> bool {
        self.since.is_some() || self.actor.is_some() || self.target.is_some() || self.kind.is_some()
    }

    fn oldest_ms(&self) -> u64 {
        self.since.unwrap_or_default()
    }

    fn fits(&self, commit: &Commit) -> bool {
        let names = |route: &Option<String>, target: &str| {
            route.as_ref().is_some_and(|route| {
                route.split_whitespace().any(|share| share.split('=').next() == Some(target))
            })
        };
        self.actor.as_ref().is_none_or(|actor| commit.actor.contains(actor.as_str()))
            && self.kind.as_ref().is_none_or(|kind| kind == COMMIT || commit.kind == *kind)
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
        sought: &Sought,
        limit: usize,
    ) -> Result<(Vec<Commit>, bool), Error> {
        let (oldest_ms, mut found, mut before) = (self.oldest_ms(), Vec::new(), None);
        for _ in 0..PAGES {
            let query = sought.query();
            let mut path =
                format!("/v1/switches/{}/history?limit={PAGE}&traffic=true{query}", encoded(switch));
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

    /// Returns the newest entries of the journal that fit.
    fn entries(&self, session: &Session, sought: &Sought, limit: usize) -> JournalFindings {
        // An entry leads no key to a target.
        if self.target.is_some() || self.kind.as_deref() == Some(COMMIT) {
            return JournalFindings::default();
        }
        let search = JournalSearch {
            switch: session.switch_name(),
            sought,
            kind: self.kind.as_deref(),
            actor: self.actor.as_deref(),
            since_ms: self.oldest_ms(),
            until_ms: u64::MAX,
            limit,
        };
        search.run(session, false)
    }

    /// Prints the commits of these switches and the entries that fit; a JSON line is one of them.
    pub(crate) fn print(
        &self,
        session: &Session,
        switches: &[String],
        sought: &Sought,
        limit: usize,
    ) -> Result<(), Error> {
        let mut chains: Vec<Vec<(&str, Commit)>> = Vec::new();
        let mut unsearched = Vec::new();
        let has_commits = !self.kind.as_deref().is_some_and(journal::is_kind);
        for switch in switches.iter().filter(|_| has_commits) {
            let (commits, more) = self.commits(session, switch, sought, limit)?;
            chains.push(commits.into_iter().map(|commit| (switch.as_str(), commit)).collect());
            unsearched.extend(more.then_some(switch.as_str()));
        }
        let all = interleaved(chains);
        let mut found = self.entries(session, sought, limit);
        let moments = merged(all, std::mem::take(&mut found.entries), limit);
        if session.json {
            for moment in &moments {
                say_raw(&format!("{}\n", switch::visible_json(&moment.json().to_string())))?;
            }
            if let Some(fault) = found.fault {
                let line = serde_json::json!({ "journal_fault": fault });
                say_raw(&format!("{}\n", switch::visible_json(&line.to_string())))?;
            }
            return Ok(());
        }
        say(&text(&moments, switches.len() > 1))?;
        if moments.is_empty() {
            none_fits();
        }
        for switch in unsearched {
            say(&format!("{switch}: only the newest {} commits were searched\n", PAGE * PAGES))?;
        }
        say(&found.faults())
    }
}

/// Says that nothing was found, where it is not taken for what was.
pub(crate) fn none_fits() {
    // The reader may have gone.
    let _ = writeln!(stderr(), "pointsman: no commit and no entry of the journal fits");
}

/// Something in the timeline.
pub(crate) enum Moment<'a> {
    /// A commit of a switch.
    Commit(&'a str, Box<Commit>),
    /// An entry of the journal.
    Entry(JournalItem),
}

impl Moment<'_> {
    fn json(&self) -> serde_json::Value {
        match self {
            Moment::Commit(switch, commit) => {
                let mut line = serde_json::to_value(commit).unwrap_or_default();
                line["switch"] = (*switch).into();
                line
            }
            Moment::Entry(entry) => serde_json::to_value(entry).unwrap_or_default(),
        }
    }
}

/// Merges the histories of several switches by time, newest first. Each keeps its order, too.
fn interleaved(chains: Vec<Vec<(&str, Commit)>>) -> Vec<(&str, Commit)> {
    let mut chains: Vec<_> = chains.into_iter().map(|chain| chain.into_iter().peekable()).collect();
    let mut all = Vec::new();
    loop {
        let heads =
            chains.iter_mut().enumerate().filter_map(|(at, chain)| Some((chain.peek()?.1.time_ms, at)));
        let Some((_, newest)) = heads.max_by_key(|&(time_ms, at)| (time_ms, std::cmp::Reverse(at))) else {
            return all;
        };
        all.extend(chains[newest].next());
    }
}

/// Merges both lists by time, newest first. Each keeps its order: a clock that was set back does not change it.
pub(crate) fn merged<'a>(
    commits: impl IntoIterator<Item = (&'a str, Commit)>,
    entries: Vec<JournalItem>,
    limit: usize,
) -> Vec<Moment<'a>> {
    let mut commits = commits.into_iter().peekable();
    let mut entries = entries.into_iter().peekable();
    let next = || {
        let entry_is_newer = match (commits.peek(), entries.peek()) {
            (Some((_, commit)), Some(entry)) => entry.time_ms > commit.time_ms,
            (commit, _) => commit.is_none(),
        };
        if entry_is_newer {
            entries.next().map(Moment::Entry)
        } else {
            commits.next().map(|(switch, commit)| Moment::Commit(switch, Box::new(commit)))
        }
    };
    std::iter::from_fn(next).take(limit).collect()
}

/// Returns the timeline as text, each commit with its switch if there are several.
pub(crate) fn text(moments: &[Moment], with_switch: bool) -> String {
    let text = |moment: &Moment| match moment {
        Moment::Entry(entry) => journal::text(entry),
        Moment::Commit(switch, commit) => {
            let option = if with_switch { format!("--switch {switch} ") } else { String::new() };
            let text = commits::text(std::slice::from_ref(commit), &option);
            if with_switch { format!("{switch}:{text}") } else { text }
        }
    };
    moments.iter().map(text).collect()
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
            (Filter { kind: text("commit"), ..Filter::default() }, true),
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
    fn histories_of_several_switches_keep_their_order_when_a_clock_is_set_back() {
        let at = |revision, time_ms| Commit { time_ms, ..commit(revision, "anna", "x", "y") };
        let live = vec![("live", at(4, 100)), ("live", at(3, 900)), ("live", at(2, 800))];
        let edge = vec![("edge", at(9, 850)), ("edge", at(8, 50))];
        let order: Vec<_> = interleaved(vec![live, edge])
            .into_iter()
            .map(|(switch, commit)| (switch, commit.revision))
            .collect();
        assert_eq!(order, [("edge", 9), ("live", 4), ("live", 3), ("live", 2), ("edge", 8)]);
        assert!(kind("nonsense").is_err() && kind("default").is_ok() && kind("hold").is_ok());
    }

    fn entry(sequence: u64, time_ms: u64) -> JournalItem {
        let json = format!(
            r#"{{"sequence":{sequence},"time_ms":{time_ms},"kind":"start","actor":"pointsman","count":1,"previous":"",
            "hash":""}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn commits_of_several_switches_name_theirs() {
        let commits = || [("live", commit(3, "anna", "x", "y")), ("edge", commit(9, "ben", "x", "y"))];
        let all = text(&merged(commits(), vec![entry(7, 999)], 9), true);
        assert!(all.starts_with("live:     3  ") && all.contains("\nedge:     9  "), "{all}");
        assert!(all.contains("\n    j7  "), "{all}");
        assert!(text(&merged(commits(), Vec::new(), 9), false).starts_with("     3  "));
    }

    #[test]
    fn both_lists_are_merged_by_time_and_keep_their_order() {
        let order = |times: [u64; 3], limit: usize| -> Vec<String> {
            let commits = [3, 2].map(|revision| ("live", commit(revision, "anna", "x", "y")));
            let entries = times.iter().zip(7..).map(|(time_ms, sequence)| entry(sequence, *time_ms));
            let text = text(&merged(commits, entries.collect(), limit), false);
            let heads = text.lines().filter(|line| !line.starts_with("        "));
            heads.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
        };
        assert_eq!(order([1001, 1000, 999], 9), ["j7", "3", "2", "j8", "j9"]);
        assert_eq!(order([1001, 1000, 999], 2), ["j7", "3"]);
        assert_eq!(order([999, 1001, 998], 9), ["3", "2", "j7", "j8", "j9"], "a clock was set back");
    }
}
