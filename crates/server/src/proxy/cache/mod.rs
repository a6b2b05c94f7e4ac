//! Kept responses (`proxy_cache`): a request is served from a zone's file, or what it fetches is kept there.
//!
//! Owns the order of the steps: [`look_up`] before a peer is picked, [`instead`] when a response's head has come,
//! [`after_failure`] when none has. What each means is the engine's (`modules/proxy/cache/`); what a zone knows is the crate
//! `cache`'s. Files are read and written in the pieces in which bodies pass, as static and temporary files are.

pub(crate) mod files;
pub(super) mod storing;

use crate::request::cx::RequestCx;
use crate::request::respond::Unfinished;
use cache::{KeyHash, ZoneLookup, ZoneQuery, ZoneUse};
use engine::host::Level;
use engine::modules::proxy::cache::{self as kept, CacheRecord, CacheStatus, StoredResponse};
use engine::modules::proxy::{self, Disposition, Plan};
use engine::phase;
use files::Unusable;
use http::{Progress, ResponseHead};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use upstream::retry::{NextUpstream, TryFailure};

/// How long a request waits at a time for another one that fetches the same, in ms: the lock may get too old meanwhile.
const LOCK_LOOK_MS: u64 = 500;

/// What is there for a request.
enum Look {
    /// This, open, and the entry.
    There(Box<StoredResponse>, ZoneUse),
    /// Nothing that counts.
    Absent {
        used: ZoneUse,
        /// It came by another way.
        switched: bool,
    },
    /// Nothing, and nothing is kept.
    Uncached,
    /// This status stands in for it.
    Failed(u16),
}

/// Serves the request from its zone, if that has what it asks for. Returns true if it has.
pub(super) async fn look_up(cx: &mut RequestCx<'_>, plan: &Plan) -> Result<bool, Unfinished> {
    if let Some(record) = &mut cx.exchange.upstream.cache
        && std::mem::take(&mut record.is_background)
    {
        return Ok(false);
    }
    let looks = cx.engine(|exchange, env| kept::ask(exchange, env, plan)).map_err(Unfinished::Status)?;
    if !looks {
        return Ok(false);
    }
    let Some(stored) = find(cx).await? else { return Ok(false) };
    serve(cx, plan, *stored).await.map(|()| true)
}

/// Ends what a request has to do with its zone.
pub(super) fn end(cx: &mut RequestCx<'_>) {
    if let Some(record) = &mut cx.exchange.upstream.cache {
        record.used = None;
    }
}

fn record<'c>(cx: &'c mut RequestCx<'_>) -> Result<&'c mut CacheRecord, Unfinished> {
    cx.exchange.upstream.cache.as_deref_mut().ok_or(Unfinished::Status(500))
}

/// Looks for the response, and waits if another request fetches it. `None`: it is to be fetched.
async fn find(cx: &mut RequestCx<'_>) -> Result<Option<Box<StoredResponse>>, Unfinished> {
    let mut wait_until_ms = None;
    loop {
        match look(cx)? {
            Look::Failed(status) => {
                record(cx)?.status = CacheStatus::Hit;
                return Err(Unfinished::Status(status));
            }
            Look::Uncached => {
                record(cx)?.may_store = false;
                return Ok(None);
            }
            Look::There(stored, used) => return serve_or_update(cx, stored, used),
            Look::Absent { used, switched } => {
                let settings = &cx.settings().proxy.cache;
                let (locks, age_ms) = (*settings.lock, *settings.lock_age_ms);
                let timeout_ms = *settings.lock_timeout_ms;
                let now_ms = cx.client.thread.clock.now().monotonic_ms();
                let record = record(cx)?;
                if switched {
                    record.status = CacheStatus::Switched;
                }
                if used.is_scarce() {
                    record.may_store = false;
                    return Ok(None);
                }
                let mut used = used;
                // After a move all keys are fetched anew: the new side gets each once.
                if !(locks || switched) || used.try_lock(now_ms, age_ms) {
                    record.used = Some(used);
                    return Ok(None);
                }
                let until_ms = *wait_until_ms.get_or_insert(now_ms.saturating_add(timeout_ms));
                if !wait(cx, &used, until_ms).await? {
                    self::record(cx)?.may_store = false;
                    return Ok(None);
                }
            }
        }
    }
}

