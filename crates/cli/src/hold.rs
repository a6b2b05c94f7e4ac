//! `pointsman hold`: lets new requests of a key wait.
//!
//! Owns the verb's options. Must never hold without bounds: the server has defaults for what is not given.

use crate::client::encoded;
use crate::error::{Code, Error, say, say_json};
use crate::format;
use crate::order_options::{ActorOption, order_call};
use crate::session::Session;
use crate::time_option::time;
use clap::{Args, ValueEnum};
use control::api::types::{self, HoldOrder, HoldThen};
use hyper::Method;

/// What becomes of a key's requests when the time of its hold is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Then {
    /// They get 503 until the key is released or switched by a newer order (the default)
    Refuse,
    /// They proceed
    Release,
}

/// Hold a key's new requests while those in flight end
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman hold shop.example.com --max 1000 --timeout 10s
  pointsman hold shop.example.com --for 30m --then refuse --reason migration
  pointsman release shop.example.com --rate 200")]
pub(crate) struct HoldArgs {
    /// The key
    key: String,
    /// How many requests may wait; further ones get 503
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max: u32,
    /// How long a request may wait before it gets 503
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    timeout: String,
    /// How much of their bodies may be kept in memory, in total
    #[arg(long, value_name = "SIZE", default_value = "16m")]
    max_size: String,
    /// How long the key is held; by default until it is released
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    span: Option<String>,
    /// What happens to its requests after that time
    #[arg(long, value_name = "WHAT", value_enum, requires = "span")]
    then: Option<Then>,
    /// Reason, for the log
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    actor: ActorOption,
}

impl HoldArgs {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let order = HoldOrder {
            max: Some(self.max),
            timeout: Some(self.timeout.clone()),
            max_size: Some(self.max_size.clone()),
            span: self.span.clone(),
            then: self.then.map(|then| match then {
                Then::Refuse => HoldThen::Refuse,
                Then::Release => HoldThen::Release,
            }),
            reason: self.reason.clone(),
        };
        session.refuse_groups()?;
        let path = format!("{}/holds/{}", session.switch_path()?, encoded(&self.key));
        let (hold, body) =
            session.client.ask::<types::Hold>(&order_call(Method::PUT, path, &order, &self.actor))?;
        if session.json {
            say_json(&body)?;
        } else {
            let until = match (hold.until_ms, hold.then) {
                (Some(until_ms), Some(HoldThen::Release)) => {
                    format!("; it is released at {}", format::clock(until_ms))
                }
                (Some(until_ms), _) => format!("; from {} on they get 503", format::clock(until_ms)),
                (None, _) => String::new(),
            };
            say(&format!(
                "{}: held; up to {} new requests wait, each for up to {}{until}\n",
                format::key_text(&hold.key),
                hold.max,
                format::micros(hold.timeout_ms * 1000)
            ))?;
            for note in &hold.notes {
                say(&format!("  note: {note}\n"))?;
            }
        }
        Ok(Code::Done)
    }
}
