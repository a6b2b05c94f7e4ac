//! The servers of groups: which there are, and orders on them.
//!
//! Owns the handlers below `/v1/groups`. Histories, receipts, undoing and confirming are those of the switch `groups`. Must
//! never acknowledge an order before it is durable.

use super::auth::Caller;
use super::context::{Api, Tagged};
use super::error::{ApiError, OrderErrors, QueryErrors};
use super::orders::{long_call, meta};
use super::request::{Conditions, JsonBody, KeyPath, PathParams, options, span};
use super::types::{self, ServerSettings, Terms};
use crate::info::{GroupInfo, GroupsInfo};
use crate::options::Options;
use crate::receipt::Receipt;
use axum::Extension;
use axum::extract::State;
use engine::modules::switch::GROUPS_NAME;
use switch::{
    Action, EffectiveServer, Order, OverlayServer, Refusal, ServerOrder, ServerParams, ServerSource,
    ServerVerb,
};

/// Lists all groups with their servers
#[utoipa::path(get, path = "/v1/groups", tag = "groups",
    responses((status = 200, description = "All groups.", body = types::Groups,
        headers(("etag" = String, description = "The revision of what orders say of servers."))), QueryErrors))]
pub(super) async fn groups(State(api): State<Api>) -> Result<Tagged<types::Groups>, ApiError> {
    let found = api.control.groups(None).await?;
    let groups = found.groups.iter().map(|group| view(&found, group)).collect();
    Ok(Tagged(found.revision, types::Groups { revision: found.revision, groups }))
}

/// Shows a group with its servers
#[utoipa::path(get, path = "/v1/groups/{name}/servers", tag = "groups",
    params(("name" = String, Path, description = "The group.")),
    responses((status = 200, description = "The group.", body = types::ServerGroup,
        headers(("etag" = String, description = "The revision of what orders say of servers."))), QueryErrors))]
pub(super) async fn group(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
) -> Result<Tagged<types::ServerGroup>, ApiError> {
    let found = api.control.groups(Some(name)).await?;
    let shown = found.groups.first().map(|group| view(&found, group));
    let shown = shown.ok_or_else(|| ApiError::bad_request("the group is gone", "ask again"))?;
    Ok(Tagged(found.revision, shown))
}

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
    let found = api.control.groups(Some(name.clone())).await?;
    let group = found.groups.first();
    let shown =
        group.and_then(|group| view(&found, group).servers.into_iter().find(|one| one.server == server));
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
    let verb = ServerVerb::Add(params(&server, order.params.as_ref())?);
    change(&api, vec![ServerOrder { group, server, verb }], caller, conditions, (&order.terms(), order.gate))
        .await
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
    let verb = ServerVerb::Set(params(&server, order.params.as_ref())?);
    change(&api, vec![ServerOrder { group, server, verb }], caller, conditions, (&order.terms(), order.gate))
        .await
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
    let options = Options { gate, ..options(terms)? };
    let _long_call = long_call(api, &caller, &options)?;
    let order = Order { action: Action::Servers(orders), meta: meta(caller, conditions, terms)? };
    let receipt = api.control.order(GROUPS_NAME, order, options).await?;
    Ok(Tagged(receipt.revision, receipt))
}

/// Returns the parameters of an order.
fn params(server: &str, said: Option<&ServerSettings>) -> Result<ServerParams, Refusal> {
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

/// Returns a group for the API.
fn view(all: &GroupsInfo, group: &GroupInfo) -> types::ServerGroup {
    let server = |server: &EffectiveServer| {
        let base = group.base.servers.iter().find(|base| base.name == server.name);
        let is_at = |label: &str| match base {
            Some(base) => base.addresses.iter().any(|address| address == label),
            None => server.name == label,
        };
        let of_group = all.peers.iter().filter(|state| state.name.eq_ignore_ascii_case(&group.base.name));
        let peers: Vec<_> =
            of_group.flat_map(|state| &state.peers).filter(|peer| is_at(&peer.address)).collect();
        types::Server {
            server: server.name.clone(),
            source: match server.source {
                ServerSource::File => types::ServerOrigin::File,
                ServerSource::Order => types::ServerOrigin::Order,
            },
            params: settings(&server.params),
            said: server.revision.map(|revision| {
                let is_added = server.source == ServerSource::Order;
                let words = [if is_added { "added" } else { "" }.to_owned(), server.ordered.to_string()];
                let says = words.join(" ").trim().to_owned();
                said(all, &server.name, says, revision)
            }),
            in_flight: peers.iter().map(|peer| u64::from(peer.connections)).sum(),
            failed: peers.iter().filter(|peer| peer.failed).count() as u64,
        }
    };
    let overlaid = |one: &OverlayServer| said(all, &one.name, one.entry.to_string(), one.revision);
    types::ServerGroup {
        name: group.base.name.to_string(),
        servers: group.found.servers.iter().map(server).collect(),
        removed: group.found.removed.iter().map(overlaid).collect(),
        dormant: group.found.dormant.iter().map(overlaid).collect(),
        used_by: group.base.users.clone(),
    }
}

fn said(all: &GroupsInfo, server: &str, says: String, revision: u64) -> types::SaidOfServer {
    let info = all.said.get(&revision);
    types::SaidOfServer {
        server: server.to_owned(),
        says,
        revision,
        actor: info.map(|info| info.actor.clone()).unwrap_or_default(),
        reason: info.and_then(|info| info.reason.clone()),
        time_ms: info.map(|info| info.time_ms).unwrap_or_default(),
    }
}

/// Returns parameters as they are written.
fn settings(params: &ServerParams) -> ServerSettings {
    let time = |ms: Option<u64>| ms.map(switch::time_text);
    ServerSettings {
        weight: params.weight,
        max_conns: params.max_conns,
        max_fails: params.max_fails,
        fail_timeout: time(params.fail_timeout_ms),
        slow_start: time(params.slow_start_ms),
        backup: params.backup,
        drain: params.drain,
        down: params.down,
    }
}