/// Waits until another request has fetched the response, or for too long, which is false.
async fn wait(cx: &mut RequestCx<'_>, used: &ZoneUse, until_ms: u64) -> Result<bool, Unfinished> {
    let mut watch = !*cx.settings().proxy.connection.ignore_client_abort;
    loop {
        let now_ms = cx.client.thread.clock.now().monotonic_ms();
        if now_ms >= until_ms {
            cx.log(Level::Info, "cache lock timeout");
            return Ok(false);
        }
        let client = &mut *cx.client;
        client.timeout.start(LOCK_LOOK_MS.min(until_ms - now_ms));
        let is_free = poll_fn(|task| {
            let now_ms = client.thread.clock.now().monotonic_ms();
            if used.poll_free(now_ms, task.waker()) {
                return Poll::Ready(Some(true));
            }
            if watch {
                match client.stream.poll_closed(task) {
                    Poll::Ready(true) => return Poll::Ready(None),
                    Poll::Ready(false) => watch = false,
                    Poll::Pending => {}
                }
            }
            client.timeout.poll_elapsed(task).map(|_| Some(false))
        })
        .await;
        match is_free {
            Some(true) => return Ok(true),
            Some(false) if cx.client.conn_state.is_cut() => return Err(Unfinished::Status(499)),
            Some(false) => {}
            None => {
                cx.log(Level::Info, "client prematurely closed connection");
                return Err(Unfinished::Status(499));
            }
        }
    }
}

/// Looks into the zone, and at the file.
fn look(cx: &mut RequestCx<'_>) -> Result<Look, Unfinished> {
    let config = Arc::clone(&cx.generation.config);
    let now_s = cx.client.thread.clock.now().epoch_s();
    let min_uses = *cx.settings().proxy.cache.min_uses;
    let is_head = cx.exchange.is_head();
    let record = record(cx)?;
    let Some(zone) = config.http.caches.get(record.zone) else { return Ok(Look::Uncached) };
    let (main, mut name) = (record.main, record.name);
    let moves = record.origin.moves();
    let key = std::mem::take(&mut record.key);
    let mut unusable = None;
    let mut is_variant = false;
    let look = loop {
        let opened = zone.zone.open(ZoneQuery { name, main, moves, min_uses }, now_s);
        files::remove_excess(zone);
        let used = match opened {
            ZoneLookup::Failed(status) => break Look::Failed(status),
            ZoneLookup::Scarce | ZoneLookup::Full => break Look::Uncached,
            ZoneLookup::Known(used) => used,
        };
        let stored = match files::open(zone, name, &key) {
            Ok((stored, bytes)) => {
                used.note_present(bytes);
                stored
            }
            Err(fault) => {
                used.note_absent();
                if let Unusable::Damaged(text) = fault {
                    unusable = Some(text);
                }
                let Some(record) = &cx.exchange.upstream.cache else { break Look::Uncached };
                let switched = !is_variant && !record.origin.names.is_empty() && zone.zone.has_family(main);
                break Look::Absent { used, switched };
            }
        };
        let Some(record) = &cx.exchange.upstream.cache else { break Look::Uncached };
        if let Some(variant) = kept::variant_of(cx.exchange, record, &stored)
            && variant != stored.meta.variant
        {
            if is_variant {
                break Look::Absent { used, switched: false };
            }
            (name, is_variant) = (variant, true);
            continue;
        }
        if !kept::is_by_same_origin(record, &stored) {
            break Look::Absent { used, switched: true };
        }
        if stored.meta.is_bodiless && !is_head {
            break Look::Absent { used, switched: false };
        }
        break Look::There(Box::new(stored), used);
    };
    self::record(cx)?.key = key;
    if let Some(text) = unusable {
        cx.log(Level::Crit, text);
    }
    Ok(look)
}

/// Decides what becomes of a response that is there: it is served, or fetched anew, or both.
fn serve_or_update(
    cx: &mut RequestCx<'_>,
    stored: Box<StoredResponse>,
    mut used: ZoneUse,
) -> Result<Option<Box<StoredResponse>>, Unfinished> {
    let settings = &cx.settings().proxy.cache;
    let in_background = *settings.background_update;
    let is_allowed = settings.use_stale.contains(NextUpstream::UPDATING);
    let now_s = cx.client.thread.clock.now().epoch_s();
    let times = stored.meta.times;
    let record = record(cx)?;
    if times.valid_until_s >= now_s {
        record.status = CacheStatus::Hit;
        record.used = Some(used);
        return Ok(Some(stored));
    }
    let may_serve = is_allowed || times.valid_until_s.saturating_add(times.stale_updating_s) >= now_s;
    let updates = used.try_update();
    record.used = Some(used);
    if !updates && may_serve {
        record.status = CacheStatus::Updating;
        return Ok(Some(stored));
    }
    record.status = CacheStatus::Expired;
    record.stale = Some(StoredResponse::clone(&stored));
    if updates && may_serve && in_background {
        let update = record.for_update();
        cx.update_kept(update);
        self::record(cx)?.status = CacheStatus::Stale;
        return Ok(Some(stored));
    }
    Ok(None)
}

/// Serves a kept response: as one that comes from the upstream now, but that conditions and ranges are judged here.
async fn serve(cx: &mut RequestCx<'_>, plan: &Plan, stored: StoredResponse) -> Result<(), Unfinished> {
    let mut head = cx.client.thread.buffers.lease_head();
    let result = serve_with(cx, plan, &stored, &mut head).await;
    cx.client.thread.buffers.give_back_head(head);
    result
}

