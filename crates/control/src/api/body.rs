//! Bodies of requests: read, bounded and parsed.
//!
//! Owns their limits in size and time, and what is said of a bad one. Must never look at what an order says.

use super::context::Api;
use super::error::ApiError;
use super::request::number;
use super::types;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::error::Error;
use std::io::{self, Read};
use std::time::Duration;
use switch::{Code, Refusal};
use tokio::sync::mpsc;

/// The maximum size of a body.
pub(super) const MAX_BODY: usize = 1 << 20;
/// The maximum size of the body of a commit of many keys: some 100,000 of the longest usual names.
pub(super) const MAX_COMMIT_BODY: usize = 64 << 20;
/// The time within which a body must arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The body of an order.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<JsonBody<T>, ApiError> {
        read(request, MAX_BODY).await.map(JsonBody)
    }
}

/// The body of a commit of many keys.
pub(super) struct CommitBody<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Api> for CommitBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<CommitBody<T>, ApiError> {
        let length = request.headers().get("content-length").and_then(|length| length.to_str().ok());
        let is_small = length.and_then(number).is_some_and(|length| length <= MAX_BODY as u64);
        if is_small {
            return read(request, MAX_BODY).await.map(CommitBody);
        }
        // One large commit at a time is in memory. The semaphore is never closed.
        let _permit = api.large_body.acquire().await.ok();
        read_arriving(request, MAX_COMMIT_BODY).await.map(CommitBody)
    }
}

/// Reads a body and parses it.
async fn read<T: DeserializeOwned>(request: Request, max: usize) -> Result<T, ApiError> {
    check_is_json(&request)?;
    let bytes = bounded(Limited::new(request.into_body(), max).collect(), max).await?.to_bytes();
    serde_json::from_slice(&bytes)
        .map(|types::Object(order)| order)
        .map_err(|error| bad_body(bytes.is_empty(), &error))
}

/// Parses a body while it arrives, so that the whole text is never in memory.
async fn read_arriving<T>(request: Request, max: usize) -> Result<T, ApiError>
where
    T: DeserializeOwned + Send + 'static,
{
    check_is_json(&request)?;
    let (pieces, arriving) = mpsc::channel(PIECES);
    let parser = tokio::task::spawn_blocking(move || {
        let mut text = Arriving { pieces: arriving, now: Bytes::new(), is_empty: true };
        let parsed = serde_json::from_reader(&mut text);
        parsed.map(|types::Object(order)| order).map_err(|error| bad_body(text.is_empty, &error))
    });
    let mut body = Limited::new(request.into_body(), max);
    let feed = async {
        while let Some(frame) = body.frame().await {
            if let Ok(piece) = frame?.into_data() {
                // What follows a fault is read all the same, so that the connection can go on.
                let _ = pieces.send(piece).await;
            }
        }
        Ok(())
    };
    bounded(feed, max).await?;
    drop(pieces);
    parser.await.map_err(|error| ApiError::bad_request(format!("the body could not be read: {error}"), ""))?
}

/// The number of pieces of a body that wait to be parsed.
const PIECES: usize = 8;

/// The text of a body that arrives.
struct Arriving {
    pieces: mpsc::Receiver<Bytes>,
    /// What is left of the newest piece.
    now: Bytes,
    is_empty: bool,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.now = piece,
                None => return Ok(0),
            }
        }
        let piece = self.now.split_to(self.now.len().min(buffer.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        self.is_empty = false;
        Ok(piece.len())
    }
}

fn bad_body(is_empty: bool, error: &serde_json::Error) -> ApiError {
    let text = if is_empty { "the body is empty".into() } else { format!("invalid body: {error}") };
    ApiError::bad_request(
        text,
        "send a JSON object with fields of /v1/openapi.json; {} if no field is needed",
    )
}

fn check_is_json(request: &Request) -> Result<(), ApiError> {
    // A form of another site cannot send this type without asking first (Fetch, "CORS-safelisted request-header").
    if is_json(request.headers()) {
        return Ok(());
    }
    Err(ApiError(Refusal::new(
        Code::BadMediaType,
        "the body is not JSON: an order needs Content-Type: application/json",
        "set the header Content-Type: application/json",
    )))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers.get("content-type").map(|kind| kind.to_str()) else { return false };
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Waits for a body of at most `max` bytes.
async fn bounded<T>(
    body: impl Future<Output = Result<T, Box<dyn Error + Send + Sync>>>,
    max: usize,
) -> Result<T, ApiError> {
    match tokio::time::timeout(BODY_TIME, body).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError(Refusal::new(
            Code::TooLarge,
            format!("the body is larger than {max} bytes"),
            "split it into several commits",
        ))),
        Ok(Err(error)) => {
            Err(ApiError::bad_request(format!("the body is incomplete: {error}"), "send it again"))
        }
        Err(_) => Err(ApiError::bad_request(
            format!("the body did not arrive within {} s", BODY_TIME.as_secs()),
            "send it again",
        )),
    }
}
