//! `pointsman release`: ends a hold.
//!
//! Owns the verb's options. Must never switch anything.

use crate::client::encoded;
use crate::error::{Code, Error, say, say_json};
use crate::format;
use crate::order_options::{ActorOption, order_call};
use crate::session::Session;
use clap::Args;
use control::api::types::{self, ReleaseOrder};
use hyper::Method;

/// End a hold and let the waiting requests proceed
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The key
    key: String,
    /// How many requests to release each second; by default all at once
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Reason, for the log
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    actor: ActorOption,
}

/// `3 requests go`.
fn go(number: u64) -> String {
    format!("{} go{}", format::count(number, "waiting request"), if number == 1 { "es" } else { "" })
}

impl Release {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let order = ReleaseOrder { per_second: self.rate, reason: self.reason.clone() };
        session.refuse_groups()?;
        let path = format!("{}/holds/{}", session.switch_path()?, encoded(&self.key));
        let call = order_call(Method::DELETE, path, &order, &self.actor);
        let (hold, body) = session.client.ask::<types::Hold>(&call)?;
        if session.json {
            say_json(&body)?;
        } else {
            let key = format::key_text(&hold.key);
            let others = format::elsewhere(hold.waiting_elsewhere, hold.partial);
            let done = match self.rate.filter(|_| hold.waiting > 0) {
                Some(rate) => format!("{} on, {rate} a second", go(hold.waiting)),
                None => format!("{} released", format::count(hold.waiting, "waiting request")),
            };
            say(&format!("{key}: {done}{others}\n"))?;
            if !hold.recorded {
                say(
                    "the release could not be recorded yet (see the error log): a restart now would hold the key again\n",
                )?;
            }
        }
        Ok(Code::Done)
    }
}
