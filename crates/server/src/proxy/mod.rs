//! One proxied request: peers are tried until one answers, and the answer is passed on.
//!
//! The column of a request: [`serve`] plans and picks → [`attempt`] connects, sends, reads the head → [`relay`]
//! passes the body on, or [`tunnel`] everything, both ways.

mod attempt;
mod connect;
pub(crate) mod pool;
mod relay;
mod spool;
mod target;
mod tunnel;
mod upload;

use crate::client::{CUT, Client};
use crate::generation::Pinned;
use crate::host::with_env;
use crate::recording;
use crate::request_body::say;
use crate::respond::Unfinished;
use attempt::{Answer, CONNECTING, Failed, READING, attempt, told};
use engine::Exchange;
use engine::exchange::{Body, Try};
use engine::host::Level;
use engine::log_line;
use engine::modules::proxy::{self, Disposition, Plan, Progress};
use engine::phase;
use pool::{Link, Picked, ThreadGroup};
use statistics::{Failure, TryEnd};
use std::rc::Rc;
use std::sync::Arc;
use upstream::retry::TryFailure;
use upstream::{Finished, IdleKey, Outcome, PickError, PickInput, Tried};

/// A proxied request under way.
pub(crate) struct Proxying<'a> {
    pub(crate) client: &'a mut Client,
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) generation: &'a Pinned,
    /// The request's head as it goes to every peer.
    pub(crate) head: Vec<u8>,
    /// The client's body goes behind it while it comes.
    pub(crate) streamed: bool,
    /// Bytes of the client's own body were passed on: there can be no other try.
    pub(crate) body_taken: bool,
    /// The group's number for those who measure.
    pub(crate) group: usize,
    /// Why the answer under way will not be whole, as far as it is known.
    pub(crate) broken: Option<Failure>,
}

/// Serves a request from the location's upstream.
pub(crate) async fn serve(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Pinned,
) -> Result<(), Unfinished> {
    let worker = Rc::clone(&client.worker);
    let mut head = worker.buffers.lease_text();
    client.settle_small_body(exchange);
    forget_spent_body(client, exchange, generation)?;
    let planned = with_env(&worker, generation, |env| {
        let plan = proxy::plan(exchange, env)?;
        proxy::request_head(exchange, env, &plan, &mut head)?;
        Ok((plan, proxy::streams_body(exchange, env)))
    });
    let (plan, streams) = planned.map_err(Unfinished::Status)?;
    // A request without a body can be tried again whatever is said about bodies.
    let streamed = streams && !client.body.is_done();
    client.places.keep_up(exchange, generation);
    let number = match plan.target {
        proxy::Target::Group(number) => number,
        _ => generation.layout.other_group(),
    };
    generation.recording.note(|recorder| recorder.request_began(number));
    let first = exchange.upstream.tries.len();
    let group = target::group(client, exchange, generation, &plan).await;
    let result = match group {
        Ok(group) => {
            let mut proxying = Proxying {
                client,
                exchange,
                generation,
                head,
                streamed,
                body_taken: false,
                group: number,
                broken: None,
            };
            let result = proxying.try_peers(&plan, &group).await;
            worker.buffers.give_back_text(std::mem::take(&mut proxying.head));
            result
        }
        Err(unfinished) => Err(unfinished),
    };
    let status = match result {
        Err(Unfinished::Status(status) | Unfinished::Replaced(status)) => status,
        _ => exchange.response.status,
    };
    let end = recording::request_end(&exchange.upstream.tries[first..], status);
    generation.recording.note(|recorder| recorder.request_ended(number, &end));
    result
}

/// A body that an earlier origin was sent while it came is no more: an error page does without it, and what needs it
/// cannot be served. To promise its length would leave the next origin waiting, and take the request behind for it.
fn forget_spent_body(
    client: &Client,
    exchange: &mut Exchange,
    generation: &Pinned,
) -> Result<(), Unfinished> {
    if !matches!(exchange.request.body, Body::Streaming) {
        return Ok(());
    }
    if !matches!(exchange.method(), b"GET" | b"HEAD") {
        let text = "the request's body was passed on already, so that it cannot be sent to another upstream";
        say(client, exchange, generation, Level::Error, text);
        return Err(Unfinished::Status(502));
    }
    exchange.request.body = Body::Discarded;
    Ok(())
}

