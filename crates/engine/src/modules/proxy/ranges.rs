//! `proxy_force_ranges`: a single byte range of an upstream's answer is cut out here.
//!
//! Owns whether a range applies and what the head then says. The cutting is the server's, by `upstream.range`.

use crate::exchange::Exchange;
use http::Known;
use http::range::{self, RangeAnswer};

/// Looks at the request's `Range` once the answer's head is copied: chooses the part, or says that there are ranges.
///
/// # Errors
/// 416 if the range lies outside of the body.
pub(super) fn apply(exchange: &mut Exchange) -> Result<(), u16> {
    let Exchange { request, response, upstream, .. } = exchange;
    let (200, Some(length)) = (response.status, response.content_length) else { return Ok(()) };
    let asked = &request.head.headers;
    let mut found = Vec::new();
    let answer = match asked.get(Known::Range) {
        Some(value) if is_same(asked.get(Known::IfRange), &upstream.headers) => {
            range::parse(value, length, Some(1), &mut found)
        }
        _ => RangeAnswer::Whole,
    };
    match (answer, found.as_slice()) {
        (RangeAnswer::Unsatisfiable, _) => {
            let mut value = Vec::new();
            range::unsatisfied_content_range(length, &mut value);
            for known in [Known::LastModified, Known::ETag, Known::AcceptRanges] {
                response.headers.remove_known(known);
            }
            response.headers.push_known(Known::ContentRange, &value);
            Err(416)
        }
        (RangeAnswer::Parts, [part]) => {
            let mut value = Vec::new();
            range::content_range(part, length, &mut value);
            response.headers.push_known(Known::ContentRange, &value);
            response.status = 206;
            response.status_line = None;
            response.content_length = Some(part.end - part.start);
            upstream.range = Some(part.clone());
            Ok(())
        }
        _ => {
            response.headers.push_known(Known::AcceptRanges, b"bytes");
            Ok(())
        }
    }
}

/// Returns whether the response is the one that `If-Range` names: by its entity tag, or by its time to the second.
fn is_same(if_range: Option<&[u8]>, headers: &http::Headers) -> bool {
    match if_range {
        None => true,
        Some(tag) if tag.len() >= 2 && tag.ends_with(b"\"") => headers.get(Known::ETag) == Some(tag),
        Some(time) => {
            let modified_s = headers.get(Known::LastModified).and_then(http::date::parse_http_date);
            modified_s.is_some() && http::date::parse_http_date(time) == modified_s
        }
    }
}
