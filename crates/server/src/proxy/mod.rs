//! One proxied request: peers are tried until one responds, and the response is passed on.
//!
//! [`serve`] plans and picks → [`attempt`] connects, sends, reads the head → [`relay`] passes the body on, or [`tunnel`]
//! everything, both ways.

mod attempt;
mod balancing;
pub(crate) mod cache;
mod client_body;
mod connect;
mod early_hints;
mod fastcgi;
mod fault;
mod gateways;
mod gather;
pub(crate) mod groups;
mod http2;
pub(crate) mod pool;
mod relay;
mod relay_rules;
mod request;
mod spool;
mod streams;
mod target;
mod tls;
mod tunnel;
mod upload;
mod upstream_conn;

use self::tls::{UpstreamTls, tag_of};
use crate::context::metrics;
use crate::request::cx::RequestCx;
use crate::request::respond::Unfinished;
use crate::trace;
use attempt::{FailedTry, Response, attempt};
use balancing::Asking;
use cache::Instead;
use engine::exchange::{Body, Try};
use engine::host::Level;
use engine::modules::proxy::{self, Disposition, Plan, Protocol, TryProgress};
use engine::{output, phase};
use fault::{Consequence, UpstreamFault, UpstreamStage};
use http::{BodyFraming, ResponseHead};
use pool::{Picked, ThreadGroup};
use relay::BodyRelay;
use request::{ProxyRequest, UpstreamTimes};
use statistics::{Failure, Layout, TryEnd};
use std::rc::Rc;
use std::sync::Arc;
use upstream::health::ServerHealth;
use upstream::retry::TryFailure;
use upstream::{Finished, Group, IdleKey, PickInput, Tried, TryOutcome};
use upstream_conn::UpstreamConn;

/// Returns what idle connections have in their tags by what they speak: no location's number, and no likely digest.
fn protocol_tag(protocol: Protocol) -> u64 {
    match protocol {
        Protocol::Http1 => 0,
        Protocol::FastCgi => 1 << 61,
        Protocol::Http2 => 1 << 62,
        Protocol::Cgi => 3 << 61,
    }
}

/// Serves a request from the location's upstream.
pub(crate) async fn serve(cx: &mut RequestCx<'_>) -> Result<(), Unfinished> {
    cx.client.settle_small_body(cx.exchange);
    forget_spent_body(cx)?;
    let mut plan = cx.engine(proxy::plan).map_err(Unfinished::Status)?;
    if cx.settings().proxy.cache.is_on() {
        cx.track_choices();
        // Boxed: a request of a location without a zone does not pay for its room.
        if Box::pin(cache::look_up(cx, &plan)).await? {
            cache::end(cx);
            return Ok(());
        }
    }
    let result = fetch(cx, &mut plan).await;
    cache::end(cx);
    result
}

