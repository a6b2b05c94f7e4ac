//! The rules by which one response's body is relayed: what the settings and the upstream's own words come to.

use super::fault::UpstreamFault;
use super::request::ProxyRequest;
use super::spool::Spool;
use super::streams;
use crate::request::respond::Unfinished;
use cache::StoredMeta;
use engine::modules::core;
use engine::modules::proxy;
use engine::output;
use engine::phase::FilePart;
use std::ops::Range;

/// The parameters of a whole relay.
pub(super) struct Rules {
    /// The client may lag behind.
    pub(super) buffering: bool,
    /// Over HTTP/2: no more than the peer's window lets come waits for the client.
    pub(super) paced: bool,
    /// Available bytes go to the client before any wait, even if they are the head alone.
    pub(super) at_once: bool,
    /// Lua or another filter must see the bytes.
    pub(super) filtered: bool,
    /// Bytes a second from the upstream; 0 is without limit.
    pub(super) limit_rate: u64,
    /// The part of the body that the client gets.
    pub(super) range: Option<Range<u64>>,
    pub(super) read_ms: u64,
    pub(super) send_ms: u64,
    pub(super) watch_client: bool,
}

/// The next event.
pub(super) enum Event {
    /// There are more bytes from the upstream.
    More,
    /// The upstream has ended.
    Ended,
    Fault(UpstreamFault),
}

/// Writes the response's head, and returns the rules for its body, an empty spool, and what is kept beside the body if the
/// response is kept.
pub(super) fn settle(
    request: &mut ProxyRequest<'_, '_>,
    is_h2: bool,
) -> Result<(Spool, Rules, Option<StoredMeta>), Unfinished> {
    let connection = &request.cx.settings().proxy.connection;
    let read_ms = request.times.read_ms;
    let quitting = request.cx.client.thread.quitting.get();
    request.cx.engine(|exchange, env| {
        exchange.response.close |= quitting;
        output::write_head(exchange, env)?;
        let plan = proxy::relay(exchange, env);
        let stored = proxy::cache::begin_store(exchange, env, plan.buffering);
        let range = match exchange.response.parts[..] {
            [FilePart::Range { offset, len }] => Some(offset..offset + len),
            _ => None,
        };
        exchange.output.at_once = !plan.buffering || streams::promises_events(exchange);
        let paced = is_h2 && !plan.buffering;
        let memory = match paced {
            true => usize::MAX,
            false => (plan.buffer_count * plan.buffer_size + plan.head_size) as usize,
        };
        let rules = Rules {
            // Both directions of HTTP/2 move at the same time: neither may wait for the client.
            buffering: (plan.buffering || is_h2) && core::limit_rate(exchange, env.config) == 0,
            paced,
            at_once: exchange.output.at_once,
            filtered: output::has_body_filter(exchange, env),
            limit_rate: if paced { 0 } else { plan.limit_rate },
            range,
            read_ms,
            send_ms: *exchange.settings(env.config).core.send.timeout_ms,
            watch_client: !*connection.ignore_client_abort && stored.is_none(),
        };
        let file = if paced { 0 } else { plan.max_temp_file_size };
        Ok((Spool::new(memory, file), rules, stored))
    })
}
