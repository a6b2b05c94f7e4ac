//! The query for what differs between two tables of a switch.
//!
//! Owns its paging. Must never change anything.

use super::auth::Caller;
use super::context::Api;
use super::error::{ApiError, QueryErrors};
use super::queries::page_size;
use super::request::{PathParams, QueryParams};
use super::types;
use super::view;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

/// The default number of keys on a page, and the maximum.
const KEYS: (usize, usize) = (1_000, 10_000);
/// A query for what differs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DiffQuery {
    /// The revision of the one table: default 0, before the first commit.
    from: Option<u64>,
    /// The revision of the other table: default the present one.
    to: Option<u64>,
    /// Only keys after this one: the `next` of the page before.
    after: Option<String>,
    /// The maximum number of keys: default 1000, at most 10000.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
}

/// Shows what differs between the tables of two revisions
#[utoipa::path(get, path = "/v1/switches/{name}/diff", tag = "switches",
    params(("name" = String, Path, description = "The switch."), DiffQuery),
    responses((status = 200, description = "The keys whose routes differ, in their order.", body = types::Diff),
        QueryErrors))]
pub(super) async fn diff(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    Extension(caller): Extension<Caller>,
    QueryParams(asked): QueryParams<DiffQuery>,
) -> Result<Json<types::Diff>, ApiError> {
    let limit = page_size(asked.limit.or(Some(KEYS.0)), KEYS.1)?;
    let from = asked.from.unwrap_or(0);
    let to = match asked.to {
        Some(revision) => revision,
        None => api.control.table(&name).await?.revision(),
    };
    let _call = api.control.long_call(&caller.identity)?;
    let found = api.control.diff(&name, from, to).await?;
    Ok(Json(view::diff(name, (from, to), found, asked.after.as_deref(), limit)))
}
