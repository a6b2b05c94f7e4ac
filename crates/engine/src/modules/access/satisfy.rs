//! The combination of the access handlers' verdicts: `satisfy` and `auth_delay` (ngx_http_core_access_phase,
//! ngx_http_core_post_access_phase, ngx_http_core_auth_delay).
//!
//! Owns the checker of the access phase. Nothing here looks at a client: it only weighs what the handlers say.

use crate::config::invalid_choice;
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::modules::{Handler, PhaseRun};
use crate::phase::{self, Effect, Verdict};
use http::Known;

/// The number of access modules that must let a request in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Satisfy {
    /// All that have a say.
    #[default]
    All,
    /// One is enough.
    Any,
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("satisfy", Contexts::HSL, Args::Exactly(1), "all | any", |b, d| {
        let satisfy = match &**d.args[0].text() {
            b"all" => Satisfy::All,
            b"any" => Satisfy::Any,
            _ => return Err(invalid_choice(&d.args[0]).help("all or any")),
        };
        b.write(d, |s| &mut s.access.satisfy, satisfy)
    })
    .default("all")
    .doc("Whether all of allow/deny, auth_basic and access_by_lua must allow a request, or any one of them.")
    .example("satisfy any;"),
    Directive::time("auth_delay", Contexts::HSL, |b| &mut b.settings().access.auth_delay_ms)
        .default("0s")
        .doc("How long a 401 is delayed, to slow down password guessing.")
        .example("auth_delay 2s;"),
];

/// Runs the access phase.
pub(super) fn check(exchange: &mut Exchange, env: &mut Env<'_>, phase: &PhaseRun) -> Verdict {
    if exchange.subrequests.is_inner() {
        // The request around it was let in.
        return Verdict::NextPhase;
    }
    phase::in_order(exchange, env, phase, run, conclude)
}

/// Runs a handler of the access phase and weighs what it says.
fn run(handler: Handler, exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if exchange.route.access.delayed {
        return end_delay(exchange);
    }
    match handler(exchange, env) {
        Verdict::Next => Verdict::Next,
        verdict => judge(exchange, env, verdict),
    }
}

fn judge(exchange: &mut Exchange, env: &mut Env<'_>, verdict: Verdict) -> Verdict {
    let satisfy = *exchange.settings(env.config).access.satisfy;
    match (verdict, satisfy) {
        (Verdict::Allow, Satisfy::All) => Verdict::Next,
        (Verdict::Allow, Satisfy::Any) => {
            exchange.route.access.refused = 0;
            exchange.response.headers.remove_known(Known::WwwAuthenticate);
            Verdict::NextPhase
        }
        (Verdict::Refuse(status @ (401 | 403)), Satisfy::Any) => {
            // A 401, which a password would help against, takes precedence over a 403.
            if exchange.route.access.refused != 401 {
                exchange.route.access.refused = status;
            }
            Verdict::Next
        }
        (Verdict::Refuse(401), Satisfy::All) => delay(exchange, env),
        (verdict, _) => verdict,
    }
}

/// Concludes the access phase: the request is refused if a module refused it and none let it in.
fn conclude(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if exchange.route.access.delayed {
        return end_delay(exchange);
    }
    match std::mem::take(&mut exchange.route.access.refused) {
        0 => Verdict::NextPhase,
        401 => delay(exchange, env),
        status => {
            log_line::error(exchange, env, Level::Error, b"access forbidden by rule");
            Verdict::Refuse(status)
        }
    }
}

fn delay(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    match *exchange.settings(env.config).access.auth_delay_ms {
        0 => Verdict::Refuse(401),
        ms => {
            log_line::error(exchange, env, Level::Info, b"delaying unauthorized request");
            exchange.route.access.delayed = true;
            Verdict::Wait(Effect::Hold(ms))
        }
    }
}

fn end_delay(exchange: &mut Exchange) -> Verdict {
    exchange.route.access.delayed = false;
    exchange.route.wake = None;
    Verdict::Refuse(401)
}
