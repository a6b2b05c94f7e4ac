//! A response's body on its way from the upstream to the client, whatever protocols the two sides speak.
//!
//! The fast path is a read, a write, a read: bytes go from the upstream's buffer to the client without a copy. If the
//! client cannot take them at once and buffering is on, what waits is kept in a [`Spool`], and the upstream is read on.

use super::cache::storing::Storing;
use super::client_body::UploadError;
use super::fault::{UpstreamFault, UpstreamStage};
use super::gather::{gather, wanted};
use super::http2::{H2Upload, next_h2_piece};
use super::relay_rules::{self as rules, Event, Rules};
use super::request::ProxyRequest;
use super::spool::{self, Spool};
use super::streams;
use super::upstream_conn::UpstreamConn;
use crate::request::respond::Unfinished;
use crate::trace;
use engine::host::Level;
use engine::modules::proxy::{self, AnswerFraming};
use engine::output::{self, BodyStep, Framing};
use http::BodyFraming;
use http::grpc::MessagePlace;
use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;
use std::time::Duration;
use transport::body_reader::{BodyReader, Piece};

/// One body being relayed.
pub(super) struct BodyRelay<'r, 'a, 'b> {
    request: &'r mut ProxyRequest<'a, 'b>,
    conn: &'r mut UpstreamConn,
    framing: AnswerFraming,
    /// Whether all of the request was sent.
    uploaded: bool,
    /// What is left of the request to send, over HTTP/2.
    upload: Option<&'r mut H2Upload>,
    body: BodyReader,
    spool: Spool,
    rules: Rules,
    /// Bytes of body read so far.
    position: u64,
    began_us: u64,
    /// The place among gRPC's messages, for a client of HTTP/2.
    messages: Option<MessagePlace>,
    /// The bytes sent, and whether any waited, when the timer last started.
    progress: Option<(u64, bool)>,
    /// What keeps the response.
    storing: Option<Box<Storing>>,
    /// The client is gone: the response is read on to be kept.
    is_detached: bool,
}

/// Bytes that may go through filters before others are served.
const YIELD_AFTER: u64 = 64 << 10;

impl<'r, 'a, 'b> BodyRelay<'r, 'a, 'b> {
    /// Writes the response's head, and starts to relay its body.
    pub(super) fn new(
        request: &'r mut ProxyRequest<'a, 'b>,
        conn: &'r mut UpstreamConn,
        framing: AnswerFraming,
        uploaded: bool,
        upload: Option<&'r mut H2Upload>,
    ) -> Result<Self, Unfinished> {
        let began_us = request.now_us();
        let (spool, rules, stored) = rules::settle(request, conn.h2.is_some())?;
        let storing = stored.and_then(|meta| Storing::begin(request.cx, meta));
        let stream_from_ms = streams::begin_ms(request.cx.exchange, request.now_ms());
        let has_pieces = request.cx.exchange.output.framing == Framing::Pieces && !rules.filtered;
        let messages = (has_pieces && streams::is_grpc(request.cx.exchange)).then(MessagePlace::default);
        request.cx.client.conn_state.stream_from(stream_from_ms);
        let body = BodyReader::new(framing.body);
        Ok(BodyRelay {
            request,
            conn,
            framing,
            uploaded,
            upload,
            body,
            spool,
            rules,
            position: 0,
            began_us,
            messages,
            progress: None,
            storing,
            is_detached: false,
        })
    }

    /// Passes the body on. Returns true if the upstream's connection may be used again.
    pub(super) async fn run(&mut self) -> Result<bool, Unfinished> {
        let span = trace::relay(&self.request.cx.span, self.request.cx.exchange);
        let result = self.relay().await;
        trace::relayed(&span, self.position, result.is_ok());
        result
    }

