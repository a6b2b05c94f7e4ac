//! The options that `switch`, `split` and `undo` share.
//!
//! Owns their names and the sending of orders. Must never judge an order: the server does.

use crate::client::{self, ANSWER, Call, INTERRUPTED};
use crate::error::{Code, Colour, Error, say, say_headed, say_json};
use crate::receipt;
use crate::session::Session;
use crate::time_option::{ms, time};
use crate::{progress, wait};
use clap::{Args, ValueEnum};
use control::api::types::{Drain, DrainState, HoldStreams, HoldTerms, Outcome, Receipt, Terms, Wait};
use hyper::Method;
use serde::Serialize;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

/// Reads what `--from` names; `-` is standard input.
pub(crate) fn text_of(file: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let outcome = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    outcome.map_err(|error| Error::usage(format!("{}: {error}", file.display()), ""))?;
    Ok(text)
}

/// The event that `--wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// Return once the commit is durable
    None,
    /// Return once every worker has applied it (the default)
    Published,
    /// Return once nothing is in flight on the old side
    Drained,
}

/// What `--hold` does about streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Streams {
    /// Close them before the switch
    Close,
    /// Wait until they end
    Wait,
}

/// The options of an order.
#[derive(Debug, Args)]
#[command(next_help_heading = "Order options")]
pub(crate) struct OrderOptions {
    /// Reason, for the history
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    /// Refuse unless the switch is at this revision
    #[arg(long, value_name = "REVISION")]
    expect: Option<u64>,
    /// Revert unless `pointsman confirm` comes within this time (30s, 10m, 1h30m; a bare number is seconds)
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm_within: Option<String>,
    /// The event to wait for
    #[arg(long, value_name = "EVENT", value_enum)]
    wait: Option<Until>,
    /// How long to wait for it
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    timeout: String,
    /// Override the gate, or a later change of the keys to be undone; recorded
    #[arg(long)]
    force: bool,
    /// Print what would happen, and change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Apply an order only once, no matter how often it is sent with this key
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    actor: ActorOption,
}

/// The options of an order that leads keys somewhere.
#[derive(Debug, Args)]
#[command(next_help_heading = "Order options")]
pub(crate) struct KeyOptions {
    /// Refuse unless each key has this route now ("default" for a key without an entry); changes of other keys do not matter
    #[arg(long, value_name = "ROUTE")]
    expect_route: Option<String>,
    /// How long the receipt counts the responses of both sides, at most 1h; by default the switch's watch=
    #[arg(long, value_name = "TIME", value_parser = time)]
    watch: Option<String>,
    /// Hold new requests until those in flight have ended, then switch and release them
    #[arg(long)]
    hold: bool,
    /// With --hold: how many requests may wait
    #[arg(long, value_name = "N", requires = "hold")]
    hold_max: Option<u32>,
    /// With --hold: how long a request may wait
    #[arg(long, value_name = "TIME", value_parser = time, requires = "hold")]
    hold_timeout: Option<String>,
    /// With --hold: how many requests to release each second
    #[arg(long, value_name = "N", requires = "hold")]
    hold_rate: Option<u32>,
    /// With --hold: what happens to WebSockets and other streams of the old side; without this option, the order is refused
    /// if there are any
    #[arg(long, value_name = "WHAT", value_enum, requires = "hold")]
    hold_streams: Option<Streams>,
}

/// The option that names an actor.
#[derive(Debug, Args)]
pub(crate) struct ActorOption {
    /// Act on behalf of this person; recorded beside the user that the server sees
    #[arg(long, value_name = "NAME", help_heading = "Order options")]
    actor: Option<String>,
}

impl ActorOption {
    /// Returns the actor's name where no server says who is calling.
    pub(crate) fn name(&self) -> String {
        let of = |name: &str| std::env::var(name).ok();
        let name = self.actor.clone().or_else(|| of("SUDO_USER")).or_else(|| of("USER"));
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| "operator".to_owned())
    }

    /// Returns the header that names the actor. Under sudo it is the user who called it.
    pub(crate) fn header(&self) -> Option<(&'static str, String)> {
        let name = self.actor.clone().or_else(|| std::env::var("SUDO_USER").ok());
        name.filter(|name| !name.is_empty()).map(|name| ("x-pointsman-actor", client::encoded(&name)))
    }
}

impl KeyOptions {
    /// Returns all options of an order as the API takes them.
    pub(crate) fn terms(&self, options: &OrderOptions) -> Terms {
        Terms {
            watch: self.watch.clone(),
            hold: self.hold.then(|| HoldTerms {
                max: self.hold_max,
                timeout: self.hold_timeout.clone(),
                max_size: None,
                per_second: self.hold_rate,
                streams: self.hold_streams.map(|streams| match streams {
                    Streams::Close => HoldStreams::Close,
                    Streams::Wait => HoldStreams::Wait,
                }),
            }),
            expect_route: self.expect_route.clone(),
            ..options.terms()
        }
    }
}

