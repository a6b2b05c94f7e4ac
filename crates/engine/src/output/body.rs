//! The body's bytes on their way into the wire: through the filters of the chain, the compressor, and the framing.
//!
//! Owns when a filter runs. It must never wait: what only the server can do is [`BodyStep`].

use super::chain::{BodyStep, Flow, Included, Link};
use super::wire::{FilterFailed, Framing};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::modules;

/// So much may gather in the wire, or come out of a filter, before it is sent.
pub(crate) const ENOUGH: usize = 32 << 10;

/// Passes bytes on that scripts have seen.
///
/// # Errors
/// A filter has failed.
pub(super) fn give(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    data: &[u8],
    last: bool,
) -> Result<(), FilterFailed> {
    if exchange.output.chain.is_empty() {
        append(exchange, env, data, last);
        return Ok(());
    }
    exchange.output.chain.give(data, last);
    pump(exchange, env).map(drop)
}

/// Runs filters until there is nothing more for them to do, or enough to send.
///
/// # Errors
/// A filter has failed: nothing more may be sent.
pub fn pump(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<BodyStep, FilterFailed> {
    if exchange.output.chain.is_empty() || exchange.output.framing == Framing::None {
        return Ok(BodyStep::Nothing);
    }
    if exchange.output.failed {
        return Err(FilterFailed);
    }
    let mut chain = std::mem::take(&mut exchange.output.chain);
    let result = loop {
        if chain.wants_include() {
            break Ok(BodyStep::Include);
        }
        if exchange.output.wire.len() >= ENOUGH {
            break Ok(BodyStep::More);
        }
        let Some((at, link)) = chain.ready() else {
            append(exchange, env, &chain.take_held(), false);
            if chain.may_end() {
                append(exchange, env, b"", true);
            } else if chain.wants_include() {
                break Ok(BodyStep::Include);
            }
            break Ok(BodyStep::Nothing);
        };
        let mut made = Vec::new();
        let flow = match run(link, exchange, env, &mut made) {
            Ok(flow) => flow,
            Err(failed) => break Err(failed),
        };
        if chain.pass(at, &made) {
            append(exchange, env, &made, false);
        }
        if let Flow::Include(include) = flow {
            chain.want(at, include);
        }
    };
    exchange.output.chain = chain;
    if result.is_err() {
        // As nginx's `c->error`: what was not sent yet is not sent any more.
        exchange.output.failed = true;
        exchange.output.wire.clear();
    }
    result
}

/// Runs one filter over what it was given.
fn run(
    link: &mut Link,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    made: &mut Vec<u8>,
) -> Result<Flow, FilterFailed> {
    let (filter, mut rest, is_last) = link.input();
    let before = rest.len();
    let flow = modules::run_body_filter(filter, exchange, env, &mut rest, is_last, made)?;
    let taken = before - rest.len();
    link.took(taken, matches!(flow, Flow::Dry));
    Ok(flow)
}

/// Writes a part of the answer to a request inside this one, past the filters: it has passed its own.
pub fn insert(exchange: &mut Exchange, env: &mut Env<'_>, data: &[u8]) {
    append(exchange, env, data, false);
}

/// Puts what stands for an answer without a body in its place, through SSI commands if they were looked for.
///
/// # Errors
/// A filter has failed.
pub fn put_stub(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), FilterFailed> {
    let Some((_, text)) = exchange.subrequests.stub.take() else { return Ok(()) };
    if exchange.output.body_len > 0 || exchange.is_head() {
        return Ok(());
    }
    // It stands for an answer that can have none, too.
    exchange.output.framing = Framing::Close;
    let has_commands = exchange.output.chain.looks_for_commands();
    exchange.output.forget_filters();
    exchange.response.content_length = None;
    if has_commands {
        modules::ssi::begin(exchange, env);
    }
    give(exchange, env, &text, true)
}

/// Tells the filter that has asked for a request inside this one how that has ended.
pub fn included(exchange: &mut Exchange, env: &mut Env<'_>, ended: Included) {
    let mut chain = std::mem::take(&mut exchange.output.chain);
    if let Some(filter) = chain.waiter() {
        modules::tell_body_filter(filter, exchange, env, ended);
    }
    exchange.output.chain = chain;
}

/// Compresses the body's bytes, if they are to be, and writes them.
pub(super) fn append(exchange: &mut Exchange, env: &mut Env<'_>, data: &[u8], last: bool) {
    let Some(mut encoder) = exchange.output.encoder.take() else {
        return append_encoded(exchange, env, data, last);
    };
    if !encoder.write(data, last, exchange.output.at_once) {
        // As a filter that fails: what is cut must not look whole.
        exchange.output.failed = true;
        exchange.output.wire.clear();
        return;
    }
    if last {
        exchange.output.ratio = Some(encoder.ratio());
    }
    append_encoded(exchange, env, encoder.ready(), last);
    exchange.output.encoder = (!last).then_some(encoder);
}

fn append_encoded(exchange: &mut Exchange, env: &mut Env<'_>, data: &[u8], last: bool) {
    let len = data.len() as u64;
    let room = room(exchange, len);
    let output = &mut exchange.output;
    output.open_chunk(len);
    output.wire.extend_from_slice(&data[..room as usize]);
    output.close_chunk(len);
    if last {
        end_body(exchange, env);
    }
}

/// Returns how many of the body's next `len` bytes may be sent. What is beyond the length that the head has said would be
/// taken for another response; it counts as written all the same, so that the connection is closed.
pub fn room(exchange: &Exchange, len: u64) -> u64 {
    let output = &exchange.output;
    let promised = exchange.response.content_length.filter(|_| output.framing == Framing::Length);
    promised.map_or(len, |promised| promised.saturating_sub(output.body_len).min(len))
}

/// Ends the body: the last chunk and the trailers. For bodies that were sent past the wire.
pub fn end_body(exchange: &mut Exchange, env: &mut Env<'_>) {
    if matches!(exchange.output.framing, Framing::Chunked | Framing::Pieces) && !exchange.output.ended {
        modules::headers::add_trailers(exchange, env);
    }
    exchange.output.end(&exchange.response.trailers);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{write_body, write_head};
    use crate::testing::{TestHost, config_of, exchange};
    use http::Known;
    use std::io::Write;

    #[test]
    fn a_body_that_grows_in_filters_comes_out_in_pieces() {
        let config = config_of(
            "http { gunzip on; sub_filter_once off; sub_filter aa bbbbbbbb; server { listen 80; location / { } } }",
        );
        let mut host = TestHost::new();
        let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        exchange.response.status = 200;
        exchange.response.content_type = Some(b"text/html".to_vec());
        exchange.response.headers.push_known(Known::ContentEncoding, b"gzip");
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        zipped.write_all(&vec![b'a'; 8 << 20]).unwrap();
        let zipped = zipped.finish().unwrap();
        let env = &mut Env { config: &config, host: &mut host };
        write_head(&mut exchange, env).unwrap();
        exchange.output.wire.clear();
        write_body(&mut exchange, env, &zipped, true).unwrap();
        let mut total = 0;
        loop {
            let pending = pump(&mut exchange, env).unwrap();
            assert!(exchange.output.wire.len() <= 2 * ENOUGH, "{} bytes at once", exchange.output.wire.len());
            total += exchange.output.wire.len();
            exchange.output.wire.clear();
            if pending == BodyStep::Nothing {
                break;
            }
        }
        assert_eq!(total, 32 << 20);
        assert!(exchange.output.ended());
    }
}
