//! `pointsman hold`: new requests of a key wait.
//!
//! Owns the verb's words. Must never hold without bounds: the server has some for what is not said.

use crate::client::encoded;
use crate::fault::{Code, Fault, say};
use crate::figures;
use crate::terms::{Who, order_call, span};
use crate::verbs::Session;
use clap::Args;
use control::api::types::{self, HoldOrder};
use hyper::Method;

/// Let a key's new requests wait, while those in flight end
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman hold shop.example.com --max 1000 --timeout 10s
  pointsman release shop.example.com --rate 200")]
pub(crate) struct Hold {
    /// The key
    key: String,
    /// How many may wait; the next ones are answered with 503
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max: u32,
    /// How long each may wait before it is answered with 503
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10s")]
    timeout: String,
    /// How much of their bodies may be kept in memory in all
    #[arg(long, value_name = "SIZE", default_value = "16m")]
    max_size: String,
    /// Why, for the log
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
}

impl Hold {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
        let order = HoldOrder {
            max: Some(self.max),
            timeout: Some(self.timeout.clone()),
            max_size: Some(self.max_size.clone()),
            reason: self.reason.clone(),
        };
        let path = format!("{}/holds/{}", session.switch_path()?, encoded(&self.key));
        let (hold, body) =
            session.client.ask::<types::Hold>(&order_call(Method::PUT, path, &order, &self.who))?;
        if session.json {
            say(&format!("{}\n", String::from_utf8_lossy(&body)))?;
        } else {
            say(&format!(
                "{}: new requests wait, at most {} of them and each for {} at most\n",
                hold.key,
                hold.max,
                figures::micros(hold.timeout_ms * 1000)
            ))?;
        }
        Ok(Code::Done)
    }
}
