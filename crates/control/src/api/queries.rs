//! Queries about switches: states, keys, histories, receipts.
//!
//! Owns the handlers of GET below `/v1/switches`. Must never change anything.

use super::auth::Caller;
use super::context::{Api, Tagged, TaggedEntry};
use super::error::{ApiError, QueryErrors};
use super::request::{KeyPath, PathParams, QueryParams, key, rules, timeout, until};
use super::types;
use super::view;
use crate::info::EntryQuery;
use crate::options::{CommitRef, PastMoment, Wait};
use crate::receipt::Receipt;
use crate::service::now_ms;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use engine::modules::switch::GROUPS_NAME;
use serde::Deserialize;
use std::collections::BTreeMap;
use switch::{Filter, GroupFilter};
use utoipa::IntoParams;

/// The default number of keys or commits on a page.
pub(super) const PAGE: usize = 100;
/// The maximum number of keys on a page.
const MAX_KEYS: usize = 10_000;
/// How far another machine's clock may be ahead.
const AHEAD_MS: u64 = 60_000;
/// The maximum number of commits on a page: each may have changed many keys.
const MAX_COMMITS: usize = 1_000;

/// Lists all switches
#[utoipa::path(get, path = "/v1/switches", tag = "switches",
    responses((status = 200, description = "All switches.", body = types::Switches), QueryErrors))]
pub(super) async fn switches(State(api): State<Api>) -> Result<Json<types::Switches>, ApiError> {
    let states = api.control.list().await?;
    Ok(Json(types::Switches { switches: states.into_iter().map(view::switch).collect() }))
}

/// Shows a switch
#[utoipa::path(get, path = "/v1/switches/{name}", tag = "switches",
    params(("name" = String, Path, description = "The switch's variable, without its $.")),
    responses((status = 200, description = "The switch; its revision is the ETag.", body = types::Switch,
        headers(("etag" = String, description = "The switch's revision."))), QueryErrors))]
pub(super) async fn switch(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
) -> Result<Tagged<types::Switch>, ApiError> {
    let state = api.control.show(&name).await?;
    Ok(Tagged(state.revision, view::switch(state)))
}

/// A query for keys.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct KeysQuery {
    /// Only keys that contain this.
    contains: Option<String>,
    /// Only keys that route to this target, with any weight.
    target: Option<String>,
    /// Only keys after this one: the `next` of the page before.
    after: Option<String>,
    /// The maximum number of keys: default 100, at most 10000.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
    /// Also show who set them, when and why; then at most 1000 keys.
    commits: Option<bool>,
    /// The table as it was right after this commit; 0 is before the first.
    at: Option<u64>,
    /// The table as it was at this time, in milliseconds since 1970.
    at_ms: Option<u64>,
}

/// Lists the keys that have an entry, in their order
#[utoipa::path(get, path = "/v1/switches/{name}/keys", tag = "switches",
    params(("name" = String, Path, description = "The switch."), KeysQuery),
    responses((status = 200, description = "A page of keys.", body = types::KeyPage,
        headers(("etag" = String, description = "The switch's revision."))), QueryErrors))]
pub(super) async fn keys(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    Extension(caller): Extension<Caller>,
    QueryParams(asked): QueryParams<KeysQuery>,
) -> Result<Tagged<types::KeyPage>, ApiError> {
    let KeysQuery { contains, target, after, limit, commits, at, at_ms } = asked;
    let commits = commits == Some(true);
    let max = if commits { MAX_COMMITS } else { MAX_KEYS };
    let query = EntryQuery { contains, target, after, limit: page_size(limit, max)? };
    let (found, committed_ms) = match moment(at, at_ms)? {
        Some(moment) => {
            let _call = api.control.long_call(&caller.identity)?;
            api.control.entries_at(&name, moment, query).await?
        }
        None => (api.control.entries(&name, query).await?, None),
    };
    let noted = match commits {
        true => api.control.commit_notes(&name, found.entries.iter().map(|entry| entry.revision)).await?,
        false => BTreeMap::new(),
    };
    let revision = found.revision;
    let page = view::page(name, found);
    Ok(Tagged(revision, types::KeyPage { committed_ms, commits: view::notes(noted), ..page }))
}

/// A query for a key.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct KeyQuery {
    /// The route as it was right after this commit; 0 is before the first.
    at: Option<u64>,
    /// The route as it was at this time, in milliseconds since 1970.
    at_ms: Option<u64>,
}

