//! The fleet: its nodes, and who is in it.
//!
//! Owns the handlers of `/v1/fleet`. Must never switch anything.

use super::auth::Caller;
use super::context::Api;
use super::error::{ApiError, FleetErrors, OrderErrors};
use super::request::{JsonBody, PathParams};
use super::types;
use crate::service::FleetInfo;
use axum::extract::State;
use axum::{Extension, Json};

fn view(info: FleetInfo) -> types::Fleet {
    let node = |one: fleet::NodeView| types::FleetNode {
        name: one.name,
        own: one.is_own,
        version: one.version,
        digest: one.digest,
        revisions: one.applied.into_iter().chain(one.revisions).fold(Default::default(), newest),
        seen_ms_ago: if one.is_own { None } else { one.seen_ms_ago },
        silent: one.is_silent,
    };
    types::Fleet {
        node: info.node,
        prefix: info.prefix,
        etcd: info.etcd,
        id: info.id,
        trouble: info.trouble.map(|(text, remedy)| types::StoreFault { text, remedy }),
        nodes: info.nodes.into_iter().map(node).collect(),
    }
}

fn newest(
    mut revisions: std::collections::BTreeMap<String, u64>,
    (switch, revision): (String, u64),
) -> std::collections::BTreeMap<String, u64> {
    let known = revisions.entry(switch).or_default();
    *known = revision.max(*known);
    revisions
}

/// Shows the fleet as this node knows it
#[utoipa::path(get, path = "/v1/fleet", tag = "fleet",
    responses((status = 200, description = "The fleet.", body = types::Fleet), FleetErrors))]
pub(super) async fn fleet(State(api): State<Api>) -> Result<Json<types::Fleet>, ApiError> {
    Ok(Json(view(api.control.fleet().await?)))
}

/// Makes the fleet, once, with this node in it
#[utoipa::path(post, path = "/v1/fleet/init", tag = "fleet",
    request_body = types::FleetOrder,
    responses((status = 200, description = "The fleet.", body = types::Fleet), OrderErrors))]
pub(super) async fn init(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(types::FleetOrder {}): JsonBody<types::FleetOrder>,
) -> Result<Json<types::Fleet>, ApiError> {
    Ok(Json(view(api.control.init_fleet(caller.actor).await?)))
}

/// Has this node join the fleet that is there
#[utoipa::path(post, path = "/v1/fleet/join", tag = "fleet",
    request_body = types::FleetOrder,
    responses((status = 200, description = "The fleet.", body = types::Fleet), OrderErrors))]
pub(super) async fn join(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(types::FleetOrder {}): JsonBody<types::FleetOrder>,
) -> Result<Json<types::Fleet>, ApiError> {
    Ok(Json(view(api.control.join_fleet(caller.actor).await?)))
}

/// Takes a node out of the fleet
///
/// Orders are without it from then on.
#[utoipa::path(delete, path = "/v1/fleet/nodes/{node}", tag = "fleet",
    params(("node" = String, Path, description = "The node's name.")),
    request_body = types::FleetOrder,
    responses((status = 200, description = "The fleet.", body = types::Fleet), OrderErrors))]
pub(super) async fn remove(
    State(api): State<Api>,
    PathParams(node): PathParams<String>,
    Extension(caller): Extension<Caller>,
    JsonBody(types::FleetOrder {}): JsonBody<types::FleetOrder>,
) -> Result<Json<types::Fleet>, ApiError> {
    Ok(Json(view(api.control.remove_node(node, caller.actor).await?)))
}

/// Writes to etcd what this node's copies have and etcd has not
///
/// After etcd was wiped, or an older snapshot was put back. Another fleet or another history there is refused.
#[utoipa::path(post, path = "/v1/fleet/restore", tag = "fleet",
    request_body = types::FleetOrder,
    responses((status = 200, description = "What was written.", body = types::FleetRestored), OrderErrors))]
pub(super) async fn restore(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(types::FleetOrder {}): JsonBody<types::FleetOrder>,
) -> Result<Json<types::FleetRestored>, ApiError> {
    Ok(Json(types::FleetRestored { commits: api.control.restore_fleet(caller.actor).await? }))
}
