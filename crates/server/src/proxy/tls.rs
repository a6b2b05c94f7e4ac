//! The handshake of TLS with an upstream.

use super::connect::unless_gone;
use super::fault::UpstreamFault;
use crate::context::timeout::{TimedOut, Timeout};
use crate::request::cx::RequestCx;
use crate::request::handshake_files::ReadFiles;
use engine::modules::proxy::{self, Plan};
use engine::modules::ssl::HandshakePair;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, OnceLock};
use tls::{UpstreamContext, name_of_pair, upstream_fault_text};
use transport::clock::Clock;
use transport::stream::Stream;
use transport::tls_stream::{HandshakeFault, TlsStream};

/// How a request speaks to its upstream.
pub(crate) struct UpstreamTls {
    context: Arc<UpstreamContext>,
    /// The upstream's name.
    name: Vec<u8>,
    /// The certificate for upstreams that ask for one, if handshakes read it.
    late: Option<HandshakePair>,
    /// What an idle connection must have been opened with.
    pub(super) tag: u64,
}

impl UpstreamTls {
    /// Works out how a request speaks to its upstream; `None` is in clear.
    /// `host` is the upstream's name unless the location says another one; empty is `$proxy_host`.
    pub(super) fn of(cx: &mut RequestCx<'_>, plan: &Plan, host: &[u8]) -> Option<Box<UpstreamTls>> {
        if !plan.over_tls {
            return None;
        }
        let context = Arc::clone(cx.generation.contexts.upstreams.get(cx.exchange.route.location)?);
        let mut name = Vec::new();
        cx.engine(|exchange, env| proxy::upstream_name(exchange, env, host, &mut name));
        let late = cx.engine(|exchange, env| {
            let ssl = &exchange.settings(env.config).proxy.ssl;
            ssl.in_handshake(exchange, env)
        });
        let tag = tag_of((context.id, &name, late.as_ref().map(name_of_pair)));
        Some(Box::new(UpstreamTls { context, name, late, tag }))
    }
}

/// Returns a number for what an idle connection must have been opened with, at which no client can aim.
pub(super) fn tag_of(what: impl Hash) -> u64 {
    /// Names may come from clients: they must not be able to choose what collides.
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    KEYS.get_or_init(RandomState::new).hash_one(what)
}

/// Shakes hands within `timeout_ms`, unless the client that is watched, if one is, leaves first. `peer` is the peer's address
/// as it is shown.
pub(super) async fn shake_hands(
    stream: Stream,
    tls: &UpstreamTls,
    peer: &Arc<str>,
    timeout_ms: u64,
    timeout: &mut Timeout,
    clock: &Clock,
    client: Option<&Stream>,
) -> Result<Stream, UpstreamFault> {
    let late = match &tls.late {
        Some(names) => {
            tls.context.load_late(names, &mut ReadFiles { clock }).map_err(UpstreamFault::Certificate)?
        }
        None => None,
    };
    let connection = tls.context.connect(&tls.name, peer, late).map_err(UpstreamFault::Handshake)?;
    let Stream::Plain(socket) = stream else { return Ok(stream) };
    let mut stream = TlsStream::connect(socket, connection);
    let shaken = timeout.wait(timeout_ms, unless_gone(client, poll_fn(|cx| stream.poll_handshake(cx)))).await;
    match shaken {
        Ok(Some(Ok(()))) => {
            // A signature takes long: others are served in between.
            tokio::task::yield_now().await;
            Ok(Stream::Tls(stream))
        }
        Ok(Some(Err(fault))) => Err(UpstreamFault::Handshake(words(fault))),
        Ok(None) => Err(UpstreamFault::ClientLeft),
        Err(TimedOut) => Err(UpstreamFault::TimedOut),
    }
}

fn words(fault: HandshakeFault) -> String {
    match fault {
        HandshakeFault::Closed => "peer closed connection in SSL handshake".to_owned(),
        HandshakeFault::Io(error) => format!("SSL_do_handshake() failed ({error})"),
        HandshakeFault::TooLong => "SSL_do_handshake() failed (SSL: upstream sent more than 128k)".to_owned(),
        HandshakeFault::Tls(error) => upstream_fault_text(&error),
    }
}
