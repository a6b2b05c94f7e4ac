//! A client's connection from accept to close, as it is while it waits for a request.
//!
//! Owns what an idle connection keeps, and nothing that only a request needs: that is made when one comes (see
//! [`crate::connection`]). Must never read a byte.

use crate::connection::requests;
use crate::listeners::{Accepted, Socket};
use crate::patience::{Patience, TimedOut};
use crate::registry::Seat;
use crate::stream::Stream;
use crate::worker::Worker;
use engine::exchange::Connection;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

/// Serves a connection until it is closed. It counts as open from this call on, before its task runs for the first
/// time: a thread that is told to end in between waits for it.
pub(crate) fn serve(worker: Rc<Worker>, stream: Stream, accepted: Accepted) -> impl Future<Output = ()> {
    let seat = worker.registry.enter();
    worker.counters.opened();
    let connection = Connection {
        serial: worker.connection_serial.fetch_add(1, Relaxed) + 1,
        remote: accepted.remote,
        local: accepted.local,
        local_path: accepted.local_path,
        opened: worker.clock.now(),
        ..Connection::default()
    };
    let presence = Presence { worker, seat };
    let mut idle = Idle { presence, stream: Some(stream), socket: accepted.socket, connection };
    // A block and not a function: what a function is given lies in its future twice.
    async move {
        while await_request(&idle).await {
            // Boxed: what a request needs must not lie in an idle connection's task.
            Box::pin(requests(&mut idle)).await;
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
}

/// An open connection is counted as long as this is there, however its task ends: a quitting thread waits for the
/// last one.
pub(crate) struct Presence {
    pub(crate) worker: Rc<Worker>,
    pub(crate) seat: Rc<Seat>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.worker.deadlines.remove(&self.seat);
        self.worker.registry.leave(&self.seat);
        self.worker.counters.closed();
    }
}

/// Waits until there is something to read. `false` if there will be nothing.
async fn await_request(idle: &Idle) -> bool {
    let Idle { presence: Presence { worker, seat }, stream, socket, connection } = idle;
    let Some(stream) = stream else { return false };
    let Some(timeout_ms) = idle_timeout_ms(idle) else { return false };
    let mut patience = Patience::new(worker, seat);
    let mut started = false;
    let has_come = poll_fn(|cx| {
        seat.note(cx);
        if stream.poll_readable(cx).is_ready() {
            return Poll::Ready(true);
        }
        let is_over = worker.quitting.get() || socket.is_given_up();
        // A first request is waited for, and one that has arrived already is answered, with the word that it is the
        // last.
        if is_over && connection.requests > 0 && !stream.has_bytes() || seat.is_unwanted() {
            return Poll::Ready(false);
        }
        if !std::mem::replace(&mut started, true) {
            worker.registry.rest(seat);
            patience.start(timeout_ms);
        }
        patience.poll_up(cx).map(|TimedOut| false)
    })
    .await;
    if started {
        worker.registry.stir(seat);
    }
    has_come
}

/// How long a connection may be idle now; nothing if its address is no longer listened on: what had begun is finished
/// then, and nothing new begins.
fn idle_timeout_ms(idle: &Idle) -> Option<u64> {
    let (generation, listener) = idle.socket.place(&idle.presence.worker)?;
    if idle.connection.requests > 0 {
        return Some(idle.connection.idle_timeout_ms);
    }
    let scope = generation.default_scope(listener);
    Some(*generation.config.location(scope).settings.core.head.timeout_ms)
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
