//! A client's connection while HTTP/1 requests come: one after another, each from its head to its log line.

use crate::context::generation::{Generation, Pinned};
use crate::context::listen_socket::ListenSocket;
use crate::context::metrics;
use crate::context::timeout::{TimedOut, Timeout};
use crate::downstream::conn::{ConnGuard, IdleConn};
use crate::downstream::proxy_protocol;
use crate::downstream::tls;
use crate::proxy;
use crate::request::client::Client;
use crate::request::cx::RequestCx;
use crate::request::host::with_env;
use crate::request::report;
use crate::request::respond::Unfinished;
use crate::switching::in_flight::Ended;
use crate::switching::in_flight_guard::InFlightGuard;
use crate::switching::{api, publish};
use crate::trace;
use engine::exchange::{Body, Connection};
use engine::host::Level;
use engine::modules::core::{self, LingeringClose};
use engine::output::Framing;
use engine::phase::{self, Content, Step, Wake};
use engine::{Exchange, LocationId, start_request};
use http::{BodyFraming, ChunkError, Known, Progress};
use statistics::RoutedRequest;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::task::coop;
use tracing::Span;
use transport::body_reader::BodyReader;
use transport::read_buffer::ReadBuffer;

/// The step after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The next request on the same connection.
    Next,
    /// An orderly close, which reads what the client still sends.
    Close,
    /// The same, after a response that is not whole, as its framing tells the client.
    BreakOff,
    /// A close at once.
    Cut,
}

/// Serves one request after another, until the connection is idle again or closed.
pub(crate) async fn requests(idle: &mut IdleConn) {
    let Some(stream) = idle.stream.take() else { return };
    let ConnGuard { thread, conn_state, .. } = &idle.guard;
    let mut client = Client {
        stream,
        timeout: Timeout::new(thread, conn_state),
        read_buffer: ReadBuffer::default(),
        body: BodyReader::Done,
        owes_continue: false,
        in_flight: InFlightGuard::new(thread, conn_state),
        conn_state: Rc::clone(conn_state),
        thread: Rc::clone(thread),
    };
    let mut pipelined = false;
    let after = loop {
        if idle.connection.requests == 0 && tls::is_awaited(&client, &mut idle.connection, &idle.socket) {
            match Box::pin(tls::accept(client, &mut idle.connection, &idle.socket)).await {
                Some(accepted) => client = accepted,
                None => return,
            }
        }
        if client.read_buffer.is_empty() {
            match poll_fn(|cx| Poll::Ready(client.poll_fill(cx))).await {
                Poll::Ready(Ok(1..)) => pipelined = false,
                Poll::Ready(_) => break After::Cut,
                Poll::Pending => break After::Next,
            }
        }
        if proxy_protocol::is_awaited(&idle.connection) {
            let Some((generation, listener)) = idle.socket.serving(client.thread.generation()) else {
                break After::Cut;
            };
            idle.connection.listener = listener;
            if !proxy_protocol::read(&mut client, &mut idle.connection, &generation).await {
                break After::Cut;
            }
            continue;
        }
        let after = next_request(&mut client, &mut idle.connection, &idle.socket, pipelined).await;
        if after != After::Next {
            break after;
        }
        // Yield between pipelined requests, so that one client cannot monopolise the thread.
        pipelined = true;
        coop::consume_budget().await;
    };
    if after == After::Close {
        let generation = client.thread.generation();
        linger(&mut client, &generation, LocationId(0)).await;
    }
    client.read_buffer.consume(client.read_buffer.unread().len());
    client.read_buffer.release(&client.thread.buffers);
    idle.stream = (after == After::Next).then_some(client.stream);
}

/// Serves one request under the configuration in force.
async fn next_request(
    client: &mut Client,
    connection: &mut Connection,
    socket: &ListenSocket,
    pipelined: bool,
) -> After {
    let thread = Rc::clone(&client.thread);
    let Some((generation, listener)) = socket.serving(thread.generation()) else { return After::Close };
    connection.listener = listener;
    let mut exchange = thread.buffers.lease_exchange();
    std::mem::swap(&mut exchange.connection, connection);
    exchange.reset(&generation.config, thread.clock.now());
    exchange.response.close = thread.quitting.get() || socket.is_given_up();
    exchange.request.pipelined = pipelined;
    client.conn_state.serve(generation.number);
    let span = Span::none();
    let mut cx = RequestCx { client, exchange: &mut exchange, generation: &generation, span };
    let after = request(&mut cx).await;
    client.conn_state.serve(0);
    exchange.realip.restore(&mut exchange.connection);
    std::mem::swap(&mut exchange.connection, connection);
    thread.buffers.give_back_exchange(exchange);
    after
}

