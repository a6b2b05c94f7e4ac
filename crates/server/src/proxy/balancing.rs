//! Peers that a script chooses (`balancer_by_lua*`): the script is asked before each try, and what it says is carried out.
//!
//! Owns the order of it: ask, take its times and its name for TLS, write the request anew if it wants that, pick. Must never
//! judge a peer: what becomes of a try is the script's to know.

use super::pool::{Picked, ThreadGroup};
use super::request::{ProxyRequest, Scripted, UpstreamTimes};
use super::tls::{UpstreamTls, tag_of};
use crate::request::respond::Unfinished;
use engine::exchange::Try;
use engine::host::Level;
use engine::modules::lua::balancer::{Balanced, Balancing, Choice, LastFailure};
use engine::modules::lua::{self, ScriptId};
use engine::modules::proxy::{self, Plan};
use std::rc::Rc;
use std::sync::Arc;
use upstream::retry::TryFailure;
use upstream::{Group, Tried, TryOutcome};

/// After so many tries of one request others are served before each further one: a script may ask for many, and a peer that
/// refuses does so at once.
const PATIENCE: u32 = 4;

/// The script that is asked for a request's peers.
pub(super) struct Asking {
    script: ScriptId,
    /// When the first try began, in ms.
    began_ms: u64,
    /// The name that the peer is to prove over TLS, as the script has said last.
    host: Vec<u8>,
}

impl Asking {
    /// Prepares a request to the group of this number; `None` if it has no script. `limit` is `proxy_next_upstream_tries`.
    pub(super) fn new(
        request: &mut ProxyRequest<'_, '_>,
        number: usize,
        limit: u32,
        began_ms: u64,
    ) -> Option<Asking> {
        let script = request.cx.generation.config.groups.get(number)?.script?;
        let has_tls = request.cx.settings().proxy.pass.as_ref().is_some_and(|pass| pass.over_tls);
        let balancing = Balancing { limit, has_tls, ..Balancing::default() };
        request.cx.exchange.script.balancing = Some(Box::new(balancing));
        Some(Asking { script, began_ms, host: Vec::new() })
    }
}

impl ProxyRequest<'_, '_> {
    /// Asks the script for the next peer and opens its record.
    pub(super) async fn ask_script(
        &mut self,
        asking: &mut Asking,
        plan: &mut Plan,
        group: &Rc<ThreadGroup>,
        key: &[u8],
        tried: &mut Tried,
    ) -> Result<Picked, Unfinished> {
        let mut said = loop {
            let left = group.tries_left(tried);
            let mut said = self.cx.exchange.script.balancing.take().unwrap_or_default();
            said.begin(left);
            if said.begun > PATIENCE {
                tokio::task::yield_now().await;
            }
            self.cx.exchange.script.balancing = Some(said);
            match self.cx.engine(|exchange, env| lua::balance(exchange, env, asking.script)) {
                Balanced::Done => break self.cx.exchange.script.balancing.take().unwrap_or_default(),
                Balanced::End(status) => return Err(self.no_peer(group, 0, status)),
                Balanced::Busy => {
                    self.cx.log(Level::Error, "no live upstreams while connecting to upstream");
                    return Err(self.no_peer(group, 502, 502));
                }
                Balanced::Declined => {
                    let declined = self.no_peer(group, 502, 502);
                    tried.forgo();
                    let progress = self.progress(tried, asking.began_ms, false);
                    if !self.may_retry(TryFailure::Error, progress) {
                        return Err(declined);
                    }
                }
            }
        };
        let Choice { peer, more_tries, keepalive } = std::mem::take(&mut said.choice);
        let host = peer.as_ref().map(|peer| peer.host.clone()).unwrap_or_default();
        let recreated = self.obey(&said, plan, asking, host);
        self.scripted.keepalive = keepalive;
        self.cx.exchange.script.balancing = Some(said);
        recreated?;
        let Some(peer) = peer else {
            if group.is_empty() {
                self.cx.log(Level::Error, "lua balancer: no peer set while connecting to upstream");
                return Err(self.no_peer(group, 0, 500));
            }
            return self.pick(plan, group, key, tried);
        };
        let now_ms = self.now_ms();
        let (metrics, number) = (&self.cx.generation.metrics, self.group);
        let measured = |of: &Group, position: usize| metrics.peer_number(number, of, position);
        let picked = group.pick_at(now_ms, peer.address, more_tries, tried, measured);
        self.open_record(plan, Arc::clone(&picked.label), picked.health.clone());
        Ok(picked)
    }

    /// Carries out what holds for the try: its times, its TLS, the address to connect from, and the request itself.
    fn obey(
        &mut self,
        said: &Balancing,
        plan: &mut Plan,
        asking: &mut Asking,
        host: Vec<u8>,
    ) -> Result<(), Unfinished> {
        let set = UpstreamTimes::of(&self.cx.settings().proxy.connection);
        self.times = UpstreamTimes {
            connect_ms: said.times.connect_ms.unwrap_or(set.connect_ms),
            send_ms: said.times.send_ms.unwrap_or(set.send_ms),
            read_ms: said.times.read_ms.unwrap_or(set.read_ms),
        };
        let over_tls = said.over_tls.unwrap_or(plan.over_tls);
        if over_tls != plan.over_tls || host != asking.host {
            (plan.over_tls, asking.host) = (over_tls, host);
            self.tls = UpstreamTls::of(self.cx, plan, &asking.host);
        }
        let tag = if asking.host.is_empty() { 0 } else { tag_of(&asking.host) };
        self.scripted = Scripted { local: said.local, keepalive: None, tag };
        if said.recreate {
            self.head.clear();
            let head = &mut self.head;
            let written = self.cx.engine(|exchange, env| proxy::request_head(exchange, env, plan, head));
            self.head_len = written.map_err(Unfinished::Status)?;
        }
        Ok(())
    }

    /// Records a try without a peer: `status` is the one that it counts with, `ends` the one that the request ends with.
    fn no_peer(&mut self, group: &ThreadGroup, status: u16, ends: u16) -> Unfinished {
        let upstream = &mut self.cx.exchange.upstream;
        let after_redirect = std::mem::take(&mut upstream.redirected);
        let address = group.name().into();
        let record = Try { address, after_redirect, status, response_us: Some(0), ..Try::default() };
        upstream.tries.push(record);
        Unfinished::Status(ends)
    }

    /// Tells the script, if it is asked again, how the try of its peer has failed.
    pub(super) fn note_failure(&mut self, failure: TryFailure) {
        if let Some(balancing) = &mut self.cx.exchange.script.balancing {
            balancing.last_failure = Some(match failure.outcome() {
                TryOutcome::Neutral => LastFailure::Next,
                _ => LastFailure::Failed,
            });
        }
    }

    /// Returns how many connections are kept for the scripts of a group (`balancer_keepalive`).
    pub(super) fn script_idle(&self, group: &ThreadGroup) -> u32 {
        let config = &self.cx.generation.config;
        let entry = config.group(group.name().as_bytes()).and_then(|number| config.groups.get(number));
        entry.map_or(SCRIPT_IDLE, |entry| entry.script_idle)
    }
}

/// As many as nginx keeps without the directive, for a group that was made at run time.
const SCRIPT_IDLE: u32 = 32;
