//! `fastcgi_pass`, `uwsgi_pass`, `scgi_pass`: application servers.
//!
//! Owns the directives alone. They write settings of the proxy module, which serves the location by them
//! ([`super::proxy::PassKind`]). Sources of behaviour:
//! <https://nginx.org/en/docs/http/ngx_http_fastcgi_module.html>, <https://nginx.org/en/docs/http/ngx_http_uwsgi_module.html>,
//! <https://nginx.org/en/docs/http/ngx_http_scgi_module.html>.

mod directives;

use super::Module;
use super::proxy::{
    PassKind, body_directives, cache_directives, connection_directives, head_directives, ssl_directives,
};
use directives::{FASTCGI, UWSGI, gateway_directives};

/// FastCGI.
pub static FASTCGI_MODULE: Module = Module::new(
    "fastcgi",
    &[
        gateway_directives!("fastcgi", PassKind::FastCgi, "fastcgi_pass unix:/run/php/php-fpm.sock;"),
        FASTCGI,
        head_directives!("fastcgi", PassKind::FastCgi),
        connection_directives!("fastcgi", PassKind::FastCgi, GATEWAY_WORDS),
        body_directives!("fastcgi", PassKind::FastCgi),
        cache_directives!(
            "fastcgi",
            PassKind::FastCgi,
            "The key of a cached response. It has no default and must be set."
        ),
    ],
);

/// uwsgi.
pub static UWSGI_MODULE: Module = Module::new(
    "uwsgi",
    &[
        gateway_directives!("uwsgi", PassKind::Uwsgi, "uwsgi_pass unix:/run/uwsgi/app.sock;"),
        UWSGI,
        head_directives!("uwsgi", PassKind::Uwsgi),
        connection_directives!("uwsgi", PassKind::Uwsgi, GATEWAY_WORDS),
        body_directives!("uwsgi", PassKind::Uwsgi),
        cache_directives!(
            "uwsgi",
            PassKind::Uwsgi,
            "The key of a cached response. It has no default and must be set."
        ),
        ssl_directives!("uwsgi", PassKind::Uwsgi, "the host of uwsgi_pass"),
    ],
);

/// SCGI.
pub static SCGI_MODULE: Module = Module::new(
    "scgi",
    &[
        gateway_directives!("scgi", PassKind::Scgi, "scgi_pass 127.0.0.1:4000;"),
        head_directives!("scgi", PassKind::Scgi),
        connection_directives!("scgi", PassKind::Scgi, GATEWAY_WORDS),
        body_directives!("scgi", PassKind::Scgi),
        cache_directives!(
            "scgi",
            PassKind::Scgi,
            "The key of a cached response. It has no default and must be set."
        ),
    ],
);