/// Serves it from a peer.
async fn fetch(cx: &mut RequestCx<'_>, plan: &mut Plan) -> Result<(), Unfinished> {
    let mut head = cx.client.thread.buffers.lease_text();
    let made = cx.engine(|exchange, env| {
        let head_len = proxy::request_head(exchange, env, plan, &mut head)?;
        Ok((head_len, proxy::streams_body(exchange, env)))
    });
    let (head_len, streams) = made.map_err(Unfinished::Status)?;
    let protocol = cx.settings().proxy.protocol();
    // A request without a body can be tried again whatever the settings say about bodies.
    let streamed = streams && !cx.client.body.is_done();
    cx.track_choices();
    let made = match &plan.target {
        proxy::Target::Made(name) => cx.generation.groups.made(name),
        _ => None,
    };
    let (number, keyed) = match (&plan.target, &made) {
        (proxy::Target::Group(number), _) => (*number, Some(*number)),
        (_, Some(made)) => (made.number, made.like),
        _ => (Layout::OTHER_GROUP, None),
    };
    let metrics = &cx.generation.metrics;
    metrics.record(|recorder| recorder.request_began(number));
    let first = cx.exchange.upstream.tries.len();
    let mut failure = None;
    let result = match target::group(cx, plan, made).await {
        Ok(group) => {
            let tls = UpstreamTls::of(cx, plan, b"");
            let times = UpstreamTimes::of(&cx.settings().proxy.connection);
            let bind = cx.engine(proxy::local_address_of);
            let (body_taken, broken, scripted) = Default::default();
            let mut request = ProxyRequest {
                cx,
                head,
                head_len,
                protocol,
                streamed,
                body_taken,
                times,
                scripted,
                tls,
                bind,
                group: number,
                broken,
                last_failure: None,
            };
            let result = request.try_peers(plan, &group, keyed).await;
            failure = request.last_failure;
            let head = std::mem::take(&mut request.head);
            cx.client.thread.buffers.give_back_text(head);
            result
        }
        Err(unfinished) => Err(unfinished),
    };
    let result = match result {
        Err(Unfinished::Status(status)) if cx.exchange.upstream.cache.is_some() => {
            Box::pin(cache::after_failure(cx, plan, failure, status)).await
        }
        result => result,
    };
    let status = match result {
        Err(Unfinished::Status(status) | Unfinished::Replaced(status)) => status,
        _ => cx.exchange.response.status,
    };
    let end = metrics::request_end(&cx.exchange.upstream.tries[first..], status);
    metrics.record(|recorder| recorder.request_ended(number, &end));
    result
}

/// What becomes of a response's head.
enum Accepted {
    /// It is the answer, or leads to it.
    As(Disposition),
    /// Something else is served in its place.
    Instead(Instead),
}

/// Forgets a body that was streamed to an earlier upstream: an error page does without it, and another request cannot be
/// served. To promise its length would leave the next upstream waiting, and take the following request for it.
fn forget_spent_body(cx: &mut RequestCx<'_>) -> Result<(), Unfinished> {
    if !matches!(cx.exchange.request.body, Body::Streaming) {
        return Ok(());
    }
    if !matches!(cx.exchange.method(), b"GET" | b"HEAD") {
        let text = "the request's body was passed on already, so that it cannot be sent to another upstream";
        cx.log(Level::Error, text);
        return Err(Unfinished::Status(502));
    }
    cx.exchange.request.body = Body::Discarded;
    Ok(())
}

impl ProxyRequest<'_, '_> {
    /// `keyed` is the group of the configuration that says what is hashed.
    async fn try_peers(
        &mut self,
        plan: &mut Plan,
        group: &Rc<ThreadGroup>,
        keyed: Option<usize>,
    ) -> Result<(), Unfinished> {
        let limit = self.cx.engine(|exchange, env| proxy::tries_limit(exchange, env)).unwrap_or(0);
        let mut tried = Tried::new(limit);
        let mut key = Vec::new();
        if let Some(number) = keyed {
            self.cx.engine(|exchange, env| {
                engine::modules::upstream::hash_key(exchange, env, number, &mut key);
            });
        }
        let began_ms = self.now_ms();
        let mut asking = keyed.and_then(|number| Asking::new(self, number, limit, began_ms));
        loop {
            let picked = match &mut asking {
                None => self.pick(plan, group, &key, &mut tried)?,
                // Boxed: a request without a script does not pay for its room.
                Some(asking) => Box::pin(self.ask_script(asking, plan, group, &key, &mut tried)).await?,
            };
            let conn = self.idle_conn(group, &picked);
            let reused = conn.is_some();
            let peer = picked.number;
            self.cx.generation.metrics.record(|recorder| recorder.try_began(self.group, peer));
            let span = trace::attempt(&self.cx.span, self.cx.exchange, &picked.label, reused);
            let failure = match attempt(self, &picked, conn).await {
                Ok(response) => {
                    trace::attempted(&span, response.head.status);
                    drop(span);
                    let progress = self.progress(&tried, began_ms, true);
                    let result = self.respond(plan, group, picked, response, progress).await;
                    let failure = self.broken.take();
                    self.try_ended(peer, reused, failure);
                    match result? {
                        None => return Ok(()),
                        Some(failure) => failure,
                    }
                }
                Err(FailedTry { fault, stage, request_sent }) => {
                    trace::failed(&span, || format!("{fault:?} {stage}"));
                    drop(span);
                    let row = fault.row(stage);
                    let failure = match row.consequence {
                        Consequence::Peer(failure) => failure,
                        Consequence::End(status) => {
                            self.try_ended(peer, reused, Some(row.failure));
                            return Err(Unfinished::Status(status));
                        }
                    };
                    self.tried_in_vain(picked, failure, stage);
                    self.try_ended(peer, reused, Some(row.failure));
                    if let UpstreamFault::TimedOut = fault {
                        // nginx logs a timeout after the mark that it leaves on the peer.
                        self.log_fault(&fault, stage);
                    }
                    if reused && failure == TryFailure::Error {
                        tried.refund();
                    }
                    let progress = self.progress(&tried, began_ms, request_sent);
                    if !self.may_retry(failure, progress) {
                        self.last_failure = Some(failure);
                        return Err(Unfinished::Status(failure.status()));
                    }
                    failure
                }
            };
            debug_assert!(failure.status() >= 400, "only what may be retried comes here");
        }
    }

