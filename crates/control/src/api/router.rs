//! The routes of the API.
//!
//! Owns the list of paths, and the headers of every answer. Authentication ([`super::auth`]) runs before any
//! handler.

use super::context::Api;
use super::error::ApiError;
use super::request::unconditional;
use super::{
    auth, caches, certificates, diff, events, fleet, groups, journal, openapi, orders, queries, reload,
    series, servers, status,
};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post, put};
use switch::{Code, Refusal};

/// Returns the router of all paths.
pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/switches", get(queries::switches))
        .route("/v1/switches/{name}", get(queries::switch))
        .route("/v1/switches/{name}/keys", get(queries::keys))
        // A text key may hold slashes, and a location gives them decoded; it may be empty, which no parameter is.
        .route("/v1/switches/{name}/keys/", one_key())
        .route("/v1/switches/{name}/keys/{*key}", one_key())
        .route("/v1/switches/{name}/commits", post(orders::commit))
        .route("/v1/switches/{name}/undo", post(orders::undo))
        .route("/v1/switches/{name}/confirm", post(orders::confirm))
        .route("/v1/switches/{name}/holds/", one_hold())
        .route("/v1/switches/{name}/holds/{*key}", one_hold())
        .route("/v1/switches/{name}/history", get(queries::history))
        .route("/v1/switches/{name}/diff", get(diff::diff))
        .route("/v1/switches/{name}/receipts", get(queries::named_receipt))
        .route("/v1/switches/{name}/receipts/{revision}", get(queries::receipt))
        .route("/v1/switches/{name}/backup", get(queries::backup))
        .route("/v1/groups", get(groups::groups))
        .route("/v1/groups/{name}", get(groups::group).put(groups::put_group).delete(groups::delete_group))
        .route("/v1/groups/{name}/servers", get(groups::group_servers).post(servers::post_servers))
        .route("/v1/groups/{name}/servers/{*key}", one_server())
        .route("/v1/caches", get(caches::caches))
        .route("/v1/caches/{name}/purge", post(caches::purge).layer(from_fn(unconditional)))
        .route("/v1/certificates", get(certificates::certificates))
        .route("/v1/certificates/{name}/revoke", post(certificates::revoke).layer(from_fn(unconditional)))
        .route("/v1/fleet", get(fleet::fleet))
        .route("/v1/fleet/init", post(fleet::init).layer(from_fn(unconditional)))
        .route("/v1/fleet/join", post(fleet::join).layer(from_fn(unconditional)))
        .route("/v1/fleet/nodes/{node}", delete(fleet::remove).layer(from_fn(unconditional)))
        .route("/v1/fleet/restore", post(fleet::restore).layer(from_fn(unconditional)))
        .route("/v1/check", post(reload::check).layer(from_fn(unconditional)))
        .route("/v1/journal", get(journal::journal))
        .route("/v1/reload", post(reload::reload).layer(from_fn(unconditional)))
        .route("/v1/events", get(events::events))
        .route("/v1/status", get(status::status))
        .route("/v1/series", get(series::series))
        .route("/v1/compare", get(status::compare))
        .route("/v1/metrics", get(status::metrics))
        .route("/v1/openapi.json", get(openapi::openapi))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(api.clone(), auth::enter))
        .layer(map_response(closed_to_browsers))
        .with_state(api)
}

fn one_key() -> MethodRouter<Api> {
    get(queries::one_key).put(orders::put_key).delete(orders::delete_key)
}

fn one_server() -> MethodRouter<Api> {
    get(servers::server).put(servers::put_server).patch(servers::patch_server).delete(servers::delete_server)
}

fn one_hold() -> MethodRouter<Api> {
    put(orders::put_hold).delete(orders::delete_hold).layer(from_fn(unconditional))
}

async fn nothing(request: Request) -> ApiError {
    ApiError(Refusal::new(
        Code::NotFound,
        format!("unknown path: {}", request.uri().path()),
        "see /v1/openapi.json for the paths",
    ))
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError(Refusal::new(
        Code::MethodNotAllowed,
        format!("{} is not supported on {}", request.method(), request.uri().path()),
        "use a method that the header Allow names",
    ))
}

/// Answers are not to be cached, and a browser must not guess their type.
async fn closed_to_browsers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
