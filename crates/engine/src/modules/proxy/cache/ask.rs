//! Whether a request looks into a zone, and under which name.

use super::{CacheRecord, CacheSettings, CacheStatus, StoredResponse, ZoneChoice};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::modules::proxy::request::append_target;
use crate::modules::proxy::{Plan, ProxySettings};
use crate::template::is_any_set;
use cache::{KeyHash, Provenance};
use http::Known;

/// Notes in `exchange.upstream.cache` what the request asks a zone for. Returns whether it is to look; there is no record if
/// nothing of it is to be kept either.
///
/// # Errors
/// The status to answer, logged in nginx's words.
pub fn ask(exchange: &mut Exchange, env: &mut Env<'_>, plan: &Plan) -> Result<bool, u16> {
    exchange.upstream.cache = None;
    let settings = &exchange.settings(env.config).proxy;
    let cache = &settings.cache;
    let method = exchange.method();
    let is_head = method == b"HEAD";
    if !(is_head || method == b"GET" || cache.methods.post && method == b"POST") {
        return Ok(false);
    }
    let Some(zone) = zone(exchange, env, cache)? else { return Ok(false) };
    let purges = env.config.http.caches.get(zone).map_or(0, |zone| zone.zone.purges());
    let mut record = Box::new(CacheRecord { zone, purges, may_store: true, ..CacheRecord::default() });
    record.fetches_with_get = is_head && *cache.convert_head;
    append_key(exchange, env, settings, plan, &mut record.key);
    record.main = KeyHash::of(&record.key);
    if *cache.follows_switches {
        record.origin = origin(exchange, env);
    }
    record.name = record.main.with_origin(&record.origin.names);
    let bypasses = is_any_set(&cache.bypass, exchange, env);
    if bypasses {
        record.status = CacheStatus::Bypass;
    }
    record.may_store &= starts_early(exchange, cache);
    exchange.upstream.cache = Some(record);
    Ok(!bypasses)
}

/// Returns the zone of a location, if it has one for this request.
fn zone(exchange: &mut Exchange, env: &mut Env<'_>, settings: &CacheSettings) -> Result<Option<usize>, u16> {
    let template = match &*settings.zone {
        ZoneChoice::Off => return Ok(None),
        ZoneChoice::Zone(number) => return Ok(Some(*number)),
        ZoneChoice::Named(template) => template,
    };
    let name = template.value(exchange, env);
    if name.is_empty() || name == b"off" {
        return Ok(None);
    }
    let kind = exchange.settings(env.config).proxy.kind;
    match env.config.http.caches.find(kind, &name) {
        Some(number) => Ok(Some(number)),
        None => {
            log_line::error(
                exchange,
                env,
                Level::Error,
                &[b"cache \"".as_slice(), &name, b"\" not found"].concat(),
            );
            Err(500)
        }
    }
}

/// Appends the key; by default the URL of the upstream with the URI as it is sent.
fn append_key(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &ProxySettings,
    plan: &Plan,
    key: &mut Vec<u8>,
) {
    match (&*settings.cache.key, &settings.pass) {
        (Some(template), _) => template.append(exchange, env, key),
        (None, Some(pass)) => {
            key.extend_from_slice(if plan.over_tls { b"https://" } else { b"http://" });
            key.extend_from_slice(&exchange.upstream.proxy_host.text);
            append_target(exchange, pass, plan, key);
        }
        (None, None) => {}
    }
}

/// Returns whether switches were asked for the request's text alone (`proxy_set_header X $live`), after it was looked for: then
/// what comes depends on a choice that tells nothing apart.
pub(super) fn has_later_choices(exchange: &Exchange, env: &Env<'_>, record: &CacheRecord) -> bool {
    let settings = &exchange.settings(env.config).proxy.cache;
    *settings.follows_switches && origin(exchange, env).names != record.origin.names
}

/// Returns what switches have chosen for the request up to here: its upstream's name may depend on each.
fn origin(exchange: &Exchange, env: &Env<'_>) -> Provenance {
    let mut origin = Provenance::default();
    for choice in exchange.switches.choices() {
        let switch = env.config.switches.get(usize::from(choice.switch));
        let name = switch.map_or(b"".as_slice(), |switch| switch.rules.name.as_bytes());
        origin.push(name, &choice.key, choice.target.as_bytes(), choice.route_revision);
    }
    origin
}

/// Returns whether the part that the request asks for begins early enough for the whole to be fetched.
fn starts_early(exchange: &Exchange, settings: &CacheSettings) -> bool {
    let range = exchange.request.head.headers.get(Known::Range);
    match (range, *settings.max_range_offset) {
        (Some(range), Some(limit)) => cache::range_begins_before(range, limit),
        _ => true,
    }
}

/// Returns whether the request's conditions and ranges are not the upstream's to judge: the whole response is wanted.
#[inline]
pub(in super::super) fn hides_conditions(exchange: &Exchange) -> bool {
    exchange.upstream.cache.as_ref().is_some_and(|record| record.may_store)
}

/// Returns whether a HEAD is sent as a GET.
pub(in super::super) fn fetches_with_get(exchange: &Exchange) -> bool {
    exchange.upstream.cache.as_ref().is_some_and(|record| record.fetches_with_get && record.may_store)
}

/// Returns the hash of the variant that the request asks for of a response, if that depends on its fields.
pub fn variant_of(exchange: &Exchange, record: &CacheRecord, stored: &StoredResponse) -> Option<KeyHash> {
    let vary = &stored.meta.vary;
    (!vary.is_empty()).then(|| cache::variant(record.name, vary, &exchange.request.head.headers))
}

/// Returns whether a response came since each switch has led to where it leads now: after a way back, what was kept before
/// the way there is not what the target answers now.
pub fn is_by_same_origin(record: &CacheRecord, stored: &StoredResponse) -> bool {
    stored.meta.origin == record.origin
}
