//! `pointsman history`: the commits, with actor and reason, and the journal's entries between them.
//!
//! Owns the verb's options. Must never check a chain itself: the server has all of it.

use crate::client::Call;
use crate::error::{Code, Error, say, say_json};
use crate::format;
use crate::journal::{self, JournalFindings, JournalSearch, Sought};
use crate::session::Session;
use crate::timeline::{self, Filter};
use clap::Args;
use control::api::types;
use engine::modules::switch::GROUPS_NAME;
use serde_json::Value;

/// Show the commits, and the holds, reloads and refusals between them, newest first
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Show only commits that changed this key, and its holds; of --switch groups, those that changed this group
    key: Option<String>,
    /// With --switch groups and a group, show only commits that changed this server of it
    #[arg(requires = "key")]
    server: Option<String>,
    /// Show at most this many commits and entries
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Show only what was before this commit
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["since", "actor", "target", "kind"])]
    before: Option<u64>,
    /// Check that nothing in the whole history and journal was changed, removed or inserted; exit with 1 if something was
    #[arg(long, conflicts_with_all = ["since", "actor", "target", "kind"])]
    verify: bool,
    /// Check that the history has this commit with this hash, as named by a backup or by `notify`; exit with 1 if it has not
    #[arg(long, value_name = "REVISION:HASH", value_parser = known_commit, conflicts_with_all = ["before", "since", "actor", "target", "kind", "key"])]
    contains: Option<KnownCommit>,
    #[command(flatten)]
    filter: Filter,
}

/// A commit, by what was kept of it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KnownCommit {
    revision: u64,
    hash: String,
}

/// Parses `8:5416537a…`.
fn known_commit(text: &str) -> Result<KnownCommit, String> {
    let wrong = || "expected REVISION:HASH, with the 64 hexadecimal digits of a commit's hash".to_owned();
    let (revision, hash) = text.split_once(':').ok_or_else(wrong)?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match revision.parse().ok().filter(|revision| *revision > 0 && is_hash) {
        Some(revision) => Ok(KnownCommit { revision, hash: hash.to_ascii_lowercase() }),
        None => Err(wrong()),
    }
}

impl KnownCommit {
    /// Checks that the history has it, and that the chain up to the newest commit is whole.
    fn check(&self, session: &Session) -> Result<Code, Error> {
        let KnownCommit { revision, hash } = self;
        let path = format!(
            "{}/history?limit=1&before={}&verify=true",
            session.switch_path()?,
            revision.saturating_add(1)
        );
        let mut call = Call::get(path);
        // A history may have millions of commits.
        call.limit *= 20;
        let (found, body) = session.client.ask::<types::History>(&call)?;
        let at = found.commits.iter().find(|commit| commit.revision == *revision);
        let verified = found.verified.unwrap_or_default();
        let has_it = at.is_some_and(|commit| commit.hash == *hash);
        if session.json {
            say_json(&body)?;
            return Ok(if has_it && verified.intact { Code::Done } else { Code::Refused });
        }
        let why = match at {
            _ if !verified.intact => format!("its chain is broken: {}", verified.fault.unwrap_or_default()),
            None => format!("it has no revision {revision}"),
            Some(commit) if !has_it => format!("its revision {revision} has the hash {}", commit.hash),
            Some(_) => {
                let commits = format::count(verified.commits, "commit");
                let last = verified.hash;
                say(&format!(
                    "{}: has revision {revision} with this hash; {commits} verified, last hash {last}\n",
                    found.switch
                ))?;
                return Ok(Code::Done);
            }
        };
        Err(Error::new(
            Code::Refused,
            "history_differs",
            format!("the history of switch \"{}\" is not the one that had this commit: {why}", found.switch),
            "it was cut off, or an earlier state was put back: compare it with a backup, and see docs/backups.md",
        ))
    }
}

