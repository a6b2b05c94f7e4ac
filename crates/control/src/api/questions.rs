//! Questions about switches: what there is, where keys lead, what was done.
//!
//! Owns the handlers of GET below `/v1/switches`. Must never change anything.

use super::refused::{OfQuestions, Refused};
use super::request::{Place, Question, key, rules};
use super::router::{Api, Tagged};
use super::types;
use super::view;
use crate::receipt::Receipt;
use crate::state::EntryQuery;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use switch::Filter;
use utoipa::IntoParams;

/// How many keys or commits there are on a page, if it is not said.
const PAGE: usize = 100;
/// How many keys there may be.
const MAX_KEYS: usize = 10_000;
/// How many commits there may be: each may have changed many keys.
const MAX_COMMITS: usize = 1_000;

/// All switches
#[utoipa::path(get, path = "/v1/switches", tag = "switches",
    responses((status = 200, description = "All switches.", body = types::Switches), OfQuestions))]
pub(super) async fn switches(State(api): State<Api>) -> Result<Json<types::Switches>, Refused> {
    let states = api.office.list().await?;
    Ok(Json(types::Switches { switches: states.into_iter().map(view::switch).collect() }))
}

/// One switch
#[utoipa::path(get, path = "/v1/switches/{name}", tag = "switches",
    params(("name" = String, Path, description = "The switch's variable, without its $.")),
    responses((status = 200, description = "The switch; its revision is the ETag.", body = types::Switch,
        headers(("etag" = String, description = "The switch's revision."))), OfQuestions))]
pub(super) async fn switch(
    State(api): State<Api>,
    Place(name): Place<String>,
) -> Result<Tagged<types::Switch>, Refused> {
    let state = api.office.show(&name).await?;
    Ok(Tagged(state.revision, view::switch(state)))
}

/// Which keys.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct KeysAsked {
    /// Only keys that contain this.
    contains: Option<String>,
    /// Only keys that lead there, with whatever share.
    target: Option<String>,
    /// Only keys after this one: the `next` of the page before.
    after: Option<String>,
    /// At most so many: 100 if not said, 10000 at most.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
}

/// The keys that have an entry, in their order
#[utoipa::path(get, path = "/v1/switches/{name}/keys", tag = "switches",
    params(("name" = String, Path, description = "The switch."), KeysAsked),
    responses((status = 200, description = "A page of keys.", body = types::KeyPage,
        headers(("etag" = String, description = "The switch's revision."))), OfQuestions))]
pub(super) async fn keys(
    State(api): State<Api>,
    Place(name): Place<String>,
    Question(asked): Question<KeysAsked>,
) -> Result<Tagged<types::KeyPage>, Refused> {
    let KeysAsked { contains, target, after, limit } = asked;
    let query = EntryQuery { contains, target, after, limit: page_size(limit, MAX_KEYS)? };
    let found = api.office.entries(&name, query).await?;
    Ok(Tagged(found.revision, view::page(name, found)))
}

/// Where a key leads, and why
///
/// A key need not have an entry: what a request of that key would get is told.
#[utoipa::path(get, path = "/v1/switches/{name}/keys/{key}", tag = "switches",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded.")),
    responses((status = 200, description = "What applies to the key.", body = types::Key,
        headers(("etag" = String, description = "The switch's revision."))), OfQuestions))]
pub(super) async fn one_key(
    State(api): State<Api>,
    Place((name, text)): Place<(String, String)>,
) -> Result<Tagged<types::Key>, Refused> {
    let state = api.office.show(&name).await?;
    let key = key(&state.rules, &text)?;
    let table = api.office.table(&name).await?;
    Ok(Tagged(table.revision(), view::key(state, &table, &key)))
}

/// Which commits.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryAsked {
    /// Only commits that changed this key.
    key: Option<String>,
    /// Only commits before this one: the `next` of the page before.
    before: Option<u64>,
    /// At most so many: 100 if not said, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Also check the whole chain of hashes.
    verify: Option<bool>,
}

/// What was done, the newest first
#[utoipa::path(get, path = "/v1/switches/{name}/history", tag = "switches",
    params(("name" = String, Path, description = "The switch."), HistoryAsked),
    responses((status = 200, description = "A page of commits.", body = types::History), OfQuestions))]
pub(super) async fn history(
    State(api): State<Api>,
    Place(name): Place<String>,
    Question(asked): Question<HistoryAsked>,
) -> Result<Json<types::History>, Refused> {
    let limit = page_size(asked.limit, MAX_COMMITS)?;
    let rules = rules(&api.office.config(), &name)?;
    let key = asked.key.as_deref().map(|text| key(&rules, text)).transpose()?;
    // One more than is shown tells whether there is more.
    let filter = Filter { key, before_revision: asked.before, limit: limit + 1 };
    let mut commits = api.office.history(&name, filter).await?;
    let more = commits.len() > limit;
    commits.truncate(limit);
    let next = commits.last().filter(|_| more).map(|commit| commit.revision);
    let verified = match asked.verify {
        Some(true) => Some(view::verified(api.office.verify(&name).await?)),
        _ => None,
    };
    let commits = commits.into_iter().map(view::commit).collect();
    Ok(Json(types::History { switch: name, commits, next, verified }))
}

/// What became of a commit
///
/// The receipts of the last thousand commits are kept.
#[utoipa::path(get, path = "/v1/switches/{name}/receipts/{revision}", tag = "switches",
    params(("name" = String, Path, description = "The switch."),
        ("revision" = u64, Path, description = "The commit.")),
    responses((status = 200, description = "As much as is known by now.", body = Receipt), OfQuestions))]
pub(super) async fn receipt(
    State(api): State<Api>,
    Place((name, revision)): Place<(String, u64)>,
) -> Result<Json<Receipt>, Refused> {
    Ok(Json(api.office.receipt(&name, revision).await?))
}

fn page_size(asked: Option<usize>, max: usize) -> Result<usize, Refused> {
    match asked.unwrap_or(PAGE) {
        limit if (1..=max).contains(&limit) => Ok(limit),
        limit => Err(Refused::bad_request(
            format!("limit is {limit}"),
            format!("a page has between 1 and {max}; `next` leads to more"),
        )),
    }
}
