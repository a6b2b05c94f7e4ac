//! An answer's body on its way from the upstream to the client. One function, whatever the two sides speak.
//!
//! The fast way is a read, a write, a read: bytes go from the upstream's buffer to the client without a copy. A
//! client that cannot take them at once sends the relay into its slow way, if buffering is on: what waits is kept in
//! a [`Spool`], and the upstream is read on meanwhile.

use super::Proxying;
use super::pool::Link;
use super::spool::Spool;
use crate::body::{BodyReader, Piece};
use crate::client::{CUT, write_all};
use crate::files;
use crate::listeners::describe;
use crate::respond::Unfinished;
use engine::Exchange;
use engine::host::Level;
use engine::modules::core;
use engine::modules::proxy::{self, AnswerFraming};
use engine::output::{self, Framing};
use http::{BodyFraming, ChunkError};
use statistics::Failure;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// What holds for one relay.
struct Relay {
    body: BodyReader,
    spool: Spool,
    /// The client may lag behind.
    buffering: bool,
    /// What there is goes to the client before anything is waited for, if it is the head alone.
    at_once: bool,
    /// Lua or another filter must see the bytes.
    filtered: bool,
    /// Bytes a second from the upstream; 0 is without limit.
    limit_rate: u64,
    /// The part of the body that the client gets.
    range: Option<Range<u64>>,
    /// Bytes of body read so far.
    position: u64,
    read_ms: u64,
    send_ms: u64,
    watch_client: bool,
    began_us: u64,
    /// What had been sent, and whether anything waited, when the time last began to run.
    progress: Option<(u64, bool)>,
}

/// What came next.
enum Event {
    /// There are more bytes from the upstream.
    More,
    /// The upstream has ended.
    Ended,
    Failed(io::Error),
    ReadTimedOut,
    ClientGone,
    ClientTimedOut,
    SpoolFailed(io::Error),
    /// Its switch leads elsewhere, and streams of the old side are to end.
    Cut,
    /// The chunks are none.
    BadChunks,
}

/// An answer that runs for so long counts as a stream, in ms.
const STREAM_AFTER_MS: u64 = 5_000;

/// Are events promised that may be long in coming?
fn promises_events(exchange: &Exchange) -> bool {
    let kind = exchange.response.content_type.as_deref().unwrap_or_default();
    kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}

/// Says from when on this answer is a stream: at once where events are promised, else when it has run for a while.
fn note_stream(proxying: &Proxying<'_>) {
    let events = promises_events(proxying.exchange);
    let now_ms = proxying.client.worker.clock.now().monotonic_ms();
    proxying.client.seat.stream_from(if events { 0 } else { now_ms + STREAM_AFTER_MS });
}

/// Passes the answer on: its head and its body. Answers whether the connection may be used again.
pub(super) async fn relay(
    proxying: &mut Proxying<'_>,
    link: &mut Link,
    framing: AnswerFraming,
    uploaded: bool,
) -> Result<bool, Unfinished> {
    let mut relay = prepare(proxying, framing)?;
    note_stream(proxying);
    loop {
        if proxying.client.seat.is_cut() {
            return Err(give_up(proxying, &mut relay, Event::Cut).await);
        }
        loop {
            let piece = match next_piece(proxying, link, &mut relay) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(_) => return Err(give_up(proxying, &mut relay, Event::BadChunks).await),
            };
            let done = piece.done;
            pass_on(proxying, link, &mut relay, &piece).await?;
            if done {
                if matches!(framing.body, BodyFraming::Length(_)) && !link.input.is_empty() {
                    let text = "upstream sent more data than specified in \"Content-Length\" header while reading upstream";
                    proxying.say(Level::Warn, text);
                }
                finish(proxying, &mut relay).await?;
                return Ok(framing.keep_alive && uploaded && link.input.is_empty());
            }
        }
        if relay.at_once && !proxying.exchange.output.wire.is_empty() {
            send_head(proxying, &mut relay).await?;
        }
        throttle(proxying, &relay).await;
        match wait(proxying, link, &mut relay).await {
            Event::More => {}
            Event::Ended if matches!(relay.body, BodyReader::UntilClose) => {
                let end = Piece { range: 0..0, done: true };
                pass_on(proxying, link, &mut relay, &end).await?;
                finish(proxying, &mut relay).await?;
                return Ok(false);
            }
            event => return Err(give_up(proxying, &mut relay, event).await),
        }
    }
}

