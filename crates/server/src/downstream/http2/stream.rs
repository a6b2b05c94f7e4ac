//! One stream of a connection: its request, served as any other.

use crate::context::conn_guard::ConnGuard;
use crate::context::generation::Pinned;
use crate::context::timeout::TimedOut;
use crate::downstream::answer::{self, After, Head, begin_inner, run_inner};
use crate::request::client::Client;
use crate::request::cx::RequestCx;
use crate::request::host::with_env;
use engine::{Exchange, start_request};
use http::HeadError;
use http::h2::ErrorCode;
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use tracing::Span;
use transport::stream::Stream;

/// How the serving of a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The answer was written to its end.
    Answered,
    /// It was cut by the policy of a switch, or by the end of the process.
    Cut,
    /// There is no answer, or it is not whole.
    Broken,
}

impl StreamEnd {
    /// Returns the code with which a stream without a whole answer is reset.
    pub(super) fn code(self) -> ErrorCode {
        match self {
            StreamEnd::Cut => ErrorCode::Cancel,
            StreamEnd::Answered | StreamEnd::Broken => ErrorCode::Internal,
        }
    }
}

/// How a stream was opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// Why its head cannot be served.
    pub(super) refused: Option<HeadError>,
    /// It was opened before the end of the handshake of TLS: whether that is over.
    pub(super) secured: Option<Rc<Cell<bool>>>,
}

/// Waits for the end of the handshake, of which the connection wakes its streams. Returns false if it does not come, or the
/// client has reset the stream.
async fn is_secured(client: &mut Client, secured: &Cell<bool>, timeout_ms: u64) -> bool {
    client.timeout.start(timeout_ms);
    poll_fn(|cx| {
        if secured.get() {
            return Poll::Ready(true);
        }
        if let Poll::Ready(true) = client.stream.poll_closed(cx) {
            return Poll::Ready(false);
        }
        client.timeout.poll_elapsed(cx).map(|TimedOut| false)
    })
    .await
}

/// Serves the request whose head is in the exchange.
pub(super) async fn serve(
    guard: ConnGuard,
    stream: Stream,
    mut exchange: Box<Exchange>,
    generation: Pinned,
    opened: Opened,
) -> StreamEnd {
    let ConnGuard { thread, conn_state, .. } = &guard;
    let mut client = Client::new(stream, thread, conn_state);
    exchange.reset(&generation.config, thread.clock.now());
    if let Some(secured) = opened.secured {
        exchange.request.is_early = true;
        if !exchange.request.is_safe() {
            let scope = generation.default_scope(exchange.connection.listener);
            let timeout_ms = *generation.config.location(scope).settings.core.head.timeout_ms;
            if !is_secured(&mut client, &secured, timeout_ms).await {
                thread.buffers.give_back_exchange(exchange);
                return StreamEnd::Broken;
            }
            exchange.request.is_early = false;
        }
    }
    conn_state.serve(generation.number);
    let mut busy = thread.counters.busy();
    busy.answers();
    let span = Span::none();
    let mut cx = RequestCx {
        client: &mut client,
        exchange: &mut exchange,
        generation: &generation,
        run_inner,
        begin_inner,
        span,
    };
    let head = match opened.refused {
        None => Head::Whole,
        Some(fault) => Head::Refused(with_env(thread, &generation, |env| {
            start_request::reject(cx.exchange, env, fault, b"")
        })),
    };
    let (after, was_cut) = answer::serve(&mut cx, head).await;
    let timeout_ms = *cx.settings().core.send.timeout_ms;
    let is_whole = matches!(after, After::Next | After::Close) && cx.exchange.output.ended();
    drop(busy);
    let has_gone = match after {
        After::Cut => false,
        _ => drained(&mut client, timeout_ms).await,
    };
    client.read_buffer.consume(client.read_buffer.unread().len());
    client.read_buffer.release(&thread.buffers);
    conn_state.serve(0);
    thread.buffers.give_back_exchange(exchange);
    match () {
        () if was_cut => StreamEnd::Cut,
        () if is_whole && has_gone => StreamEnd::Answered,
        () => StreamEnd::Broken,
    }
}

/// Waits until the connection has framed all of the answer. Returns false if it has not for too long: its client takes
/// nothing (`send_timeout`).
async fn drained(client: &mut Client, timeout_ms: u64) -> bool {
    let mut unsent = usize::MAX;
    poll_fn(|cx| {
        loop {
            match client.stream.poll_unsent(cx, unsent) {
                Poll::Ready(Ok(0)) => return Poll::Ready(true),
                Poll::Ready(Ok(left)) => {
                    unsent = left;
                    client.timeout.start(timeout_ms);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return client.timeout.poll_elapsed(cx).map(|TimedOut| false),
            }
        }
    })
    .await
}
