//! The header of the PROXY protocol, which comes before a connection's first request (`listen … proxy_protocol`).
//!
//! Owns how long it is waited for, and that a connection without one is closed. What it says is the engine's to use.

use crate::context::generation::Pinned;
use crate::context::listen_socket::ListenSocket;
use crate::context::thread_context::ThreadContext;
use crate::context::timeout::TimedOut;
use crate::request::client::Client;
use crate::request::host::with_env;
use engine::exchange::{Connection, ProxyProtocol};
use engine::host::Level;
use engine::log_line;
use http::{Progress, proxy_protocol};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;

/// Returns the state of a connection just accepted: a header is awaited, or there is none.
pub(crate) fn expected(
    thread: &ThreadContext,
    socket: &ListenSocket,
    local: Option<SocketAddr>,
) -> Option<Box<ProxyProtocol>> {
    let (generation, listener) = socket.serving(thread.generation())?;
    let servers = generation.config.listeners.get(listener)?.servers_at(local);
    servers.proxy_protocol.then(|| Box::new(ProxyProtocol::Awaited))
}

/// Returns true if a connection's header is still to come.
pub(crate) fn is_awaited(connection: &Connection) -> bool {
    matches!(connection.proxy_protocol.as_deref(), Some(ProxyProtocol::Awaited))
}

/// Reads the header; the buffer holds its first bytes. Returns false if there is none, so that the connection must be closed.
pub(crate) async fn read(client: &mut Client, connection: &mut Connection, generation: &Pinned) -> bool {
    let scope = generation.default_scope(connection.listener);
    let timeout_ms = *generation.config.location(scope).settings.core.head.timeout_ms;
    let age_ms = client.thread.clock.now().monotonic_ms().saturating_sub(connection.opened.monotonic_ms());
    client.timeout.start(timeout_ms.saturating_sub(age_ms));
    let mut text = Vec::new();
    let level = loop {
        match proxy_protocol::decode(client.read_buffer.unread()) {
            Ok((Progress::Complete { consumed }, header)) => {
                client.read_buffer.consume(consumed);
                connection.proxy_protocol = header.map(|header| Box::new(ProxyProtocol::Header(header)));
                return true;
            }
            Ok((Progress::Partial, _)) => {}
            Err(fault) => {
                fault.append_to(&mut text);
                break Level::Error;
            }
        }
        let filled = poll_fn(|cx| {
            if let Poll::Ready(filled) = client.poll_fill(cx) {
                return Poll::Ready(Ok(filled));
            }
            client.timeout.poll_elapsed(cx).map(Err)
        })
        .await;
        match filled {
            Ok(Ok(1..)) => {}
            Err(TimedOut) => {
                text.extend_from_slice(b"client timed out (110: Connection timed out)");
                break Level::Info;
            }
            // nginx takes what has come for the whole header.
            _ => {
                proxy_protocol::cut_short(client.read_buffer.unread()).append_to(&mut text);
                break Level::Error;
            }
        }
    };
    text.extend_from_slice(b" while reading PROXY protocol");
    with_env(&client.thread, generation, |env| log_line::connection_error(connection, env, level, &text));
    false
}