fn prepare(proxying: &mut Proxying<'_>, framing: AnswerFraming) -> Result<Relay, Unfinished> {
    let worker = Rc::clone(&proxying.client.worker);
    let began_us = worker.clock.now().monotonic_us;
    let generation = Rc::clone(proxying.generation);
    let connection = &generation.config.location(proxying.exchange.route.location).settings.proxy.connection;
    let quitting = worker.quitting.get();
    let relay = proxying.engine(|exchange, env| {
        exchange.response.close |= quitting;
        output::write_head(exchange, env)?;
        let plan = proxy::relay(exchange, env);
        let memory = (plan.buffer_count * plan.buffer_size + plan.head_size) as usize;
        Ok::<_, Unfinished>(Relay {
            body: BodyReader::new(framing.body),
            spool: Spool::new(memory, plan.max_temp_file_size),
            buffering: plan.buffering && core::limit_rate(exchange, env.config) == 0,
            at_once: !plan.buffering || promises_events(exchange),
            filtered: output::has_body_filter(exchange, env),
            limit_rate: plan.limit_rate,
            range: plan.range,
            position: 0,
            read_ms: *connection.read_timeout_ms,
            send_ms: *env.config.location(exchange.route.location).settings.core.send.timeout_ms,
            watch_client: !*connection.ignore_client_abort,
            began_us,
            progress: None,
        })
    })?;
    Ok(relay)
}

fn next_piece(
    proxying: &mut Proxying<'_>,
    link: &mut Link,
    relay: &mut Relay,
) -> Result<Option<Piece>, ChunkError> {
    let before = link.input.unread().len();
    let piece = relay.body.next(&mut link.input);
    // What came over the wire counts, the framing of chunks too, as in nginx ($upstream_response_length).
    let came = (before - link.input.unread().len()) as u64;
    let record = proxying.record();
    record.received += came;
    record.body_received += came;
    piece
}

/// Sends the head, which has waited for the first of the body.
async fn send_head(proxying: &mut Proxying<'_>, relay: &mut Relay) -> Result<(), Unfinished> {
    let wire = proxying.exchange.output.wire.len();
    send(proxying, relay, wire, b"").await
}

/// Sends a run of body bytes, or puts it where the client will get it from later.
async fn pass_on(
    proxying: &mut Proxying<'_>,
    link: &Link,
    relay: &mut Relay,
    piece: &Piece,
) -> Result<(), Unfinished> {
    let whole = link.input.slice(piece.range.clone());
    let data = wanted(whole, relay.position, relay.range.as_ref());
    relay.position += whole.len() as u64;
    if piece.done
        && let Some(trailers) = relay.body.trailers()
    {
        proxying.engine(|exchange, env| proxy::accept_trailers(exchange, env, trailers));
    }
    if relay.filtered {
        proxying.engine(|exchange, env| output::write_body(exchange, env, data, piece.done))?;
        let wire = proxying.exchange.output.wire.len();
        return send(proxying, relay, wire, b"").await;
    }
    let output = &mut proxying.exchange.output;
    let data = if output.framing == Framing::None { b"" } else { data };
    output.open_chunk(data.len() as u64);
    let before = output.wire.len();
    output.close_chunk(data.len() as u64);
    if piece.done {
        proxying.engine(output::end_body);
    }
    send(proxying, relay, before, data).await
}

/// The part of a run of bytes that the client is to get.
fn wanted<'a>(data: &'a [u8], position: u64, range: Option<&Range<u64>>) -> &'a [u8] {
    let Some(range) = range else { return data };
    let place = |at: u64| usize::try_from(at.saturating_sub(position)).unwrap_or(usize::MAX).min(data.len());
    &data[place(range.start)..place(range.end)]
}

