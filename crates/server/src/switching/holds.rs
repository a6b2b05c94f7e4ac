//! Requests that wait for a hold to let them go.
//!
//! Owns the waiting: that a publication wakes the request, and that a client that goes away gives its place back. The hold
//! decides how many may wait and in which order they go.

use crate::context::thread_context::ThreadContext;
use crate::request::client::Client;
use crate::request::cx::RequestCx;
use engine::exchange::Body;
use engine::host::Level;
use engine::phase::Wake;
use std::future::poll_fn;
use std::task::Poll;
use switch::{HoldState, Ticket};

/// How a wait ended.
enum End {
    Go,
    TimedOut,
    ClientGone,
}

/// Returns the time of holds: the clock that all threads and the control plane share.
fn now_ms(thread: &ThreadContext) -> u64 {
    thread.clock.now().monotonic_ms()
}

/// Waits for the hold that has stopped the request.
pub(crate) async fn await_release(cx: &mut RequestCx<'_>) -> Wake {
    let Some(held) = cx.exchange.switches.awaited().cloned() else { return Wake::Done };
    let Some(mut ticket) = held.admit(buffered(cx), now_ms(&cx.client.thread)) else {
        cx.log(Level::Warn, "too many requests wait for a held key");
        return Wake::Failed(503);
    };
    match wait(cx.client, &mut ticket).await {
        End::Go => Wake::Done,
        End::TimedOut => {
            cx.log(Level::Warn, "the key was held for too long");
            Wake::Failed(503)
        }
        End::ClientGone => {
            cx.log(Level::Info, "client prematurely closed connection");
            Wake::Failed(499)
        }
    }
}

async fn wait(client: &mut Client, ticket: &mut Ticket) -> End {
    let Client { stream, timeout, thread, .. } = client;
    let mut watch_client = true;
    let mut armed = None;
    let mut noted = None;
    poll_fn(|cx| {
        loop {
            let now_ms = now_ms(thread);
            let until_ms = match ticket.poll(now_ms, cx.waker()) {
                HoldState::Go => return Poll::Ready(End::Go),
                HoldState::TimedOut => return Poll::Ready(End::TimedOut),
                HoldState::WaitUntil(ms) => ms,
                HoldState::Wait => ticket.deadline_ms(),
            };
            if watch_client {
                match stream.poll_closed(cx) {
                    Poll::Ready(true) => return Poll::Ready(End::ClientGone),
                    Poll::Ready(false) => watch_client = false,
                    Poll::Pending => {}
                }
            }
            if armed.replace(until_ms) != Some(until_ms) {
                timeout.start(until_ms.saturating_sub(now_ms));
            }
            thread.waiting.note(&mut noted, cx);
            match timeout.poll_elapsed(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => armed = None,
            }
        }
    })
    .await
}

/// Returns how much of a request is kept in memory while it waits, in bytes.
fn buffered(cx: &RequestCx<'_>) -> usize {
    let body = match &cx.exchange.request.body {
        Body::Memory(bytes) => bytes.len(),
        _ => 0,
    };
    cx.exchange.request.head.len() + body + cx.client.read_buffer.unread().len()
}
