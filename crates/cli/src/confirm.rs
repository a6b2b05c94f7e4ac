//! `pointsman confirm`: a commit that would go back by itself stays.
//!
//! Owns the verb's words. Must never confirm what was not named, if more than one commit waits.

use crate::client::fresh_key;
use crate::fault::{Code, Fault, say};
use crate::terms::{self, Who, order_call};
use crate::verbs::Session;
use clap::Args;
use control::api::types;
use hyper::Method;

/// Keep a commit that would go back by itself
#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// The commit; not needed if only one waits
    revision: Option<u64>,
    /// Why, for the history
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
}

impl Confirm {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
        let order = types::Confirm { revision: self.revision, reason: self.reason.clone() };
        let path = format!("{}/confirm", session.switch_path()?);
        let mut call = order_call(Method::POST, path, &order, &self.who);
        call.headers.push(("idempotency-key", fresh_key()));
        let (receipt, body) = session.client.ask::<types::Receipt>(&call)?;
        if session.json {
            say(&format!("{}\n", String::from_utf8_lossy(&body)))?;
        } else {
            say(&terms::text(&receipt))?;
        }
        Ok(Code::Done)
    }
}