async fn serve_with(
    cx: &mut RequestCx<'_>,
    plan: &Plan,
    stored: &StoredResponse,
    head: &mut ResponseHead,
) -> Result<(), Unfinished> {
    read_head(stored, head)?;
    match cx.engine(|exchange, env| proxy::accept_head(exchange, env, plan, head)) {
        Disposition::Forward => {
            let meta = &stored.meta;
            cx.serve_file_from(std::rc::Rc::clone(&stored.file), meta.body_start(), meta.body_len).await
        }
        Disposition::InternalRedirect { uri, args } => {
            let redirected =
                cx.engine(|exchange, env| phase::redirect_internally(exchange, env, &uri, &args));
            Err(redirected.map_or_else(Unfinished::Status, |()| Unfinished::Walk))
        }
        Disposition::Error(status) => Err(Unfinished::Status(status)),
        Disposition::Upgrade => Err(Unfinished::Status(502)),
    }
}

fn read_head(stored: &StoredResponse, head: &mut ResponseHead) -> Result<(), Unfinished> {
    head.clear();
    match head.decode(&stored.meta.head, usize::MAX) {
        Ok(Progress::Complete { .. }) => Ok(()),
        _ => Err(Unfinished::Status(500)),
    }
}

/// What is served in the place of a response whose head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// The kept response, because the new one is a failure.
    Stale,
    /// The kept response, because it is still good.
    Revalidated,
}

/// Returns what is served in the place of a response with this head.
pub(super) fn instead(cx: &mut RequestCx<'_>, status: u16) -> Option<Instead> {
    let record = cx.exchange.upstream.cache.as_deref()?;
    let revalidates = record.status == CacheStatus::Expired && record.stale.is_some();
    if status == 304 && revalidates && *cx.settings().proxy.cache.revalidate {
        return Some(Instead::Revalidated);
    }
    let failure = TryFailure::from_status(status)?;
    let is_stale = cx.engine(|exchange, env| kept::may_serve_stale(exchange, env, failure, true));
    is_stale.then_some(Instead::Stale)
}

/// Serves that.
pub(super) async fn serve_instead(
    cx: &mut RequestCx<'_>,
    plan: &Plan,
    instead: Instead,
    answer: &ResponseHead,
) -> Result<(), Unfinished> {
    let Some(mut stored) = record(cx)?.stale.clone() else { return Err(Unfinished::Status(500)) };
    if instead == Instead::Stale {
        record(cx)?.status = CacheStatus::Stale;
        return serve(cx, plan, stored).await;
    }
    let mut head = cx.client.thread.buffers.lease_head();
    read_head(&stored, &mut head)?;
    let times = cx.engine(|exchange, env| {
        kept::revalidated(exchange, env, answer, &stored, &head.headers, head.status)
    });
    cx.client.thread.buffers.give_back_head(head);
    let record = record(cx)?;
    record.status = CacheStatus::Revalidated;
    let name = record.used.as_ref().map(ZoneUse::name);
    if let Some(times) = times {
        stored.meta.times = times;
        let config = Arc::clone(&cx.generation.config);
        let zone = config.http.caches.get(self::record(cx)?.zone);
        if let (Some(zone), Some(name)) = (zone, name)
            && let Err(error) = files::rewrite(zone, name, &stored)
        {
            cx.log(Level::Crit, format!("a revalidated response cannot be kept for longer: {error}"));
        }
    }
    if let Some(used) = &mut self::record(cx)?.used {
        used.unlock();
    }
    serve(cx, plan, stored).await
}

/// Decides what follows when no peer has given a response: what is kept may be served although it is too old, and a failure
/// may be kept.
pub(super) async fn after_failure(
    cx: &mut RequestCx<'_>,
    plan: &Plan,
    failure: Option<TryFailure>,
    status: u16,
) -> Result<(), Unfinished> {
    let Some(failure) = failure else { return Err(Unfinished::Status(status)) };
    if cx.engine(|exchange, env| kept::may_serve_stale(exchange, env, failure, false))
        && let Some(stored) = record(cx)?.stale.clone()
    {
        record(cx)?.status = CacheStatus::Stale;
        return serve(cx, plan, stored).await;
    }
    if matches!(status, 502 | 504) {
        keep_failure(cx, status);
    }
    Err(Unfinished::Status(status))
}

/// Keeps a failure in place of the response for as long as `proxy_cache_valid` says.
pub(super) fn keep_failure(cx: &mut RequestCx<'_>, status: u16) {
    let until_s = cx.engine(|exchange, env| kept::failure_until(exchange, env, status));
    if let (Some(until_s), Some(record)) = (until_s, &mut cx.exchange.upstream.cache)
        && let Some(used) = &mut record.used
    {
        used.note_failure(status, until_s, record.origin.moves());
    }
}

/// Returns the name under which a response is kept: that of its variant where the request has looked for that.
fn name_for(record: &CacheRecord, meta: &cache::StoredMeta) -> KeyHash {
    let used = record.used.as_ref().map(ZoneUse::name);
    match used {
        Some(name) if !meta.vary.is_empty() && name == meta.variant => name,
        _ => record.name,
    }
}