    fn may_retry(&mut self, failure: TryFailure, progress: TryProgress) -> bool {
        self.cx.engine(|exchange, env| proxy::may_retry(exchange, env, failure, progress))
    }

    /// Counts a try that has ended; its record is closed.
    fn try_ended(&mut self, peer: usize, reused: bool, failure: Option<Failure>) {
        let record = self.record();
        let end = TryEnd {
            // nginx notes 502 and 504 where the peer has sent nothing.
            status: if record.header_us.is_some() { record.status } else { 0 },
            failure,
            connect_us: record.connect_us.filter(|_| !reused),
            first_byte_us: record.header_us,
            response_us: record.response_us,
            sent: record.sent,
            received: record.received,
        };
        self.cx.generation.metrics.record(|recorder| recorder.try_ended(self.group, peer, &end));
    }

    fn progress(&self, tried: &Tried, began_ms: u64, request_sent: bool) -> TryProgress {
        TryProgress {
            request_sent,
            body_streamed: self.body_taken,
            tries_left: tried.tries_left(),
            elapsed_ms: self.now_ms() - began_ms,
        }
    }

    /// Picks the next peer and opens its record.
    fn pick(
        &mut self,
        plan: &Plan,
        group: &Rc<ThreadGroup>,
        key: &[u8],
        tried: &mut Tried,
    ) -> Result<Picked, Unfinished> {
        let exchange = &mut *self.cx.exchange;
        let thread = &self.cx.client.thread;
        let client = exchange.connection.remote.map(|remote| remote.ip());
        let now_ms = thread.clock.now().monotonic_ms();
        let span = trace::pick(&self.cx.span, exchange, group.name());
        let (metrics, number) = (&self.cx.generation.metrics, self.group);
        let measured = |of: &Group, position: usize| metrics.peer_number(number, of, position);
        let input = PickInput { key, client };
        let picked = group.pick(now_ms, &input, tried, &mut || thread.random(), measured);
        let (address, health) = match &picked {
            Ok(picked) => (Arc::clone(&picked.label), picked.health.clone()),
            Err(_) => (group.name().into(), None),
        };
        trace::picked(&span, &address);
        drop(span);
        self.open_record(plan, address, health);
        picked.map_err(|fault| {
            self.cx.log(Level::Error, format!("{fault} while connecting to upstream"));
            let record = self.record();
            record.status = 502;
            record.response_us = Some(0);
            self.last_failure = Some(TryFailure::NoLive);
            Unfinished::Status(502)
        })
    }

