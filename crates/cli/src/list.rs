//! `pointsman list`: the keys that have an entry.
//!
//! Owns the verb's options and its paging. Must never hold a whole table: it may have a million keys.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format::{self, Table};
use crate::group;
use crate::session::Session;
use clap::Args;
use control::api::types::{KeyPage, Switch};

/// How many keys a page has.
const PAGE: usize = 10_000;

/// List the switches and their keys
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Show only keys that contain this text
    #[arg(value_name = "TEXT")]
    contains: Option<String>,
    /// Show only keys routed to this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Show at most this many keys of each switch
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl List {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        if session.is_of_groups() {
            return group::list(session);
        }
        let switches = session.switches()?;
        if let Some(note) = switches.first().and_then(orphaned).filter(|_| !session.json) {
            say(&note)?;
        }
        for (index, switch) in switches.iter().enumerate() {
            if !session.json {
                let option = session.switch_option(&switch.name);
                say(&format!("{}{}", if index > 0 { "\n" } else { "" }, head(switch, &option)))?;
            }
            self.keys(session, switch)?;
        }
        Ok(Code::Done)
    }

    /// Prints the keys of a switch, page after page; a JSON line is a page.
    fn keys(&self, session: &Session, switch: &Switch) -> Result<(), Error> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let chosen = [("contains", &self.contains), ("target", &self.target)];
        let chosen = chosen.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let path = format!("/v1/switches/{}", encoded(&switch.name));
        let (listed, more) = pages(session, &path, &chosen.collect::<Vec<_>>(), limit, |_| String::new())?;
        // The head counts all keys; where some are left out, it says how many are not.
        if !session.json && (self.contains.is_some() || self.target.is_some() || more) {
            let more = if more { ", and there are more" } else { "" };
            say(&format!("  {} of {} listed{more}\n", listed, format::count(switch.keys, "key")))?;
        }
        Ok(())
    }
}

/// Prints at most `limit` keys of a switch under a head that the first page gives. Returns how many there were, and whether
/// there are more.
pub(crate) fn pages(
    session: &Session,
    switch: &str,
    query: &[(&str, String)],
    limit: usize,
    head: impl FnOnce(&KeyPage) -> String,
) -> Result<(u64, bool), Error> {
    let (mut left, mut listed, mut after, mut head) = (limit, 0, None::<String>, Some(head));
    while left > 0 {
        let mut path = format!("{switch}/keys?limit={}", left.min(PAGE));
        let after_last = after.clone().map(|after| ("after", after));
        for (name, value) in query.iter().chain(&after_last) {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
        let mut call = Call::get(path);
        // A table of the past is made of a history that may have millions of commits.
        call.limit *= if query.iter().any(|(name, _)| name.starts_with("at")) { 20 } else { 1 };
        let (page, body) = session.client.ask::<KeyPage>(&call)?;
        let head = head.take().map(|head| head(&page)).unwrap_or_default();
        if session.json {
            say_json(&body)?;
        } else if page.keys.is_empty() {
            say(&head)?;
        } else {
            let mut table = Table::new(&["  key", "route", ">revision"]);
            for entry in &page.keys {
                table.row([
                    format!("  {}", format::key_text(&entry.key)),
                    entry.route.clone(),
                    entry.revision.to_string(),
                ]);
            }
            let text = table.text();
            // One head is enough.
            let skip = if after.is_some() { text.find('\n').map_or(0, |end| end + 1) } else { 0 };
            say(&format!("{head}{}", &text[skip..]))?;
        }
        left = left.saturating_sub(page.keys.len());
        listed += page.keys.len() as u64;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok((listed, after.is_some()))
}

/// Returns what is to be said of a default that the configuration has otherwise.
pub(crate) fn default_note(switch: &Switch) -> Option<String> {
    let file = switch.default_in_file.as_ref()?;
    let since = switch.default_revision.map(|revision| format!(" since revision {revision}"));
    Some(format!("default: file says {file}, table says {}{}", switch.default, since.unwrap_or_default()))
}

/// Returns what is to be said if the master process is gone.
pub(crate) fn orphaned(switch: &Switch) -> Option<String> {
    let ends = format::clock(switch.ends_without_master_ms?);
    Some(format!(
        "no master process: takes no orders, and ends at {ends} unless pointsman is started again, which takes over\n"
    ))
}

/// Returns the summary of a switch. `option` names it in commands.
pub(crate) fn head(switch: &Switch, option: &str) -> String {
    let mut text = format!(
        "{}: revision {}, {}, default {}, targets {}{}\n",
        switch.name,
        switch.revision,
        format::count(switch.keys, "key"),
        switch.default,
        switch.targets.join(" "),
        if switch.dynamic { " dynamic" } else { "" }
    );
    if let Some(note) = default_note(switch) {
        text.push_str(&format!("  {note}\n"));
    }
    for pending in &switch.pending {
        let line = match &pending.overdue {
            Some(overdue) => format::overdue(pending.revision, overdue, option),
            None => format::pending(pending.revision, pending.confirm_by_ms, option),
        };
        text.push_str(&format!("  {line}\n"));
    }
    for hold in &switch.holds {
        text.push_str(&format!("  {}: {}\n", format::key_text(&hold.key), format::hold(hold)));
    }
    for draining in &switch.draining {
        let drain = format::drain(&draining.drain);
        text.push_str(&format!("  revision {}: {drain}\n", draining.revision));
    }
    if let Some(fault) = &switch.store_fault {
        text.push_str(&format!("  store: {}; {}\n", fault.text, fault.remedy));
    }
    text
}
