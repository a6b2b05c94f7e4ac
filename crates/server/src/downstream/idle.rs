//! A client's connection from accept to close, except while it serves requests.
//!
//! Must never read a byte: [`crate::downstream::http1`] does.

use crate::context::conn_guard::ConnGuard;
use crate::context::listen_socket::ListenSocket;
use crate::context::thread_context::ThreadContext;
use crate::context::timeout::{TimedOut, Timeout};
use crate::downstream::conn::{Carrier, IdleConn};
use crate::downstream::parking::{Parked, spared_until_ms};
use crate::downstream::proxy_protocol;
use crate::downstream::{http1, http2};
use crate::trace;
use engine::exchange::Connection;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, ready};
use tokio::task::spawn_local;
use transport::stream::Stream;

/// A connection just accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// Where it came in.
    pub(crate) socket: Rc<ListenSocket>,
    /// The client's address; `None` over a unix socket.
    pub(crate) remote: Option<SocketAddr>,
    /// Our address; `None` over a unix socket.
    pub(crate) local: Option<SocketAddr>,
    /// Our path, over a unix socket.
    pub(crate) local_path: Option<Rc<Vec<u8>>>,
}

/// Serves a connection until it is closed. It counts as open from this call on, before its task first runs: a thread that
/// starts to quit in between waits for it.
pub(crate) fn serve(
    thread: Rc<ThreadContext>,
    stream: Stream,
    accepted: Accepted,
) -> impl Future<Output = ()> {
    let opened = thread.clock.now();
    let connection = Connection {
        serial: thread.counters.next_serial(),
        remote: accepted.remote,
        local: accepted.local,
        local_path: accepted.local_path,
        proxy_protocol: proxy_protocol::expected(&thread, &accepted.socket, accepted.local),
        opened,
        ..Connection::default()
    };
    trace::accept(&connection);
    let open = thread.registry.open();
    let guard = ConnGuard::new(thread, open);
    let since_ms = opened.monotonic_ms();
    resume(IdleConn { guard, carrier: Carrier::Http1(stream), socket: accepted.socket, connection, since_ms })
}

/// Serves an idle connection until it is closed, or parked because nothing comes.
#[allow(clippy::manual_async_fn, reason = "an async function would hold its argument twice in its future")]
fn resume(mut idle: IdleConn) -> impl Future<Output = ()> {
    async move {
        loop {
            match await_request(&idle).await {
                Coming::Request => {
                    let before = (idle.connection.requests, idle.connection.tls.is_some());
                    // Boxed: what a request needs must not take room in an idle connection's task.
                    match idle.carrier {
                        Carrier::Http2(_) => Box::pin(http2::serve(&mut idle)).await,
                        _ => Box::pin(http1::requests(&mut idle)).await,
                    }
                    // What has come may have been no request: a part of a TLS record.
                    if before != (idle.connection.requests, idle.connection.tls.is_some()) {
                        idle.since_ms = idle.guard.thread.clock.now().monotonic_ms();
                    }
                }
                Coming::Silence => match park(idle) {
                    Ok(()) => return,
                    Err(unparked) => idle = *unparked,
                },
                Coming::End => {
                    if matches!(idle.carrier, Carrier::Http2(_)) {
                        Box::pin(http2::end(&mut idle)).await;
                    }
                    return;
                }
            }
        }
    }
}

/// Parks a connection; returns one that cannot be parked.
fn park(mut idle: IdleConn) -> Result<(), Box<IdleConn>> {
    let thread = Rc::clone(&idle.guard.thread);
    let Some(until_ms) = idle.until_ms() else { return Err(Box::new(idle)) };
    let Some(stream) = idle.carrier.take_http1() else { return Err(Box::new(idle)) };
    // Before it leaves the event loop: if it cannot be watched here, it stays there.
    if !thread.parking.watch(&stream) {
        idle.carrier = Carrier::Http1(stream);
        return Err(Box::new(idle));
    }
    let IdleConn { guard, socket, connection, since_ms, .. } = idle;
    match (guard.into_open(), stream.set_aside()) {
        (Some(open), Ok(stream)) => {
            thread.parking.keep(until_ms, Parked { open, stream, socket, connection, since_ms });
        }
        // It is closed.
        (_, Err(error)) => thread.log_unwatched(&error),
        (None, Ok(_)) => {}
    }
    Ok(())
}