    /// Opens the record of a try of the peer with this address.
    fn open_record(&mut self, plan: &Plan, address: Arc<str>, health: Option<Arc<ServerHealth>>) {
        let exchange = &mut *self.cx.exchange;
        let after_redirect = std::mem::take(&mut exchange.upstream.redirected);
        proxy::upstream_url(exchange, plan, &address);
        self.cx.client.in_flight.pass_to(&address);
        exchange.upstream.tries.push(Try { address, health, after_redirect, ..Try::default() });
    }

    fn idle_key(&self, group: &ThreadGroup, picked: &Picked) -> IdleKey {
        let location = self.cx.exchange.route.location;
        let by_location = group.keeps_per_location() && self.scripted.keepalive.is_none();
        let tag = if by_location { u64::from(location.0) + 1 } else { 0 };
        let tag = self.tls.as_ref().map_or(tag, |tls| tls.tag.wrapping_add(tag));
        // What a connection speaks is settled when it is opened.
        let tag = tag.wrapping_add(protocol_tag(self.protocol)).wrapping_add(self.scripted.tag);
        // And so is where it comes from.
        let tag = tag.wrapping_add(self.local().map_or(0, tag_of));
        IdleKey { address: picked.address.clone(), tag }
    }

    fn idle_conn(&self, group: &ThreadGroup, picked: &Picked) -> Option<Box<UpstreamConn>> {
        let buffers = &self.cx.client.thread.buffers;
        if self.scripted.keepalive.is_some() {
            return group.take_kept_by_script(&self.idle_key(group, picked), buffers, self.now_ms());
        }
        if !group.keeps_idle() {
            return None;
        }
        group.take_idle(&self.idle_key(group, picked), buffers, self.now_ms())
    }

    /// Closes the record of a try without a response, and ends the lease.
    fn tried_in_vain(&mut self, picked: Picked, failure: TryFailure, stage: UpstreamStage) {
        let now_ms = self.now_ms();
        let record = self.record();
        if record.status == 0 {
            record.status = failure.status();
        }
        if picked.is_by_script() {
            self.note_failure(failure);
        }
        if picked.finish(failure.outcome(), now_ms) == Finished::Disabled {
            self.cx.log(Level::Warn, format!("upstream server temporarily disabled {stage}"));
        }
    }

