//! `pointsman reload`: applies the configuration as it is now, and reports the outcome.
//!
//! Owns the verb's options. Must never send a signal: `-s reload` does, as with nginx, and reports nothing.

use crate::client::Call;
use crate::error::{Code, Error, say, say_json};
use crate::list;
use crate::order_options::{self, ActorOption};
use crate::session::Session;
use clap::Args;
use control::api::types;
use hyper::Method;
use std::time::Duration;

/// Time limit for the answer: longer than the server's own.
const ANSWER: Duration = Duration::from_secs(70);

/// Reload the configuration, or print what is wrong with it
#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Reload even if switches with keys are removed or renamed, or the gate of a changed default refuses; log, journal and
    /// answer say what was overridden
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    actor: ActorOption,
}

impl Reload {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let order = types::ReloadOrder { force: self.force };
        let mut call: Call =
            order_options::order_call(Method::POST, "/v1/reload".to_owned(), &order, &self.actor);
        call.limit = ANSWER;
        let (reloaded, body) = session.client.ask::<types::Reloaded>(&call)?;
        if session.json {
            say_json(&body)?;
            return Ok(Code::Done);
        }
        let mut text = "the new configuration is active\n".to_owned();
        for line in &reloaded.findings {
            text.push_str(&format!("  {line}\n"));
        }
        for switch in session.switches().unwrap_or_default() {
            if let Some(note) = list::default_note(&switch) {
                text.push_str(&format!("  switch {}: {note}\n", switch.name));
            }
        }
        say(&text)?;
        Ok(Code::Done)
    }
}
