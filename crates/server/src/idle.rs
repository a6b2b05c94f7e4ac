//! A client's connection from accept to close, as it is while it waits for a request.
//!
//! Owns what an idle connection keeps, and nothing that only a request needs: that is made when one comes (see
//! [`crate::connection`]). Must never read a byte.

use crate::connection::requests;
use crate::listeners::{Accepted, Socket};
use crate::parking::Parked;
use crate::patience::{Patience, TimedOut};
use crate::registry::Seat;
use crate::stream::Stream;
use crate::worker::Worker;
use engine::exchange::Connection;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};

/// Serves a connection until it is closed. It counts as open from this call on, before its task runs for the first
/// time: a thread that is told to end in between waits for it.
pub(crate) fn serve(worker: Rc<Worker>, stream: Stream, accepted: Accepted) -> impl Future<Output = ()> {
    let opened = worker.clock.now();
    let connection = Connection {
        serial: worker.counters.next_serial(),
        remote: accepted.remote,
        local: accepted.local,
        local_path: accepted.local_path,
        opened,
        ..Connection::default()
    };
    let presence = Presence::of_a_new_one(worker);
    let since_ms = opened.monotonic_ms();
    go_on(Idle { presence, stream: Some(stream), socket: accepted.socket, connection, since_ms })
}

/// Serves a connection that is idle, until it is closed or has been idle for so long that it is parked.
#[allow(clippy::manual_async_fn, reason = "what an async function is given lies in its future twice")]
pub(crate) fn go_on(mut idle: Idle) -> impl Future<Output = ()> {
    async move {
        loop {
            match await_request(&idle).await {
                Coming::Request => {
                    // Boxed: what a request needs must not lie in an idle connection's task.
                    Box::pin(requests(&mut idle)).await;
                    idle.since_ms = idle.presence.worker.clock.now().monotonic_ms();
                }
                Coming::Silence => match Parked::park(idle) {
                    Ok(()) => return,
                    Err(still_here) => idle = *still_here,
                },
                Coming::Nothing => return,
            }
        }
    }
}

/// What a connection is while it waits for a request. Most connections are idle most of the time: it must be small.
pub(crate) struct Idle {
    pub(crate) presence: Presence,
    /// Away while requests are served, and gone with the last one.
    pub(crate) stream: Option<Stream>,
    pub(crate) socket: Rc<Socket>,
    pub(crate) connection: Connection,
    /// Since when it is idle, on the thread's clock, in ms.
    pub(crate) since_ms: u64,
}

/// An open connection is counted as long as this is there, wherever it is kept: a quitting thread waits for the last
/// one.
pub(crate) struct Open {
    pub(crate) worker: Rc<Worker>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.registry.leave();
        self.worker.counters.closed();
    }
}

/// An open connection that has a task, and a seat where that can be woken.
pub(crate) struct Presence {
    pub(crate) worker: Rc<Worker>,
    pub(crate) seat: Rc<Seat>,
    /// Behind the seat, because it is to go last.
    open: Option<Open>,
}

impl Presence {
    fn of_a_new_one(worker: Rc<Worker>) -> Presence {
        worker.registry.enter();
        worker.counters.opened();
        Presence::of(Open { worker })
    }

    /// Gives an open connection a seat.
    pub(crate) fn of(open: Open) -> Presence {
        let worker = Rc::clone(&open.worker);
        let seat = worker.registry.seat();
        Presence { worker, seat, open: Some(open) }
    }

    /// The seat is free again; the connection is open still.
    pub(crate) fn leave_seat(mut self) -> Option<Open> {
        self.open.take()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.worker.deadlines.remove(&self.seat);
        self.worker.registry.rise(&self.seat);
    }
}

/// What comes of waiting for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    /// Something to read.
    Request,
    /// Nothing yet: it need not have a task as long as that is so.
    Silence,
    /// Nothing: the connection is to be closed.
    Nothing,
}

/// How long a connection is idle before it is parked, in ms: whoever asks again sooner is spared the ways there and
/// back.
const PARKED_AFTER_MS: u64 = 3_000;

/// Waits until there is something to read.
async fn await_request(idle: &Idle) -> Coming {
    let Some(until_ms) = idle.until_ms() else { return Coming::Nothing };
    let mut patience = Patience::new(&idle.presence.worker, &idle.presence.seat);
    // When it is parked; 0 until it really waits.
    let mut parked_ms = 0;
    let coming = poll_fn(|cx| {
        let Idle { presence: Presence { worker, seat, .. }, stream: Some(stream), connection, .. } = idle
        else {
            return Poll::Ready(Coming::Nothing);
        };
        seat.note(cx);
        if stream.poll_readable(cx).is_ready() {
            return Poll::Ready(Coming::Request);
        }
        let now_ms = worker.clock.now().monotonic_ms();
        let is_over = worker.quitting.get() || idle.socket.is_given_up();
        // A first request is waited for, and one that has arrived already is answered, with the word that it is the
        // last.
        let is_unwanted = is_over && connection.requests > 0 && !stream.has_bytes() || seat.is_unwanted();
        let spared_ms = spared_until_ms(connection, idle.since_ms);
        if is_unwanted && spared_ms <= now_ms {
            return Poll::Ready(Coming::Nothing);
        }
        if parked_ms == 0 {
            worker.registry.rest(seat);
            parked_ms = now_ms + PARKED_AFTER_MS;
        }
        let due_ms = until_ms.min(if is_unwanted { spared_ms } else { parked_ms });
        patience.start(due_ms.saturating_sub(now_ms));
        let TimedOut = ready!(patience.poll_up(cx));
        if now_ms < until_ms {
            return Poll::Ready(Coming::Silence);
        }
        // A request that has come just in time is not heard of yet: the event loop is about to tell.
        if stream.has_bytes() { Poll::Pending } else { Poll::Ready(Coming::Nothing) }
    })
    .await;
    if parked_ms > 0 {
        idle.presence.worker.registry.stir(&idle.presence.seat);
    }
    coming
}

/// Until when a connection that is idle since then is not closed before its time, on the thread's clock, in ms: a client
/// that asks again soon is to meet no close on its way (`keepalive_min_timeout`).
pub(crate) fn spared_until_ms(connection: &Connection, since_ms: u64) -> u64 {
    since_ms.saturating_add(u64::from(connection.idle_min_ms))
}

impl Idle {
    /// How long it may be idle, on the thread's clock, in ms; nothing if its address is no longer listened on: what had
    /// begun is finished then, and nothing new begins.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        let (generation, listener) = self.socket.place(&self.presence.worker)?;
        let timeout_ms = if self.connection.requests > 0 {
            u64::from(self.connection.idle_timeout_ms)
        } else {
            let scope = generation.default_scope(listener);
            *generation.config.location(scope).settings.core.head.timeout_ms
        };
        Some(self.since_ms.saturating_add(timeout_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How large what a function makes is.
    fn size<F>(_: fn(Rc<Worker>, Stream, Accepted) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        // Beside it lie what the event loop knows of the socket, a seat and an entry among the deadlines.
        let bytes = size(serve);
        assert!(bytes <= 352, "{bytes}");
    }
}