    async fn relay(&mut self) -> Result<bool, Unfinished> {
        let exchange = &self.request.cx.exchange;
        if exchange.is_head() && self.storing.is_none() && self.framing.body != BodyFraming::None {
            // It was fetched with GET to be kept, and is not.
            self.send_wire().await?;
            return Ok(false);
        }
        loop {
            if self.request.cx.client.conn_state.is_cut() {
                return self.give_up(UpstreamFault::Cut).await;
            }
            loop {
                let piece = match self.next_piece() {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(fault) => return self.give_up(fault).await,
                };
                self.pass_on(&piece).await?;
                if piece.done {
                    return self.end().await;
                }
            }
            if self.rules.at_once && !self.request.cx.exchange.output.wire.is_empty() {
                self.send_wire().await?;
            }
            self.throttle().await;
            match self.wait().await {
                Event::More => {}
                Event::Ended if self.may_end() => {
                    self.pass_on(&Piece { range: 0..0, done: true }).await?;
                    return self.finish().await.map(|()| false);
                }
                Event::Ended => return self.give_up(UpstreamFault::Closed).await,
                Event::Fault(UpstreamFault::ClientClosed | UpstreamFault::ClientTimedOut)
                    if self.storing.is_some() && !self.is_detached =>
                {
                    self.detach();
                }
                Event::Fault(fault) => return self.give_up(fault).await,
            }
        }
    }

    /// Ends a relay whose last piece was passed on.
    async fn end(&mut self) -> Result<bool, Unfinished> {
        let is_quiet = self.conn.read_buffer.is_empty();
        if self.conn.h2.is_some() {
            self.finish().await?;
            let UpstreamConn { h2, stream, .. } = &mut *self.conn;
            return Ok(h2.as_mut().is_some_and(|h2| h2.finish(stream)) && is_quiet);
        }
        let is_plain = self.conn.fastcgi.is_none();
        if is_plain && matches!(self.framing.body, BodyFraming::Length(_)) && !is_quiet {
            let text =
                "upstream sent more data than specified in \"Content-Length\" header while reading upstream";
            self.request.cx.log(Level::Warn, text);
        }
        self.finish().await?;
        let is_over = self.conn.fastcgi.as_ref().is_none_or(|fastcgi| fastcgi.is_over());
        Ok(self.framing.keep_alive && self.uploaded && is_quiet && is_over)
    }

