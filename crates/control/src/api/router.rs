//! Which path leads where.
//!
//! Owns the list of paths, and what every answer has. Must never look at who asks: [`super::entry`] does, before any
//! handler.

use super::refused::Refused;
use super::{entry, events, figures, openapi, orders, questions, reload};
use crate::office::Office;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;
use switch::{Code, Refusal};
use tokio::sync::Semaphore;

/// How many may listen to events at a time.
const MAX_LISTENERS: usize = 64;

/// What the handlers need.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) office: Office,
    /// The places of those who listen to events.
    pub(super) listeners: Arc<Semaphore>,
}

impl Api {
    pub(super) fn new(office: Office) -> Api {
        Api { office, listeners: Arc::new(Semaphore::new(MAX_LISTENERS)) }
    }

    /// All paths.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/v1/switches", get(questions::switches))
            .route("/v1/switches/{name}", get(questions::switch))
            .route("/v1/switches/{name}/keys", get(questions::keys))
            // A text key may hold slashes, and a location gives them decoded.
            .route(
                "/v1/switches/{name}/keys/{*key}",
                get(questions::one_key).put(orders::put_key).delete(orders::delete_key),
            )
            .route("/v1/switches/{name}/commits", post(orders::commit))
            .route("/v1/switches/{name}/undo", post(orders::undo))
            .route("/v1/switches/{name}/confirm", post(orders::confirm))
            .route("/v1/switches/{name}/holds/{*key}", put(orders::put_hold).delete(orders::delete_hold))
            .route("/v1/switches/{name}/history", get(questions::history))
            .route("/v1/switches/{name}/receipts/{revision}", get(questions::receipt))
            .route("/v1/reload", post(reload::reload))
            .route("/v1/events", get(events::events))
            .route("/v1/status", get(figures::status))
            .route("/v1/compare", get(figures::compare))
            .route("/v1/metrics", get(figures::metrics))
            .route("/v1/openapi.json", get(openapi::openapi))
            .fallback(nothing)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(self.clone(), entry::enter))
            .layer(map_response(closed_to_browsers))
            .with_state(self)
    }
}

async fn nothing(request: Request) -> Refused {
    Refused(Refusal::new(
        Code::NotFound,
        format!("there is nothing at {}", request.uri().path()),
        "the paths stand in /v1/openapi.json",
    ))
}

async fn wrong_method(request: Request) -> Refused {
    Refused(Refusal::new(
        Code::MethodNotAllowed,
        format!("{} knows no {}", request.uri().path(), request.method()),
        "the methods stand in the header Allow, and in /v1/openapi.json",
    ))
}

/// What is told here is of this moment, and no page may show it as something else.
async fn closed_to_browsers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer about a switch, with its revision as the `ETag`: what `If-Match` takes.
pub(super) struct Tagged<T>(pub(super) u64, pub(super) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.1).into_response();
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", self.0)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}