impl Proxying<'_> {
    /// Now, in microseconds of the clock that never goes back.
    pub(crate) fn now_us(&self) -> u64 {
        self.client.worker.clock.now().monotonic_us
    }

    fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }

    /// Writes to the error log about this request.
    pub(crate) fn say(&mut self, level: Level, text: &str) {
        let worker = Rc::clone(&self.client.worker);
        with_env(&worker, self.generation, |env| log_line::error(self.exchange, env, level, text.as_bytes()));
    }

    /// Calls into the engine for this request.
    pub(crate) fn engine<T>(
        &mut self,
        call: impl FnOnce(&mut Exchange, &mut engine::host::Env<'_>) -> T,
    ) -> T {
        let worker = Rc::clone(&self.client.worker);
        with_env(&worker, self.generation, |env| call(self.exchange, env))
    }

    /// The record of the try under way.
    pub(crate) fn record(&mut self) -> &mut Try {
        let tries = &mut self.exchange.upstream.tries;
        if tries.is_empty() {
            tries.push(Try::default());
        }
        let last = tries.len() - 1;
        &mut tries[last]
    }

    async fn try_peers(&mut self, plan: &Plan, group: &Rc<ThreadGroup>) -> Result<(), Unfinished> {
        let limit = self.engine(|exchange, env| proxy::tries_limit(exchange, env)).unwrap_or(0);
        let mut tried = Tried::new(limit);
        let mut key = Vec::new();
        if let proxy::Target::Group(number) = plan.target {
            self.engine(|exchange, env| engine::modules::upstream::hash_key(exchange, env, number, &mut key));
        }
        let began_ms = self.now_ms();
        loop {
            let picked = self.pick(plan, group, &key, &mut tried)?;
            let link = self.idle_link(group, &picked);
            let reused = link.is_some();
            let peer = picked.number;
            self.generation.recording.note(|recorder| recorder.try_began(self.group, peer));
            let failed = match attempt(self, &picked, link).await {
                Ok(answer) => {
                    let progress = self.progress(&tried, began_ms, true);
                    let came = self.answered(plan, group, picked, answer, progress).await;
                    let failure = self.broken.take();
                    self.try_ended(peer, reused, failure);
                    match came? {
                        None => return Ok(()),
                        Some(failure) => failure,
                    }
                }
                Err(Failed::ClientGone) => {
                    self.try_ended(peer, reused, Some(Failure::ClientGone));
                    return Err(Unfinished::Status(499));
                }
                Err(Failed::Cut) => {
                    self.try_ended(peer, reused, Some(Failure::Cut));
                    return Err(Unfinished::Status(499));
                }
                Err(Failed::Client(status)) => {
                    self.try_ended(peer, reused, Some(Failure::ClientGone));
                    return Err(Unfinished::Status(status));
                }
                Err(Failed::Exhausted) => {
                    self.try_ended(peer, reused, Some(Failure::Connect));
                    return Err(Unfinished::Status(500));
                }
                Err(Failed::Peer { failure, request_sent, doing }) => {
                    self.tried_in_vain(picked, failure, doing);
                    self.try_ended(peer, reused, Some(kind(failure, doing)));
                    if failure == TryFailure::Timeout {
                        self.say(
                            Level::Error,
                            &format!("upstream timed out (110: Connection timed out) {doing}"),
                        );
                    }
                    if reused && failure == TryFailure::Error {
                        tried.refund();
                    }
                    let progress = self.progress(&tried, began_ms, request_sent);
                    if !self.engine(|exchange, env| proxy::may_retry(exchange, env, failure, progress)) {
                        return Err(Unfinished::Status(failure.status()));
                    }
                    failure
                }
            };
            debug_assert!(failed.status() >= 400, "only what may be retried comes here");
        }
    }

    /// Records a try that has ended; its record is closed.
    fn try_ended(&mut self, peer: usize, reused: bool, failure: Option<Failure>) {
        let record = self.record();
        let end = TryEnd {
            // nginx notes 502 and 504 where the peer has said nothing.
            status: if record.header_us.is_some() { record.status } else { 0 },
            failure,
            connect_us: record.connect_us.filter(|_| !reused),
            first_byte_us: record.header_us,
            response_us: record.response_us,
            sent: record.sent,
            received: record.received,
        };
        self.generation.recording.note(|recorder| recorder.try_ended(self.group, peer, &end));
    }

    fn progress(&self, tried: &Tried, began_ms: u64, request_sent: bool) -> Progress {
        Progress {
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
        let worker = Rc::clone(&self.client.worker);
        let client = self.exchange.connection.remote.map(|remote| remote.ip());
        let input = PickInput { key, client };
        let picked = group.pick(self.now_ms(), &input, tried, &mut || worker.random());
        let after_redirect = std::mem::take(&mut self.exchange.upstream.redirected);
        let address: Arc<str> = match &picked {
            Ok(picked) => Arc::clone(&picked.label),
            Err(PickError::NoLive) => group.name().into(),
        };
        proxy::upstream_url(self.exchange, plan, &address);
        self.exchange.upstream.tries.push(Try { address, after_redirect, ..Try::default() });
        picked.map_err(|PickError::NoLive| {
            self.say(Level::Error, "no live upstreams while connecting to upstream");
            let record = self.record();
            record.status = 502;
            record.response_us = Some(0);
            Unfinished::Status(502)
        })
    }

    fn idle_key(&self, group: &ThreadGroup, picked: &Picked) -> IdleKey {
        let tag = if group.keeps_per_location() { u64::from(self.exchange.route.location.0) + 1 } else { 0 };
        IdleKey { address: picked.address.clone(), tag }
    }

    fn idle_link(&self, group: &ThreadGroup, picked: &Picked) -> Option<Box<Link>> {
        if !group.keeps_idle() {
            return None;
        }
        group.take_idle(&self.idle_key(group, picked), self.now_ms())
    }

    /// Closes the record of a try that gave no answer, and ends the lease. `doing` is what nginx has behind its
    /// messages.
    fn tried_in_vain(&mut self, picked: Picked, failure: TryFailure, doing: &str) {
        let now_ms = self.now_ms();
        let record = self.record();
        if record.status == 0 {
            record.status = failure.status();
        }
        if picked.finish(failure.outcome(), now_ms) == Finished::Disabled {
            self.say(Level::Warn, &format!("upstream server temporarily disabled {doing}"));
        }
    }

    /// There is an answer: it goes to the client, or is a reason for another try (then this is why).
    async fn answered(
        &mut self,
        plan: &Plan,
        group: &Rc<ThreadGroup>,
        picked: Picked,
        answer: Answer,
        progress: Progress,
    ) -> Result<Option<TryFailure>, Unfinished> {
        let Answer { mut link, mut head, began_us, uploaded } = answer;
        let framing = self.engine(|exchange, env| {
            let framing = proxy::framing(exchange, env, &head)?;
            proxy::wanted_retry(exchange, env, &head, progress).map_or(Ok(framing), Err)
        });
        let framing = match framing {
            Ok(framing) => framing,
            Err(failure) => {
                self.close_record(began_us);
                self.tried_in_vain(picked, failure, READING);
                self.broken = Some(kind(failure, READING));
                let again = self.engine(|exchange, env| proxy::may_retry(exchange, env, failure, progress));
                return if again { Ok(Some(failure)) } else { Err(Unfinished::Status(failure.status())) };
            }
        };
        let disposition = self.engine(|exchange, env| proxy::accept_head(exchange, env, plan, &mut head));
        let result = match disposition {
            Disposition::Forward => relay::relay(self, &mut link, framing, uploaded).await,
            // What is left of the body would be taken for the new protocol's bytes.
            Disposition::Upgrade if !uploaded => {
                self.say(Level::Error, "upstream switched protocols before it had the whole request");
                Err(Unfinished::Status(502))
            }
            Disposition::Upgrade => self.upgrade(&mut link).await.map(|()| false),
            Disposition::InternalRedirect { uri, args } => {
                let redirected =
                    self.engine(|exchange, env| phase::redirect_internally(exchange, env, &uri, &args));
                Err(redirected.map_or_else(Unfinished::Status, |()| Unfinished::Walk))
            }
            Disposition::Error(status) => Err(Unfinished::Status(status)),
        };
        self.close_record(began_us);
        self.client.seat.no_stream();
        if matches!(result, Err(Unfinished::Broken)) {
            // Nobody has said that it was the upstream.
            let cut = self.client.seat.is_cut();
            self.broken.get_or_insert(if cut { Failure::Cut } else { Failure::ClientGone });
        }
        let now_ms = self.now_ms();
        let key = self.idle_key(group, &picked);
        picked.finish(Outcome::Success, now_ms);
        self.client.worker.buffers.give_back_head(head);
        link.requests += 1;
        link.input.consume(link.input.unread().len());
        link.input.release(&self.client.worker.buffers);
        if let Ok(true) = result
            && group.keeps_idle()
        {
            group.keep_idle(key, link, now_ms);
        }
        result.map(|_| None)
    }

    fn close_record(&mut self, began_us: u64) {
        let now_us = self.now_us();
        self.record().response_us = Some(now_us - began_us);
    }

    /// After `101`: bytes go both ways.
    async fn upgrade(&mut self, link: &mut Link) -> Result<(), Unfinished> {
        link.send_at_once();
        self.engine(engine::output::write_head)?;
        self.client.send_wire(self.exchange, self.generation).await?;
        let timeout_ms = *self
            .generation
            .config
            .location(self.exchange.route.location)
            .settings
            .proxy
            .connection
            .read_timeout_ms;
        self.client.seat.stream_from(0);
        let through = tunnel::tunnel(self.client, link, timeout_ms).await;
        self.exchange.output.sent += through.down;
        self.exchange.output.body_len += through.down;
        let record = self.record();
        record.received += through.down;
        record.body_received += through.down;
        record.sent += through.up;
        if self.client.seat.is_cut() {
            self.broken = Some(Failure::Cut);
            self.say(Level::Info, CUT);
        } else if let Some(error) = through.broken {
            self.broken = Some(Failure::Closed);
            let text = format!("recv() {} while proxying upgraded connection", told(&error));
            self.say(Level::Error, &text);
        } else if through.timed_out {
            self.broken = Some(Failure::Timeout);
            self.say(
                Level::Error,
                "upstream timed out (110: Connection timed out) while proxying upgraded connection",
            );
        }
        self.exchange.output.keep_alive = false;
        Ok(())
    }
}

/// What a failure is called where it is counted. `doing` tells a connection that was not made from one that broke.
fn kind(failure: TryFailure, doing: &str) -> Failure {
    match failure {
        TryFailure::Error if doing == CONNECTING => Failure::Connect,
        TryFailure::Error | TryFailure::NoLive => Failure::Closed,
        TryFailure::Timeout if doing == CONNECTING => Failure::ConnectTimeout,
        TryFailure::Timeout => Failure::Timeout,
        TryFailure::InvalidHeader => Failure::InvalidHeader,
        _ => Failure::HttpStatus,
    }
}

/// A group of one for an address that came at run time.
pub(crate) fn lone_group(name: &str, peers: Vec<upstream::PeerSpec>) -> Rc<ThreadGroup> {
    Rc::new(ThreadGroup::passing(upstream::GroupSpec {
        name: name.to_owned(),
        peers,
        balancer: upstream::BalancerSpec::RoundRobin,
        keepalive: upstream::KeepaliveSpec::OFF,
    }))
}