/// Shows the route that applies to a key
///
/// The key need not have an entry: the answer is the route that a request with this key gets. Of the past it has no hold,
/// and where no entry applied the default of today.
#[utoipa::path(get, path = "/v1/switches/{name}/keys/{key}", tag = "switches",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded; the empty one is an empty segment."), KeyQuery),
    responses((status = 200, description = "The route that applies to the key.", body = types::Key,
        headers(("etag" = String, description = "The revision of the key's own entry: `\"entry-17\"`, `\"entry-0\"` if it has none."))), QueryErrors))]
pub(super) async fn one_key(
    State(api): State<Api>,
    KeyPath(name, text): KeyPath,
    Extension(caller): Extension<Caller>,
    QueryParams(asked): QueryParams<KeyQuery>,
) -> Result<TaggedEntry<types::Key>, ApiError> {
    let mut state = api.control.show(&name).await?;
    let key = key(&state.rules, &text)?;
    if let Some(moment) = moment(asked.at, asked.at_ms)? {
        let _call = api.control.long_call(&caller.identity)?;
        let past = api.control.table_at(&name, moment).await?;
        state.holds.clear();
        let mut shown = view::key(state, &past.table, &key);
        let own = past.table.get(&key).is_some();
        if let Some(entry) = shown.entry.as_deref().filter(|_| shown.entry_revision == 0) {
            let entry = self::key(&*rules(&api.control.config(), &name)?, entry)?;
            shown.entry_revision = api.control.entry_revision(&name, entry, shown.revision).await?;
        }
        shown.committed_ms = past.time_ms;
        return Ok(TaggedEntry(if own { shown.entry_revision } else { 0 }, shown));
    }
    let table = api.control.table(&name).await?;
    let own = table.get(&key).map_or(0, |entry| entry.revision);
    Ok(TaggedEntry(own, view::key(state, &table, &key)))
}

/// A query for commits.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Only commits that changed this key.
    key: Option<String>,
    /// Only commits that changed this group or a server of it; of the switch `groups`.
    group: Option<String>,
    /// Only commits that changed this server of the group: its address, or as the configuration has it written.
    server: Option<String>,
    /// Only commits before this one: the `next` of the page before.
    before: Option<u64>,
    /// The maximum number of commits: default 100, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Also verify the whole chain of hashes.
    verify: Option<bool>,
    /// Also show the traffic that each commit has moved, as far as its receipt knows it.
    traffic: Option<bool>,
}

/// Lists the history, newest first
#[utoipa::path(get, path = "/v1/switches/{name}/history", tag = "switches",
    params(("name" = String, Path, description = "The switch."), HistoryQuery),
    responses((status = 200, description = "A page of commits.", body = types::History), QueryErrors))]
pub(super) async fn history(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    QueryParams(asked): QueryParams<HistoryQuery>,
) -> Result<Json<types::History>, ApiError> {
    let limit = page_size(asked.limit, MAX_COMMITS)?;
    let rules = rules(&api.control.config(), &name)?;
    let key = asked.key.as_deref().map(|text| key(&rules, text)).transpose()?;
    let group = group_filter(&name, asked.group.as_deref(), asked.server.as_deref())?;
    // One more than requested shows whether there are more.
    let filter = Filter { key, group, before_revision: asked.before, limit: limit + 1, ..Default::default() };
    let mut commits = api.control.history(&name, filter).await?;
    let more = commits.len() > limit;
    commits.truncate(limit);
    let next = commits.last().filter(|_| more).map(|commit| commit.revision);
    let verified = match asked.verify {
        Some(true) => Some(view::verified(api.control.verify(&name).await?)),
        _ => None,
    };
    let mut commits: Vec<types::Commit> = commits.into_iter().map(view::commit).collect();
    if asked.traffic == Some(true) {
        let revisions = commits.iter().map(|commit| commit.revision).collect();
        let moved = api.control.moved_traffic(&name, revisions).await?;
        commits.iter_mut().zip(moved).for_each(|(commit, moved)| commit.traffic = moved);
    }
    Ok(Json(types::History { switch: name, commits, next, verified }))
}

/// Returns the filter for a group or a server, if a query names one.
fn group_filter(
    switch: &str,
    group: Option<&str>,
    server: Option<&str>,
) -> Result<Option<GroupFilter>, ApiError> {
    let bad = |text: &str, remedy: &str| Err(ApiError::bad_request(text.to_owned(), remedy.to_owned()));
    match (group, server) {
        (None, None) => Ok(None),
        _ if switch != GROUPS_NAME => bad(
            "a switch has no groups and servers",
            "ask for a key, or for the history of the switch groups",
        ),
        (None, Some(_)) => bad("the server's group is missing", "send group as well"),
        (Some(group), server) => Ok(Some(GroupFilter::new(group, server))),
    }
}