/// Serves one request: its head, its response, its log line.
async fn request(cx: &mut RequestCx<'_>) -> After {
    let thread = Rc::clone(&cx.client.thread);
    let mut busy = thread.counters.busy();
    let head = read_head(cx).await;
    busy.answers();
    let step = match head {
        Head::Whole => {
            thread.counters.request();
            cx.span = trace::request(cx.exchange);
            begin_request(cx)
        }
        Head::Refused(status) => {
            thread.counters.request();
            cx.engine(|exchange, env| phase::refuse(exchange, env, status))
        }
        Head::None => return After::Cut,
    };
    let after = answer(cx, step).await;
    finish(cx);
    end_switching(cx, after);
    trace::responded(&cx.span, cx.exchange);
    drop(busy);
    let after = match after {
        After::Next => settle_body(cx).await,
        after => after,
    };
    if matches!(after, After::Close | After::BreakOff) {
        // A body whose length was not accepted comes all the same.
        let request = &cx.exchange.request;
        if request.framing == BodyFraming::None && request.head.headers.has(Known::TransferEncoding) {
            cx.client.body = BodyReader::UntilClose;
        }
        linger(cx.client, cx.generation, cx.exchange.route.location).await;
        return After::Cut;
    }
    after
}

enum Head {
    /// It was decoded.
    Whole,
    /// It cannot be served: this status is the response.
    Refused(u16),
    /// The client went away before there was a request.
    None,
}

async fn read_head(cx: &mut RequestCx<'_>) -> Head {
    let config = &cx.generation.config;
    let limits = start_request::head_limits(config, cx.exchange.connection.listener);
    cx.exchange.request.head.clear();
    let scope = cx.generation.default_scope(cx.exchange.connection.listener);
    let timeout_ms = *config.location(scope).settings.core.head.timeout_ms;
    // The time is for the whole head, not for each read, so that a trickle of bytes cannot hold a connection.
    cx.client.timeout.start(timeout_ms);
    loop {
        match cx.exchange.request.head.decode(cx.client.read_buffer.unread(), &limits) {
            Ok(Progress::Complete { consumed }) => {
                cx.client.read_buffer.consume(consumed);
                return Head::Whole;
            }
            Ok(Progress::Partial) => {}
            Err(fault) => {
                // What is left unread says that more may come: see `linger`.
                let unread = cx.client.read_buffer.unread();
                let status = with_env(&cx.client.thread, cx.generation, |env| {
                    start_request::reject(cx.exchange, env, fault, unread)
                });
                return Head::Refused(status);
            }
        }
        let (client, head) = (&mut *cx.client, &mut cx.exchange.request.head);
        let filled = poll_fn(|cx| {
            if let Poll::Ready(filled) = client.poll_fill(cx) {
                return Poll::Ready(Ok(filled));
            }
            // It takes room for what has come, however long the rest is in coming.
            client.read_buffer.consume(head.forget_lines());
            client.read_buffer.shrink(&client.thread.buffers);
            client.timeout.poll_elapsed(cx).map(Err)
        })
        .await;
        let (status, text) = match filled {
            Ok(Ok(1..)) => continue,
            // nginx logs 408 and closes without a response.
            Err(TimedOut) => (408, "client timed out (110: Connection timed out)"),
            _ => (400, "client prematurely closed connection"),
        };
        if cx.exchange.request.head.has_begun() {
            cx.engine(core::choose_server);
            cx.log(Level::Info, text);
            // `reset_timedout_connection`: the client's buffers in the kernel are freed at once.
            if status == 408 && *cx.settings().core.send.reset_timedout {
                cx.client.stream.reset_on_close();
            }
            cx.exchange.response.status = status;
            finish(cx);
        }
        return Head::None;
    }
}

