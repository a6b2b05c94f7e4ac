//! `pointsman show`: where a key leads, and why.
//!
//! Owns the verb's words. Must never guess what a request would get: the server says it.

use crate::client::{Call, encoded};
use crate::fault::{Code, Fault, say};
use crate::figures::clock;
use crate::history;
use crate::verbs::Session;
use clap::Args;
use control::api::types::{History, Key};

/// How many of the key's last changes are shown.
const CHANGES: usize = 5;

/// Show where a key leads, and its last changes
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The key
    key: String,
}

impl Show {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
        let switch = session.switch_path()?;
        let key = encoded(&self.key);
        let (shown, body) = session.client.ask::<Key>(&Call::get(format!("{switch}/keys/{key}")))?;
        if session.json {
            say(&format!("{}\n", String::from_utf8_lossy(&body)))?;
            return Ok(Code::Done);
        }
        let because = match &shown.entry {
            Some(entry) if *entry == shown.key => format!("since revision {}", shown.entry_revision),
            Some(entry) => format!("by {entry}, since revision {}", shown.entry_revision),
            None => "by default".to_owned(),
        };
        let mut text = format!("{}: {} ({because})\n", shown.key, shown.route);
        if let Some(hold) = &shown.hold {
            text.push_str(&format!(
                "  held since {} by {}: {} of {} waiting\n",
                clock(hold.since_ms),
                hold.actor,
                hold.waiting,
                hold.max
            ));
        }
        let path = format!("{switch}/history?limit={CHANGES}&key={key}");
        let (past, _) = session.client.ask::<History>(&Call::get(path))?;
        text.push_str(&history::text(&past.commits));
        say(&text)?;
        Ok(Code::Done)
    }
}
