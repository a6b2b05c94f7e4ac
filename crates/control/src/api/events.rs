//! Events as server-sent events (WHATWG HTML, "Server-sent events").
//!
//! Owns the stream's form and its end. Must never make the control service wait: a listener that reads too slowly loses
//! events, which their numbers show.

use super::auth::Caller;
use super::context::Api;
use super::error::{ApiError, QueryErrors};
use super::types;
use crate::event::{Event, Subscription};
use crate::service::LongCall;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// The interval of comments on a quiet stream, so that a dead connection is noticed.
const ALIVE: Duration = Duration::from_secs(15);
/// The maximum number of chunks that wait for a slow reader.
const WAITING: usize = 64;

/// Streams events
///
/// Server-sent events: `id` is the event's number, `event` its name, `data` the event as JSON. `Last-Event-ID` replays
/// those that were missed, of the last few hundred.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(("last-event-id" = Option<u64>, Header, description = "Start after this event.")),
    responses((status = 200, description = "A stream without end.", body = types::Event,
        content_type = "text/event-stream"), QueryErrors))]
pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let long_call = api.control.long_call(&caller.identity)?;
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok()?.parse().ok());
    let subscription = api.control.events(last);
    let (sender, pieces) = mpsc::channel(WAITING);
    tokio::spawn(tell(subscription, sender, long_call));
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::new(Stream { pieces })).into_response())
}

/// Writes events until the reader has gone.
async fn tell(mut subscription: Subscription, sender: mpsc::Sender<Bytes>, _call: LongCall) {
    // Sends the head, so that the reader knows the subscription is active. It has a number even if nothing has happened
    // yet: with that the reader asks the next process for what it missed.
    let number = match subscription.missed.is_empty() {
        true => format!("id: {}\n", subscription.last_id),
        false => String::new(),
    };
    let mut pieces = vec![Bytes::from(format!("{number}retry: 1000\n\n"))];
    pieces.extend(subscription.missed.iter().map(piece));
    for piece in pieces {
        if sender.send(piece).await.is_err() {
            return;
        }
    }
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(ALIVE, subscription.live.recv()) => next,
            () = sender.closed() => return,
        };
        let piece = match next {
            Ok(Ok(event)) => piece(&event),
            // The numbers show that some are missing.
            Ok(Err(RecvError::Lagged(_))) => continue,
            Ok(Err(RecvError::Closed)) => return,
            Err(_) => Bytes::from_static(b": alive\n\n"),
        };
        if sender.send(piece).await.is_err() {
            return;
        }
    }
}

fn piece(event: &Arc<Event>) -> Bytes {
    let name = event.kind.name();
    // Plain structs: there is nothing in them that JSON could not say.
    let data = serde_json::to_string(&types::Event::from(&**event)).unwrap_or_default();
    format!("id: {}\nevent: {name}\ndata: {data}\n\n", event.id).into()
}

/// A body made of what comes through a channel.
struct Stream {
    pieces: mpsc::Receiver<Bytes>,
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