/// Gives parked connections a task again as soon as they need one. Runs until the event loop ends.
pub(crate) async fn resume_parked(thread: Rc<ThreadContext>) {
    thread
        .parking
        .keep_watching(|parked| {
            let Parked { open, stream, socket, connection, since_ms } = parked;
            match Stream::resume(stream) {
                Ok(stream) => {
                    let guard = ConnGuard::new(Rc::clone(&thread), open);
                    spawn_local(resume(IdleConn {
                        guard,
                        carrier: Carrier::Http1(stream),
                        socket,
                        connection,
                        since_ms,
                    }));
                }
                Err(error) => thread.log_unwatched(&error),
            }
        })
        .await;
}

/// How waiting for a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    /// There is something to read.
    Request,
    /// Nothing has come for a while: until something does, the connection needs no task.
    Silence,
    /// The connection is to be closed.
    End,
}

/// How long a connection is idle before it is parked, in ms: a client that asks again sooner is spared the round trip.
const PARKED_AFTER_MS: u64 = 3_000;

/// Waits until there is something to read.
async fn await_request(idle: &IdleConn) -> Coming {
    let Some(until_ms) = idle.until_ms() else { return Coming::End };
    let mut timeout = Timeout::new(&idle.guard.thread, &idle.guard.conn_state);
    // When it is to be parked; 0 until it really waits.
    let mut parked_ms = 0;
    let coming = poll_fn(|cx| {
        let IdleConn { guard: ConnGuard { thread, conn_state, .. }, carrier, connection, .. } = idle;
        let Some(stream) = carrier.stream() else { return Poll::Ready(Coming::End) };
        conn_state.register(cx);
        if stream.poll_readable(cx).is_ready() {
            return Poll::Ready(Coming::Request);
        }
        let now_ms = thread.clock.now().monotonic_ms();
        let is_over = thread.quitting.get() || idle.socket.is_given_up();
        // A first request is waited for, and one that has already arrived is answered, as the last one.
        let is_unwanted =
            is_over && connection.requests > 0 && !stream.has_bytes() || conn_state.is_unwanted();
        let spared_ms = spared_until_ms(connection, idle.since_ms);
        if is_unwanted && spared_ms <= now_ms {
            return Poll::Ready(Coming::End);
        }
        if parked_ms == 0 {
            thread.registry.mark_idle(conn_state);
            parked_ms = now_ms + PARKED_AFTER_MS;
        }
        // One of HTTP/2 has more than a stream, and is not parked.
        let parked_ms = if matches!(carrier, Carrier::Http2(_)) { u64::MAX } else { parked_ms };
        let due_ms = until_ms.min(if is_unwanted { spared_ms } else { parked_ms });
        timeout.start(due_ms.saturating_sub(now_ms));
        let TimedOut = ready!(timeout.poll_elapsed(cx));
        if now_ms < until_ms {
            return Poll::Ready(Coming::Silence);
        }
        // A request that came just in time may not have reached the event loop yet.
        if stream.has_bytes() { Poll::Pending } else { Poll::Ready(Coming::End) }
    })
    .await;
    if parked_ms > 0 {
        idle.guard.thread.registry.mark_active(&idle.guard.conn_state);
    }
    coming
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the size of the future that a function makes.
    fn size<F>(_: fn(Rc<ThreadContext>, Stream, Accepted) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        // It comes on top of the event loop's own entry for the socket, a `ConnState` and an entry among the deadlines.
        let bytes = size(serve);
        assert!(bytes <= 352, "{bytes}");
    }
}
