//! A client's connection while HTTP/1 requests come: one after another, each from its head to its log line.

use crate::context::conn_guard::ConnGuard;
use crate::context::listen_socket::ListenSocket;
use crate::context::timeout::TimedOut;
use crate::downstream::answer::{self, After, Head, begin_inner, run_inner};
use crate::downstream::conn::{Carrier, IdleConn};
use crate::downstream::http2;
use crate::downstream::linger::linger;
use crate::downstream::proxy_protocol;
use crate::downstream::tls;
use crate::request::client::Client;
use crate::request::cx::RequestCx;
use crate::request::host::with_env;
use engine::exchange::Connection;
use engine::host::Level;
use engine::modules::core;
use engine::phase::Wake;
use engine::{LocationId, start_request};
use http::{BodyFraming, Known, Progress};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::task::coop;
use tracing::Span;
use transport::body_reader::BodyReader;

/// Serves one request after another, until the connection is idle again or closed.
pub(crate) async fn requests(idle: &mut IdleConn) {
    let Some(stream) = idle.carrier.take_http1() else { return };
    let ConnGuard { thread, conn_state, .. } = &idle.guard;
    let mut client = Client::new(stream, thread, conn_state);
    let mut pipelined = false;
    let after = loop {
        if idle.connection.requests == 0 && tls::is_awaited(&client, &mut idle.connection, &idle.socket) {
            match Box::pin(tls::accept(client, &mut idle.connection, &idle.socket)).await {
                Some(accepted) => client = accepted,
                None => return,
            }
            if http2::is_agreed(&idle.connection) {
                idle.carrier = http2::begin(client, &idle.connection);
                return Box::pin(http2::serve(idle)).await;
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
        if idle.connection.requests == 0
            && http2::may_begin(&client, &mut idle.connection, &idle.socket)
            && Box::pin(http2::has_begun(&mut client, &idle.connection)).await
        {
            idle.carrier = http2::begin(client, &idle.connection);
            return Box::pin(http2::serve(idle)).await;
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
    if after == After::Next {
        idle.carrier = Carrier::Http1(client.stream);
    }
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
    let mut cx =
        RequestCx { client, exchange: &mut exchange, generation: &generation, run_inner, begin_inner, span };
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
    let Some(head) = read_head(cx).await else { return After::Cut };
    if cx.client.stream.is_early() && !settle_early(cx).await {
        return After::Cut;
    }
    busy.answers();
    let (after, _) = answer::serve(cx, head).await;
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

/// Reads a head; `None` if the client went away before there was one.
async fn read_head(cx: &mut RequestCx<'_>) -> Option<Head> {
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
                return Some(Head::Whole);
            }
            Ok(Progress::Partial) => {}
            Err(fault) => {
                // What is left unread says that more may come: see `linger`.
                let unread = cx.client.read_buffer.unread();
                let status = with_env(&cx.client.thread, cx.generation, |env| {
                    start_request::reject(cx.exchange, env, fault, unread)
                });
                return Some(Head::Refused(status));
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
            answer::finish(cx);
        }
        return None;
    }
}

/// Judges a request that came before the end of the handshake: what may change something waits for that end. Returns false if
/// it does not come.
#[cold]
async fn settle_early(cx: &mut RequestCx<'_>) -> bool {
    cx.exchange.request.is_early = true;
    if cx.exchange.request.is_safe() {
        return true;
    }
    let scope = cx.generation.default_scope(cx.exchange.connection.listener);
    let timeout_ms = *cx.generation.config.location(scope).settings.core.head.timeout_ms;
    let client = &mut *cx.client;
    client.timeout.start(timeout_ms);
    let secured = poll_fn(|cx| match client.stream.poll_secured(cx) {
        Poll::Ready(secured) => Poll::Ready(Ok(matches!(secured, Ok(true)))),
        Poll::Pending => client.timeout.poll_elapsed(cx).map(Err),
    })
    .await;
    cx.exchange.request.is_early = false;
    let (status, text) = match secured {
        Ok(true) => return true,
        Ok(false) => (400, "client prematurely closed connection while SSL handshaking"),
        Err(TimedOut) => (408, "client timed out (110: Connection timed out) while SSL handshaking"),
    };
    cx.engine(core::choose_server);
    cx.log(Level::Info, text);
    cx.exchange.response.status = status;
    answer::finish(cx);
    false
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
