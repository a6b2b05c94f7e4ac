//! Interim responses of upstreams that go to the client: 103 (RFC 8297), after ngx_http_upstream_process_early_hints.
//!
//! Owns which of them go, and with which fields. It must never touch the response.

use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::template;
use http::h2::{PieceHeader, PieceKind, hpack};
use http::{ResponseHead, Version, encode, framing};

/// The status of an interim response that may be passed on.
pub const EARLY_HINTS: u16 = 103;

/// Appends to `out` what the client gets of an upstream's hints, and nothing if it is to get none. `bytes` is how many have come
/// of hints in this try, these among them.
pub fn early_hints(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    head: &ResponseHead,
    bytes: u64,
    out: &mut Vec<u8>,
) {
    let settings = exchange.settings(env.config);
    let version = exchange.request.head.version;
    if head.status != EARLY_HINTS || settings.proxy.kind.gateway().is_some() {
        return;
    }
    if bytes > *settings.proxy.buffers.head_size {
        let line = b"upstream sent too big early hints while reading response header from upstream";
        return log_line::error(exchange, env, Level::Info, line);
    }
    if exchange.subrequests.is_inner()
        || version < Version::Http11
        || !template::is_any_set(&settings.core.send.early_hints, exchange, env)
    {
        return;
    }
    let hidden = &settings.proxy.compiled.hidden;
    // Nothing about the upstream's connection, nor about the end of a body that is not this response's.
    let goes = |known, name: &[u8]| {
        framing::may_trail(known)
            && !framing::is_of_connection(&head.headers, known, name)
            && !hidden.contains(known, name)
    };
    let mut fields = head.headers.iter().filter(|(known, name, _)| goes(*known, name)).peekable();
    if fields.peek().is_none() {
        return;
    }
    if version == Version::Http2 {
        let mut block = Vec::new();
        hpack::encode_status(&mut block, EARLY_HINTS);
        for (known, name, value) in fields {
            hpack::encode_valid_field(&mut block, known, name, value.trim_ascii());
        }
        out.extend_from_slice(&PieceHeader { kind: PieceKind::Head, len: block.len() as u64 }.bytes());
        out.extend_from_slice(&block);
    } else {
        encode::encode_status_line(out, EARLY_HINTS);
        for (_, name, value) in fields {
            encode::encode_field(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
    }
}
