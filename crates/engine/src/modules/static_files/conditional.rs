//! Conditional requests: 304 and 412 (ngx_http_not_modified_filter_module, RFC 9110 §13).
//!
//! The first of the header filters. It never judges an answer of an upstream or of the control plane: that
//! is theirs to do.

use super::IfModifiedSince;
use crate::exchange::{Exchange, Response};
use crate::host::Env;
use crate::output::HeadRefused;
use http::Known;
use http::date::parse_http_date;

/// Turns a 200 into 304, or refuses with 412, as the request's conditions have it.
pub(super) fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let Exchange { request, response, route, .. } = exchange;
    if response.status != 200 || response.from_upstream {
        return Ok(());
    }
    let fields = &request.head.headers;
    if let Some(date) = fields.get(Known::IfUnmodifiedSince)
        && !is_unmodified_since(response, date)
    {
        return Err(PRECONDITION_FAILED);
    }
    if let Some(list) = fields.get(Known::IfMatch)
        && !matches(response, list, Comparison::Strong)
    {
        return Err(PRECONDITION_FAILED);
    }
    let since = fields.get(Known::IfModifiedSince);
    let none_match = fields.get(Known::IfNoneMatch);
    if since.is_none() && none_match.is_none() {
        return Ok(());
    }
    let rule = *env.config.location(route.location).settings.static_files.if_modified_since;
    if since.is_some_and(|date| is_modified_since(response, date, rule))
        || none_match.is_some_and(|list| !matches(response, list, Comparison::Weak))
    {
        return Ok(());
    }
    response.status = 304;
    response.status_line = None;
    response.content_type = None;
    response.content_length = None;
    response.allow_ranges = false;
    response.headers.remove_known(Known::AcceptRanges);
    response.headers.remove_known(Known::ContentEncoding);
    Ok(())
}

const PRECONDITION_FAILED: HeadRefused = HeadRefused::Replace(412);

/// Returns the time of the content's last change, if the server itself, an upstream or a script has set it.
pub(crate) fn last_modified_s(response: &Response) -> Option<u64> {
    response.last_modified_s.or_else(|| parse_http_date(response.headers.get(Known::LastModified)?))
}

fn is_unmodified_since(response: &Response, date: &[u8]) -> bool {
    match (last_modified_s(response), parse_http_date(date)) {
        (Some(modified_s), Some(date_s)) => date_s >= modified_s,
        _ => false,
    }
}

fn is_modified_since(response: &Response, date: &[u8], rule: IfModifiedSince) -> bool {
    let (Some(modified_s), Some(date_s)) = (last_modified_s(response), parse_http_date(date)) else {
        return true;
    };
    match rule {
        IfModifiedSince::Off => true,
        IfModifiedSince::Exact => date_s != modified_s,
        IfModifiedSince::Before => date_s < modified_s,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// `W/` makes a difference, and matches nothing.
    Strong,
    /// `W/` is not looked at.
    Weak,
}

/// Returns whether the response's entity tag is in the list. Reads lists as leniently as nginx does.
fn matches(response: &Response, list: &[u8], comparison: Comparison) -> bool {
    if list == b"*" {
        return true;
    }
    let Some(mut tag) = response.headers.get(Known::ETag) else { return false };
    let weak = comparison == Comparison::Weak;
    if weak {
        tag = without_weakness(tag);
    }
    let mut rest = list;
    while !rest.is_empty() {
        if weak {
            rest = without_weakness(rest);
        }
        if let Some(after) = rest.strip_prefix(tag) {
            rest = after.trim_ascii_start();
            if matches!(rest.first(), None | Some(b',')) {
                return true;
            }
        }
        let Some(comma) = memchr::memchr(b',', rest) else { return false };
        let next = rest[comma..].iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','));
        rest = next.map_or(b"", |next| &rest[comma + next..]);
    }
    false
}

fn without_weakness(tag: &[u8]) -> &[u8] {
    match tag {
        [b'W', b'/', rest @ ..] if !rest.is_empty() => rest,
        _ => tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(tag: &str, list: &str, comparison: Comparison) -> bool {
        let mut response = Response::default();
        if !tag.is_empty() {
            response.headers.push_known(Known::ETag, tag.as_bytes());
        }
        matches(&response, list.as_bytes(), comparison)
    }

    #[test]
    fn lists_of_tags_are_searched() {
        use Comparison::{Strong, Weak};
        for (tag, list, comparison, expected) in [
            ("", "*", Strong, true),
            ("", "\"a\"", Weak, false),
            ("\"a\"", "\"a\"", Strong, true),
            ("\"a\"", "\"b\", \"a\"", Strong, true),
            ("\"a\"", "\"b\",,\t\"a\" , \"c\"", Strong, true),
            ("\"a\"", "\"ab\"", Strong, false),
            ("\"a\"", "\"a\"b", Strong, false),
            ("\"a\"", "W/\"a\"", Strong, false),
            ("\"a\"", "W/\"a\"", Weak, true),
            ("W/\"a\"", "\"a\"", Weak, true),
            ("W/\"a\"", "\"b\", W/\"a\"", Weak, true),
            ("\"a\"", "", Weak, false),
            ("\"a\"", ",", Weak, false),
            ("\"a\"", "\"a\" x, \"a\"", Strong, true),
        ] {
            assert_eq!(matched(tag, list, comparison), expected, "{tag} in {list}");
        }
    }
}
