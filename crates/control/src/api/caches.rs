//! Kept responses (`proxy_cache`): which zones there are, and purges.
//!
//! Owns the handlers below `/v1/caches`. Must never answer a purge before the files are gone.

use super::auth::Caller;
use super::context::Api;
use super::error::{ApiError, OrderErrors, QueryErrors};
use super::request::{JsonBody, PathParams};
use super::types;
use axum::extract::State;
use axum::{Extension, Json};
use engine::modules::proxy::cache::CacheZone;
use std::time::Duration;
use switch::{Code, Refusal};
use tokio::sync::mpsc;

/// A disk that has not removed the files by then is stuck.
const PURGE_TIMEOUT: Duration = Duration::from_secs(120);
/// The most keys of one purge.
const MAX_KEYS: usize = 10_000;
/// How many keys the journal names.
const NAMED_KEYS: usize = 3;

/// Lists the zones of kept responses
#[utoipa::path(get, path = "/v1/caches", tag = "caches",
    responses((status = 200, description = "All zones.", body = types::Caches), QueryErrors))]
pub(super) async fn caches(State(api): State<Api>) -> Result<Json<types::Caches>, ApiError> {
    let config = api.control.config();
    let caches = config.http.caches.iter().map(shown).collect();
    Ok(Json(types::Caches { caches }))
}

fn shown(zone: &CacheZone) -> types::Cache {
    let (bytes, entries) = zone.zone.totals();
    types::Cache {
        name: zone.name.to_string(),
        family: zone.family().to_owned(),
        path: zone.path.display().to_string(),
        entries: entries as u64,
        max_entries: zone.limits.entries as u64,
        bytes,
        max_bytes: Some(zone.limits.max_bytes).filter(|bytes| *bytes < u64::MAX),
    }
}

/// Purges kept responses
///
/// Those of the named keys, whatever their variants and whichever target of a switch they came from, or all of the zone. What
/// is being fetched meanwhile is not kept.
#[utoipa::path(post, path = "/v1/caches/{name}/purge", tag = "caches",
    params(("name" = String, Path, description = "The zone.")),
    request_body = types::PurgeOrder,
    responses((status = 200, description = "It is done.", body = types::PurgedCache), OrderErrors))]
pub(super) async fn purge(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    Extension(caller): Extension<Caller>,
    JsonBody(order): JsonBody<types::PurgeOrder>,
) -> Result<Json<types::PurgedCache>, ApiError> {
    let config = api.control.config();
    // Families of directives have zones of their own, which may have one name.
    let zones: Vec<CacheZone> =
        config.http.caches.iter().filter(|zone| *zone.name == *name).cloned().collect();
    if zones.is_empty() {
        let known: Vec<&str> = config.http.caches.iter().map(|zone| &*zone.name).collect();
        let remedy = match known.is_empty() {
            true => "there are no zones: proxy_cache_path makes them".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        return Err(ApiError(Refusal::new(Code::NotFound, format!("there is no zone \"{name}\""), remedy)));
    }
    let types::PurgeOrder { keys, all } = order;
    if all != keys.is_empty() || keys.len() > MAX_KEYS {
        let text = format!("a purge has keys, at most {MAX_KEYS} of them, or is for all");
        return Err(ApiError::bad_request(text, "send either keys or \"all\": true"));
    }
    let what = match all {
        true => "all".to_owned(),
        false => named(&keys),
    };
    let (sender, mut answers) = mpsc::unbounded_channel();
    let reply = Box::new(move |count| {
        // Fails if the caller has stopped waiting.
        let _ = sender.send(count);
    });
    let keys = (!all).then(|| keys.into_iter().map(String::into_bytes).collect());
    api.control.data_plane().purge(zones, keys, reply);
    let failed = |text: &str| ApiError(Refusal::new(Code::Internal, text, "see the error log"));
    match tokio::time::timeout(PURGE_TIMEOUT, answers.recv()).await {
        Ok(Some(responses)) => {
            api.control.note_purge(&caller.actor, &name, what, responses);
            Ok(Json(types::PurgedCache { name, responses }))
        }
        Ok(None) => Err(failed("the purge has failed")),
        Err(_) => Err(failed("the purge has not finished in time")),
    }
}

fn named(keys: &[String]) -> String {
    let mut text = keys.iter().take(NAMED_KEYS).cloned().collect::<Vec<_>>().join(", ");
    if keys.len() > NAMED_KEYS {
        text.push_str(&format!(" and {} more", keys.len() - NAMED_KEYS));
    }
    text
}
