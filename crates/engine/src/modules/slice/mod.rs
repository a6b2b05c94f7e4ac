//! `slice`: a large response is fetched, and kept, in pieces of one size (ngx_http_slice_module).
//!
//! Owns which piece comes next, and that all are of one response: each is fetched by a request inside the client's own
//! whose `$slice_range` names it. The client sees one response, or the range of it that it has asked for.

mod body;
pub(crate) mod record;

pub(super) use body::{run, tell};

use super::{Module, validators};
use crate::directive::{Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::output::HeadRefused;
use crate::output::chain::BodyFilter;
use crate::setting::settings;
use http::Known;
use record::{SliceBody, SliceRecord, first_wanted, parse_content_range};

settings! {
    /// Settings of one level.
    pub struct SliceSettings {
        /// `slice`, in bytes; 0 is off.
        pub size: u64 = 0,
    }
}

/// The module. Its filter is the first: conditions and ranges are judged by what the whole response is.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    filters_subrequests: true,
    is_needed: Some(|_, settings| *settings.filters.slice.size > 0),
    ..Module::new("slice", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[Directive::size("slice", Contexts::HSL, |b| {
    &mut b.settings().filters.slice.size
})
.default("0")
.doc(
    "Fetches responses in slices of this size, one after another, each by a subrequest. $slice_range must be \
             in its Range field and in the cache key; 0 disables this.",
)
.example("slice 1m; proxy_set_header Range $slice_range;")];

/// Appends `$slice_range`: the piece that the request fetches. Returns false where nothing is fetched in pieces.
pub(crate) fn range(exchange: &mut Exchange, env: &Env<'_>, out: &mut Vec<u8>) -> bool {
    if exchange.subrequests.slice.is_none() {
        let size = *exchange.settings(env.config).filters.slice.size;
        if exchange.subrequests.is_inner() || exchange.response.status != 0 || size == 0 {
            return false;
        }
        let fields = &exchange.request.head.headers;
        let from = match fields.has(Known::IfRange) {
            true => 0,
            false => fields.get(Known::Range).map_or(0, first_wanted),
        };
        exchange.subrequests.slice = Some(Box::new(SliceRecord::new(size, from)));
    }
    let Some(record) = &exchange.subrequests.slice else { return false };
    record.append_range(out);
    true
}

/// Makes the head of the whole response of that of its first piece, and compares those of the others with it.
fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let Some(mut record) = exchange.subrequests.slice.take() else { return Ok(()) };
    let is_inner = exchange.subrequests.is_inner();
    if exchange.response.status != 206 {
        if !is_inner {
            return Ok(());
        }
        let text = format!("unexpected status code {} in slice response", exchange.response.status);
        return fail(exchange, env, text.as_bytes());
    }
    let tag = exchange.response.headers.get(Known::ETag).map(<[u8]>::to_vec);
    if record.etag.is_some() && record.etag != tag {
        return fail(exchange, env, b"etag mismatch in slice response");
    }
    record.etag = tag.or(record.etag);
    let said = exchange.response.headers.get(Known::ContentRange).and_then(parse_content_range);
    let Some((range, whole)) = said else {
        return fail(exchange, env, b"invalid range in slice response");
    };
    let Some(whole) = whole else {
        return fail(exchange, env, b"no complete length in slice response");
    };
    let end = range.start.saturating_add(record.size).min(whole);
    if range.start != record.start || range.end != end {
        let text = format!("unexpected range in slice response: {}-{}", range.start, range.end);
        return fail(exchange, env, text.as_bytes());
    }
    record.start = end;
    record.is_active = true;
    let response = &mut exchange.response;
    response.status = 200;
    response.status_line = None;
    response.headers.remove_known(Known::ContentRange);
    validators::forget_ranges(response);
    if !is_inner {
        record.wanted = 0..whole;
        response.content_length = Some(whole);
        response.allow_ranges = true;
    }
    exchange.subrequests.slice = Some(record);
    exchange.output.chain.push(BodyFilter::Slice(SliceBody::new(range.start)));
    Ok(())
}

/// Logs why what has come is no piece of the response. What was sent of that stays, and no more follows.
fn fail(exchange: &mut Exchange, env: &mut Env<'_>, text: &[u8]) -> Result<(), HeadRefused> {
    let line = [text, log_line::while_reading_head(exchange)].concat();
    log_line::error(exchange, env, Level::Error, &line);
    Err(HeadRefused::Close)
}
