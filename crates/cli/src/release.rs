//! `pointsman release`: what waits in a hold goes on.
//!
//! Owns the verb's words. Must never switch anything.

use crate::client::encoded;
use crate::fault::{Code, Fault, say};
use crate::figures;
use crate::terms::{Who, order_call};
use crate::verbs::Session;
use clap::Args;
use control::api::types::{self, ReleaseOrder};
use hyper::Method;

/// Let a key's waiting requests go on
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The key
    key: String,
    /// So many each second; without it all at once
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    #[command(flatten)]
    who: Who,
}

impl Release {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
        let order = ReleaseOrder { per_second: self.rate };
        let path = format!("{}/holds/{}", session.switch_path()?, encoded(&self.key));
        let call = order_call(Method::DELETE, path, &order, &self.who);
        let (hold, body) = session.client.ask::<types::Hold>(&call)?;
        if session.json {
            say(&format!("{}\n", String::from_utf8_lossy(&body)))?;
        } else {
            let waiting = figures::count(hold.waiting, "waiting request");
            say(&format!("{}: {waiting} released\n", hold.key))?;
        }
        Ok(Code::Done)
    }
}
