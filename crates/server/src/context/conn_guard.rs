//! The state of what has a task (a connection, a stream, a request inside another one) is released with that task.

use crate::context::conn_state::{ConnState, OpenConn};
use crate::context::thread_context::ThreadContext;
use std::rc::Rc;

/// An open connection that has a task, and the state by which that is woken.
pub(crate) struct ConnGuard {
    pub(crate) thread: Rc<ThreadContext>,
    pub(crate) conn_state: Rc<ConnState>,
    /// Declared last, because it must be dropped last.
    open: Option<OpenConn>,
}

impl ConnGuard {
    /// Gives what has no connection of its own a state: a stream of HTTP/2, a request inside another one.
    pub(crate) fn without_connection(thread: Rc<ThreadContext>) -> ConnGuard {
        let conn_state = thread.registry.track();
        ConnGuard { thread, conn_state, open: None }
    }

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
