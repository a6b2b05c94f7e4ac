//! Responses that count as streams: from when on, and how one of gRPC ends that is cut.

use crate::request::cx::RequestCx;
use crate::request::send::CUT;
use engine::{Exchange, output};

/// A response that runs for so long counts as a stream, in ms.
const STREAM_AFTER_MS: u64 = 5_000;

/// The same of gRPC, where the answer to a call that is no stream comes with its head, in ms.
const GRPC_STREAM_AFTER_MS: u64 = 1_000;

/// gRPC's status of a call that may be made again.
const UNAVAILABLE: &[u8] = b"14";

/// Returns when a response whose head has come at `now_ms` is a stream: at once where events are promised, else when it has
/// run for a while.
pub(super) fn begin_ms(exchange: &Exchange, now_ms: u64) -> u64 {
    match () {
        () if promises_events(exchange) => 0,
        () if is_grpc(exchange) => now_ms + GRPC_STREAM_AFTER_MS,
        () => now_ms + STREAM_AFTER_MS,
    }
}

/// Returns true if the response promises events, which may be long in coming.
pub(super) fn promises_events(exchange: &Exchange) -> bool {
    let kind = exchange.response.content_type.as_deref().unwrap_or_default();
    kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}

/// Returns true if the response is gRPC's.
pub(super) fn is_grpc(exchange: &Exchange) -> bool {
    let kind = exchange.response.content_type.as_deref().unwrap_or_default();
    kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"))
}

/// Ends a cut answer with gRPC's own status, so that its client calls again. Returns true if the client gets it.
pub(super) async fn say_unavailable(cx: &mut RequestCx<'_>) -> bool {
    let trailers = &mut cx.exchange.response.trailers;
    trailers.clear();
    trailers.push(b"grpc-status", UNAVAILABLE);
    trailers.push(b"grpc-message", CUT.as_bytes());
    cx.engine(output::end_body);
    cx.send_wire().await.is_ok()
}
