//! `pointsman list`: the keys that have an entry.
//!
//! Owns the verb's options and its paging. Must never hold a whole table: it may have a million keys.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format::{self, Table, clock};
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
        for (index, switch) in session.switches()?.iter().enumerate() {
            if !session.json {
                say(&format!("{}{}", if index > 0 { "\n" } else { "" }, head(switch)))?;
            }
            self.keys(session, switch)?;
        }
        Ok(Code::Done)
    }

    /// Prints the keys of a switch, page after page; a JSON line is a page.
    fn keys(&self, session: &Session, switch: &Switch) -> Result<(), Error> {
        let mut left = self.limit.unwrap_or(usize::MAX);
        let mut after: Option<String> = None;
        let mut listed = 0;
        while left > 0 {
            let mut path = format!("/v1/switches/{}/keys?limit={}", encoded(&switch.name), left.min(PAGE));
            for (name, value) in [("contains", &self.contains), ("target", &self.target), ("after", &after)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", encoded(value)));
                }
            }
            let (page, body) = session.client.ask::<KeyPage>(&Call::get(path))?;
            if session.json {
                say_json(&body)?;
            } else if !page.keys.is_empty() {
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
                say(&text[skip..])?;
            }
            left = left.saturating_sub(page.keys.len());
            listed += page.keys.len() as u64;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        // The head counts all keys; where some are left out, it says how many are not.
        if !session.json && (self.contains.is_some() || self.target.is_some() || after.is_some()) {
            let more = if after.is_some() { ", and there are more" } else { "" };
            say(&format!("  {} of {} listed{more}\n", listed, format::count(switch.keys, "key")))?;
        }
        Ok(())
    }
}

/// Returns the summary of a switch.
pub(crate) fn head(switch: &Switch) -> String {
    let mut text = format!(
        "{}: revision {}, {}, default {}, targets {}\n",
        switch.name,
        switch.revision,
        format::count(switch.keys, "key"),
        switch.default,
        switch.targets.join(" ")
    );
    for pending in &switch.pending {
        text.push_str(&format!("  {}\n", format::pending(pending.revision, pending.confirm_by_ms)));
    }
    for hold in &switch.holds {
        text.push_str(&format!(
            "  {}: held since {} by {}, {} of {} waiting\n",
            hold.key,
            clock(hold.since_ms),
            hold.actor,
            hold.waiting,
            hold.max
        ));
    }
    for draining in &switch.draining {
        text.push_str(&format!("  revision {}: {}\n", draining.revision, format::drain(&draining.drain)));
    }
    if let Some(fault) = &switch.store_fault {
        text.push_str(&format!("  store: {}; {}\n", fault.text, fault.remedy));
    }
    text
}
