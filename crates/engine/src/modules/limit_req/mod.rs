//! `limit_req`: how many requests a second there may be with the same key, by the leaky bucket
//! (ngx_http_limit_req_module).
//!
//! Owns what is refused and what is delayed, nginx's to the millisecond. The arithmetic is [`buckets`]'; a bucket is
//! never left held beyond one call of the handler.

pub(crate) mod buckets;

use super::Module;
use super::limit_zone::{self, Outcome, Zones};
use crate::config::{Builder, Config, invalid_parameter};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{Effect, Phase, Verdict};
use crate::setting::settings;
use buckets::{Buckets, Looked, Rate};
use conf::Diagnostic;

/// One `limit_req`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The zone's number.
    pub zone: usize,
    /// The most excess, in thousandths of a request.
    pub burst: u64,
    /// The excess from which requests wait, in thousandths of a request.
    pub delay: u64,
}

settings! {
    /// Settings of one level.
    pub struct LimitReqSettings {
        /// `limit_req`, in order.
        pub limits: Vec<Limit> = Vec::new(),
        /// `limit_req_log_level`: the level of refusals; delays are one level less severe.
        pub log_level: Level = Level::Error,
        /// `limit_req_status`.
        pub status: u16 = 503,
        /// `limit_req_dry_run`: count and log, but let pass.
        pub dry_run: bool = false,
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::PreAccess, handle)],
    finish: Some(limit_zone::check),
    is_needed: Some(|_, settings| !settings.limits.req.limits.is_empty()),
    ..Module::new("limit_req", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "limit_req_zone",
        Contexts::HTTP,
        Args::Exactly(3),
        "key zone=name:size rate=rate",
        limit_req_zone,
    )
    .doc(
        "Declares a zone that limits the rate of requests by key: its name and size, and the allowed rate (r/s, \
         r/m).",
    )
    .example("limit_req_zone $binary_remote_addr zone=one:10m rate=1r/s;"),
    Directive::new(
        "limit_req",
        Contexts::HSL,
        Args::Between(1, 3),
        "zone=name [burst=number] [nodelay | delay=number]",
        limit_req,
    )
    .doc(
        "Limits the rate of requests by a zone: up to burst= requests over the rate are delayed; with delay=N the \
         first N are not, with nodelay none is.",
    )
    .example("limit_req zone=one burst=5 nodelay;"),
    Directive::new(
        "limit_req_log_level",
        Contexts::HSL,
        Args::Exactly(1),
        "info | notice | warn | error",
        |b, d| {
            let level = limit_zone::log_level(d)?;
            b.write(d, |s| &mut s.limits.req.log_level, level)
        },
    )
    .default("error")
    .doc(
        "The level at which refused requests are logged; delayed ones are logged one level lower.",
    )
    .example("limit_req_log_level warn;"),
    Directive::new("limit_req_status", Contexts::HSL, Args::Exactly(1), "code", |b, d| {
        let status = limit_zone::status(b, d)?;
        b.write(d, |s| &mut s.limits.req.status, status)
    })
    .default("503")
    .doc("The status of a refused request.")
    .example("limit_req_status 429;"),
    Directive::flag("limit_req_dry_run", Contexts::HSL, |b| &mut b.settings().limits.req.dry_run)
        .default("off")
        .doc("Whether requests over the limit are only logged, neither refused nor delayed.")
        .example("limit_req_dry_run on;"),
];

fn limit_req_zone(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let key = b.template(&d.args[0])?;
    let mut rate = Rate(1000);
    let declaration = limit_zone::declaration(d, |word| {
        let Some(text) = word.str()?.strip_prefix("rate=") else { return Err(invalid_parameter(word)) };
        let (digits, scale) = match (text.strip_suffix("r/s"), text.strip_suffix("r/m")) {
            (Some(digits), _) => (digits, 1),
            (None, Some(digits)) => (digits, 60),
            (None, None) => (text, 1),
        };
        let number = limit_zone::positive(word, digits, "rate").map_err(|fault| {
            fault.help("a number of requests a second or a minute: rate=10r/s, rate=30r/m")
        })?;
        rate = Rate(number.saturating_mul(1000) / scale);
        Ok(())
    })?;
    b.draft.limits.requests.declare(declaration, key, rate)
}