fn begin_request(cx: &mut RequestCx<'_>) -> Step {
    publish::check_mailbox(&cx.client.thread);
    let RequestCx { client, exchange, generation, span } = cx;
    let span = trace::phase(span, exchange);
    let (thread, body, owes_continue) = (&client.thread, &mut client.body, &mut client.owes_continue);
    let step = with_env(thread, generation, |env| match start_request::start(exchange, env) {
        Ok(()) => {
            *body = BodyReader::new(exchange.request.framing);
            let head = &exchange.request.head;
            *owes_continue = !body.is_done() && http::framing::expects_continue(head.version, &head.headers);
            #[cfg(debug_assertions)]
            crate::worker::panics::provoked::panic_at(&exchange.request.uri);
            phase::advance(exchange, env)
        }
        Err(status) => {
            exchange.response.close = true;
            phase::refuse(exchange, env, status)
        }
    });
    trace::stepped(&span, &step);
    step
}

/// Walks on through the phases.
fn advance(cx: &mut RequestCx<'_>) -> Step {
    let span = trace::phase(&cx.span, cx.exchange);
    let step = cx.engine(phase::advance);
    trace::stepped(&span, &step);
    step
}

/// How many responses to one request may fail before its connection is cut.
const MAX_REFUSALS: u32 = 3;

/// Does what the engine asks until there is a response, and sends that.
async fn answer(cx: &mut RequestCx<'_>, mut step: Step) -> After {
    let mut refusals = 0;
    loop {
        cx.track_choices();
        let result = match step {
            Step::Wait(effect) => match cx.perform(effect).await {
                Ok(wake) => {
                    if let Wake::Failed(status @ (408 | 499)) = wake {
                        cx.exchange.response.status = status;
                        return After::Cut;
                    }
                    cx.exchange.route.wake = Some(wake);
                    step = advance(cx);
                    continue;
                }
                Err(unfinished) => Err(unfinished),
            },
            Step::Drop => {
                if cx.exchange.response.status == 0 {
                    cx.exchange.response.status = 444;
                }
                return After::Cut;
            }
            Step::Written => cx.send_wire().await.map_err(Unfinished::from),
            Step::Serve(content) => serve_content(cx, content).await,
        };
        let output = &cx.exchange.output;
        match result {
            Ok(()) if output.keep_alive && is_whole(cx.exchange) => return After::Next,
            Ok(()) => return After::Close,
            // As in nginx: a close at once could destroy what is still on its way, even an earlier response.
            Err(Unfinished::Short) if output.framing != Framing::Close => return After::BreakOff,
            Err(Unfinished::Broken | Unfinished::Short) => {
                // Where only the close tells the end of the response, an orderly one would claim that it is whole.
                if output.framing == Framing::Close {
                    cx.client.stream.reset_on_close();
                }
                return After::Cut;
            }
            Err(Unfinished::Walk) => step = advance(cx),
            // nginx ends these without a response: the client no longer listens.
            Err(Unfinished::Status(status @ (408 | 499))) => {
                cx.exchange.response.status = status;
                return After::Cut;
            }
            Err(refused @ (Unfinished::Status(status) | Unfinished::Replaced(status))) => {
                // A filter that fails on the error page too would loop.
                refusals += 1;
                if refusals > MAX_REFUSALS {
                    return After::Cut;
                }
                cx.exchange.output.wire.clear();
                step = cx.engine(|exchange, env| match refused {
                    Unfinished::Replaced(_) => phase::replace(exchange, env, status),
                    _ => phase::refuse(exchange, env, status),
                });
            }
        }
    }
}

/// Returns true if as much was sent as the head promised. If not, the client would take the next response for the rest
/// of this one.
fn is_whole(exchange: &Exchange) -> bool {
    exchange.output.framing != Framing::Length
        || exchange.response.content_length.is_none_or(|len| len == exchange.output.body_len)
}

async fn serve_content(cx: &mut RequestCx<'_>, content: Content) -> Result<(), Unfinished> {
    if std::mem::take(&mut cx.exchange.request.discard_wanted)
        && !cx.client.owes_continue
        && discard_arrived(cx.client, cx.exchange).is_err()
    {
        return Err(Unfinished::Status(cx.bad_chunks()));
    }
    match content {
        Content::Bytes(body) => cx.serve_bytes(&body).await,
        Content::Empty => cx.serve_bytes(b"").await,
        Content::File { file, parts } => cx.serve_file(&file, &parts).await,
        Content::Proxy => proxy::serve(cx).await,
        Content::Control => api::serve(cx).await,
        Content::Report(report) => report::serve(cx, report).await,
    }
}

