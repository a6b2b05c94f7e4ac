//! `limit_rate` and `limit_rate_after`: how fast an answer is sent.
//!
//! Owns what the two come to for one request, which variables may decide. Waiting is the server's.

use crate::config::{Builder, Config, Settings};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::setting::Setting;
use crate::template::Template;
use conf::Diagnostic;

/// A number of bytes: as written, or what variables say.
#[derive(Clone, Debug)]
pub enum Amount {
    /// As written.
    Fixed(u64),
    /// It has variables in it.
    Variable(Template),
}

impl Amount {
    fn fixed(&self) -> u64 {
        match self {
            Amount::Fixed(bytes) => *bytes,
            Amount::Variable(_) => 0,
        }
    }
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("limit_rate", Contexts::HSLI, Args::Exactly(1), "rate", |b, d| {
        amount(b, d, |s| &mut s.core.send.limit_rate)
    })
    .default("0")
    .doc(
        "The rate in bytes per second at which a response is sent; may contain variables; 0 is no limit. `set \
         $limit_rate` sets it for one request.",
    )
    .example("limit_rate 500k;"),
    Directive::new("limit_rate_after", Contexts::HSLI, Args::Exactly(1), "size", |b, d| {
        amount(b, d, |s| &mut s.core.send.limit_rate_after)
    })
    .default("0")
    .doc("How much of a response is sent before `limit_rate` applies; may contain variables.")
    .example("limit_rate_after 1m;"),
];

fn amount(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    setting: impl FnOnce(&mut Settings) -> &mut Setting<Amount>,
) -> Result<(), Diagnostic> {
    let template = b.template(&d.args[0])?;
    let amount = match template.constant() {
        Some(_) => Amount::Fixed(b.size(&d.args[0])?),
        None => Amount::Variable(template),
    };
    b.write(d, setting, amount)
}

/// Asks the variables, if there are any and it was not decided before: once for each request, when its answer begins.
pub fn settle_rates(exchange: &mut Exchange, env: &mut Env<'_>) {
    let send = &exchange.settings(env.config).core.send;
    if let Amount::Variable(rate) = &*send.limit_rate
        && exchange.route.limit_rate.is_none()
    {
        exchange.route.limit_rate = Some(evaluate(rate, exchange, env));
    }
    if let Amount::Variable(after) = &*send.limit_rate_after
        && exchange.route.limit_rate_after.is_none()
    {
        exchange.route.limit_rate_after = Some(evaluate(after, exchange, env));
    }
}

/// Returns the amount's value; one that is not a size counts as 0, and is logged (ngx_http_complex_value_size).
fn evaluate(template: &Template, exchange: &mut Exchange, env: &mut Env<'_>) -> u64 {
    let value = template.value(exchange, env);
    conf::value::parse_buffer_size(&value).unwrap_or_else(|| {
        let text = [b"invalid size \"", value.as_slice(), b"\" while sending response to client"].concat();
        log_line::error(exchange, env, Level::Error, &text);
        0
    })
}

/// Returns the bandwidth limit in force for a request, in bytes a second; 0 is none.
pub fn limit_rate(exchange: &Exchange, config: &Config) -> u64 {
    let set = exchange.route.limit_rate;
    set.unwrap_or_else(|| exchange.settings(config).core.send.limit_rate.fixed())
}

/// Returns the number of bytes that are sent before that limit applies.
pub fn limit_rate_after(exchange: &Exchange, config: &Config) -> u64 {
    let set = exchange.route.limit_rate_after;
    set.unwrap_or_else(|| exchange.settings(config).core.send.limit_rate_after.fixed())
}
