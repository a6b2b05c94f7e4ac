//! A proxied request under way.

use super::fault::{Row, UpstreamFault, UpstreamStage};
use super::tls::UpstreamTls;
use crate::request::cx::RequestCx;
use engine::exchange::Try;
use engine::modules::lua::balancer::ScriptKeepalive;
use engine::modules::proxy::{ConnectionSettings, Protocol};
use statistics::Failure;
use std::net::SocketAddr;
use upstream::retry::TryFailure;

/// The longest waits for a peer, in ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpstreamTimes {
    pub(crate) connect_ms: u64,
    pub(crate) send_ms: u64,
    pub(crate) read_ms: u64,
}

impl UpstreamTimes {
    /// Returns those of a location.
    pub(crate) fn of(settings: &ConnectionSettings) -> UpstreamTimes {
        UpstreamTimes {
            connect_ms: *settings.connect_timeout_ms,
            send_ms: *settings.send_timeout_ms,
            read_ms: *settings.read_timeout_ms,
        }
    }
}

/// The script's choice of the peer of the present try; empty in groups without a script.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scripted {
    /// The address to connect from.
    pub(crate) local: Option<SocketAddr>,
    /// How the connection is kept.
    pub(crate) keepalive: Option<ScriptKeepalive>,
    /// The tag that an idle connection must have been opened with, beside addresses and TLS.
    pub(crate) tag: u64,
}

/// See the module.
pub(crate) struct ProxyRequest<'a, 'b> {
    pub(crate) cx: &'a mut RequestCx<'b>,
    /// The request's head as it goes to every peer.
    pub(crate) head: Vec<u8>,
    /// How long it is; what `proxy_set_body` makes follows it in the same memory.
    pub(crate) head_len: usize,
    /// The protocol of the peers, in which the head is written.
    pub(crate) protocol: Protocol,
    /// Whether the client's body follows it as it comes.
    pub(crate) streamed: bool,
    /// Whether bytes of the client's own body were passed on: then there can be no other try.
    pub(crate) body_taken: bool,
    /// The longest waits for the peer.
    pub(crate) times: UpstreamTimes,
    /// The script's choice of the peer.
    pub(crate) scripted: Scripted,
    /// How the upstream is spoken to over TLS; `None` is in clear.
    pub(crate) tls: Option<Box<UpstreamTls>>,
    /// The address to connect from, unless a script names another; `None` leaves it to the system.
    pub(crate) bind: Option<SocketAddr>,
    /// The group's number in the statistics.
    pub(crate) group: usize,
    /// Why the response under way will not be whole, as far as it is known.
    pub(crate) broken: Option<Failure>,
    /// How the last try has failed, if no further one follows.
    pub(crate) last_failure: Option<TryFailure>,
}

impl ProxyRequest<'_, '_> {
    /// Returns the time in microseconds of the monotonic clock.
    pub(crate) fn now_us(&self) -> u64 {
        self.cx.client.thread.clock.now().monotonic_us
    }

    /// Returns the time in milliseconds of the monotonic clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }

    /// Returns the address to connect from; `None` leaves it to the system.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.scripted.local.or(self.bind)
    }

    /// Returns the record of the try under way.
    pub(crate) fn record(&mut self) -> &mut Try {
        let tries = &mut self.cx.exchange.upstream.tries;
        if tries.is_empty() {
            tries.push(Try::default());
        }
        let last = tries.len() - 1;
        &mut tries[last]
    }

    /// Logs a fault, and returns its row.
    pub(super) fn log_fault(&mut self, fault: &UpstreamFault, stage: UpstreamStage) -> Row {
        let row = fault.row(stage);
        if let Some(line) = fault.line(stage) {
            self.cx.log(row.level, line);
        }
        row
    }
}
