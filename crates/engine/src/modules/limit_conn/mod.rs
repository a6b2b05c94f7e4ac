//! `limit_conn`: how many requests with the same key may be under way at once (ngx_http_limit_conn_module).
//!
//! Owns the counts and the [`Seat`] by which a request is counted: it lies in the exchange and gives its place back
//! when it is dropped, however the request ends.

use super::Module;
use super::limit_zone::{self, Room, State};
use crate::config::{Builder, invalid_parameter};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{Phase, Verdict};
use crate::setting::settings;
use conf::Diagnostic;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What became of a request: `$limit_conn_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was counted.
    Passed,
    /// It was refused.
    Rejected,
    /// It would have been refused.
    RejectedDryRun,
}

impl Outcome {
    /// nginx's word for it.
    pub fn word(self) -> &'static [u8] {
        match self {
            Outcome::Passed => b"PASSED",
            Outcome::Rejected => b"REJECTED",
            Outcome::RejectedDryRun => b"REJECTED_DRY_RUN",
        }
    }
}

/// One `limit_conn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The zone's number.
    pub zone: usize,
    /// How many.
    pub connections: u32,
}

settings! {
    /// What is set at one level.
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
pub static MODULE: Module =
    Module { handlers: &[(Phase::PreAccess, handle)], ..Module::new("limit_conn", &[DIRECTIVES]) };

const DIRECTIVES: &[Directive] = &[
    Directive::new("limit_conn_zone", Contexts::HTTP, Args::Exactly(2), "key zone=name:size", |b, d| {
        let key = b.template(&d.args[0])?;
        let declaration = limit_zone::declaration(d, |word| Err(invalid_parameter(word)))?;
        b.draft.limits.connections.declare(declaration, key, ())
    })
    .doc("Declares a zone that counts requests under way by a key: its name and size.")
    .example("limit_conn_zone $binary_remote_addr zone=addr:10m;"),
    Directive::new("limit_conn", Contexts::HSL, Args::Exactly(2), "zone number", limit_conn)
        .doc("How many requests with the same key of a zone may be under way at once.")
        .example("limit_conn addr 10;"),
    Directive::new(
        "limit_conn_log_level",
        Contexts::HSL,
        Args::Exactly(1),
        "info | notice | warn | error",
        |b, d| {
            let level = limit_zone::log_level(d)?;
            b.write(d, |s| &mut s.limit_conn.log_level, level)
        },
    )
    .default("error")
    .doc("The level at which refused requests are logged.")
    .example("limit_conn_log_level warn;"),
    Directive::new("limit_conn_status", Contexts::HSL, Args::Exactly(1), "code", |b, d| {
        let status = limit_zone::status(b, d)?;
        b.write(d, |s| &mut s.limit_conn.status, status)
    })
    .default("503")
    .doc("The status of a refused request.")
    .example("limit_conn_status 429;"),
    Directive::flag("limit_conn_dry_run", Contexts::HSL, |b| &mut b.settings().limit_conn.dry_run)
        .default("off")
        .doc("Whether requests are only counted and logged, and none is refused.")
        .example("limit_conn_dry_run on;"),
];

fn limit_conn(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let (name, count) = (&d.args[0], &d.args[1]);
    let zone = b.draft.limits.connections.number(name.str()?, name.span);
    let limits = &b.settings().limit_conn.limits;
    if limits.written() && limits.iter().any(|limit| limit.zone == zone) {
        return crate::config::once(Err(crate::setting::Duplicate), d);
    }
    let connections = match limit_zone::positive(count, count.str()?, "number of connections")? {
        connections @ ..65536 => connections as u32,
        _ => return Err(Diagnostic::error(count.span, "connection limit must be less 65536")),
    };
    b.settings().limit_conn.limits.push(Limit { zone, connections });
    Ok(())
}

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &env.config.location(exchange.route.location).settings.limit_conn;
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
        zone.key_of(exchange, env, key);
        if key.is_empty() {
            continue;
        }
        if key.len() > MAX_KEY_BYTES {
            let words: [&[u8]; 5] = [
                b"the value of the \"",
                zone.key_text.as_bytes(),
                b"\" key is more than 255 bytes: \"",
                key,
                b"\"",
            ];
            log_line::error(exchange, env, Level::Error, &words.concat());
            continue;
        }
        exchange.limits.connections = Some(Outcome::Passed);
        let entered = zone.lock().enter(key, limit.connections);
        match entered {
            Entered::Seat(number) => exchange.limits.seats.push(Seat { counts: zone.state(), number }),
            Entered::TooMany => {
                let dry = if *settings.dry_run { ", dry run," } else { "" };
                let text = format!("limiting connections{dry} by zone \"{}\"", zone.name);
                log_line::error(exchange, env, *settings.log_level, text.as_bytes());
                return refuse(exchange, settings);
            }
            Entered::NoRoom => return refuse(exchange, settings),
        }
    }
    Verdict::Next
}

const MAX_KEY_BYTES: usize = 255;

fn refuse(exchange: &mut Exchange, settings: &LimitConnSettings) -> Verdict {
    exchange.limits.seats.clear();
    if *settings.dry_run {
        exchange.limits.connections = Some(Outcome::RejectedDryRun);
        return Verdict::Next;
    }
    exchange.limits.connections = Some(Outcome::Rejected);
    Verdict::Refuse(*settings.status)
}

/// One request's place in a zone's count; dropping it gives the place back.
#[derive(Debug)]
pub struct Seat {
    counts: Arc<Mutex<Counts>>,
    number: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).leave(self.number);
    }
}

/// The counts of one zone.
#[derive(Debug)]
pub struct Counts {
    numbers: HashMap<Arc<[u8]>, u32>,
    counts: Vec<(Arc<[u8]>, u32)>,
    free: Vec<u32>,
    room: Room,
}

/// What became of a request that wants to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is, under this number.
    Seat(u32),
    /// There are as many as there may be.
    TooMany,
    /// The zone is full.
    NoRoom,
}

/// The bytes of nginx's record beside the key: it decides how many fit in a zone.
const RECORD_BYTES: usize = 36;

impl State for Counts {
    const DIRECTIVE: &'static str = "limit_conn_zone";
    const WORD: &'static str = "limit_conn_zone";

    fn new(size: u64) -> Counts {
        Counts { numbers: HashMap::new(), counts: Vec::new(), free: Vec::new(), room: Room::new(size) }
    }
}

impl Counts {
    /// Counts one more request with this key, if there are fewer than the limit.
    pub fn enter(&mut self, key: &[u8], limit: u32) -> Entered {
        if let Some(number) = self.numbers.get(key) {
            let (_, count) = &mut self.counts[*number as usize];
            if *count >= limit {
                return Entered::TooMany;
            }
            *count += 1;
            return Entered::Seat(*number);
        }
        if !self.room.take(RECORD_BYTES + key.len()) {
            return Entered::NoRoom;
        }
        let key: Arc<[u8]> = key.into();
        let number = self.free.pop().unwrap_or_else(|| {
            self.counts.push((Arc::default(), 0));
            (self.counts.len() - 1) as u32
        });
        self.counts[number as usize] = (Arc::clone(&key), 1);
        self.numbers.insert(key, number);
        Entered::Seat(number)
    }

    fn leave(&mut self, number: u32) {
        let (key, count) = &mut self.counts[number as usize];
        *count -= 1;
        if *count == 0 {
            let key = std::mem::take(key);
            self.room.give(RECORD_BYTES + key.len());
            self.numbers.remove(&key);
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests;
