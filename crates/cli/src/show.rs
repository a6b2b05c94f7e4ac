//! `pointsman show`: the route of a key, and why.
//!
//! Owns the verb's options. Must never work out a route itself: the server does.

use crate::client::{Call, encoded};
use crate::commits;
use crate::error::{Code, Error, say, say_json};
use crate::format::clock;
use crate::session::Session;
use clap::Args;
use control::api::types::{History, Key};

/// How many of the key's last changes are shown.
const CHANGES: usize = 5;

/// Show a key's route and its last changes
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The key
    key: String,
}

impl Show {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let switch = session.switch_path()?;
        let key = encoded(&self.key);
        let (shown, body) = session.client.ask::<Key>(&Call::get(format!("{switch}/keys/{key}")))?;
        if session.json {
            say_json(&body)?;
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
                "  held since {} by {}, {} of {} waiting\n",
                clock(hold.since_ms),
                hold.actor,
                hold.waiting,
                hold.max
            ));
        }
        let path = format!("{switch}/history?limit={}&key={key}", CHANGES + 1);
        let (past, _) = session.client.ask::<History>(&Call::get(path))?;
        text.push_str(&commits::text(&past.commits[..past.commits.len().min(CHANGES)]));
        if past.commits.len() > CHANGES {
            text.push_str(&format!("        older changes: pointsman history {}\n", shown.key));
        }
        say(&text)?;
        Ok(Code::Done)
    }
}
