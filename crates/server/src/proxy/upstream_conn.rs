//! A connection to an upstream peer, from its opening until it is closed: in use or idle.

use super::fastcgi::FastcgiUpstream;
use super::http2::wire::H2Upstream;
use crate::context::conn_state::ConnCount;
use engine::modules::proxy::Protocol;
use transport::buffers::{BufferSize, Buffers};
use transport::read_buffer::ReadBuffer;
use transport::stream::Stream;

/// A connection to an upstream peer.
#[derive(Debug)]
pub(crate) struct UpstreamConn {
    pub(crate) stream: Stream,
    pub(crate) read_buffer: ReadBuffer,
    /// Requests it has carried.
    pub(crate) requests: u32,
    /// When it was opened, in ms.
    pub(crate) opened_ms: u64,
    /// Bytes of the present response's head, interim responses included.
    pub(crate) head_bytes: u64,
    /// What is spoken on it.
    pub(super) protocol: Protocol,
    /// What is said on it beside requests, if it speaks HTTP/2.
    pub(super) h2: Option<Box<H2Upstream>>,
    /// Until when it may lie idle, in ms, if a script has kept it; 0 is without limit.
    pub(super) idle_until_ms: u64,
    /// The place among its records, if it speaks FastCGI.
    pub(super) fastcgi: Option<Box<FastcgiUpstream>>,
    /// Small pieces are sent at once (TCP_NODELAY).
    sends_at_once: bool,
    /// It counts among the thread's connections.
    _count: ConnCount,
}

impl UpstreamConn {
    /// Creates one that has carried nothing; `head_size` is the size of responses' heads.
    pub(super) fn new(
        stream: Stream,
        opened_ms: u64,
        upstream_conns: ConnCount,
        protocol: Protocol,
        head_size: u64,
    ) -> UpstreamConn {
        let h2 = (protocol == Protocol::Http2).then(|| Box::new(H2Upstream::new(head_size as usize)));
        let mut conn = UpstreamConn {
            stream,
            read_buffer: ReadBuffer::with_size(BufferSize::Answer),
            requests: 0,
            opened_ms,
            head_bytes: 0,
            protocol,
            h2,
            idle_until_ms: 0,
            fastcgi: (protocol == Protocol::FastCgi).then(Box::default),
            sends_at_once: false,
            _count: upstream_conns,
        };
        if conn.h2.is_some() {
            conn.send_at_once();
        }
        conn
    }

    /// Sets TCP_NODELAY, so that small pieces do not wait for acknowledgements. A connection that carries one request in one
    /// piece does not need it.
    pub(crate) fn send_at_once(&mut self) {
        if !std::mem::replace(&mut self.sends_at_once, true) {
            self.stream.send_at_once();
        }
    }

    /// Returns true if it has been idle for longer than the script that kept it wanted.
    pub(super) fn is_overdue(&self, now_ms: u64) -> bool {
        self.idle_until_ms != 0 && now_ms >= self.idle_until_ms
    }

    /// Returns true if it is as quiet as an idle connection must be, neither closed nor with bytes that nothing asked for.
    pub(super) fn is_quiet(&mut self, buffers: &Buffers, now_ms: u64) -> bool {
        match &mut self.h2 {
            None => self.read_buffer.is_empty() && self.stream.is_silent(),
            Some(h2) => {
                self.stream.is_silent()
                    || h2.stay_idle(&mut self.stream, &mut self.read_buffer, buffers, now_ms)
            }
        }
    }
}

impl Drop for UpstreamConn {
    fn drop(&mut self) {
        if let Some(h2) = &mut self.h2 {
            h2.part(&mut self.stream);
        }
    }
}
