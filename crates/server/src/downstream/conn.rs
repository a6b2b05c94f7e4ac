//! A client's connection while it waits for a request.
//!
//! Owns what an idle connection keeps, and nothing that only a request needs: that is made when one comes (see
//! [`crate::downstream::http1`]).

use crate::context::conn_guard::ConnGuard;
use crate::context::listen_socket::ListenSocket;
use engine::exchange::Connection;
use http::h2::H2Connection;
use std::rc::Rc;
use transport::read_buffer::ReadBuffer;
use transport::stream::Stream;

/// A connection that waits for a request. Most connections are idle most of the time, so it must be small.
pub(crate) struct IdleConn {
    pub(crate) guard: ConnGuard,
    /// Taken while requests are served, and gone with the last one.
    pub(crate) carrier: Carrier,
    pub(crate) socket: Rc<ListenSocket>,
    pub(crate) connection: Connection,
    /// Since when it is idle, on the thread's clock, in ms.
    pub(crate) since_ms: u64,
}

/// The carrier of a connection's requests.
pub(crate) enum Carrier {
    /// Nothing any more.
    Gone,
    /// HTTP/1, one after another, on the stream itself.
    Http1(Stream),
    /// HTTP/2.
    Http2(Box<Http2Conn>),
}

impl Carrier {
    /// Returns the connection's stream.
    pub(crate) fn stream(&self) -> Option<&Stream> {
        match self {
            Carrier::Gone => None,
            Carrier::Http1(stream) => Some(stream),
            Carrier::Http2(conn) => Some(&conn.stream),
        }
    }

    /// Takes the stream of HTTP/1 out.
    pub(crate) fn take_http1(&mut self) -> Option<Stream> {
        match std::mem::replace(self, Carrier::Gone) {
            Carrier::Http1(stream) => Some(stream),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Takes the connection of HTTP/2 out.
    pub(crate) fn take_http2(&mut self) -> Option<Box<Http2Conn>> {
        match std::mem::replace(self, Carrier::Gone) {
            Carrier::Http2(conn) => Some(conn),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// A connection of HTTP/2, without its streams.
pub(crate) struct Http2Conn {
    pub(crate) stream: Stream,
    pub(crate) codec: H2Connection,
    /// Bytes that came before it was known to be HTTP/2, or that are a part of a frame.
    pub(crate) read_buffer: ReadBuffer,
    /// Whether it was last seen under this generation that its TLS terms are those of its server.
    pub(crate) checked: u64,
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
