//! A client's connection while it speaks HTTP/2.
//!
//! [`serve`] runs it while it has streams ([`session`]), each of which is served by a future of its own ([`stream`]) that the
//! connection's task polls ([`slot`]) and whose answer it frames. Between requests it is as idle as one of HTTP/1.

mod session;
mod slot;
mod stream;

use crate::context::conn_guard::ConnGuard;
use crate::context::listen_socket::ListenSocket;
use crate::context::timeout::TimedOut;
use crate::downstream::conn::{Carrier, Http2Conn, IdleConn};
use crate::downstream::linger::linger;
use crate::downstream::proxy_protocol;
use crate::request::client::Client;
use engine::LocationId;
use engine::config::Config;
use engine::exchange::Connection;
use http::h2::frame::PREFACE;
use http::h2::{H2Connection, H2Limits};
use session::{Session, SessionEnd};
use std::future::poll_fn;
use std::task::Poll;
use transport::body_reader::BodyReader;
use transport::stream::Stream;

/// Returns true if the handshake of TLS has agreed on HTTP/2.
pub(crate) fn is_agreed(connection: &Connection) -> bool {
    connection.tls.as_ref().is_some_and(|tls| tls.alpn.as_deref() == Some(b"h2"))
}

/// Returns true if a connection without a request may turn out to be HTTP/2 in clear.
pub(crate) fn may_begin(client: &Client, connection: &mut Connection, socket: &ListenSocket) -> bool {
    if !matches!(client.stream, Stream::Plain(_)) || client.read_buffer.unread().first() != PREFACE.first() {
        return false;
    }
    let Some((generation, listener)) = socket.serving(client.thread.generation()) else { return false };
    connection.listener = listener;
    let servers = generation.config.listeners[listener].servers_at(connection.local);
    !servers.ssl
        && !proxy_protocol::is_awaited(connection)
        && generation.config.speaks_http2(servers, servers.default)
}

/// Reads as many bytes as it takes to know whether the client begins with the preface, and leaves them there.
pub(crate) async fn has_begun(client: &mut Client, connection: &Connection) -> bool {
    let generation = client.thread.generation();
    let scope = generation.default_scope(connection.listener);
    client.timeout.start(*generation.config.location(scope).settings.core.head.timeout_ms);
    loop {
        let unread = client.read_buffer.unread();
        let here = unread.len().min(PREFACE.len());
        if unread[..here] != PREFACE[..here] {
            return false;
        }
        if here == PREFACE.len() {
            return true;
        }
        let filled = poll_fn(|cx| match client.poll_fill(cx) {
            Poll::Ready(filled) => Poll::Ready(matches!(filled, Ok(1..))),
            Poll::Pending => client.timeout.poll_elapsed(cx).map(|TimedOut| false),
        });
        if !filled.await {
            return false;
        }
    }
}

/// Turns a connection into one of HTTP/2.
pub(crate) fn begin(client: Client, connection: &Connection) -> Carrier {
    let generation = client.thread.generation();
    let limits = limits(&generation.config, connection);
    Carrier::Http2(Box::new(Http2Conn {
        stream: client.stream,
        codec: H2Connection::new(limits),
        read_buffer: client.read_buffer,
        checked: generation.number,
    }))
}

/// Returns what the configuration says about a connection: that of its address's default server, or over TLS that of the
/// server whose name the handshake had.
fn limits(config: &Config, connection: &Connection) -> H2Limits {
    let Some(listener) = config.listeners.get(connection.listener) else { return H2Limits::default() };
    let servers = listener.servers_at(connection.local);
    let name = connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
    let server = name.map_or(servers.default, |name| servers.by_name(name));
    let settings = &config.location(config.server(server).scope).settings;
    let (count, size) = *settings.core.head.large_buffers;
    H2Limits {
        max_streams: u32::try_from(*settings.core.http2.max_streams).unwrap_or(u32::MAX),
        initial_window: u32::try_from(*settings.core.http2.preread_size).unwrap_or(u32::MAX),
        max_list_bytes: usize::try_from(count.saturating_mul(size)).unwrap_or(usize::MAX),
    }
}

/// Serves the streams of a connection until it is idle again or closed.
pub(crate) async fn serve(idle: &mut IdleConn) {
    let Some(conn) = idle.carrier.take_http2() else { return };
    if let Some(conn) = run(conn, idle, BodyReader::UntilClose).await {
        idle.carrier = Carrier::Http2(conn);
    }
}

/// Runs a connection while it has something to do; returns it if it goes on. At its end the client is not cut off within
/// `coming`.
async fn run(conn: Box<Http2Conn>, idle: &mut IdleConn, coming: BodyReader) -> Option<Box<Http2Conn>> {
    let mut session = Session::new(conn, idle);
    let end = poll_fn(|cx| session.poll(cx)).await;
    let Session { conn, idle, .. } = session;
    match end {
        SessionEnd::Idle => return Some(conn),
        SessionEnd::Gone => {}
        SessionEnd::Said => {
            let ConnGuard { thread, conn_state, .. } = &idle.guard;
            let Http2Conn { stream, read_buffer, .. } = *conn;
            let mut client = Client::new(stream, thread, conn_state);
            (client.read_buffer, client.body) = (read_buffer, coming);
            let generation = thread.generation();
            linger(&mut client, &generation, LocationId(0)).await;
            client.read_buffer.consume(client.read_buffer.unread().len());
            client.read_buffer.release(&thread.buffers);
        }
    }
    None
}

/// Closes an idle connection: the client is told which request was the last, and first, if there is time for that, that
/// there should be no more.
pub(crate) async fn end(idle: &mut IdleConn) {
    let Some(mut conn) = idle.carrier.take_http2() else { return };
    if idle.guard.thread.quitting.get() || idle.socket.is_given_up() {
        conn.codec.announce_end();
    } else {
        conn.codec.name_last();
    }
    run(conn, idle, BodyReader::Done).await;
}
