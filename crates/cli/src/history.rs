//! `pointsman history`: the commits, with actor and reason.
//!
//! Owns the verb's options. Must never check the chain itself: the server has all of it.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::session::Session;
use crate::timeline::Filter;
use crate::{commits, format};
use clap::Args;
use control::api::types;

/// Show the commits, newest first
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Show only commits that changed this key
    key: Option<String>,
    /// Show at most this many commits
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Show only commits before this one
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["since", "actor", "target", "kind"])]
    before: Option<u64>,
    /// Check that no commit of the whole history was changed, removed or inserted; exit code 1 if one was
    #[arg(long, conflicts_with_all = ["since", "actor", "target", "kind"])]
    verify: bool,
    #[command(flatten)]
    filter: Filter,
}

impl History {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        if !self.verify && self.before.is_none() {
            let switches = match session.switch_name() {
                Some(name) => vec![name.to_owned()],
                None => session.switches()?.into_iter().map(|switch| switch.name).collect(),
            };
            // A single history without a filter is the API's answer.
            if self.filter.is_given() || switches.len() > 1 {
                self.filter.print(session, &switches, self.key.as_deref(), self.limit)?;
                return Ok(Code::Done);
            }
        }
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
            // A history may have millions of commits.
            call.limit *= 20;
        }
        let (history, body) = session.client.ask::<types::History>(&call)?;
        let mut out = String::new();
        if session.json {
            say_json(&body)?;
        } else {
            out.push_str(&commits::text(&history.commits));
            match &history.verified {
                Some(verified) if verified.intact => out.push_str(&format!(
                    "{}: {} verified, last hash {}\n",
                    history.switch,
                    format::count(verified.commits, "commit"),
                    verified.hash
                )),
                Some(verified) => out.push_str(&format!(
                    "{}: NOT INTACT after {}: {}\n",
                    history.switch,
                    format::count(verified.commits, "commit"),
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
