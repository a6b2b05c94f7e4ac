//! Variables of nginx that have no value here, as in an nginx that does not use what they are about: TLS, HTTP/2, compression,
//! a cache. Log formats and headers that name them for all servers alike mean the same as there.

use super::{Variable, read};

/// Empty, as nginx has it for a connection in clear.
const fn clear(name: &'static str) -> Variable {
    read(name, "About TLS: no value for a connection in clear.", |_, _, _| false)
}

pub(super) const VARIABLES: &[Variable] = &[
    clear("ssl_alpn_protocol"),
    clear("ssl_cipher"),
    clear("ssl_ciphers"),
    clear("ssl_client_cert"),
    clear("ssl_client_escaped_cert"),
    clear("ssl_client_fingerprint"),
    clear("ssl_client_i_dn"),
    clear("ssl_client_i_dn_legacy"),
    clear("ssl_client_raw_cert"),
    clear("ssl_client_s_dn"),
    clear("ssl_client_s_dn_legacy"),
    clear("ssl_client_serial"),
    clear("ssl_client_v_end"),
    clear("ssl_client_v_remain"),
    clear("ssl_client_v_start"),
    clear("ssl_client_verify"),
    clear("ssl_curve"),
    clear("ssl_curves"),
    clear("ssl_early_data"),
    clear("ssl_protocol"),
    clear("ssl_server_name"),
    clear("ssl_session_id"),
    clear("ssl_session_reused"),
    read("http2", "h2 or h2c over HTTP/2: empty.", |_, _, _| true),
    read("http3", "h3 over HTTP/3: empty.", |_, _, _| true),
    read("gzip_ratio", "The ratio of a compressed answer: no value.", |_, _, _| false),
    read("upstream_cache_status", "What a cache made of the request: no value.", |_, _, _| false),
    read("upstream_cache_last_modified", "Last-Modified of a cached answer: no value.", |_, _, _| false),
    read("upstream_cache_etag", "ETag of a cached answer: no value.", |_, _, _| false),
];