/// Sends the wire with `data` in it; with buffering, what the client does not take at once waits in the spool.
async fn send(
    proxying: &mut Proxying<'_>,
    relay: &mut Relay,
    before: usize,
    data: &[u8],
) -> Result<(), Unfinished> {
    let Proxying { client, exchange, generation, .. } = proxying;
    if !relay.buffering {
        return Ok(client.send(exchange, generation, before, data).await?);
    }
    let mut wire = std::mem::take(&mut exchange.output.wire);
    let parts = gather(&mut wire, before, data);
    let mut done = 0;
    if relay.spool.is_empty() {
        let written = poll_fn(|cx| Poll::Ready(write_all(&mut client.stream, cx, &parts, &mut done))).await;
        exchange.output.sent += done as u64;
        if let Poll::Ready(Err(_)) = written {
            return Err(Unfinished::Broken);
        }
    }
    let worker = Rc::clone(&client.worker);
    let mut begun = false;
    for part in parts {
        let skip = done.min(part.len());
        done -= skip;
        if skip < part.len() {
            let config = &generation.config;
            let new_file = || {
                let folder = proxy::temp_path(exchange, config);
                files::temporary(&folder, &mut || worker.random())
            };
            match relay.spool.push(&part[skip..], new_file) {
                Ok(new_file) => begun |= new_file,
                Err(error) => return Err(spool_failed(proxying, &error)),
            }
        }
    }
    exchange.output.wire = wire;
    exchange.output.wire.clear();
    if begun {
        proxying
            .say(Level::Warn, "an upstream response is buffered to a temporary file while reading upstream");
    }
    Ok(())
}

/// Up to so many bytes are cheaper to copy behind the head than to send from where they are.
const COPIED_BYTES: usize = 2 << 10;

/// The parts to send: the wire with `data` in it, in one piece if `data` is small.
fn gather<'a>(wire: &'a mut Vec<u8>, before: usize, data: &'a [u8]) -> [&'a [u8]; 3] {
    if data.len() > COPIED_BYTES || wire.is_empty() {
        return [&wire[..before], data, &wire[before..]];
    }
    if before == wire.len() {
        wire.extend_from_slice(data);
    } else {
        wire.splice(before..before, data.iter().copied());
    }
    [wire, b"", b""]
}

/// Waits for more from the upstream, and sends what waits meanwhile.
async fn wait(proxying: &mut Proxying<'_>, link: &mut Link, relay: &mut Relay) -> Event {
    let Proxying { client, exchange, .. } = proxying;
    let worker = Rc::clone(&client.worker);
    let mut begun = false;
    poll_fn(|cx| {
        while !relay.spool.is_empty() {
            let (front, back) = match relay.spool.front() {
                Ok(front) => front,
                Err(error) => return Poll::Ready(Event::SpoolFailed(error)),
            };
            let mut done = 0;
            let written = write_all(&mut client.stream, cx, &[front, back], &mut done);
            relay.spool.sent(done);
            exchange.output.sent += done as u64;
            match written {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Poll::Ready(Event::ClientGone),
                Poll::Ready(Ok(())) => {}
            }
        }
        let waiting = !relay.spool.is_empty();
        let reads = !waiting || relay.spool.has_room();
        if reads {
            match link.input.poll_fill(cx, &mut link.stream, &worker.buffers) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Event::Ended),
                Poll::Ready(Ok(_)) => return Poll::Ready(Event::More),
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
                Poll::Pending => {}
            }
        }
        if relay.watch_client && !waiting {
            match client.stream.poll_closed(cx) {
                Poll::Ready(true) => return Poll::Ready(Event::ClientGone),
                Poll::Ready(false) => relay.watch_client = false,
                Poll::Pending => {}
            }
        }
        // While the client is behind, its silence counts, however much comes from the upstream; else the upstream's.
        let progress = Some((exchange.output.sent, waiting));
        if relay.progress != progress || !(waiting || begun) {
            (relay.progress, begun) = (progress, true);
            client.patience.start(if waiting { relay.send_ms } else { relay.read_ms });
        }
        client.patience.poll_up(cx).map(|_| if waiting { Event::ClientTimedOut } else { Event::ReadTimedOut })
    })
    .await
}

/// `proxy_limit_rate`: waits while more was read than so many bytes a second allow.
async fn throttle(proxying: &mut Proxying<'_>, relay: &Relay) {
    if relay.limit_rate == 0 || !relay.buffering {
        return;
    }
    let elapsed_us = proxying.client.worker.clock.fresh().monotonic_us - relay.began_us;
    let allowed = relay.limit_rate.saturating_mul(elapsed_us / 1_000_000 + 1);
    if relay.position > allowed {
        let wait_ms = (relay.position - allowed) * 1000 / relay.limit_rate + 1;
        // Whoever is cut meanwhile is seen with the next turn.
        proxying.client.patience.rest(Duration::from_millis(wait_ms)).await;
    }
}

