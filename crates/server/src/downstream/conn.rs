//! A client's connection while it waits for a request.
//!
//! Owns what an idle connection keeps, and nothing that only a request needs: that is made when one comes (see
//! [`crate::downstream::http1`]).

use crate::context::conn_state::{ConnState, OpenConn};
use crate::context::listen_socket::ListenSocket;
use crate::context::thread_context::ThreadContext;
use engine::exchange::Connection;
use std::rc::Rc;
use transport::stream::Stream;

/// A connection that waits for a request. Most connections are idle most of the time, so it must be small.
pub(crate) struct IdleConn {
    pub(crate) guard: ConnGuard,
    /// Taken while requests are served, and gone with the last one.
    pub(crate) stream: Option<Stream>,
    pub(crate) socket: Rc<ListenSocket>,
    pub(crate) connection: Connection,
    /// Since when it is idle, on the thread's clock, in ms.
    pub(crate) since_ms: u64,
}

impl IdleConn {
    /// Returns until when it may be idle, on the thread's clock, in ms; `None` if its address is no longer listened on:
    /// then what has begun is finished, and nothing new begins.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        let (generation, listener) = self.socket.serving(self.guard.thread.generation())?;
        let timeout_ms = if self.connection.requests > 0 {
            u64::from(self.connection.idle_timeout_ms)
        } else {
            let scope = generation.default_scope(listener);
            *generation.config.location(scope).settings.core.head.timeout_ms
        };
        Some(self.since_ms.saturating_add(timeout_ms))
    }
}

/// An open connection that has a task, and the state by which that is woken.
pub(crate) struct ConnGuard {
    pub(crate) thread: Rc<ThreadContext>,
    pub(crate) conn_state: Rc<ConnState>,
    /// Declared last, because it must be dropped last.
    open: Option<OpenConn>,
}

impl ConnGuard {
    /// Gives an open connection a state.
    pub(crate) fn new(thread: Rc<ThreadContext>, open: OpenConn) -> ConnGuard {
        let conn_state = thread.registry.track();
        ConnGuard { thread, conn_state, open: Some(open) }
    }

    /// Releases the state; the connection stays open.
    pub(crate) fn into_open(mut self) -> Option<OpenConn> {
        self.open.take()
    }
}

impl Drop for ConnGuard {
    fn drop(&mut self) {
        self.thread.deadlines.remove(&self.conn_state);
        self.thread.registry.release(&self.conn_state);
    }
}
