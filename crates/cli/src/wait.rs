//! `pointsman wait`: takes up the wait of an order again, and what an interrupted order leaves behind.
//!
//! Owns the verb's options. Must never give an order.

use crate::client::{ANSWER, Call, INTERRUPTED, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::receipt;
use crate::session::Session;
use crate::time_option::{ms, time};
use clap::Args;
use control::api::types::{Drain, DrainState, Receipt};
use std::time::Duration;

/// How long it takes at most to find out what an interrupted wait leaves behind.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Wait until nothing is in flight on the old side of a commit
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Revision of the commit; the newest if omitted
    #[arg(conflicts_with = "id")]
    revision: Option<u64>,
    /// The commit of the order with this idempotency key
    #[arg(long, value_name = "KEY")]
    id: Option<String>,
    /// How long to wait
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    timeout: String,
}

impl WaitArgs {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let switch = session.switch_path()?;
        let mut path = receipt::receipt_path(&switch, self.revision, self.id.as_deref());
        path.push_str(if path.contains('?') { "&" } else { "?" });
        path.push_str(&format!("wait=drained&timeout={}", encoded(&self.timeout)));
        let limit = ANSWER + Duration::from_millis(ms(&self.timeout));
        let call = Call { limit, catches: true, ..Call::get(path) };
        let (receipt, body) = match session.client.ask::<Receipt>(&call) {
            Err(error) if error.problem.code == INTERRUPTED => {
                let path = receipt::receipt_path(&switch, self.revision, self.id.as_deref());
                return Err(self.interrupted(session, &path));
            }
            answer => answer?,
        };
        if session.json {
            say_json(&body)?;
        } else {
            say(&receipt::text(&receipt, None, &session.switch_option(&receipt.switch)))?;
        }
        Ok(match &receipt.drain {
            Some(drain) if !is_over(drain) => {
                say_how_to_go_on(session, &receipt)?;
                Code::NotDrained
            }
            _ => Code::Done,
        })
    }

    /// Returns what to say when it is interrupted: what is left, and how to go on.
    fn interrupted(&self, session: &Session, path: &str) -> Error {
        let call = Call { limit: LAST_WORDS, ..Call::get(path) };
        let asked = session.client.ask::<Receipt>(&call);
        let (left, go_on) = match asked {
            Ok((receipt, _)) => {
                let left = receipt.drain.as_ref().map(crate::format::drain).unwrap_or_default();
                (format!(": {left}"), go_on(session, &receipt))
            }
            Err(_) => (String::new(), "pointsman wait".to_owned()),
        };
        Error::new(
            Code::NotDrained,
            INTERRUPTED,
            format!("interrupted{left}"),
            format!("to go on waiting: {go_on}"),
        )
    }
}

/// Returns the command that takes up the wait for a commit.
fn go_on(session: &Session, receipt: &Receipt) -> String {
    format!("pointsman wait {}{}", session.switch_option(&receipt.switch), receipt.revision)
}

/// Names the command that takes up a wait whose time is over.
pub(crate) fn say_how_to_go_on(session: &Session, receipt: &Receipt) -> Result<(), Error> {
    let is_overtaken = receipt.drain.as_ref().is_some_and(|drain| drain.overtaken_by.is_some());
    if session.json || is_overtaken {
        return Ok(());
    }
    say(&format!("  to go on waiting: {}\n", go_on(session, receipt)))
}

/// Returns true if nothing is left on the old side of a commit whose keys are where it has put them.
pub(crate) fn is_over(drain: &Drain) -> bool {
    drain.state == DrainState::Drained && drain.overtaken_by.is_none()
}

/// Waits until nothing is in flight on the old side of a commit, or the time is over. Returns its receipt.
pub(crate) fn wait_for(
    session: &Session,
    switch: &str,
    revision: u64,
    timeout: &str,
) -> Result<Receipt, Error> {
    let path = receipt::receipt_path(switch, Some(revision), None);
    let mut call = Call::get(format!("{path}?wait=drained&timeout={}", encoded(timeout)));
    call.limit = ANSWER + Duration::from_millis(ms(timeout));
    Ok(session.client.ask::<Receipt>(&call)?.0)
}

/// Returns what to say when the wait for an order is interrupted: what it has become, and how to go on waiting.
pub(crate) fn interrupted(session: &Session, order_path: &str, id: &str) -> Error {
    // `/v1/switches/NAME/…`
    let switch: String = order_path.split('/').take(4).collect::<Vec<_>>().join("/");
    let mut call = Call::get(receipt::receipt_path(&switch, None, Some(id)));
    call.limit = LAST_WORDS;
    let name = session.switch_option(switch.rsplit('/').next().unwrap_or_default());
    match session.client.ask::<Receipt>(&call) {
        Ok((receipt, _)) => {
            let left = receipt.drain.as_ref().map(crate::format::drain).unwrap_or_default();
            Error::new(
                Code::NotDrained,
                "interrupted",
                format!("interrupted: the commit stays, as revision {}; {left}", receipt.revision),
                format!("to go on waiting: pointsman wait {name}{}", receipt.revision),
            )
        }
        Err(error) if error.problem.code == "unknown_revision" => Error::new(
            Code::Unknown,
            "interrupted",
            "interrupted: the order has made no commit so far; it goes on without this command",
            format!("to wait for its commit: pointsman wait {name}--id {id}"),
        ),
        Err(_) => Error::new(
            Code::Unknown,
            "interrupted",
            "interrupted: whether it was committed is unknown",
            format!("check with `pointsman history`; to go on waiting: pointsman wait {name}--id {id}"),
        ),
    }
}