/// A query for a receipt.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ReceiptQuery {
    /// Answer only once this has happened, or the timeout has passed: takes up the wait of the order again.
    wait: Option<types::Wait>,
    /// How long to wait for it; 30s if not said.
    #[param(example = "30s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
    timeout: Option<String>,
}

/// A query for a receipt whose revision is not known.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct NamedReceiptQuery {
    /// The idempotency key of the order; without it, the newest commit.
    id: Option<String>,
    /// Answer only once this has happened, or the timeout has passed: takes up the wait of the order again.
    wait: Option<types::Wait>,
    /// How long to wait for it; 30s if not said.
    #[param(example = "30s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
    timeout: Option<String>,
}

async fn awaited(
    api: &Api,
    caller: &Caller,
    name: &str,
    which: CommitRef,
    asked: ReceiptQuery,
) -> Result<Json<Receipt>, ApiError> {
    let wait = asked.wait.map_or(Wait::None, |wait| until(Some(wait)));
    let _call = (wait == Wait::Drained).then(|| api.control.long_call(&caller.identity)).transpose()?;
    Ok(Json(api.control.wait(name, which, wait, timeout(asked.timeout.as_deref())?).await?))
}

/// Shows the receipt of the newest commit, or of an order's
#[utoipa::path(get, path = "/v1/switches/{name}/receipts", tag = "switches",
    params(("name" = String, Path, description = "The switch."), NamedReceiptQuery),
    responses((status = 200, description = "The receipt, as complete as it is by now.", body = Receipt), QueryErrors))]
pub(super) async fn named_receipt(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    Extension(caller): Extension<Caller>,
    QueryParams(asked): QueryParams<NamedReceiptQuery>,
) -> Result<Json<Receipt>, ApiError> {
    let NamedReceiptQuery { id, wait, timeout } = asked;
    awaited(&api, &caller, &name, id.map_or(CommitRef::Newest, CommitRef::Id), ReceiptQuery { wait, timeout })
        .await
}

/// Shows the receipt of a commit
///
/// The receipts of the last thousand commits are kept.
#[utoipa::path(get, path = "/v1/switches/{name}/receipts/{revision}", tag = "switches",
    params(("name" = String, Path, description = "The switch."),
        ("revision" = u64, Path, description = "The commit."), ReceiptQuery),
    responses((status = 200, description = "The receipt, as complete as it is by now.", body = Receipt), QueryErrors))]
pub(super) async fn receipt(
    State(api): State<Api>,
    PathParams((name, revision)): PathParams<(String, u64)>,
    Extension(caller): Extension<Caller>,
    QueryParams(asked): QueryParams<ReceiptQuery>,
) -> Result<Json<Receipt>, ApiError> {
    awaited(&api, &caller, &name, CommitRef::Revision(revision), asked).await
}

/// Returns a backup of the whole store, with its history
///
/// The body is an SQLite file, for `pointsman restore`.
#[utoipa::path(get, path = "/v1/switches/{name}/backup", tag = "switches",
    params(("name" = String, Path, description = "The switch.")),
    responses((status = 200, description = "The file.", content_type = "application/vnd.sqlite3", body = Vec<u8>),
        QueryErrors))]
pub(super) async fn backup(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
) -> Result<Response, ApiError> {
    let file = api.control.backup(&name).await?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.sqlite3")], file).into_response())
}

/// Returns the moment that a query names, if it names one.
fn moment(at: Option<u64>, at_ms: Option<u64>) -> Result<Option<PastMoment>, ApiError> {
    let bad = |text: &str, remedy: &str| Err(ApiError::bad_request(text.to_owned(), remedy.to_owned()));
    match (at, at_ms) {
        (Some(_), Some(_)) => bad("at and at_ms exclude each other", "send one of them"),
        (_, Some(ms)) if ms > now_ms().saturating_add(AHEAD_MS) => {
            bad("at_ms is a time to come", "send a time of the past, in milliseconds since 1970")
        }
        (Some(revision), None) => Ok(Some(PastMoment::Revision(revision))),
        (None, at_ms) => Ok(at_ms.map(PastMoment::TimeMs)),
    }
}

pub(super) fn page_size(asked: Option<usize>, max: usize) -> Result<usize, ApiError> {
    match asked.unwrap_or(PAGE) {
        limit if (1..=max).contains(&limit) => Ok(limit),
        limit => Err(ApiError::bad_request(
            format!("limit {limit} is out of range"),
            format!("use 1 to {max}; `next` leads to the next page"),
        )),
    }
}
