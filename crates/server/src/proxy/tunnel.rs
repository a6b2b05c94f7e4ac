//! After `101 Switching Protocols`: bytes both ways until both sides are done (RFC 9110 §7.8).

use super::pool::Link;
use crate::client::{Client, write_all};
use crate::input::Input;
use crate::stream::Stream;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Bytes of the input's front that were written already.
    done: usize,
    /// The sender has ended.
    ended: bool,
    /// The end was passed on.
    closed: bool,
    /// Bytes in all.
    moved: u64,
}

/// How a tunnel ended, and what went through it.
#[derive(Debug)]
pub(crate) struct Tunnelled {
    /// From the client to the upstream, in bytes.
    pub(crate) up: u64,
    /// From the upstream to the client, in bytes.
    pub(crate) down: u64,
    /// Nothing moved for too long.
    pub(crate) timed_out: bool,
    /// Reading from the upstream failed: it did not end in an orderly way.
    pub(crate) broken: Option<io::Error>,
}

/// Passes bytes both ways; ends when both sides have ended, one has failed, or nothing moved for so many ms.
pub(crate) async fn tunnel(client: &mut Client, link: &mut Link, timeout_ms: u64) -> Tunnelled {
    let (mut up, mut down) = (Way::default(), Way::default());
    let mut seen = u64::MAX;
    let mut broken = None;
    let timed_out = poll_fn(|cx| {
        let Client { stream, input, worker, patience, .. } = &mut *client;
        let there = up.poll(cx, (stream, input), &mut link.stream, &worker.buffers);
        let back = down.poll(cx, (&mut link.stream, &mut link.input), stream, &worker.buffers);
        match (there, back) {
            (_, Err(Broken::Reading(error))) => {
                broken = Some(error);
                return Poll::Ready(false);
            }
            (Err(_), _) | (_, Err(_)) => return Poll::Ready(false),
            _ if up.closed && down.closed => return Poll::Ready(false),
            // nginx ends a tunnel as soon as the upstream has.
            _ if down.closed => return Poll::Ready(false),
            _ => {}
        }
        if seen != up.moved + down.moved {
            seen = up.moved + down.moved;
            patience.start(timeout_ms);
        }
        patience.poll_up(cx).map(|_| true)
    })
    .await;
    Tunnelled { up: up.moved, down: down.moved, timed_out, broken }
}

/// What ended a direction before its time.
#[derive(Debug)]
enum Broken {
    /// Its sender failed.
    Reading(io::Error),
    /// Its receiver did.
    Writing,
}

impl Way {
    /// Moves what can be moved.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (from, input): (&mut Stream, &mut Input),
        to: &mut Stream,
        buffers: &crate::buffers::Buffers,
    ) -> Result<(), Broken> {
        loop {
            if !input.is_empty() {
                let before = self.done;
                let written = write_all(to, cx, &[input.unread()], &mut self.done);
                self.moved += (self.done - before) as u64;
                match written {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(result) => result.map_err(|_| Broken::Writing)?,
                }
                input.consume(std::mem::take(&mut self.done));
                input.release(buffers);
            }
            if self.ended {
                if !std::mem::replace(&mut self.closed, true) {
                    to.shut_down_write();
                }
                return Ok(());
            }
            match input.poll_fill(cx, from, buffers) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(Broken::Reading(error)),
            }
        }
    }
}
