//! The servers of groups: orders on them.
//!
//! Owns the handlers below `/v1/groups/{name}/servers/`. Histories, receipts, undoing and confirming are those of the switch
//! `groups`. Must never acknowledge an order before it is durable.

use super::auth::Caller;
use super::context::{Api, Tagged};
use super::error::{ApiError, OrderErrors, QueryErrors};
use super::group_view;
use super::orders::{long_call, meta};
use super::request::{Conditions, JsonBody, KeyPath, PathParams, options, span};
use super::server_addresses;
use super::types::{self, ServerSettings, Terms};
use crate::options::Options;
use crate::receipt::Receipt;
use axum::Extension;
use axum::extract::State;
use engine::modules::switch::GROUPS_NAME;
use statistics::Window;
use switch::{Action, Code, GroupOrder, GroupVerb, Order, Refusal, ServerOrder, ServerParams, ServerVerb};

/// Shows a server
#[utoipa::path(get, path = "/v1/groups/{name}/servers/{key}", tag = "groups",
    params(("name" = String, Path, description = "The group."),
        ("key" = String, Path, description = "The server: its address, or as the configuration has it written.")),
    responses((status = 200, description = "The server.", body = types::Server,
        headers(("etag" = String, description = "The revision of what orders say of servers."))), QueryErrors))]
pub(super) async fn server(
    State(api): State<Api>,
    KeyPath(name, server): KeyPath,
) -> Result<Tagged<types::Server>, ApiError> {
    let found = group_view::groups(&api, Some(name.clone()), Window::default()).await?;
    let group = found.groups.into_iter().next();
    let shown = group.and_then(|group| group.servers.into_iter().find(|one| one.server == server));
    let shown = shown.ok_or_else(|| Refusal::no_server(&name, &server))?;
    Ok(Tagged(found.revision, shown))
}

/// Adds a server to a group
#[utoipa::path(put, path = "/v1/groups/{name}/servers/{key}", tag = "groups",
    params(("name" = String, Path, description = "The group."),
        ("key" = String, Path, description = "The server's address."), Conditions),
    request_body = types::ServerParamsOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The revision of what orders say of servers."))), OrderErrors))]
pub(super) async fn put_server(
    State(api): State<Api>,
    KeyPath(group, server): KeyPath,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::ServerParamsOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    let is_new = conditions.is_new;
    let conditions = Conditions { is_new: false, ..conditions };
    let added = one_server(&api, (group, server), (caller, conditions), &order, ServerVerb::Add).await;
    added.map_err(|error| unmet(error, is_new))
}

/// Returns the refusal of what was to be new and is there: with `If-None-Match: *`, that of a condition.
pub(super) fn unmet(ApiError(refusal): ApiError, is_new: bool) -> ApiError {
    match refusal.code {
        Code::ServerExists | Code::GroupExists if is_new => {
            ApiError(Refusal { code: Code::EntryConflict, ..refusal })
        }
        _ => ApiError(refusal),
    }
}

/// Sets parameters of a server
#[utoipa::path(patch, path = "/v1/groups/{name}/servers/{key}", tag = "groups",
    params(("name" = String, Path, description = "The group."),
        ("key" = String, Path, description = "The server: its address, or as the configuration has it written."),
        Conditions),
    request_body = types::ServerParamsOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The revision of what orders say of servers."))), OrderErrors))]
pub(super) async fn patch_server(
    State(api): State<Api>,
    KeyPath(group, server): KeyPath,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::ServerParamsOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    one_server(&api, (group, server), (caller, conditions), &order, ServerVerb::Set).await
}

/// Removes a server from a group
#[utoipa::path(delete, path = "/v1/groups/{name}/servers/{key}", tag = "groups",
    params(("name" = String, Path, description = "The group."),
        ("key" = String, Path, description = "The server: its address, or as the configuration has it written."),
        Conditions),
    request_body = types::ResetOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The revision of what orders say of servers."))), OrderErrors))]
pub(super) async fn delete_server(
    State(api): State<Api>,
    KeyPath(group, server): KeyPath,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::ResetOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    let orders = vec![ServerOrder { group, server, verb: ServerVerb::Remove }];
    change(&api, orders, caller, conditions, (&order.terms(), false)).await
}

