//! Access control: `allow` and `deny` by address, and the combination of all modules of the access phase (`satisfy`).
//!
//! Owns the rules about addresses (ngx_http_access_module), the judgement over all access handlers
//! ([`satisfy`]) and `limit_except`. It must never look at what a request carries: names and passwords are
//! [`super::auth_basic`]'s.

pub mod limit_except;
pub mod satisfy;
#[cfg(test)]
mod tests;

pub(crate) mod record;

use super::Module;
use super::map::networks::Network;
use crate::config::{Builder, LocationId, invalid_parameter};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{Phase, Verdict};
use crate::setting::settings;
use conf::Diagnostic;
use satisfy::Satisfy;
use std::net::IpAddr;

/// The clients that a rule applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// All clients.
    All,
    /// Clients on a unix socket.
    Unix,
    /// An address or a network.
    Network(Network),
}

/// One `allow` or `deny`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The clients that it applies to.
    pub(crate) who: Who,
    /// They are refused.
    pub(crate) deny: bool,
}

settings! {
    /// Settings of one level.
    pub struct AccessSettings {
        /// `allow` and `deny`, in order: the first that fits decides.
        pub(crate) rules: Vec<Rule> = Vec::new(),
        /// `satisfy`.
        pub satisfy: Satisfy = Satisfy::All,
        /// `auth_delay`: how long a 401 is held back, in ms.
        pub auth_delay_ms: u64 = 0,
    }
    not inherited {
        /// `limit_except`: where requests with other methods go. It holds at its level alone.
        pub limit_except: Option<(limit_except::Methods, LocationId)> = None,
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::Access, handle)],
    checkers: &[(Phase::Access, satisfy::check)],
    settle: Some(limit_except::apply),
    is_needed: Some(|_, settings| !settings.access.rules.is_empty()),
    ..Module::new("access", &[DIRECTIVES, satisfy::DIRECTIVES, limit_except::DIRECTIVES])
};

const PLACES: Contexts = Contexts::HSL.or(Contexts::LIMIT_EXCEPT);

const DIRECTIVES: &[Directive] = &[
    Directive::new("allow", PLACES, Args::Exactly(1), "address | CIDR | unix: | all", |b, d| {
        rule(b, d, false)
    })
    .doc("Allows an address, a network, `unix:` or `all`; the first rule that matches a client decides.")
    .example("allow 192.168.0.0/16;"),
    Directive::new("deny", PLACES, Args::Exactly(1), "address | CIDR | unix: | all", |b, d| rule(b, d, true))
        .doc("Denies an address, a network, `unix:` or `all`: 403.")
        .example("deny all;"),
];

fn rule(b: &mut Builder<'_>, d: &conf::Directive, deny: bool) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let who = match &**word.text() {
        b"all" => Who::All,
        b"unix:" => Who::Unix,
        text => {
            let Some((network, low_bits)) = Network::parse(text) else {
                return Err(invalid_parameter(word).help("an address, a network (10.0.0.0/8), unix: or all"));
            };
            if low_bits {
                let text = format!("low address bits of {} are meaningless", word.text());
                b.diagnostics.push(Diagnostic::warn(word.span, text));
            }
            Who::Network(network)
        }
    };
    b.settings().access.rules.push(Rule { who, deny });
    Ok(())
}

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &exchange.settings(env.config).access;
    if settings.rules.is_empty() {
        return Verdict::Next;
    }
    match first_fit(&settings.rules, exchange.connection.remote.map(|remote| remote.ip())) {
        None => Verdict::Next,
        Some(false) => Verdict::Allow,
        Some(true) => {
            if *settings.satisfy == Satisfy::All {
                log_line::error(exchange, env, Level::Error, b"access forbidden by rule");
            }
            Verdict::Refuse(403)
        }
    }
}

/// Returns whether the first rule that matches a client denies it, or `None` if no rule matches. A client without an
/// address is on a unix socket.
fn first_fit(rules: &[Rule], client: Option<IpAddr>) -> Option<bool> {
    // An IPv4-mapped address is judged as the IPv4 one wherever there are rules about such.
    let about_v4 = |rule: &Rule| matches!(rule.who, Who::All | Who::Network(Network::V4(..)));
    let client = match client {
        Some(mapped) if mapped.to_canonical() != mapped && rules.iter().any(about_v4) => {
            Some(mapped.to_canonical())
        }
        client => client,
    };
    let fits = |rule: &&Rule| match (rule.who, client) {
        (Who::All, _) | (Who::Unix, None) => true,
        (Who::Network(network), Some(address)) => network.holds(address),
        (Who::Unix, Some(_)) | (Who::Network(_), None) => false,
    };
    rules.iter().find(fits).map(|rule| rule.deny)
}
