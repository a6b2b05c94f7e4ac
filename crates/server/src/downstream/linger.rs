//! The close of a client's connection after its last response (`lingering_close`).

use crate::context::generation::Pinned;
use crate::request::client::Client;
use engine::LocationId;
use engine::modules::core::LingeringClose;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// Closes so that the client gets the whole response: our end first, then reading what it still sends for a while
/// (`lingering_close`). A close with unread bytes would be a reset, which can destroy the response on its way.
pub(super) async fn linger(client: &mut Client, generation: &Pinned, scope: LocationId) {
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
