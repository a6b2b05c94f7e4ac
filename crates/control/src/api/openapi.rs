//! The description of the API (OpenAPI 3.1), made of the handlers and types themselves.
//!
//! Owns the list of what is described. Must never describe by hand what a type states.

use super::error::ApiError;
use super::{
    caches, certificates, diff, events, fleet, groups, journal, orders, queries, reload, series, servers,
    status, types,
};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

/// The description of the API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "pointsman",
        description = "Switches live traffic between upstream groups. GET changes nothing; every change has a body of \
                       the type application/json.",
        license(name = "Apache-2.0 OR MIT")
    ),
    paths(
        queries::switches,
        queries::switch,
        queries::keys,
        queries::one_key,
        queries::history,
        diff::diff,
        queries::named_receipt,
        queries::receipt,
        queries::backup,
        journal::journal,
        orders::put_key,
        orders::delete_key,
        orders::commit,
        orders::undo,
        orders::confirm,
        orders::put_hold,
        orders::delete_hold,
        groups::groups,
        groups::group,
        groups::group_servers,
        groups::put_group,
        groups::delete_group,
        servers::server,
        servers::put_server,
        servers::patch_server,
        servers::delete_server,
        servers::post_servers,
        caches::caches,
        caches::purge,
        certificates::certificates,
        certificates::revoke,
        fleet::fleet,
        fleet::init,
        fleet::join,
        fleet::remove,
        fleet::restore,
        reload::check,
        reload::reload,
        events::events,
        status::status,
        series::series,
        status::compare,
        status::metrics,
        openapi
    ),
    components(schemas(types::Problem)),
    tags(
        (name = "switches", description = "Switches, keys, histories, receipts."),
        (name = "orders", description = "Route keys, undo, confirm, hold."),
        (name = "groups", description = "Groups and their servers, and orders on them."),
        (name = "caches", description = "Zones of kept responses, and purges."),
        (name = "certificates", description = "Certificates that ACME has issued, and revocations."),
        (name = "fleet", description = "Nodes that switch as one."),
        (name = "events", description = "Events as they happen."),
        (name = "figures", description = "Traffic statistics.")
    )
)]
pub(super) struct Description;

/// Returns this description
#[utoipa::path(get, path = "/v1/openapi.json", tag = "figures",
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json"), super::error::QueryErrors))]
pub(super) async fn openapi() -> Result<Response, ApiError> {
    let text = Description::openapi().to_json();
    let text = text.map_err(|error| {
        ApiError::bad_request(format!("the description could not be written: {error}"), "")
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}
