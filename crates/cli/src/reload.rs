//! `pointsman reload`: go over to the configuration as it is now, and say what came of it.
//!
//! Owns the verb's words. Must never send a signal: `-s reload` does, as with nginx, and says nothing.

use crate::client::Call;
use crate::fault::{Code, Fault, say};
use crate::terms::{self, Who};
use crate::verbs::Session;
use clap::Args;
use control::api::types;
use hyper::Method;
use std::time::Duration;

/// The longest time for the answer: longer than the server's own.
const ANSWER: Duration = Duration::from_secs(70);

/// Go over to the configuration as it is now, or say what is wrong with it
#[derive(Debug, Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    who: Who,
}

impl Reload {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
        let order = types::ReloadOrder {};
        let mut call: Call = terms::order_call(Method::POST, "/v1/reload".to_owned(), &order, &self.who);
        call.limit = ANSWER;
        let (reloaded, body) = session.client.ask::<types::Reloaded>(&call)?;
        if session.json {
            say(&format!("{}\n", String::from_utf8_lossy(&body)))?;
            return Ok(Code::Done);
        }
        let mut text = "the new configuration is in force\n".to_owned();
        for line in &reloaded.findings {
            text.push_str(&format!("  {line}\n"));
        }
        say(&text)?;
        Ok(Code::Done)
    }
}