impl OrderOptions {
    /// Returns the options as the API takes them.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            reason: self.reason.clone(),
            confirm_within: self.confirm_within.clone(),
            force: self.force,
            wait: self.wait.map(|until| match until {
                Until::None => Wait::None,
                Until::Published => Wait::Published,
                Until::Drained => Wait::Drained,
            }),
            timeout: Some(self.timeout.clone()),
            dry_run: self.dry_run,
            ..Terms::default()
        }
    }

    /// Returns true if nothing is to be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Returns a call with an order in it, by this actor.
    pub(crate) fn call(&self, method: Method, path: String, order: &impl Serialize) -> Call {
        order_call(method, path, order, &self.actor)
    }

    /// Sends the order and prints the receipt.
    pub(crate) fn send(
        &self,
        session: &Session,
        method: Method,
        path: String,
        order: &impl Serialize,
    ) -> Result<Code, Error> {
        // On a terminal the receipt comes at once, and what is left is shown as it ends.
        let shows_progress =
            self.wait == Some(Until::Drained) && !session.json && std::io::stdout().is_terminal();
        let mut order = serde_json::to_value(order).unwrap_or_default();
        if shows_progress {
            order["wait"] = serde_json::to_value(Wait::Published).unwrap_or_default();
        }
        let mut call = self.call(method, path, &order);
        if let Some(revision) = self.expect {
            call.headers.push(("if-match", format!("\"{revision}\"")));
        }
        let key = match &self.idempotency_key {
            Some(key) => key.clone(),
            None => client::fresh_key()?,
        };
        call.headers.push(("idempotency-key", key.clone()));
        // The server waits first for the drain of a hold, then for what --wait says; and a gate takes its time too.
        call.limit = ANSWER + 3 * Duration::from_millis(ms(&self.timeout));
        let (receipt, body) = match session.client.ask::<Receipt>(&call) {
            Err(error) if error.problem.code == INTERRUPTED => {
                return Err(wait::interrupted(session, &call.path, &key));
            }
            answer => answer?,
        };
        if session.json {
            say_json(&body)?;
        } else {
            let default = receipt::default_for(session, &receipt);
            let option = session.switch_option(&receipt.switch);
            let colour = match receipt.outcome {
                _ if receipt.fleet.as_ref().is_some_and(|fleet| fleet.applied_us.is_none()) => Colour::Yellow,
                Outcome::Committed | Outcome::Repeated | Outcome::Unchanged => Colour::Green,
                Outcome::WouldCommit => Colour::Yellow,
                Outcome::WouldRefuse => Colour::Red,
            };
            say_headed(&receipt::text(&receipt, default.as_deref(), &option), colour)?;
        }
        let receipt = match shows_progress {
            true => self.drained(session, call, receipt)?,
            false => receipt,
        };
        Ok(match (receipt.outcome, &receipt.drain, self.wait) {
            (Outcome::WouldRefuse, ..) => Code::Refused,
            _ if self.wait != Some(Until::None)
                && receipt.fleet.as_ref().is_some_and(|fleet| fleet.applied_us.is_none()) =>
            {
                Code::NotApplied
            }
            (_, Some(drain), Some(Until::Drained)) if !wait::is_over(drain) => {
                wait::say_how_to_go_on(session, &receipt)?;
                Code::NotDrained
            }
            _ => Code::Done,
        })
    }
}

impl OrderOptions {
    /// Shows a drain on a terminal until it has ended or the time is over; where there is none to be seen, waits as the server
    /// does. Returns the receipt as it is then.
    fn drained(&self, session: &Session, mut call: Call, receipt: Receipt) -> Result<Receipt, Error> {
        let limit = Duration::from_millis(ms(&self.timeout));
        let is_drained = |drain: &Drain| drain.state == DrainState::Drained;
        let waited = if progress::is_draining(&receipt) {
            progress::follow(session, receipt, limit)?
        } else if receipt.drain.as_ref().is_some_and(is_drained) {
            return Ok(receipt);
        } else {
            match receipt.outcome {
                // The servers of a group: nothing of them is in the receipt until they have been waited for.
                Outcome::Committed | Outcome::Repeated => {
                    let switch = format!("/v1/switches/{}", client::encoded(&receipt.switch));
                    wait::wait_for(session, &switch, receipt.revision, &self.timeout)?
                }
                // What was ordered before may still be on its way.
                Outcome::Unchanged => {
                    let body = call.body.take().unwrap_or_default();
                    let mut order: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                    order["wait"] = serde_json::to_value(Wait::Drained).unwrap_or_default();
                    call.body = Some(order.to_string().into_bytes());
                    call.headers.retain(|(name, _)| *name != "idempotency-key");
                    call.headers.push(("idempotency-key", client::fresh_key()?));
                    session.client.ask::<Receipt>(&call)?.0
                }
                _ => return Ok(receipt),
            }
        };
        say(&receipt::outcome(&waited, &session.switch_option(&waited.switch)))?;
        Ok(waited)
    }
}

/// Returns a call with an order in it.
pub(crate) fn order_call(method: Method, path: String, order: &impl Serialize, actor: &ActorOption) -> Call {
    // Orders are plain structs: there is nothing in them that JSON could not say.
    let body = serde_json::to_vec(order).unwrap_or_default();
    let headers = actor.header().into_iter().collect();
    Call { method, path, headers, body: Some(body), limit: ANSWER, catches: true }
}
