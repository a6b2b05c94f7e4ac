//! The body of a request as its script reads it, or all that its client sends: it goes in while the script waits. What the
//! script sends to the client past the answer goes out then, too.

use super::timer::LazyTimer;
use crate::request::client::Client;
use engine::Exchange;
use engine::network::{
    BodyTap, DialedConnection, Direction, Handshake, HandshakeFault, HandshakeRequest, TapEnd,
};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use transport::body_reader::BodyReader;

/// The script's end of a tapped body.
pub(super) struct TappedBody {
    tap: Rc<BodyTap>,
    reading: LazyTimer,
    writing: LazyTimer,
}

impl TappedBody {
    pub(super) fn new(tap: Rc<BodyTap>) -> TappedBody {
        TappedBody { tap, reading: LazyTimer::default(), writing: LazyTimer::default() }
    }
}

/// Sends what the script has sent to its client. Returns true if some of it has gone, or cannot go.
fn poll_outgoing(client: &mut Client, tap: &BodyTap, sent: &mut u64, cx: &mut Context<'_>) -> bool {
    let moved = tap.with_outgoing(|outgoing| {
        if outgoing.bytes.is_empty() {
            return false;
        }
        let mut done = 0;
        let polled = client.stream.poll_write_all(cx, &[&outgoing.bytes], &mut done);
        *sent += done as u64;
        outgoing.bytes.drain(..done);
        if let Poll::Ready(Err(_)) = polled {
            outgoing.bytes = Vec::new();
            outgoing.has_failed = true;
        }
        done > 0 || outgoing.has_failed
    });
    moved.unwrap_or(false)
}

/// Reads what the client sends, whatever it is.
fn poll_raw(client: &mut Client, tap: &BodyTap, cx: &mut Context<'_>) -> bool {
    client.body = BodyReader::UntilClose;
    if client.read_buffer.is_empty()
        && let filled @ (Poll::Pending | Poll::Ready(Ok(0) | Err(_))) = client.poll_fill(cx)
    {
        if filled.is_ready() {
            tap.end(TapEnd::Aborted);
        }
        return filled.is_ready();
    }
    let count = client.read_buffer.unread().len();
    let range = client.read_buffer.consume(count);
    tap.put(client.read_buffer.slice(range));
    true
}

/// Reads and sends on for the script that waits. Returns true if something has come or gone.
pub(crate) fn poll_tap(client: &mut Client, exchange: &mut Exchange, cx: &mut Context<'_>) -> bool {
    let Some(tap) = &exchange.script.tap else { return false };
    if tap.is_raw() {
        let has_gone = poll_outgoing(client, tap, &mut exchange.output.sent, cx);
        return tap.is_wanted() && poll_raw(client, tap, cx) || has_gone;
    }
    if !tap.is_wanted() {
        return false;
    }
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

impl DialedConnection for TappedBody {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.tap.take(buffer) {
            // Who polls the script's wait reads on, and polls again.
            None => Poll::Pending,
            Some(Ok(count)) => Poll::Ready(Ok(count)),
            Some(Err(_)) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.tap.send(bytes) {
            None => Poll::Pending,
            Some(Ok(count)) => Poll::Ready(Ok(count)),
            Some(Err(_)) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn poll_stirred(&mut self, _: &mut Context<'_>) -> Poll<bool> {
        Poll::Pending
    }

    fn start_timer(&mut self, direction: Direction, ms: u64) {
        match direction {
            Direction::Read => self.reading.start(ms),
            Direction::Write => self.writing.start(ms),
        }
    }

    fn poll_timer(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        match direction {
            Direction::Read => self.reading.poll(cx),
            Direction::Write => self.writing.poll(cx),
        }
    }

    fn begin_handshake(&mut self, _: &HandshakeRequest) -> Result<Handshake, HandshakeFault> {
        Err(HandshakeFault { text: "not supported for downstream sockets".to_owned(), log: None })
    }
}
