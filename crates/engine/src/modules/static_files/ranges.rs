//! Ranges: 206 and 416 (ngx_http_range_filter_module, RFC 9110 §14).
//!
//! The last of the header filters, so that it goes by the length and the tags that scripts and `add_header` left. It
//! says in [`crate::exchange::Response::parts`] what of the file is to be sent; it never cuts the file itself.

use super::conditional::last_modified_s;
use crate::config::{invalid_value, number};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::{Exchange, Response};
use crate::host::Env;
use crate::modules::Module;
use crate::output::HeadRefused;
use crate::phase::FilePart;
use http::date::parse_http_date;
use http::range::{self, Boundary, RangeAnswer};
use http::{Known, Version};
use std::ops::Range;

/// The module.
pub static MODULE: Module = Module { header_filter: Some(filter), ..Module::new("ranges", &[DIRECTIVES]) };

const DIRECTIVES: &[Directive] =
    &[Directive::new("max_ranges", Contexts::HSL, Args::Exactly(1), "number", |b, d| {
        let count = number(d.args[0].text()).and_then(|count| u32::try_from(count).ok());
        let count = count.ok_or_else(|| invalid_value(&d.args[0]).help("a whole number below 4294967296"))?;
        b.write(d, |s| &mut s.static_files.max_ranges, Some(count))
    })
    .doc("The maximum number of ranges in a request; 0 disables ranges.")
    .example("max_ranges 1;")];

fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let Exchange { request, response, route, upstream, subrequests, .. } = exchange;
    if !response.allow_ranges || response.status != 200 || request.head.version == Version::Http09 {
        return Ok(());
    }
    let Some(len) = response.content_length else { return Ok(()) };
    let mut max_ranges = *env.config.location(route.location).settings.static_files.max_ranges;
    if max_ranges == Some(0) {
        return Ok(());
    }
    if subrequests.slice.is_some()
        || response.from_upstream
        || upstream.cache.as_ref().is_some_and(|record| record.is_storing())
    {
        // One part can be cut out of a body that passes by.
        max_ranges = Some(1);
    }
    let fields = &request.head.headers;
    let wanted = fields.get(Known::Range).filter(|_| is_current(response, fields.get(Known::IfRange)));
    let mut ranges = Vec::new();
    let answer =
        wanted.map_or(RangeAnswer::Whole, |wanted| range::parse(wanted, len, max_ranges, &mut ranges));
    match answer {
        RangeAnswer::Whole => {
            response.headers.push_known(Known::AcceptRanges, b"bytes");
            return Ok(());
        }
        RangeAnswer::Unsatisfiable => {
            let mut value = Vec::new();
            range::unsatisfied_content_range(len, &mut value);
            response.headers.set_known(Known::ContentRange, &value);
            // The error page that follows is no version of the file.
            response.headers.remove_known(Known::ETag);
            response.headers.remove_known(Known::LastModified);
            response.content_length = None;
            return Err(HeadRefused::Refuse(416));
        }
        RangeAnswer::Parts => {}
    }
    response.status = 206;
    response.status_line = None;
    match ranges.as_slice() {
        [range] => {
            let mut value = Vec::new();
            range::content_range(range, len, &mut value);
            response.headers.set_known(Known::ContentRange, &value);
            response.content_length = Some(range.end - range.start);
            match &mut subrequests.slice {
                Some(slice) => slice.choose(range.clone()),
                None => response.parts.push(part(range)),
            }
        }
        _ => answer_several(response, &ranges, len, Boundary::new(env.host.random())),
    }
    Ok(())
}

fn part(range: &Range<u64>) -> FilePart {
    FilePart::Range { offset: range.start, len: range.end - range.start }
}

/// `multipart/byteranges`: each range under a head of its own.
fn answer_several(response: &mut Response, ranges: &[Range<u64>], whole_len: u64, boundary: Boundary) {
    let kind = response.content_type.take().unwrap_or_default();
    let mut total = 0;
    for range in ranges {
        let mut head = Vec::new();
        boundary.part_head(&kind, range, whole_len, &mut head);
        total += head.len() as u64 + (range.end - range.start);
        response.parts.push(FilePart::Text(head));
        response.parts.push(part(range));
    }
    let mut end = Vec::new();
    boundary.end(&mut end);
    total += end.len() as u64;
    response.parts.push(FilePart::Text(end));
    let mut kind = kind;
    kind.clear();
    boundary.content_type(&mut kind);
    response.content_type = Some(kind);
    response.content_length = Some(total);
    response.headers.remove_known(Known::ContentRange);
}

/// `If-Range`: is what the client has a part of still what is here? A tag is compared strongly, a date exactly.
fn is_current(response: &Response, if_range: Option<&[u8]>) -> bool {
    match if_range {
        None => true,
        Some(tag @ [_, .., b'"']) => response.headers.get(Known::ETag) == Some(tag),
        Some(date) => {
            last_modified_s(response).is_some() && parse_http_date(date) == last_modified_s(response)
        }
    }
}
