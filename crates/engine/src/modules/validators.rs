//! What a head says of a body that filters change: its length, its ranges, its version.

use crate::exchange::Response;
use http::Known;

/// Removes the length, which has changed (ngx_http_clear_content_length).
pub(super) fn forget_length(response: &mut Response) {
    response.headers.remove_known(Known::ContentLength);
    response.content_length = None;
}

/// Parts of it cannot be had (ngx_http_clear_accept_ranges).
pub(super) fn forget_ranges(response: &mut Response) {
    response.headers.remove_known(Known::AcceptRanges);
    response.allow_ranges = false;
}

/// Removes what names its version (ngx_http_clear_last_modified, ngx_http_clear_etag).
pub(super) fn forget_version(response: &mut Response) {
    response.last_modified_s = None;
    response.headers.remove_known(Known::LastModified);
    response.headers.remove_known(Known::ETag);
}

/// Makes the tag a weak one, because the bytes have changed (ngx_http_weak_etag).
pub(super) fn weaken_etag(response: &mut Response) {
    let Some(tag) = response.headers.get(Known::ETag) else { return };
    match tag {
        [b'W', b'/', ..] => {}
        [b'"', ..] => {
            let weak = [b"W/", tag].concat();
            response.headers.set_known(Known::ETag, &weak);
        }
        _ => drop(response.headers.remove_known(Known::ETag)),
    }
}