fn limit_req(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let (mut zone, mut burst, mut delay) = (None, 0, 0);
    for word in &d.args {
        let text = word.str()?;
        if let Some(name) = text.strip_prefix("zone=") {
            zone = Some(b.draft.limits.requests.number(name, word.span));
        } else if let Some(digits) = text.strip_prefix("burst=") {
            burst = limit_zone::positive(word, digits, "burst value")?;
        } else if let Some(digits) = text.strip_prefix("delay=") {
            delay = limit_zone::positive(word, digits, "delay value")?;
        } else if text == "nodelay" {
            delay = u64::MAX;
        } else {
            return Err(invalid_parameter(word));
        }
    }
    let Some(zone) = zone else { return Err(limit_zone::without_zone(d)) };
    let limits = &mut b.settings().limits.req.limits;
    if limits.written() && limits.iter().any(|limit| limit.zone == zone) {
        return crate::config::once(Err(crate::setting::Duplicate), d);
    }
    limits.push(Limit { zone, burst: burst.saturating_mul(1000), delay: delay.saturating_mul(1000) });
    Ok(())
}

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if exchange.limits.requests.is_some() {
        // Judged before: this is the end of its wait, or the place where an internal redirect came to.
        exchange.route.wake = None;
        return Verdict::Next;
    }
    let config = env.config;
    let settings = &exchange.settings(config).limits.req;
    if settings.limits.is_empty() {
        return Verdict::Next;
    }
    let mut key = std::mem::take(&mut exchange.scratch);
    let mut held = Vec::new();
    let looked = look(exchange, env, &settings.limits, &mut key, &mut held);
    exchange.scratch = key;
    let Some((last, looked)) = looked else { return Verdict::Next };
    let zones = &config.limits.requests;
    let excess = match looked {
        Looked::Held(_) => 0,
        Looked::Accounted(excess) => excess,
        Looked::TooMany(excess) => {
            log(
                exchange,
                env,
                *settings.log_level,
                "limiting requests",
                excess,
                " by zone",
                &zones.get(last).name,
            );
            release(zones, &settings.limits, &held);
            return limit_zone::refuse(*settings.dry_run, *settings.status, &mut exchange.limits.requests);
        }
        Looked::ZoneFull => {
            let text = format!("could not allocate node in limit_req zone \"{}\"", zones.get(last).name);
            log_line::worker_error(env, Level::Alert, text.as_bytes());
            release(zones, &settings.limits, &held);
            return limit_zone::refuse(*settings.dry_run, *settings.status, &mut exchange.limits.requests);
        }
    };
    let now_ms = env.host.now().monotonic_ms() as i64;
    let wait = account(config, &settings.limits, &held, (last, excess), now_ms);
    if wait.ms == 0 {
        exchange.limits.requests = Some(Outcome::Passed);
        return Verdict::Next;
    }
    let level = match *settings.log_level {
        Level::Error => Level::Warn,
        Level::Warn => Level::Notice,
        _ => Level::Info,
    };
    log(exchange, env, level, "delaying request", wait.excess, ", by zone", &zones.get(wait.zone).name);
    if *settings.dry_run {
        exchange.limits.requests = Some(Outcome::DelayedDryRun);
        return Verdict::Next;
    }
    exchange.limits.requests = Some(Outcome::Delayed);
    Verdict::Wait(Effect::Hold(wait.ms))
}

/// Looks the request up in one zone after another. The last is accounted for at once; in the others it holds its
/// bucket until it is known that none refuses it. `None` if no key has a value.
fn look(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    limits: &[Limit],
    key: &mut Vec<u8>,
    held: &mut Vec<(usize, u32)>,
) -> Option<(usize, Looked)> {
    let config = env.config;
    let mut looked = None;
    for (number, limit) in limits.iter().enumerate() {
        let zone = config.limits.requests.get(limit.zone);
        if !zone.key_of(exchange, env, MAX_KEY_BYTES, key) {
            continue;
        }
        let now_ms = env.host.now().monotonic_ms() as i64;
        let outcome = zone.lock().look(key, now_ms, zone.terms, limit.burst, number + 1 == limits.len());
        looked = Some((limit.zone, outcome));
        match outcome {
            Looked::Held(bucket) => held.push((number, bucket)),
            _ => break,
        }
    }
    looked
}

const MAX_KEY_BYTES: usize = 65535;

#[cold]
fn log(
    exchange: &Exchange,
    env: &mut Env<'_>,
    level: Level,
    what: &str,
    excess: u64,
    by_zone: &str,
    zone: &str,
) {
    if !log_line::enabled(exchange, env.config, level) {
        return;
    }
    let dry = *exchange.settings(env.config).limits.req.dry_run;
    let dry = if dry { ", dry run" } else { "" };
    let (whole, rest) = (excess / 1000, excess % 1000);
    // nginx has a comma before "by zone" where it delays, and none where it refuses.
    let text = format!("{what}{dry}, excess: {whole}.{rest:03}{by_zone} \"{zone}\"");
    log_line::error(exchange, env, level, text.as_bytes());
}

fn release(zones: &Zones<Buckets, Rate>, limits: &[Limit], held: &[(usize, u32)]) {
    for (number, bucket) in held {
        zones.get(limits[*number].zone).lock().release(*bucket);
    }
}

/// The delay of a request, and the zone that demands it.
struct Wait {
    ms: u64,
    excess: u64,
    zone: usize,
}

/// Enters the request in the buckets it holds. The longest wait counts.
fn account(
    config: &Config,
    limits: &[Limit],
    held: &[(usize, u32)],
    (last, excess): (usize, u64),
    now_ms: i64,
) -> Wait {
    let zones = &config.limits.requests;
    let wait_ms = |excess: u64, delay: u64, rate: Rate| excess.saturating_sub(delay) * 1000 / rate.0.max(1);
    let delay = limits.iter().find(|limit| limit.zone == last).map_or(0, |limit| limit.delay);
    let mut wait = Wait { ms: wait_ms(excess, delay, zones.get(last).terms), excess, zone: last };
    for (number, bucket) in held.iter().rev() {
        let limit = &limits[*number];
        let zone = zones.get(limit.zone);
        let excess = zone.lock().account(*bucket, now_ms, zone.terms);
        let ms = wait_ms(excess, limit.delay, zone.terms);
        if ms > wait.ms {
            wait = Wait { ms, excess, zone: limit.zone };
        }
    }
    wait
}

#[cfg(test)]
mod tests;
