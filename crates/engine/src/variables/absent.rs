//! Variables of nginx that have no value here, as in an nginx that does not use what they are about: HTTP/3, compression,
//! a cache. Log formats and headers that name them for all servers alike mean the same as there.

use super::{Variable, read};

pub(super) const VARIABLES: &[Variable] = &[
    read("http3", "h3 over HTTP/3: empty.", |_, _, _| true),
    read("upstream_cache_status", "What a cache made of the request: no value.", |_, _, _| false),
    read("upstream_cache_last_modified", "Last-Modified of a cached answer: no value.", |_, _, _| false),
    read("upstream_cache_etag", "ETag of a cached answer: no value.", |_, _, _| false),
];
