//! `grpc_pass`: gRPC to upstreams (ngx_http_grpc_module), and any other HTTP/2 with trailers.
//!
//! Owns the directives alone. They write settings of the proxy module, which serves the location by them
//! ([`super::proxy::PassKind`]). Source of behaviour: <https://nginx.org/en/docs/http/ngx_http_grpc_module.html>.

mod directives;

use super::Module;
use super::proxy::{PassKind, connection_directives, head_directives, ssl_directives};

/// The module.
pub static MODULE: Module = Module::new(
    "grpc",
    &[
        directives::GRPC,
        head_directives!("grpc", PassKind::Grpc),
        connection_directives!("grpc", PassKind::Grpc, ALL_WORDS),
        ssl_directives!("grpc", PassKind::Grpc, "the host of grpc_pass"),
    ],
);
