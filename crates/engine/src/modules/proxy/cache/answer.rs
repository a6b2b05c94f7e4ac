//! What a response's head means for keeping it, and for what the client gets of it.

use super::ask::has_later_choices;
use super::record::head_text;
use super::{CacheRecord, CacheStatus, StoredResponse};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::modules::proxy::ProxySettings;
use crate::template::is_any_set;
use cache::{Freshness, Provenance, StoredMeta, Times, variant};
use http::{Headers, Known, ResponseHead};
use upstream::retry::{NextUpstream, TryFailure};

/// Where a head that is accepted comes from, and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Caching {
    /// From an upstream, to the client alone.
    None,
    /// From an upstream, and it may be kept.
    Storing,
    /// It was kept.
    Kept,
}

/// Looks at an upstream's fields: may the response be kept? They are in `exchange.upstream.headers` already.
pub(in super::super) fn heed(
    exchange: &mut Exchange,
    env: &Env<'_>,
    settings: &ProxySettings,
    head: &ResponseHead,
) -> Caching {
    let Some(mut record) = exchange.upstream.cache.take() else { return Caching::None };
    let caching = match (record.status.is_kept(), record.may_store) {
        (true, _) => Caching::Kept,
        (false, false) => Caching::None,
        (false, true) => {
            let read = freshness(&exchange.upstream.headers, env, settings);
            record.may_store =
                read.may_store && head.status != 101 && !has_later_choices(exchange, env, &record);
            record.head = head_text(head.status_line(), &exchange.upstream.headers);
            record.freshness = Some(read);
            if record.may_store { Caching::Storing } else { Caching::None }
        }
    };
    exchange.upstream.cache = Some(record);
    caching
}

fn freshness(headers: &Headers, env: &Env<'_>, settings: &ProxySettings) -> Freshness {
    Freshness::of(headers, |known| settings.response.ignore.has(known), env.host.now().epoch_s())
}

/// Returns what is kept beside the body of the response whose head was accepted, if it is kept. `is_buffered` says that it
/// is passed on with buffering: another one is not kept, as in nginx.
pub fn begin_store(exchange: &mut Exchange, env: &mut Env<'_>, is_buffered: bool) -> Option<StoredMeta> {
    if !exchange.upstream.cache.as_ref()?.is_storing() {
        return None;
    }
    let cache = &exchange.settings(env.config).proxy.cache;
    let is_unwanted = !is_buffered || is_any_set(&cache.no_cache, exchange, env);
    let now_s = env.host.now().epoch_s();
    let is_head = exchange.is_head();
    let mut record = exchange.upstream.cache.take()?;
    let read = record.freshness.take().filter(|_| !is_unwanted);
    let status = exchange.upstream.tries.last().map_or(exchange.response.status, |one| one.status);
    let stored = read.and_then(|read| {
        let valid_until_s = match read.valid_until_s {
            0 => Some(cache.valid_s(status)).filter(|valid| *valid > 0)?.saturating_add(now_s),
            until_s => until_s,
        };
        let headers = &exchange.upstream.headers;
        let has_validators = matches!(status, 200 | 206);
        let modified = headers.get(Known::LastModified).filter(|_| has_validators);
        let etag = headers.get(Known::ETag).filter(|_| has_validators);
        let Freshness { vary, stale_updating_s, stale_error_s, .. } = read;
        let CacheRecord { key, name, origin, head, fetches_with_get, .. } = &mut *record;
        Some(StoredMeta {
            key: key.clone(),
            origin: Provenance::clone(origin),
            variant: variant(*name, &vary, &exchange.request.head.headers),
            vary,
            etag: etag.unwrap_or_default().to_vec(),
            last_modified_s: modified.and_then(http::date::parse_http_date),
            head: std::mem::take(head),
            times: Times { date_s: now_s, valid_until_s, stale_updating_s, stale_error_s },
            is_bodiless: is_head && !*fetches_with_get,
            ..StoredMeta::default()
        })
    });
    if stored.is_none() {
        record.may_store = false;
        record.used = None;
    }
    exchange.upstream.cache = Some(record);
    stored
}

/// Returns the times of a kept response which the upstream's answer (304) says is still good; `None` leaves them as they are.
pub fn revalidated(
    exchange: &Exchange,
    env: &Env<'_>,
    answer: &ResponseHead,
    stored: &StoredResponse,
    kept: &Headers,
    status: u16,
) -> Option<Times> {
    let settings = &exchange.settings(env.config).proxy;
    let now_s = env.host.now().epoch_s();
    let mut read = freshness(&answer.headers, env, settings);
    if read.valid_until_s == 0 {
        read = freshness(kept, env, settings);
    }
    let valid_until_s = match read.valid_until_s {
        0 => Some(settings.cache.valid_s(status)).filter(|valid| *valid > 0)?.saturating_add(now_s),
        until_s => until_s,
    };
    let Freshness { stale_updating_s, stale_error_s, .. } = read;
    let times = Times { date_s: now_s, valid_until_s, stale_updating_s, stale_error_s };
    (times != stored.meta.times).then_some(times)
}

/// Returns whether what is kept is served because fetching it has failed like this, although it is too old.
pub fn may_serve_stale(exchange: &Exchange, env: &Env<'_>, failure: TryFailure, by_answer: bool) -> bool {
    let Some(record) = exchange.upstream.cache.as_ref() else { return false };
    let Some(stale) = record.stale.as_ref().filter(|_| record.status == CacheStatus::Expired) else {
        return false;
    };
    let wanted = *exchange.settings(env.config).proxy.cache.use_stale;
    let word = match failure {
        TryFailure::Error | TryFailure::NoLive => NextUpstream::ERROR,
        TryFailure::Timeout => NextUpstream::TIMEOUT,
        TryFailure::InvalidHeader => NextUpstream::INVALID_HEADER,
        TryFailure::Http500 => NextUpstream::HTTP_500,
        TryFailure::Http502 => NextUpstream::HTTP_502,
        TryFailure::Http503 => NextUpstream::HTTP_503,
        TryFailure::Http504 => NextUpstream::HTTP_504,
        TryFailure::Http403 => NextUpstream::HTTP_403,
        TryFailure::Http404 => NextUpstream::HTTP_404,
        TryFailure::Http429 => NextUpstream::HTTP_429,
    };
    let times = &stale.meta.times;
    let until_s = times.valid_until_s.saturating_add(times.stale_error_s);
    wanted.contains(word) || !by_answer && until_s >= env.host.now().epoch_s()
}

/// Returns until when a failure of this status stands in for a response (`proxy_cache_valid 502`).
pub fn failure_until(exchange: &Exchange, env: &Env<'_>, status: u16) -> Option<u64> {
    let record = exchange.upstream.cache.as_ref().filter(|record| record.is_storing())?;
    let said_s = record.freshness.as_ref().map_or(0, |read| read.valid_until_s);
    if said_s > 0 {
        return Some(said_s);
    }
    let cache = &exchange.settings(env.config).proxy.cache;
    let valid_s = cache.valid_s(status);
    (valid_s > 0).then(|| env.host.now().epoch_s().saturating_add(valid_s))
}
