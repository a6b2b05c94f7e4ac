//! State shared by the handlers of the API.
//!
//! Owns the handle of the control service, the limit on large bodies, and the answer with an `ETag`.

use crate::service::ControlHandle;
use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The state of the handlers.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) control: ControlHandle,
    /// Limits the memory of large bodies: one at a time.
    pub(super) large_body: Arc<Semaphore>,
}

impl Api {
    pub(super) fn new(control: ControlHandle) -> Api {
        Api { control, large_body: Arc::new(Semaphore::new(1)) }
    }
}

/// An answer about a switch, with its revision as the `ETag` that `If-Match` takes.
pub(super) struct Tagged<T>(pub(super) u64, pub(super) T);

/// An answer about a key, with the revision of its own entry (0 for none) as the `ETag` that `If-Match` takes.
pub(super) struct TaggedEntry<T>(pub(super) u64, pub(super) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        tagged(&format!("\"{}\"", self.0), self.1)
    }
}

impl<T: Serialize> IntoResponse for TaggedEntry<T> {
    fn into_response(self) -> Response {
        tagged(&format!("\"entry-{}\"", self.0), self.1)
    }
}

fn tagged(tag: &str, answer: impl Serialize) -> Response {
    let mut response = Json(answer).into_response();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