    /// Returns true if the body is whole when the upstream closes now.
    fn may_end(&self) -> bool {
        let is_open = matches!(self.body, BodyReader::UntilClose);
        self.conn.fastcgi.as_ref().map_or(is_open, |fastcgi| fastcgi.may_end())
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, UpstreamFault> {
        let now_ms = self.request.now_ms();
        let UpstreamConn { read_buffer: buffer, h2, fastcgi, .. } = &mut *self.conn;
        let before = buffer.unread().len();
        let piece = match (h2, fastcgi) {
            (Some(h2), _) => next_h2_piece(h2, buffer, now_ms).map_err(UpstreamFault::from),
            (None, Some(fastcgi)) if !self.body.is_done() => self.request.next_fastcgi_piece(fastcgi, buffer),
            (None, _) => self.body.next(buffer).map_err(|_| UpstreamFault::BadChunks),
        };
        // What came over the wire counts, the framing of chunks too, as in nginx ($upstream_response_length).
        let came = (before - buffer.unread().len()) as u64;
        let record = self.request.record();
        record.received += came;
        record.body_received += came;
        piece
    }

    /// Sends the wire buffer.
    async fn send_wire(&mut self) -> Result<(), Unfinished> {
        let before = self.request.cx.exchange.output.wire.len();
        self.send(before, 0..0).await
    }

    /// Sends a piece of the body, or puts it where the client will get it from later.
    async fn pass_on(&mut self, piece: &Piece) -> Result<(), Unfinished> {
        let whole = &piece.range;
        let range = wanted(whole, self.position, self.rules.range.as_ref());
        self.position += whole.len() as u64;
        self.store(piece);
        if self.is_detached {
            let goes_on = self.storing.is_some() || piece.done;
            return if goes_on { Ok(()) } else { Err(Unfinished::Broken) };
        }
        let cx = &mut *self.request.cx;
        if piece.done
            && let Some(trailers) = match &self.conn.h2 {
                None => self.body.trailers(),
                Some(h2) => Some(&h2.trailers),
            }
        {
            cx.engine(|exchange, env| proxy::accept_trailers(exchange, env, trailers));
        }
        if self.rules.filtered {
            let data = self.conn.read_buffer.slice(range);
            cx.engine(|exchange, env| output::write_body(exchange, env, data, piece.done))?;
            if piece.done {
                // What filters ask for at the body's end comes when the upstream is free.
                return self.send_wire().await;
            }
            self.send_filtered().await?;
            if self.position / YIELD_AFTER != (self.position - whole.len() as u64) / YIELD_AFTER {
                tokio::task::yield_now().await;
            }
            return Ok(());
        }
        let range = if cx.exchange.output.framing == Framing::None { 0..0 } else { range };
        let len = range.len() as u64;
        let room = output::room(cx.exchange, len) as usize;
        let range = range.start..range.start + room;
        let output = &mut cx.exchange.output;
        output.open_chunk(len);
        if let Some(messages) = &mut self.messages {
            messages.pass(self.conn.read_buffer.slice(range.clone()));
        }
        let before = output.wire.len();
        output.close_chunk(len);
        if piece.done {
            cx.engine(output::end_body);
        }
        self.send(before, range).await
    }

    /// Keeps a piece of the body, and with the last one the response.
    fn store(&mut self, piece: &Piece) {
        let Some(mut storing) = self.storing.take() else { return };
        let written = storing.write(self.conn.read_buffer.slice(piece.range.clone()));
        let cx = &mut *self.request.cx;
        match written {
            Ok(()) if piece.done => storing.finish(cx),
            Ok(()) => self.storing = Some(storing),
            Err(error) => Storing::failed(cx, &error),
        }
    }

    /// Goes on without the client, which is gone or takes nothing.
    fn detach(&mut self) {
        self.is_detached = true;
        self.spool = Spool::new(0, 0);
        self.request.cx.exchange.output.wire.clear();
    }

    /// Sends what filters have let through, and serves requests inside this one that they ask for.
    async fn send_filtered(&mut self) -> Result<(), Unfinished> {
        while self.request.cx.exchange.output.has_chain() {
            let pending = self.request.cx.engine(output::pump)?;
            if pending == BodyStep::Nothing {
                break;
            }
            self.send_wire().await?;
            // What is served in between goes to the client past the spool, and what filters make is no less than all that
            // it may hold.
            if (pending == BodyStep::Include || !self.spool.has_room())
                && let Err(fault) = self.drain().await
            {
                return self.give_up(fault).await.map(drop);
            }
            match pending {
                BodyStep::Include => Box::pin(self.request.cx.include()).await?,
                BodyStep::More | BodyStep::Nothing => tokio::task::yield_now().await,
            }
        }
        self.send_wire().await
    }

    /// Sends the wire buffer with a range of the upstream's buffer in it; with buffering, what the client does not take at
    /// once waits in the spool.
    async fn send(&mut self, before: usize, data: Range<usize>) -> Result<(), Unfinished> {
        let data = self.conn.read_buffer.slice(data);
        let cx = &mut *self.request.cx;
        if !self.rules.buffering {
            let sent = cx.send(before, data).await;
            if sent.is_err() && self.storing.is_some() && !cx.client.conn_state.is_cut() {
                self.detach();
                return Ok(());
            }
            return Ok(sent?);
        }
        let mut wire = std::mem::take(&mut cx.exchange.output.wire);
        let parts = gather(&mut wire, before, data);
        let mut done = 0;
        if self.spool.is_empty() {
            let stream = &mut cx.client.stream;
            let written = poll_fn(|cx| Poll::Ready(stream.poll_write_all(cx, &parts, &mut done))).await;
            cx.exchange.output.sent += done as u64;
            if let Poll::Ready(Err(_)) = written {
                if self.storing.is_some() {
                    cx.exchange.output.wire = wire;
                    self.detach();
                    return Ok(());
                }
                return Err(Unfinished::Broken);
            }
        }
        let mut begun = false;
        for part in &parts {
            let skip = done.min(part.len());
            done -= skip;
            if skip < part.len() {
                let new_file = || {
                    let folder = proxy::temp_path(cx.exchange, &cx.generation.config);
                    spool::file_for(cx.client, &folder)
                };
                match self.spool.push(&part[skip..], new_file) {
                    Ok(new_file) => begun |= new_file,
                    Err(error) => return Err(self.spool_failed(error)),
                }
            }
        }
        cx.exchange.output.wire = wire;
        cx.exchange.output.wire.clear();
        if begun {
            let text = "an upstream response is buffered to a temporary file while reading upstream";
            cx.log(Level::Warn, text);
        }
        Ok(())
    }

    /// Waits for more from the upstream, and sends what waits meanwhile.
    async fn wait(&mut self) -> Event {
        let BodyRelay { request, conn, upload, spool, rules, progress: last_progress, .. } = self;
        let (client, exchange) = (&mut *request.cx.client, &mut *request.cx.exchange);
        let mut begun = false;
        poll_fn(|cx| {
            let UpstreamConn { h2, stream, .. } = &mut **conn;
            if let (Some(h2), Some(upload)) = (h2, upload.as_deref_mut()) {
                match upload.poll(cx, client, h2, stream) {
                    // A peer that takes no more may have said why.
                    Poll::Pending | Poll::Ready(Ok(()) | Err(UploadError::Peer(_))) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Event::Fault(error.into())),
                }
            }
            while !spool.is_empty() {
                let (front, back) = match spool.front() {
                    Ok(front) => front,
                    Err(error) => return Poll::Ready(Event::Fault(UpstreamFault::Spool(error))),
                };
                let mut done = 0;
                let written = client.stream.poll_write_all(cx, &[front, back], &mut done);
                spool.sent(done);
                exchange.output.sent += done as u64;
                match written {
                    Poll::Pending => break,
                    Poll::Ready(Err(_)) => return Poll::Ready(Event::Fault(UpstreamFault::ClientClosed)),
                    Poll::Ready(Ok(())) => {}
                }
            }
            let waiting = !spool.is_empty();
            let mut reads = !waiting || spool.has_room();
            if let Some(h2) = &mut conn.h2 {
                // The peer's window bounds what comes, and there is more than the body to read.
                h2.make_room(if rules.paced { spool.len() } else { u64::MAX * u64::from(!reads) });
                reads = true;
                // That the peer is gone is seen when it is read.
                let _ = h2.poll_flush(cx, &mut conn.stream);
            }
            if reads {
                match conn.read_buffer.poll_fill(cx, &mut conn.stream, &client.thread.buffers) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Event::Ended),
                    Poll::Ready(Ok(_)) => return Poll::Ready(Event::More),
                    Poll::Ready(Err(error)) => return Poll::Ready(Event::Fault(UpstreamFault::Read(error))),
                    Poll::Pending => {}
                }
            }
            if rules.watch_client && !waiting {
                match client.stream.poll_closed(cx) {
                    Poll::Ready(true) => return Poll::Ready(Event::Fault(UpstreamFault::ClientClosed)),
                    Poll::Ready(false) => rules.watch_client = false,
                    Poll::Pending => {}
                }
            }
            // While the client is behind, its silence counts, however much comes from the upstream; else the upstream's.
            let progress = Some((exchange.output.sent, waiting));
            if *last_progress != progress || !(waiting || begun) {
                (*last_progress, begun) = (progress, true);
                client.timeout.start(if waiting { rules.send_ms } else { rules.read_ms });
            }
            client.timeout.poll_elapsed(cx).map(|_| match waiting {
                true => Event::Fault(UpstreamFault::ClientTimedOut),
                false => Event::Fault(UpstreamFault::TimedOut),
            })
        })
        .await
    }

    /// Waits while more was read than `proxy_limit_rate` allows.
    async fn throttle(&mut self) {
        let limit_rate = self.rules.limit_rate;
        if limit_rate == 0 || !self.rules.buffering {
            return;
        }
        let client = &mut *self.request.cx.client;
        let elapsed_us = client.thread.clock.fresh().monotonic_us - self.began_us;
        let allowed = limit_rate.saturating_mul(elapsed_us / 1_000_000 + 1);
        if self.position > allowed {
            let wait_ms = (self.position - allowed) * 1000 / limit_rate + 1;
            // A cut meanwhile is seen with the next turn.
            client.timeout.sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    /// Sends everything that waits, now that the body is whole.
    async fn finish(&mut self) -> Result<(), Unfinished> {
        self.body.finish();
        if self.is_detached {
            return Err(Unfinished::Broken);
        }
        while !self.spool.is_empty() {
            if let Err(fault) = self.drain().await {
                return self.give_up(fault).await.map(drop);
            }
        }
        Ok(())
    }

    /// Sends everything that waits.
    async fn drain(&mut self) -> Result<(), UpstreamFault> {
        let BodyRelay { request, spool, rules, .. } = self;
        let (client, exchange) = (&mut *request.cx.client, &mut *request.cx.exchange);
        let mut progress = u64::MAX;
        poll_fn(|cx| {
            while !spool.is_empty() {
                let (front, back) = match spool.front() {
                    Ok(front) => front,
                    Err(error) => return Poll::Ready(Err(UpstreamFault::Spool(error))),
                };
                let mut done = 0;
                let written = client.stream.poll_write_all(cx, &[front, back], &mut done);
                spool.sent(done);
                exchange.output.sent += done as u64;
                match written {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(UpstreamFault::ClientClosed)),
                    Poll::Pending => {
                        if progress != exchange.output.sent {
                            progress = exchange.output.sent;
                            client.timeout.start(rules.send_ms);
                        }
                        return client.timeout.poll_elapsed(cx).map(|_| Err(UpstreamFault::ClientTimedOut));
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Ends a relay that cannot be finished. What was read of the body still goes to the client, as in nginx; a client of gRPC may
    /// get trailers that say so, and then the answer is a whole one.
    async fn give_up(&mut self, fault: UpstreamFault) -> Result<bool, Unfinished> {
        let cut = self.request.cx.client.conn_state.is_cut();
        let fault = if cut { UpstreamFault::Cut } else { fault };
        let stage = match fault {
            UpstreamFault::ClientTimedOut => UpstreamStage::SendingToClient,
            _ => UpstreamStage::ReadingBody,
        };
        self.request.broken = Some(self.request.log_fault(&fault, stage).failure);
        if cut && self.say_unavailable().await {
            return Ok(false);
        }
        if fault.is_upstreams(stage) {
            // A client that is gone too changes nothing: the connection is closed either way.
            if self.send_wire().await.is_ok() && self.drain().await.is_ok() {
                return Err(Unfinished::Short);
            }
        }
        Err(Unfinished::Broken)
    }

    /// Ends a cut answer with gRPC's own status, unless its client would miss a part of a message. Returns true if it has.
    async fn say_unavailable(&mut self) -> bool {
        let is_between = self.messages.is_some_and(MessagePlace::is_between);
        let exchange = &mut *self.request.cx.exchange;
        if !is_between || !self.spool.is_empty() || !exchange.output.wire.is_empty() {
            return false;
        }
        streams::say_unavailable(self.request.cx).await
    }

    fn spool_failed(&mut self, error: std::io::Error) -> Unfinished {
        self.request.log_fault(&UpstreamFault::Spool(error), UpstreamStage::ReadingBody);
        Unfinished::Broken
    }
}
