//! The body of a request as its script reads it: what the client sends goes in while the script waits.

use super::timer::LazyTimer;
use crate::request::client::Client;
use engine::Exchange;
use engine::network::{BodyTap, Connection, Handshake, HandshakeFault, HandshakeRequest, Side, TapEnd};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The script's end of a tapped body.
pub(super) struct TappedBody {
    tap: Rc<BodyTap>,
    reading: LazyTimer,
}

impl TappedBody {
    pub(super) fn new(tap: Rc<BodyTap>) -> TappedBody {
        TappedBody { tap, reading: LazyTimer::default() }
    }
}

/// Reads on for the script that waits, if it waits for the body. Returns true if something came.
pub(crate) fn poll_tap(client: &mut Client, exchange: &mut Exchange, cx: &mut Context<'_>) -> bool {
    let Some(tap) = exchange.script.tap.as_ref().filter(|tap| tap.is_wanted()) else { return false };
    match client.body.next(&mut client.read_buffer) {
        Ok(Some(piece)) => {
            let bytes = client.read_buffer.slice(piece.range);
            exchange.request.length += bytes.len() as u64;
            tap.put(bytes);
            if piece.done {
                client.body.finish();
                client.read_buffer.release(&client.thread.buffers);
                tap.end(TapEnd::Whole);
            }
            true
        }
        Ok(None) => match client.poll_fill(cx) {
            Poll::Ready(Ok(count)) if count > 0 => true,
            Poll::Ready(_) => {
                tap.end(TapEnd::Aborted);
                true
            }
            Poll::Pending => false,
        },
        Err(_) => {
            tap.end(TapEnd::Aborted);
            true
        }
    }
}

impl Connection for TappedBody {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.tap.take(buffer) {
            // Who polls the script's wait reads on, and polls again.
            None => Poll::Pending,
            Some(Ok(count)) => Poll::Ready(Ok(count)),
            Some(Err(_)) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_stirred(&mut self, _: &mut Context<'_>) -> Poll<bool> {
        Poll::Pending
    }

    fn start_timer(&mut self, _: Side, ms: u64) {
        self.reading.start(ms);
    }

    fn poll_timer(&mut self, _: Side, cx: &mut Context<'_>) -> Poll<()> {
        self.reading.poll(cx)
    }

    fn begin_handshake(&mut self, _: &HandshakeRequest) -> Result<Handshake, HandshakeFault> {
        Err(HandshakeFault { text: "not supported for downstream sockets".to_owned(), log: None })
    }
}