    /// Passes a response on to the client, unless it is a reason for another try: then that is returned.
    async fn respond(
        &mut self,
        plan: &Plan,
        group: &Rc<ThreadGroup>,
        picked: Picked,
        response: Response,
        progress: TryProgress,
    ) -> Result<Option<TryFailure>, Unfinished> {
        let Response { mut conn, mut head, began_us, uploaded, mut upload } = response;
        let framing = self.cx.engine(|exchange, env| {
            let framing = proxy::framing(exchange, env, &head)?;
            proxy::wanted_retry(exchange, env, &head, progress).map_or(Ok(framing), Err)
        });
        let framing = match framing {
            Ok(framing) => framing,
            Err(failure) => {
                let stage = UpstreamStage::ReadingHead;
                self.take_body_back(upload);
                self.close_record(began_us);
                self.tried_in_vain(picked, failure, stage);
                self.broken = Some(UpstreamFault::NotAccepted(failure).row(stage).failure);
                return match self.may_retry(failure, progress) {
                    true => Ok(Some(failure)),
                    false => {
                        self.last_failure = Some(failure);
                        Err(Unfinished::Status(failure.status()))
                    }
                };
            }
        };
        let instead = cache::instead(self.cx, head.status);
        if let Some(fastcgi) = &mut conn.fastcgi {
            fastcgi.begin_body(framing.body);
        }
        let result = match self.accept(plan, instead, &mut head) {
            Accepted::Instead(instead) => {
                let is_over =
                    framing.body == BodyFraming::None && conn.h2.is_none() && conn.fastcgi.is_none();
                let keep = is_over && framing.keep_alive && uploaded;
                Box::pin(cache::serve_instead(self.cx, plan, instead, &head)).await.map(|()| keep)
            }
            Accepted::As(Disposition::Forward) => {
                match BodyRelay::new(self, &mut conn, framing, uploaded, upload.as_deref_mut()) {
                    Ok(mut relay) => relay.run().await,
                    Err(unfinished) => Err(unfinished),
                }
            }
            // The rest of the body would be taken for bytes of the new protocol.
            Accepted::As(Disposition::Upgrade) if !uploaded => {
                self.log_fault(&UpstreamFault::EarlyUpgrade, UpstreamStage::Tunnel);
                Err(Unfinished::Status(502))
            }
            Accepted::As(Disposition::Upgrade) => self.upgrade(&mut conn).await.map(|()| false),
            Accepted::As(Disposition::InternalRedirect { uri, args }) => {
                let redirected =
                    self.cx.engine(|exchange, env| phase::redirect_internally(exchange, env, &uri, &args));
                Err(redirected.map_or_else(Unfinished::Status, |()| Unfinished::Walk))
            }
            Accepted::As(Disposition::Error(status)) => {
                if status == head.status {
                    cache::keep_failure(self.cx, status);
                }
                Err(Unfinished::Status(status))
            }
        };
        self.take_body_back(upload);
        self.close_record(began_us);
        let now_ms = self.now_ms();
        let conn_state = &self.cx.client.conn_state;
        conn_state.no_stream(now_ms);
        if matches!(result, Err(Unfinished::Broken)) {
            // Without a fault of the upstream it was the client's, or ours.
            let cut = conn_state.is_cut();
            self.broken.get_or_insert(if cut { Failure::Cut } else { Failure::ClientGone });
        }
        let key = self.idle_key(group, &picked);
        picked.finish(TryOutcome::Success, now_ms);
        let buffers = &self.cx.client.thread.buffers;
        buffers.give_back_head(head);
        conn.requests += 1;
        conn.read_buffer.consume(conn.read_buffer.unread().len());
        conn.read_buffer.release(buffers);
        if let Ok(true) = result {
            match self.scripted.keepalive {
                Some(how) => group.keep_by_script(key, conn, how, self.script_idle(group), now_ms),
                None if group.keeps_idle() => group.keep_idle(key, conn, now_ms),
                None => {}
            }
        }
        if result.is_ok() {
            self.cx.send_filtered().await?;
        }
        result.map(|_| None)
    }

    /// Makes a head the client's answer, unless something else is served in its place.
    fn accept(&mut self, plan: &Plan, instead: Option<Instead>, head: &mut ResponseHead) -> Accepted {
        match instead {
            Some(instead) => Accepted::Instead(instead),
            None => {
                Accepted::As(self.cx.engine(|exchange, env| proxy::accept_head(exchange, env, plan, head)))
            }
        }
    }

    fn close_record(&mut self, began_us: u64) {
        let now_us = self.now_us();
        self.record().response_us = Some(now_us - began_us);
    }

    /// Passes bytes both ways after `101`.
    async fn upgrade(&mut self, conn: &mut UpstreamConn) -> Result<(), Unfinished> {
        conn.send_at_once();
        self.cx.engine(output::write_head)?;
        self.cx.send_wire().await?;
        let timeout_ms = self.times.read_ms;
        self.cx.client.conn_state.stream_from(0);
        let asked = self.cx.exchange.request.head.headers.get(http::Known::Upgrade);
        let is_websocket = asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
        let through = tunnel::tunnel(self.cx.client, conn, timeout_ms, is_websocket).await;
        let output = &mut self.cx.exchange.output;
        output.sent += through.down;
        output.body_len += through.down;
        output.keep_alive = false;
        let record = self.record();
        record.received += through.down;
        record.body_received += through.down;
        record.sent += through.up;
        let fault = match through.fault {
            _ if self.cx.client.conn_state.is_cut() => Some(UpstreamFault::Cut),
            fault => fault,
        };
        if let Some(fault) = fault {
            self.broken = Some(self.log_fault(&fault, UpstreamStage::Tunnel).failure);
        }
        Ok(())
    }
}