/// Changes servers of a group in one commit: all or none
#[utoipa::path(post, path = "/v1/groups/{name}/servers", tag = "groups",
    params(("name" = String, Path, description = "The group."), Conditions),
    request_body = types::ServersOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The revision of what orders say of servers."))), OrderErrors))]
pub(super) async fn post_servers(
    State(api): State<Api>,
    PathParams(group): PathParams<String>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::ServersOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    let one = |one: &types::ServerChange| {
        let said = params(&one.server, one.params.as_ref())?;
        let takes = matches!(one.act, types::ServerAct::Add | types::ServerAct::Set);
        if !takes && one.params.is_some() {
            return Err(super::request::bad_order("only add and set take parameters", "leave params out"));
        }
        let verb = match one.act {
            types::ServerAct::Add => ServerVerb::Add(said),
            types::ServerAct::Set => ServerVerb::Set(said),
            types::ServerAct::Drain => ServerVerb::Drain,
            types::ServerAct::Down => ServerVerb::Down,
            types::ServerAct::Up => ServerVerb::Up,
            types::ServerAct::Remove => ServerVerb::Remove,
            types::ServerAct::Reset => ServerVerb::Reset,
            types::ServerAct::Pin => ServerVerb::Pin,
        };
        Ok(ServerOrder { group: group.clone(), server: one.server.clone(), verb })
    };
    let orders = order.changes.iter().map(one).collect::<Result<Vec<_>, Refusal>>()?;
    change(&api, orders, caller, conditions, (&order.terms(), order.gate)).await
}

async fn change(
    api: &Api,
    orders: Vec<ServerOrder>,
    caller: Caller,
    conditions: Conditions,
    (terms, gate): (&Terms, bool),
) -> Result<Tagged<Receipt>, ApiError> {
    carry_out(api, Action::Servers(orders), (caller, conditions), (terms, gate)).await
}

/// Returns the orders on servers of an order, those of a group that is made included.
fn named_servers(action: &Action) -> Vec<ServerOrder> {
    match action {
        Action::Servers(orders) => orders.clone(),
        Action::Group(GroupOrder { group, verb: GroupVerb::Make { servers, .. } }) => servers
            .iter()
            .map(|(server, params)| {
                let verb = ServerVerb::Add(params.clone());
                ServerOrder { group: group.clone(), server: server.clone(), verb }
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Carries out an order on the groups.
pub(super) async fn carry_out(
    api: &Api,
    action: Action,
    (caller, conditions): (Caller, Conditions),
    (terms, gate): (&Terms, bool),
) -> Result<Tagged<Receipt>, ApiError> {
    server_addresses::check(&api.control.config(), &caller, &named_servers(&action))?;
    let options = Options { gate, ..options(terms)? };
    let _long_call = long_call(api, &caller, &options)?;
    let order = Order { action, meta: meta(caller, conditions, terms)? };
    let receipt = api.control.order(GROUPS_NAME, order, options).await?;
    Ok(Tagged(receipt.revision, receipt))
}

/// Carries out an order with the parameters of one server.
async fn one_server(
    api: &Api,
    (group, server): (String, String),
    (caller, conditions): (Caller, Conditions),
    order: &types::ServerParamsOrder,
    verb: fn(ServerParams) -> ServerVerb,
) -> Result<Tagged<Receipt>, ApiError> {
    let verb = verb(params(&server, order.params.as_ref())?);
    change(api, vec![ServerOrder { group, server, verb }], caller, conditions, (&order.terms(), order.gate))
        .await
}

/// Returns the parameters of an order.
pub(super) fn params(server: &str, said: Option<&ServerSettings>) -> Result<ServerParams, Refusal> {
    let Some(said) = said else { return Ok(ServerParams::default()) };
    let time = |name, text: &Option<String>| text.as_deref().map(|text| span(name, text)).transpose();
    let params = ServerParams {
        weight: said.weight,
        max_conns: said.max_conns,
        max_fails: said.max_fails,
        fail_timeout_ms: time("fail_timeout", &said.fail_timeout)?,
        slow_start_ms: time("slow_start", &said.slow_start)?,
        backup: said.backup,
        drain: said.drain,
        down: said.down,
    };
    params.check().map_err(|fault| Refusal::bad_server(server, &fault))?;
    Ok(params)
}
