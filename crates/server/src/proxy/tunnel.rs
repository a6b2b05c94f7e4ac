//! After `101 Switching Protocols`: bytes both ways until both sides are done (RFC 9110, section 7.8).

use super::fault::UpstreamFault;
use super::upstream_conn::UpstreamConn;
use crate::request::client::Client;
use http::websocket::{FramePlace, SERVICE_RESTART};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use transport::read_buffer::ReadBuffer;
use transport::stream::Stream;

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Bytes of the buffer's front that were written already.
    done: usize,
    /// The sender has ended.
    ended: bool,
    /// The end was passed on.
    closed: bool,
    /// Bytes in all.
    moved: u64,
    /// The place among the frames that were written, if it is a WebSocket's.
    frames: Option<FramePlace>,
}

/// How a tunnel ended, and what went through it.
#[derive(Debug)]
pub(crate) struct Tunnelled {
    /// From the client to the upstream, in bytes.
    pub(crate) up: u64,
    /// From the upstream to the client, in bytes.
    pub(crate) down: u64,
    /// Why it ended, if not in an orderly way.
    pub(crate) fault: Option<UpstreamFault>,
}

/// Passes bytes both ways, until both sides have ended, one has failed, or nothing moved for `timeout_ms`. If it is cut, the
/// client of a WebSocket is told, unless that would end up inside a frame.
pub(crate) async fn tunnel(
    client: &mut Client,
    conn: &mut UpstreamConn,
    timeout_ms: u64,
    is_websocket: bool,
) -> Tunnelled {
    let (mut up, mut down) = (Way::default(), Way::default());
    down.frames = is_websocket.then(FramePlace::default);
    let mut seen = u64::MAX;
    let fault = poll_fn(|cx| {
        let Client { stream, read_buffer, thread, timeout, .. } = &mut *client;
        let there = up.poll(cx, stream, read_buffer, &mut conn.stream, &thread.buffers);
        let back = down.poll(cx, &mut conn.stream, &mut conn.read_buffer, stream, &thread.buffers);
        match (there, back) {
            (_, Err(Broken::Reading(error))) => {
                return Poll::Ready(Some(UpstreamFault::Read(error)));
            }
            (Err(_), _) | (_, Err(_)) => return Poll::Ready(None),
            _ if up.closed && down.closed => return Poll::Ready(None),
            // nginx ends a tunnel as soon as the upstream has.
            _ if down.closed => return Poll::Ready(None),
            _ => {}
        }
        if seen != up.moved + down.moved {
            seen = up.moved + down.moved;
            timeout.start(timeout_ms);
        }
        timeout.poll_elapsed(cx).map(|_| Some(UpstreamFault::TimedOut))
    })
    .await;
    if client.conn_state.is_cut() && down.frames == Some(FramePlace::Between) && !down.closed {
        say_goodbye(client).await;
    }
    Tunnelled { up: up.moved, down: down.moved, fault }
}

/// Sends a Close frame, as far as the client takes it at once.
async fn say_goodbye(client: &mut Client) {
    let mut done = 0;
    poll_fn(|cx| {
        let written = client.stream.poll_write_all(cx, &[SERVICE_RESTART], &mut done);
        Poll::Ready(written.is_ready())
    })
    .await;
}

/// The reason for an early end of a direction.
#[derive(Debug)]
enum Broken {
    /// Its sender failed.
    Reading(io::Error),
    /// Its receiver did.
    Writing,
}

impl Way {
    /// Moves as much as both streams allow.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        read_buffer: &mut ReadBuffer,
        to: &mut Stream,
        buffers: &transport::buffers::Buffers,
    ) -> Result<(), Broken> {
        loop {
            if !read_buffer.is_empty() {
                let before = self.done;
                let written = to.poll_write_all(cx, &[read_buffer.unread()], &mut self.done);
                self.moved += (self.done - before) as u64;
                if let Some(frames) = &mut self.frames {
                    frames.pass(&read_buffer.unread()[before..self.done]);
                }
                match written {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(result) => result.map_err(|_| Broken::Writing)?,
                }
                read_buffer.consume(std::mem::take(&mut self.done));
                read_buffer.release(buffers);
            }
            if self.ended {
                if !std::mem::replace(&mut self.closed, true) {
                    to.shut_down_write();
                }
                return Ok(());
            }
            match read_buffer.poll_fill(cx, from, buffers) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(Broken::Reading(error)),
            }
        }
    }
}