impl History {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        if let Some(known) = &self.contains {
            return known.check(session);
        }
        let is_of_groups = session.switch_name() == Some(GROUPS_NAME);
        if self.server.is_some() && !is_of_groups {
            return Err(Error::usage(
                "keys have no servers",
                "name a group and its server with --switch groups",
            ));
        }
        let sought = Sought::new(self.key.as_deref(), self.server.as_deref(), is_of_groups);
        if !self.verify && self.before.is_none() {
            let switches = match session.switch_name() {
                Some(name) => vec![name.to_owned()],
                // The groups have no keys.
                None if self.key.is_some() => session.switch_names()?,
                None => session.histories()?,
            };
            // The history of a single switch without a filter is the API's answer.
            let is_single =
                session.switch_name().is_some() || matches!(&switches[..], [one] if one != GROUPS_NAME);
            if self.filter.is_given() || !is_single {
                self.filter.print(session, &switches, &sought, self.limit)?;
                return Ok(Code::Done);
            }
        }
        let path = format!("{}/history", session.switch_path()?);
        let (history, body) = self.commits(session, &path, &sought)?;
        let found = self.entries(session, &path, &sought)?;
        let is_intact = history.verified.as_ref().is_none_or(|verified| verified.intact)
            && found.verified.as_ref().is_none_or(|verified| verified.intact)
            && !(self.verify && found.fault.is_some());
        if session.json {
            say_json(&json(&body, &found))?;
        } else {
            let is_empty = history.commits.is_empty() && found.entries.is_empty();
            let switch = session.switches()?.pop();
            let fault = switch.map(|switch| format::store_fault(&switch.name, switch.store_fault.as_ref()));
            say(&(self.text(history, found) + &fault.unwrap_or_default()))?;
            if is_empty && !self.verify {
                timeline::none_fits();
            }
        }
        Ok(if is_intact { Code::Done } else { Code::Refused })
    }

    /// Returns the commits, and the answer as it came.
    fn commits(
        &self,
        session: &Session,
        path: &str,
        sought: &Sought,
    ) -> Result<(types::History, Vec<u8>), Error> {
        let mut path = format!("{path}?limit={}&traffic=true{}", self.limit, sought.query());
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
        session.client.ask::<types::History>(&call)
    }

    fn entries(&self, session: &Session, path: &str, sought: &Sought) -> Result<JournalFindings, Error> {
        let until_ms = match self.before {
            Some(before) => {
                let call = Call::get(format!("{path}?limit=1&before={}", before.saturating_add(1)));
                let newest = session.client.ask::<types::History>(&call)?.0.commits.pop();
                newest.filter(|commit| commit.revision == before).map_or(u64::MAX, |commit| commit.time_ms)
            }
            None => u64::MAX,
        };
        let search = JournalSearch {
            switch: session.switch_name(),
            sought,
            kind: None,
            actor: None,
            since_ms: 0,
            until_ms,
            limit: self.limit,
        };
        Ok(search.run(session, self.verify))
    }

    /// Returns the timeline, and what the verifications found.
    fn text(&self, history: types::History, mut found: JournalFindings) -> String {
        let types::History { switch, commits, verified, next: _ } = history;
        let commits = commits.into_iter().map(|commit| (switch.as_str(), commit));
        let moments = timeline::merged(commits, std::mem::take(&mut found.entries), self.limit);
        let mut out = timeline::text(&moments, false);
        if let Some(verified) = &verified {
            let what = format::count(verified.commits, "commit");
            out.push_str(&verdict(&switch, verified.intact, &what, &verified.hash, &verified.fault));
        }
        if let Some(verified) = &found.verified {
            let what = journal::entries(verified.entries);
            out.push_str(&verdict("journal", verified.intact, &what, &verified.hash, &verified.fault));
        }
        out.push_str(&found.faults());
        out
    }
}

/// Returns the line of a verified chain.
fn verdict(name: &str, is_intact: bool, what: &str, hash: &str, fault: &Option<String>) -> String {
    if is_intact {
        return format!("{name}: {what} verified, last hash {hash}\n");
    }
    let fault = fault.as_deref().unwrap_or("the chain is broken");
    format!("{name}: NOT INTACT after {what}: {fault}\n")
}

/// Returns the API's answer with the journal beside the commits. It stays as it is otherwise, and has a page of commits of
/// its own size: what goes through the pages misses none.
fn json(body: &[u8], found: &JournalFindings) -> Vec<u8> {
    let Ok(Value::Object(mut history)) = serde_json::from_slice(body) else { return body.to_vec() };
    history.insert("journal".into(), serde_json::to_value(&found.entries).unwrap_or_default());
    history.insert("journal_lost".into(), found.lost.into());
    if let Some(verified) = &found.verified {
        history.insert("journal_verified".into(), serde_json::to_value(verified).unwrap_or_default());
    }
    if let Some(fault) = &found.fault {
        history.insert("journal_fault".into(), fault.as_str().into());
    }
    Value::Object(history).to_string().into_bytes()
}