/// The body is whole: everything that waits is sent.
async fn finish(proxying: &mut Proxying<'_>, relay: &mut Relay) -> Result<(), Unfinished> {
    relay.body.finish();
    while !relay.spool.is_empty() {
        let sent = drain(proxying, relay).await;
        if let Err(event) = sent {
            return Err(give_up(proxying, relay, event).await);
        }
    }
    Ok(())
}

/// Sends all that waits.
async fn drain(proxying: &mut Proxying<'_>, relay: &mut Relay) -> Result<(), Event> {
    let Proxying { client, exchange, .. } = proxying;
    let mut progress = u64::MAX;
    poll_fn(|cx| {
        while !relay.spool.is_empty() {
            let (front, back) = match relay.spool.front() {
                Ok(front) => front,
                Err(error) => return Poll::Ready(Err(Event::SpoolFailed(error))),
            };
            let mut done = 0;
            let written = write_all(&mut client.stream, cx, &[front, back], &mut done);
            relay.spool.sent(done);
            exchange.output.sent += done as u64;
            match written {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Event::ClientGone)),
                Poll::Pending => {
                    if progress != exchange.output.sent {
                        progress = exchange.output.sent;
                        client.patience.start(relay.send_ms);
                    }
                    return client.patience.poll_up(cx).map(|_| Err(Event::ClientTimedOut));
                }
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// The answer cannot be finished: says why. What was read of it still goes to the client, as in nginx.
async fn give_up(proxying: &mut Proxying<'_>, relay: &mut Relay, event: Event) -> Unfinished {
    const READING: &str = "while reading upstream";
    let event = if proxying.client.seat.is_cut() { Event::Cut } else { event };
    proxying.broken = match &event {
        Event::Ended | Event::Failed(_) => Some(Failure::Closed),
        Event::ReadTimedOut => Some(Failure::Timeout),
        Event::ClientGone | Event::ClientTimedOut => Some(Failure::ClientGone),
        Event::Cut => Some(Failure::Cut),
        Event::BadChunks => Some(Failure::InvalidHeader),
        Event::SpoolFailed(_) | Event::More => None,
    };
    let (level, text) = match &event {
        Event::Ended => (Level::Error, format!("upstream prematurely closed connection {READING}")),
        Event::Failed(error) => {
            let code = error.raw_os_error().unwrap_or_default();
            (Level::Error, format!("recv() failed ({code}: {}) {READING}", describe(code)))
        }
        Event::ReadTimedOut => {
            (Level::Error, format!("upstream timed out (110: Connection timed out) {READING}"))
        }
        Event::ClientGone => (Level::Info, format!("client prematurely closed connection {READING}")),
        Event::ClientTimedOut => {
            (Level::Info, "client timed out (110: Connection timed out) while sending to client".to_owned())
        }
        Event::Cut => (Level::Info, CUT.to_owned()),
        Event::BadChunks => (Level::Error, format!("upstream sent invalid chunked response {READING}")),
        Event::SpoolFailed(error) => return spool_failed(proxying, error),
        Event::More => return Unfinished::Broken,
    };
    proxying.say(level, &text);
    if matches!(event, Event::Ended | Event::Failed(_) | Event::ReadTimedOut | Event::BadChunks) {
        // A client that is gone too changes nothing: the connection is closed either way.
        if send_head(proxying, relay).await.is_ok() && drain(proxying, relay).await.is_ok() {
            return Unfinished::Short;
        }
    }
    Unfinished::Broken
}

fn spool_failed(proxying: &mut Proxying<'_>, error: &io::Error) -> Unfinished {
    proxying.say(Level::Crit, &format!("a temporary file for an upstream response failed: {error}"));
    Unfinished::Broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_out_of_the_pieces() {
        let body = b"0123456789";
        let range = 3..7;
        let mut got = Vec::new();
        for (n, piece) in body.chunks(4).enumerate() {
            got.extend_from_slice(wanted(piece, n as u64 * 4, Some(&range)));
        }
        assert_eq!(got, b"3456");
        assert_eq!(wanted(body, 0, None), body);
    }
}
