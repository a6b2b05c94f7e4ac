//! `limit_conn`: how many requests with the same key may be under way at once (ngx_http_limit_conn_module).
//!
//! Owns what is refused; the counts are [`counts`]'.

pub(crate) mod counts;

use super::Module;
use super::limit_zone::{self, Outcome};
use crate::config::{Builder, invalid_parameter};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{Phase, Verdict};
use crate::setting::settings;
use conf::Diagnostic;
use counts::{CountGuard, Entered};

/// One `limit_conn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The zone's number.
    pub zone: usize,
    /// The number.
    pub connections: u32,
}

settings! {
    /// Settings of one level.
    pub struct LimitConnSettings {
        /// `limit_conn`, in order.
        pub limits: Vec<Limit> = Vec::new(),
        /// `limit_conn_log_level`.
        pub log_level: Level = Level::Error,
        /// `limit_conn_status`.
        pub status: u16 = 503,
        /// `limit_conn_dry_run`: count and log, but let pass.
        pub dry_run: bool = false,
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::PreAccess, handle)],
    is_needed: Some(|_, settings| !settings.limits.conn.limits.is_empty()),
    ..Module::new("limit_conn", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[
    Directive::new("limit_conn_zone", Contexts::HTTP, Args::Exactly(2), "key zone=name:size", |b, d| {
        let key = b.template(&d.args[0])?;
        let declaration = limit_zone::declaration(d, |word| Err(invalid_parameter(word)))?;
        b.draft.limits.connections.declare(declaration, key, ())
    })
    .doc("Declares a zone that counts concurrent requests by key: its name and size.")
    .example("limit_conn_zone $binary_remote_addr zone=addr:10m;"),
    Directive::new("limit_conn", Contexts::HSL, Args::Exactly(2), "zone number", limit_conn)
        .doc("The maximum number of concurrent requests with the same key.")
        .example("limit_conn addr 10;"),
    Directive::new(
        "limit_conn_log_level",
        Contexts::HSL,
        Args::Exactly(1),
        "info | notice | warn | error",
        |b, d| {
            let level = limit_zone::log_level(d)?;
            b.write(d, |s| &mut s.limits.conn.log_level, level)
        },
    )
    .default("error")
    .doc("The level at which refused requests are logged.")
    .example("limit_conn_log_level warn;"),
    Directive::new("limit_conn_status", Contexts::HSL, Args::Exactly(1), "code", |b, d| {
        let status = limit_zone::status(b, d)?;
        b.write(d, |s| &mut s.limits.conn.status, status)
    })
    .default("503")
    .doc("The status of a refused request.")
    .example("limit_conn_status 429;"),
    Directive::flag("limit_conn_dry_run", Contexts::HSL, |b| &mut b.settings().limits.conn.dry_run)
        .default("off")
        .doc("Whether requests over the limit are only logged, not refused.")
        .example("limit_conn_dry_run on;"),
];

fn limit_conn(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let (name, count) = (&d.args[0], &d.args[1]);
    let zone = b.draft.limits.connections.number(name.str()?, name.span);
    let limits = &b.settings().limits.conn.limits;
    if limits.written() && limits.iter().any(|limit| limit.zone == zone) {
        return crate::config::once(Err(crate::setting::Duplicate), d);
    }
    let connections = match limit_zone::positive(count, count.str()?, "number of connections")? {
        connections @ ..65536 => connections as u32,
        _ => return Err(Diagnostic::error(count.span, "connection limit must be less 65536")),
    };
    b.settings().limits.conn.limits.push(Limit { zone, connections });
    Ok(())
}

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &exchange.settings(env.config).limits.conn;
    // After an internal redirect the request is counted already, or let in.
    if settings.limits.is_empty() || exchange.limits.connections.is_some() {
        return Verdict::Next;
    }
    let mut key = std::mem::take(&mut exchange.scratch);
    let verdict = count(exchange, env, settings, &mut key);
    exchange.scratch = key;
    verdict
}

fn count(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &LimitConnSettings,
    key: &mut Vec<u8>,
) -> Verdict {
    let config = env.config;
    for limit in settings.limits.iter() {
        let zone = config.limits.connections.get(limit.zone);
        if !zone.key_of(exchange, env, MAX_KEY_BYTES, key) {
            continue;
        }
        exchange.limits.connections = Some(Outcome::Passed);
        let entered = zone.lock().enter(key, limit.connections);
        match entered {
            Entered::Counted(number) => exchange.limits.seats.push(CountGuard::new(zone.state(), number)),
            Entered::TooMany => {
                let dry = if *settings.dry_run { ", dry run," } else { "" };
                let text = format!("limiting connections{dry} by zone \"{}\"", zone.name);
                log_line::error(exchange, env, *settings.log_level, text.as_bytes());
                return refuse(exchange, settings);
            }
            Entered::ZoneFull => return refuse(exchange, settings),
        }
    }
    Verdict::Next
}

const MAX_KEY_BYTES: usize = 255;

fn refuse(exchange: &mut Exchange, settings: &LimitConnSettings) -> Verdict {
    exchange.limits.seats.clear();
    limit_zone::refuse(*settings.dry_run, *settings.status, &mut exchange.limits.connections)
}

#[cfg(test)]
mod tests;