/// Discards what has already arrived of the body.
fn discard_arrived(client: &mut Client, exchange: &mut Exchange) -> Result<(), ChunkError> {
    while let Some(piece) = client.body.next(&mut client.read_buffer)? {
        if piece.done {
            client.body.finish();
            exchange.request.body = Body::Discarded;
            break;
        }
    }
    Ok(())
}

/// Counts the request for each key by which a switch was asked. Returns how long its upstreams took.
fn count_keys(exchange: &Exchange, generation: &Generation, is_stream: bool, failed: bool) -> Option<u64> {
    let end = metrics::request_end(&exchange.upstream.tries, exchange.response.status);
    generation.metrics.record(|recorder| {
        for choice in exchange.switches.choices() {
            let routed = RoutedRequest {
                key: &choice.key,
                target: &choice.target,
                revision: choice.route_revision,
                is_stream,
                failed,
            };
            recorder.key_ended(usize::from(choice.switch), &routed, &end);
        }
    });
    end.response_us
}

/// Ends what switches have chosen for the request.
fn end_switching(cx: &mut RequestCx<'_>, after: After) {
    let (is_stream, was_cut) = cx.client.conn_state.end_stream();
    if cx.exchange.switches.choices().is_empty() {
        return;
    }
    let failed = match cx.exchange.response.status {
        // The client's own doing, or the switch's policy for streams.
        499 => false,
        _ if was_cut => false,
        status => status >= 500 || status == 0 || matches!(after, After::Cut | After::BreakOff),
    };
    let response_us = count_keys(cx.exchange, cx.generation, is_stream, failed);
    cx.client.in_flight.leave(Ended { failed, is_stream, response_us });
}

/// Runs the log phase.
fn finish(cx: &mut RequestCx<'_>) {
    cx.engine(phase::log);
    cx.exchange.connection.sent_before += cx.exchange.output.sent;
}

/// Discards the rest of the request's body before the next request. Whether a client that waits for `100 Continue` will
/// send one cannot be known, so its connection is closed.
async fn settle_body(cx: &mut RequestCx<'_>) -> After {
    let core = &cx.settings().core;
    // 49 days are as good as no limit.
    let short = |ms| u32::try_from(ms).unwrap_or(u32::MAX);
    cx.exchange.connection.idle_timeout_ms = short(core.keepalive.idle.timeout_ms);
    cx.exchange.connection.idle_min_ms = short(*core.keepalive.min_ms);
    if cx.client.body.is_done() {
        return After::Next;
    }
    if cx.client.owes_continue {
        return After::Close;
    }
    let limit = Duration::from_millis(*core.send.lingering_time_ms);
    match tokio::time::timeout(limit, cx.discard_body()).await {
        Ok(Wake::Done) => After::Next,
        _ => After::Close,
    }
}

/// Closes so that the client gets the whole response: our end first, then reading what it still sends for a while
/// (`lingering_close`). A close with unread bytes would be a reset, which can destroy the response on its way.
async fn linger(client: &mut Client, generation: &Pinned, scope: LocationId) {
    let settings = &generation.config.location(scope).settings.core.send;
    if *settings.lingering_close == LingeringClose::Off {
        return;
    }
    let unread = !client.body.is_done() || !client.read_buffer.is_empty() || !client.stream.is_silent();
    if !unread && *settings.lingering_close != LingeringClose::Always {
        return;
    }
    client.stream.shut_down_write();
    let until = tokio::time::Instant::now() + Duration::from_millis(*settings.lingering_time_ms);
    // Its request is over: it may be closed to make room.
    client.thread.registry.mark_idle(&client.conn_state);
    loop {
        client.read_buffer.consume(client.read_buffer.unread().len());
        let Client { stream, read_buffer, timeout, thread, conn_state, .. } = client;
        let timeout_ms = *settings.lingering_timeout_ms;
        let more = poll_fn(|cx| {
            conn_state.register(cx);
            match conn_state.is_unwanted() {
                true => Poll::Ready(Ok(0)),
                false => read_buffer.poll_fill(cx, stream, &thread.buffers),
            }
        });
        let filled = timeout.wait(timeout_ms, more).await;
        if !matches!(filled, Ok(Ok(1..))) || tokio::time::Instant::now() >= until {
            return;
        }
    }
}
