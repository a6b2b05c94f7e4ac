//! The pieces of a response, one behind another.

use super::record::SliceBody;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::output::chain::{Flow, Include, Included};
use crate::output::wire::FilterFailed;
use crate::subrequest::Subrequest;

/// Takes note of how the request for a further piece has ended.
pub(in crate::modules) fn tell(body: &mut SliceBody, ended: &Included) {
    body.failed |= ended.failed || ended.too_deep;
}

/// Passes on what the client gets of a piece; at the end of the first one, the others follow.
pub(in crate::modules) fn run(
    body: &mut SliceBody,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    input: &mut &[u8],
    is_last: bool,
    out: &mut Vec<u8>,
) -> Result<Flow, FilterFailed> {
    let data = std::mem::take(input);
    let is_inner = exchange.subrequests.is_inner();
    let Some(record) = exchange.subrequests.slice.as_deref_mut() else { return Err(FilterFailed) };
    if !data.is_empty() {
        let from = body.position;
        body.position += data.len() as u64;
        let within = |at: u64| (at.clamp(from, body.position) - from) as usize;
        out.extend_from_slice(&data[within(record.wanted.start)..within(record.wanted.end)]);
        // The filters behind this one have their turn before the next piece comes.
        return Ok(if is_last && !is_inner { Flow::Full } else { Flow::Dry });
    }
    if !is_last || is_inner {
        return Ok(Flow::Dry);
    }
    if body.failed {
        return Err(FilterFailed);
    }
    if !record.is_active {
        let line = [b"missing slice response".as_slice(), log_line::while_sending(exchange)].concat();
        log_line::error(exchange, env, Level::Error, &line);
        return Err(FilterFailed);
    }
    if !record.next() {
        return Ok(Flow::Dry);
    }
    let request = Subrequest {
        uri: exchange.request.uri.clone(),
        args: exchange.request.args.clone(),
        method: Some(exchange.method().to_vec()),
        again: true,
        ..Subrequest::default()
    };
    Ok(Flow::Include(Box::new(Include { request, is_shown: true })))
}
