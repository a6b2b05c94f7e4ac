//! Groups: which there are, and orders that make and remove them.
//!
//! Owns the handlers of `/v1/groups` and `/v1/groups/{name}`. Histories, receipts, undoing and confirming are those of the
//! switch `groups`. Must never acknowledge an order before it is durable.

use super::auth::Caller;
use super::context::{Api, Tagged};
use super::error::{ApiError, OrderErrors, QueryErrors};
use super::group_view;
use super::request::{Conditions, JsonBody, PathParams, QueryParams};
use super::servers::{carry_out, params, unmet};
use super::status::{WindowQuery, window};
use super::types;
use crate::receipt::Receipt;
use axum::Extension;
use axum::extract::State;
use switch::{Action, GroupOrder, GroupVerb, Refusal, ServerParams};

/// Lists all groups with their servers
#[utoipa::path(get, path = "/v1/groups", tag = "groups", params(WindowQuery),
    responses((status = 200, description = "All groups.", body = types::Groups,
        headers(("etag" = String, description = "The revision of what orders say of groups."))), QueryErrors))]
pub(super) async fn groups(
    State(api): State<Api>,
    QueryParams(asked): QueryParams<WindowQuery>,
) -> Result<Tagged<types::Groups>, ApiError> {
    let found = group_view::groups(&api, None, window(asked.window)?).await?;
    Ok(Tagged(found.revision, found))
}

/// Shows a group with its servers
#[utoipa::path(get, path = "/v1/groups/{name}", tag = "groups",
    params(("name" = String, Path, description = "The group."), WindowQuery),
    responses((status = 200, description = "The group.", body = types::ServerGroup,
        headers(("etag" = String, description = "The revision of what orders say of groups."))), QueryErrors))]
pub(super) async fn group(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    QueryParams(asked): QueryParams<WindowQuery>,
) -> Result<Tagged<types::ServerGroup>, ApiError> {
    let found = group_view::groups(&api, Some(name), window(asked.window)?).await?;
    let shown = found.groups.into_iter().next();
    let shown = shown.ok_or_else(|| ApiError::bad_request("the group is gone", "ask again"))?;
    Ok(Tagged(found.revision, shown))
}

/// Shows the servers of a group
#[utoipa::path(get, path = "/v1/groups/{name}/servers", tag = "groups",
    params(("name" = String, Path, description = "The group."), WindowQuery),
    responses((status = 200, description = "The group.", body = types::ServerGroup,
        headers(("etag" = String, description = "The revision of what orders say of groups."))), QueryErrors))]
pub(super) async fn group_servers(
    state: State<Api>,
    name: PathParams<String>,
    asked: QueryParams<WindowQuery>,
) -> Result<Tagged<types::ServerGroup>, ApiError> {
    group(state, name, asked).await
}

/// Makes a group
#[utoipa::path(put, path = "/v1/groups/{name}", tag = "groups",
    params(("name" = String, Path, description = "The name of the new group."), Conditions),
    request_body = types::GroupMakeOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The revision of what orders say of groups."))), OrderErrors))]
pub(super) async fn put_group(
    State(api): State<Api>,
    PathParams(group): PathParams<String>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::GroupMakeOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    let server = |one: &types::NewServer| Ok((one.server.clone(), params(&one.server, one.params.as_ref())?));
    let servers =
        order.servers.iter().map(server).collect::<Result<Vec<(String, ServerParams)>, Refusal>>()?;
    let verb = GroupVerb::Make { like: order.like.clone(), servers };
    let action = Action::Group(GroupOrder { group, verb });
    let is_new = conditions.is_new;
    let conditions = Conditions { is_new: false, ..conditions };
    let made = carry_out(&api, action, (caller, conditions), (&order.terms(), order.gate)).await;
    made.map_err(|error| unmet(error, is_new))
}

/// Removes a group that was made at run time
#[utoipa::path(delete, path = "/v1/groups/{name}", tag = "groups",
    params(("name" = String, Path, description = "The group."), Conditions),
    request_body = types::ResetOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The revision of what orders say of groups."))), OrderErrors))]
pub(super) async fn delete_group(
    State(api): State<Api>,
    PathParams(group): PathParams<String>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::ResetOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    let action = Action::Group(GroupOrder { group, verb: GroupVerb::Remove });
    carry_out(&api, action, (caller, conditions), (&order.terms(), false)).await
}
